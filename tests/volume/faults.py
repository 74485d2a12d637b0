"""What goes wrong in a history: at which change of a transaction, right before or right after it, and what it is.

Most of it is drawn evenly; some histories aim at one cell of the fault matrix, so that none is left to luck.

Must not: judge what comes of it.
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from reconciler.model.outcome import STEPS
from reconciler.sim.machine import KilledError, PowerCutError
from tests.volume import strikes
from tests.volume.cells import BETWEEN, BOOT, LOOK, PLAYED, cell_of, ways
from tests.volume.invariants import COMMITTED, EPOCH, TRANSACTIONS, Watch
from tests.volume.world import HOOK_PLACE, World

When = Literal["before", "after", "inside"]

_LENGTHS = {"": 90, "stage": 34, "launch": 8, "finish": 9, "rollback": 14}
"""About how many changes a step makes; what is meant to strike later than its last does not strike."""

_STEPS = ("", "", "", "launch", "claim", "stage", "stage", *STEPS, "start", "warm", "rollback", "rollback")

_SERVICES = ("reasoning-vllm", "reasoning-rerank", "reasoning-tokens", "vision-llama", "vision-tokens")
ON_UNITS = (
    "crash-at-start",
    "crash-after-ready",
    "never-healthy",
    "slow-load",
    "slow-release",
    "ignores-sigterm",
    "no-metrics",
    "wrong-model",
)
_ON_HOST = ("nvml", "gpu-lost", "unpullable", "taken", "reload", "generator")
_BESIDE = ("gone", "lost", "corrupt", "hang")
_INSIDE = ("kill", "cut", "no-space", "io-error")
_EITHER: tuple[When, ...] = ("before", "after")
_WHEN: dict[str, tuple[When, ...]] = {**dict.fromkeys(_INSIDE, (*_EITHER, "inside")), "hang": ("before",)}
_ANYTIME = ("systemctl", "clock", *ON_UNITS, *_ON_HOST)
_ON_EXECUTOR = ("kill", "cut", "no-space", "io-error", "steal", "systemctl", "clock", "second")
KINDS = (*_ON_EXECUTOR, *ON_UNITS, *_ON_HOST, *_BESIDE)
_WEIGHTS = (6, 6, 3, 4, 3, 3, 2, 2, 2, 2, 2, 1, 3, 2, 1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1)
_WRITES = ("mkdir", "write", "append", "symlink", "remove", "remove_tree")
_AIMED = 0.4
"""So many histories aim at a cell."""

HARMLESS = ("clock", "second", "gone", "lost")
"""Faults that may change nothing for a transaction."""


@dataclass
class Fault:
    """One thing that goes wrong. `at` counts the changes of a step, or of the whole transaction without one."""

    kind: str
    step: str
    at: int
    when: When
    """Right before or after a change, or before one of the calls of the system that it is made of."""
    target: str
    value: float
    lasting: int = 1
    delay: float = 0.0
    """So many seconds after the change, for what needs no change to strike at: while somebody waits."""
    call: int = 0
    struck: str = ""
    is_claimed: bool | None = None
    """Strikes in the claim before it is taken, or only after; None: whenever."""


def draw(rng: random.Random, kinds: Sequence[str] = KINDS) -> Fault:
    """Draw a fault of one of these kinds."""
    kind = rng.choices(kinds, [_WEIGHTS[KINDS.index(kind)] for kind in kinds])[0]
    step = rng.choice(_STEPS)
    return Fault(
        kind=kind,
        step=step,
        at=rng.randrange(_LENGTHS.get(step, 5)),
        when=rng.choice(_WHEN.get(kind, _EITHER)),
        target=rng.choice(_SERVICES),
        value=rng.choice((1.0, 3.0, 20.0, 80.0)),
        lasting=rng.choice((1, 1, 1, 3, 40)),
        call=rng.randrange(9),
        delay=rng.choice((0.0, 0.0, 0.1, 0.4, 1.0, 2.5)) if kind in _ANYTIME else 0.0,
    )


class Aim(NamedTuple):
    """A cell to hit, with the faults that lead there and the one that is to strike."""

    cell: str
    faults: tuple[Fault, ...]


def aim(rng: random.Random, kinds: Sequence[str], coming: str) -> Aim | None:
    """Aim at a cell that these kinds of faults can hit, or at none; `coming` is a member of the coven that comes."""
    if rng.random() >= _AIMED:
        return None
    cell = rng.choice(PLAYED)
    found, words = ways(cell, kinds)
    if not found:
        return None
    row, kind = cell.partition("-")[0], rng.choice(found)
    fault = replace(
        draw(rng, kinds),
        kind=kind,
        step=rng.choice(words),
        at=rng.choice((0, 0, 0, 1, 1, 2, 3)),
        when=rng.choice(_WHEN.get(kind, _EITHER)),
        delay=0.0,
        is_claimed={"T3": False, "T4": True}.get(row),
    )
    if row == "T3" and kind not in _INSIDE:
        # Between the word that begins the claim and the epoch that is its end nothing else is written.
        fault.at, fault.when = -1, "after"
    elif row == "T6":
        fault.at = rng.randrange(7)
    before: list[Fault] = []
    if row == "RB":
        before = [replace(fault, kind="crash-at-start", step="launch", at=0, when="after", target=coming)]
    elif row == "RV":
        step = rng.choice(("stage", "stop", "start", "warm"))
        before = [replace(fault, kind="cut", step=step, at=rng.randrange(3), when="before")]
        if kind == "kill":
            # Who is killed is the one that brings the interrupted transaction to its end, in the next operation.
            fault.step, fault.is_claimed = "claim", True
    return Aim(cell, (*before, fault))


class Striker:
    """Counts the changes of one operation and lets its faults strike."""

    def __init__(self, world: World, watch: Watch, faults: list[Fault]) -> None:
        self.world = world
        world.machine.clock.on("volume.strike", lambda args: self.strike(faults[int(args["fault"])]))
        self.watch = watch
        self.faults = faults
        self.beside: dict[str, Callable[[], None]] = {}
        """What somebody beside the transaction does, by the kind of fault."""
        self._counts: Counter[str] = Counter()
        self._failing: tuple[int, int] | None = None

    def on_change(self, when: str, what: str) -> None:
        """Watch a change, then let what is due strike."""
        self.watch.on_change(when, what)
        deed, step = what.partition(" ")[0], self.watch.step
        self.world.machine.on_call = None
        if when == "before":
            self._counts[""] += 1
            self._counts[step] += 1
        for fault in self.faults:
            if fault.struck or fault.step not in ("", step):
                continue
            if fault.is_claimed is not None and fault.is_claimed != (self.watch.epoch is not None):
                continue
            if fault.when == "inside" and when == "before" and deed in _WRITES and self._counts[fault.step] > fault.at:
                self.world.machine.on_call = self._inside(fault, what)
            if fault.when != when:
                continue
            if self._counts[fault.step] <= fault.at or not _may_strike(fault, deed, what):
                continue
            self._struck(fault, f"{when} {what}")
            if fault.delay:
                self.world.machine.clock.schedule(fault.delay, "volume.strike", fault=self.faults.index(fault))
            else:
                self.strike(fault)
        if self._failing is not None and deed in _WRITES and when == "before":
            code, left = self._failing
            self._failing = (code, left - 1) if left > 1 else None
            raise OSError(code, "no space left on device" if code == errno.ENOSPC else "input/output error")

    def _struck(self, fault: Fault, how: str, step: str | None = None) -> None:
        """Write down that a fault strikes, and which cell of the matrix that is."""
        watch = self.watch
        fault.struck = how
        watch.reached[f"strike {fault.kind}"] += 1
        step = step or watch.step
        if step == "launch" and fault.kind == "kill" and not self.world.has_executor():
            # Nobody but the session that hands the order over: it went with its connection.
            cell = cell_of("lost", step)
        elif watch.is_recovering and step not in ("rollback", "finish", "hook", BOOT):
            # Another executor is at work, and has not said yet what it does.
            cell = None
        else:
            cell = cell_of(fault.kind, step, is_claimed=watch.epoch is not None, hook=watch.event)
        cells = {cell} if cell else set()
        if fault.kind == "kill" and step == "claim" and watch.has_interrupted():
            cells.add("RV-C4")
        for name in cells:
            watch.reached[f"cell {name}"] += 1

    def strike_at(self, place: str) -> None:
        """Let strike what is to outside of a transaction: while the host is looked at, after that, or at a boot."""
        for number, fault in enumerate(self.faults):
            if fault.step != place or fault.struck:
                continue
            if place == LOOK and fault.kind in ("cut", "gone", "lost", "kill"):
                self._struck(fault, place, place)
                self.world.machine.clock.schedule(0.01 * (1 + fault.at), "volume.strike", fault=number)
            elif place == BETWEEN and fault.kind in ("gone", "lost"):
                self._struck(fault, place, place)
            else:
                self._struck(fault, place, place)
                if fault.kind in ("no-space", "io-error"):
                    self.world.machine.state.disk_free = 0
                else:
                    self.strike(fault)

    def _inside(self, fault: Fault, what: str) -> Callable[[str], None]:
        """Return what lets a fault strike before one of the calls that a change is made of."""
        left = fault.call
        # Most often it is a sync that fails: only then what was written before does not come.
        is_sync = fault.kind == "io-error" and fault.call % 3 > 0

        def on_call(call: str) -> None:
            nonlocal left
            left -= 1
            if (call.startswith("fsync") if is_sync else left < 0) and not fault.struck:
                self._struck(fault, f"inside {what}, before {call}")
                self.watch.reached[f"inside {fault.kind} in {what.partition(' ')[0]}"] += 1
                self.world.machine.on_call = None
                self.world.machine.clock.note(f"fault {fault.kind} inside {what}, before {call.partition(' ')[0]}")
                if fault.kind in ("kill", "cut"):
                    self.watch.is_recovering = True
                    raise KilledError if fault.kind == "kill" else PowerCutError
                raise OSError(errno.ENOSPC if fault.kind == "no-space" else errno.EIO, f"{call} failed")

        return on_call

    def strike(self, fault: Fault) -> None:
        """Let a fault happen now."""
        world, machine, watch = self.world, self.world.machine, self.watch
        machine.clock.note(f"fault {fault.kind} {fault.target} {fault.value:g}")
        if fault.kind in ("kill", "cut") or (fault.kind in ("gone", "lost") and fault.step == LOOK):
            watch.is_recovering = True
            raise PowerCutError if fault.kind == "cut" else KilledError
        if fault.kind in ("no-space", "io-error"):
            self._fail(fault)
        elif fault.kind == "steal":
            strikes.steal(machine, watch)
        elif fault.kind == "systemctl":
            strikes.by_hand(world, watch, fault.target, fault.value, stops=fault.at % 2 == 1)
        elif fault.kind == "clock":
            machine.state.epoch += fault.value * 3600 * world.ahead * (1 if fault.at % 2 else -1)
        elif fault.kind == "corrupt":
            rng = random.Random(f"{fault.at} {fault.call} {fault.value}")
            path = strikes.corrupt(rng, world, but=lambda path: _is_spared(path, watch, fault))
            machine.clock.note(f"fault corrupt {path}")
            watch.is_damaged = watch.is_damaged or bool(path)
            watch.damaged |= {path} - {""}
        elif fault.kind == "hang":
            strikes.hang(machine, f"{HOOK_PLACE}/{watch.event}")
        elif fault.kind in ("gone", "lost", "second"):
            self.beside[fault.kind]()
        else:
            strikes.set_sim_fault(machine, fault.kind, fault.target, fault.value)

    def _fail(self, fault: Fault) -> None:
        code = errno.ENOSPC if fault.kind == "no-space" else errno.EIO
        self._failing = (code, fault.lasting)
        if fault.when == "after":
            # It has happened, and the sync of the directory failed.
            self._failing = (code, fault.lasting - 1) if fault.lasting > 1 else None
            raise OSError(code, "the directory could not be synced")


def _is_spared(path: str, watch: Watch, fault: Fault) -> bool:
    """Say whether this file is not damaged just now.

    The journal that is written says at which step a transaction is, and who watches must be able to read it. And what
    is damaged between the last look at a generation and its commit, nobody can see.
    """
    is_committing = fault.struck == f"before symlink {COMMITTED}"
    return path == f"{TRANSACTIONS}/{watch.txid}/journal.jsonl" or (is_committing and path.endswith("/manifest.json"))


def _may_strike(fault: Fault, deed: str, what: str) -> bool:
    if fault.kind in ("no-space", "io-error"):
        return deed in _WRITES
    if fault.kind == "hang":
        return f" {HOOK_PLACE}/" in what
    # Who takes an epoch holds the lock, so not while another one has read it and not written the next.
    return fault.kind != "steal" or not what.endswith(EPOCH)
