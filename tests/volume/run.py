"""`python -m tests.volume.run --seeds N --first S`: many histories on all cores, and what they reached.

A seed that fails is told with the one command that plays it again, line by line.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tests.volume.faults import KINDS
from tests.volume.history import play

_CHUNK = 20
_TWICE = 25
"""Every so many seeds one is played again with another wall clock, which must change nothing."""

_SHIFT_S = 10 * 365 * 86400.0
_SHOWN = 10


class Result(NamedTuple):
    """What became of many seeds."""

    seeds: int
    failed: list[tuple[int, list[str]]]
    reached: Counter[str]
    wall_s: float


def check(seed: int, kinds: Sequence[str] = KINDS) -> tuple[list[str], Counter[str]]:
    """Play a seed and return what did not hold, and what was reached."""
    report = play(seed, kinds=kinds)
    broken = report.broken
    if seed % _TWICE == 0 and not broken:
        other = play(seed, kinds=kinds, shift_s=_SHIFT_S)
        report.reached["played with two wall clocks"] += 1
        if other.trace != report.trace:
            lines = zip(report.trace, other.trace, strict=False)
            first = next((f"{one!r} or {two!r}" for one, two in lines if one != two), "one is longer")
            broken = [f"[24] the wall clock changes the history: {first}"]
    return broken, report.reached


def run(first: int, count: int, *, jobs: int | None = None) -> Result:
    """Play seeds on all cores."""
    began = time.perf_counter()
    chunks = [range(at, min(at + _CHUNK, first + count)) for at in range(first, first + count, _CHUNK)]
    jobs = min(jobs or len(os.sched_getaffinity(0)), len(chunks))
    failed: list[tuple[int, list[str]]] = []
    reached: Counter[str] = Counter()
    if jobs <= 1:
        parts = [_chunk(chunk) for chunk in chunks]
    else:
        with multiprocessing.get_context("spawn").Pool(jobs) as pool:
            parts = list(pool.imap_unordered(_chunk, chunks))
    for some, counts in parts:
        failed += some
        reached += counts
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
    return failed, reached


def tell(result: Result) -> str:
    """Return what a run found, as text."""
    rate = result.seeds / result.wall_s
    lines = [f"{result.seeds} seeds in {result.wall_s:.1f} s: {rate:.1f} seeds/s, {len(result.failed)} failed"]
    groups: dict[str, list[str]] = {}
    for key, count in sorted(result.reached.items()):
        group, _, rest = key.partition(" ")
        groups.setdefault(group, []).append(f"{rest} {count}")
    lines += [f"  {group}: {', '.join(found)}" for group, found in groups.items()]
    for seed, broken in result.failed[:_SHOWN]:
        lines += [f"seed {seed}: {broken[0]}", f"  again: python -m tests.volume.run --seeds 1 --first {seed} --show"]
    return "\n".join(lines)


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
    result = run(args.first, args.seeds, jobs=args.jobs)
    sys.stdout.write(tell(result) + "\n")
    return 1 if result.failed else 0


if __name__ == "__main__":
    sys.exit(main())
