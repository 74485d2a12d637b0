"""`python -m tests.volume.run --seeds N --first S`: many histories on all cores, and what they reached.

A seed that fails is told with the one command that plays it again, line by line.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import NamedTuple

from tests.faults.matrix import CELLS
from tests.volume.beside import SITUATIONS
from tests.volume.cells import NOT_PLAYED, PLAYED
from tests.volume.faults import KINDS
from tests.volume.history import play

_CHUNK = 20
_TWICE = 25
"""Every so many seeds one is played again with another wall clock, which must change nothing."""

_SHIFT_S = 10 * 365 * 86400.0
_SHOWN = 10
_ENOUGH = 10_000
"""With so many seeds every cell that can be hit must have been."""


class Result(NamedTuple):
    """What became of many seeds."""

    seeds: int
    failed: list[tuple[int, list[str]]]
    reached: Counter[str]
    wall_s: float

    @property
    def missed(self) -> tuple[str, ...]:
        """The cells of the matrix, and the situations of two slots, that never came up in seeds enough for all."""
        cells = [cell for cell in PLAYED if not self.reached[f"cell {cell}"]]
        return (*cells, *self.unseen) if self.seeds >= _ENOUGH else ()

    @property
    def unseen(self) -> tuple[str, ...]:
        """The situations of two slots that did not come up."""
        return tuple(name for name in SITUATIONS if not self.reached[f"slots {name}"])


def check(seed: int, kinds: Sequence[str] = KINDS) -> tuple[list[str], Counter[str]]:
    """Play a seed and return what did not hold, and what was reached."""
    report = play(seed, kinds=kinds)
    broken = report.broken
    if seed % _TWICE == 0 and not broken and not report.is_timed:
        other = play(seed, kinds=kinds, shift_s=_SHIFT_S)
        report.reached["played with two wall clocks"] += 1
        if other.trace != report.trace:
            lines = zip(report.trace, other.trace, strict=False)
            first = next((f"{one!r} or {two!r}" for one, two in lines if one != two), "one is longer")
            broken = [f"[24] the wall clock changes the history: {first}"]
    return broken, report.reached


def run(
    first: int, count: int, *, jobs: int | None = None, told: Callable[[int, int], None] = lambda done, failed: None
) -> Result:
    """Play seeds on all cores; `told` how many were played and how many of them failed, now and then."""
    began = time.perf_counter()
    chunks = [range(at, min(at + _CHUNK, first + count)) for at in range(first, first + count, _CHUNK)]
    jobs = min(jobs or len(os.sched_getaffinity(0)), len(chunks))
    failed: list[tuple[int, list[str]]] = []
    reached: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        parts: Iterable[tuple[list[tuple[int, list[str]]], Counter[str]]] = map(_chunk, chunks)
        if jobs > 1:
            pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
            stack.callback(pool.shutdown, cancel_futures=True)
            futures = [pool.submit(_chunk, chunk) for chunk in chunks]
            parts = (future.result() for future in as_completed(futures))  # a worker that dies ends the run
        for number, (some, counts) in enumerate(parts, 1):
            failed += some
            reached += counts
            told(min(number * _CHUNK, count), len(failed))
    return Result(count, sorted(failed), reached, time.perf_counter() - began)


def _chunk(seeds: range) -> tuple[list[tuple[int, list[str]]], Counter[str]]:
    gc.disable()  # a history is short and drops all it made
    failed = []
    reached: Counter[str] = Counter()
    for seed in seeds:
        broken, counts = check(seed)
        reached += counts
        if broken:
            failed.append((seed, broken))
    gc.enable()
    gc.collect()
    gc.freeze()  # what is left is kept for the next seeds, and need not be looked through again
    return failed, reached


def tell(result: Result) -> str:
    """Return what a run found, as text."""
    rate = result.seeds / result.wall_s
    lines = [f"{result.seeds} seeds in {result.wall_s:.1f} s: {rate:.1f} seeds/s, {len(result.failed)} failed"]
    groups: dict[str, list[str]] = {}
    for key, count in sorted(result.reached.items()):
        group, _, rest = key.partition(" ")
        if group != "cell":
            groups.setdefault(group, []).append(f"{rest} {count}")
    lines += [f"  {group}: {', '.join(found)}" for group, found in groups.items()]
    lines += _matrix(result)
    for seed, broken in result.failed[:_SHOWN]:
        lines += [f"seed {seed}: {broken[0]}", f"  again: python -m tests.volume.run --seeds 1 --first {seed} --show"]
    return "\n".join(lines)


def _matrix(result: Result) -> list[str]:
    """Return which cells of the fault matrix were hit, and which were not."""
    hit = {cell: count for cell in PLAYED if (count := result.reached[f"cell {cell}"])}
    lines = [f"  matrix: reached {len(hit)} of {len(PLAYED)} cells that a history can hit ({len(CELLS)} in all)"]
    if hit:
        fewest = sorted(hit, key=lambda cell: (hit[cell], cell))[:_SHOWN]
        lines.append(f"  fewest: {', '.join(f'{cell} {hit[cell]}' for cell in fewest)}")
    reasons: dict[str, list[str]] = {}
    for cell, reason in NOT_PLAYED.items():
        reasons.setdefault(reason, []).append(cell)
    lines += [f"  not played: {', '.join(cells)}: {reason}" for reason, cells in reasons.items()]
    if len(hit) < len(PLAYED):
        lines.append(f"  never hit: {', '.join(cell for cell in PLAYED if cell not in hit)}")
    lines.append(f"  two slots: reached {len(SITUATIONS) - len(result.unseen)} of {len(SITUATIONS)} situations")
    if result.unseen:
        lines.append(f"  never seen: {', '.join(result.unseen)}")
    if result.missed:
        lines.append(f"FAILED: {len(result.missed)} cells and situations were never hit in {result.seeds} seeds")
    return lines


def _line(began: float, count: int) -> Callable[[int, int], None]:
    """Return what keeps one line of a terminal up to date; where there is no terminal, nothing does."""
    if not sys.stderr.isatty():
        return lambda done, failed: None

    def told(done: int, failed: int) -> None:
        rate = done / (time.perf_counter() - began)
        end = "\n" if done >= count else ""
        sys.stderr.write(f"\r{done}/{count} seeds, {rate:.0f}/s, {failed} failed \x1b[K{end}")
        sys.stderr.flush()

    return told


def main(argv: list[str] | None = None) -> int:
    """Run from a command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.volume.run", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--show", action="store_true", help="tell the history of every seed line by line")
    args = parser.parse_args(argv)
    if args.show:
        for seed in range(args.first, args.first + args.seeds):
            report = play(seed)
            sys.stdout.write("\n".join([*report.trace, *report.broken, ""]))
    result = run(args.first, args.seeds, jobs=args.jobs, told=_line(time.perf_counter(), args.seeds))
    sys.stdout.write(tell(result) + "\n")
    return 1 if result.failed or result.missed else 0


if __name__ == "__main__":
    sys.exit(main())
