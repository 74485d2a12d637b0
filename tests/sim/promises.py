"""What `machine.Machine` promises of the disk, tried at every call of the system that a change of it is made of.

A change that is cut leaves what was or what shall be; one that returned is there after a power cut whatever luck says;
one whose program was killed is there when it is made again.

Must not: know which calls a change is made of.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import random
from collections.abc import Callable
from typing import NamedTuple

from reconciler.agent.durable import DurableMachine
from reconciler.sim.disk import SimSystem
from reconciler.sim.files import Files
from reconciler.sim.machine import KilledError
from reconciler.sim.pages import Luck
from reconciler.sim.state import SimState

HERE = "/etc/recon"
PATH = f"{HERE}/x"
OLD = b"old line\n" * 700
NEW = b"a new line\n" * 1500
"""Both take several pages."""

LUCKS: tuple[Callable[[], Luck], ...] = (
    lambda: lambda: 0.0,
    lambda: lambda: 0.99,
    *(lambda seed=seed: random.Random(seed).random for seed in range(6)),
)

Change = Callable[[DurableMachine], None]

View = bytes | str | None
"""What is found at a path: the bytes of a file, what a link points to, `dir`, or nothing."""


class Disk:
    """A disk, and the programs on it, one after the other."""

    def __init__(self) -> None:
        self.state = SimState(host="h", kind="h200", seed=1, epoch=0.0)
        self._ticks = itertools.count(1)
        self.files = Files(self.state.files, lambda: next(self._ticks))
        self.files.make_dirs(HERE)
        self.system = SimSystem(self.state, self.files, self._announce)
        self.machine = DurableMachine(self.system)
        self.calls = 0
        self.on_call: Callable[[int, str], None] | None = None
        self._is_dead = False

    def _announce(self, call: str) -> None:
        if self._is_dead:
            raise KilledError
        self.calls += 1
        if self.on_call is not None:
            self.on_call(self.calls, call)

    def kill_at(self, number: int) -> None:
        def on_call(count: int, _: str) -> None:
            if count == number:
                self._is_dead = True
                raise KilledError

        self.calls, self.on_call = 0, on_call

    def begin_program(self) -> None:
        """Let another program use the disk; what the one before left in memory stays there."""
        self.on_call, self._is_dead = None, False
        self.system.end_program()
        self.machine = DurableMachine(self.system)

    def cut(self, luck: Luck) -> None:
        self.begin_program()
        self.system.pages.cut(luck)

    def view(self) -> View:
        node = self.files.lstat(PATH)
        if node is None or node.kind == "dir":
            return None if node is None else "dir"
        return node.target if node.kind == "link" else node.data


class Deed(NamedTuple):
    """A change of the disk; `is_new` says whether it is there, `is_legal` whether a cut may leave this of it."""

    name: str
    before: Change
    make: Change
    is_new: Callable[[View], bool]
    is_legal: Callable[[View], bool]


def _nothing(machine: DurableMachine) -> None: ...


def _old(machine: DurableMachine) -> None:
    machine.write(PATH, OLD)


def _tree(machine: DurableMachine) -> None:
    machine.mkdir(f"{PATH}/deep")
    for name in ("a", "deep/b"):
        machine.write(f"{PATH}/{name}", OLD)


def _one_of(*views: View) -> Callable[[View], bool]:
    return lambda view: view in views


def _is_appended(view: View) -> bool:
    return _keeps_old(view) and isinstance(view, bytes) and view.endswith(NEW)


def _keeps_old(view: View) -> bool:
    return isinstance(view, bytes) and view.startswith(OLD)


def _deed(
    name: str, before: Callable[[DurableMachine], None], make: Callable[[DurableMachine], None], *ends: View
) -> Deed:
    return Deed(name, before, make, _one_of(ends[-1]), _one_of(*ends))


DEEDS = (
    _deed("write anew", _nothing, lambda m: m.write(PATH, NEW), None, NEW),
    _deed("write over", _old, lambda m: m.write(PATH, NEW), OLD, NEW),
    _deed("link anew", _nothing, lambda m: m.symlink("/there", PATH), None, "/there"),
    _deed("link over", lambda m: m.symlink("/here", PATH), lambda m: m.symlink("/there", PATH), "/here", "/there"),
    _deed("make directories", _nothing, lambda m: m.mkdir(f"{PATH}/deep"), None, "dir"),
    _deed("remove", _old, lambda m: m.remove(PATH), OLD, None),
    _deed("remove a tree", _tree, lambda m: m.remove_tree(PATH), "dir", None),
    Deed(
        "append",
        _old,
        lambda m: m.append(PATH, NEW),
        _is_appended,
        lambda v: isinstance(v, bytes) and v[: len(OLD)] == OLD,
    ),
    Deed(
        "append anew",
        _nothing,
        lambda m: m.append(PATH, NEW),
        lambda v: isinstance(v, bytes) and v.endswith(NEW),
        lambda v: v is None or isinstance(v, bytes),
    ),
)


def broken_promises(deed: Deed) -> list[str]:
    """Return each promise that does not hold for a change of the disk, in words; none when all do."""
    calls = _begin(deed).calls_of(deed)
    found: list[str] = []
    for number, luck in itertools.product(range(1, calls + 1), LUCKS):
        found += _when_cut(deed, number, luck()) + _when_killed(deed, number, luck())
    for luck in LUCKS:
        found += _when_done(deed, luck())
        for failing in range(1, 6):
            found += _when_failing(deed, failing, luck())
    return sorted(set(found))


class _Begun(Disk):
    def calls_of(self, deed: Deed) -> int:
        self.calls = 0
        deed.make(self.machine)
        return self.calls


def _begin(deed: Deed) -> _Begun:
    disk = _Begun()
    deed.before(disk.machine)
    disk.system.pages.forget()
    disk.begin_program()
    return disk


def _stop(disk: Disk, deed: Deed, number: int) -> None:
    disk.kill_at(number)
    with contextlib.suppress(KilledError):
        deed.make(disk.machine)


def _when_cut(deed: Deed, number: int, luck: Luck) -> list[str]:
    disk = _begin(deed)
    _stop(disk, deed, number)
    disk.cut(luck)
    return [] if deed.is_legal(disk.view()) else [f"{deed.name}: cut, it leaves what neither was nor shall be"]


def _when_killed(deed: Deed, number: int, luck: Luck) -> list[str]:
    disk = _begin(deed)
    _stop(disk, deed, number)
    disk.begin_program()
    deed.make(disk.machine)
    disk.cut(luck)
    return (
        [] if deed.is_new(disk.view()) else [f"{deed.name}: made again after a kill, it does not survive a power cut"]
    )


def _when_done(deed: Deed, luck: Luck) -> list[str]:
    disk = _begin(deed)
    deed.make(disk.machine)
    disk.cut(luck)
    return [] if deed.is_new(disk.view()) else [f"{deed.name}: done, it does not survive a cut"]


def _when_failing(deed: Deed, failing: int, luck: Luck) -> list[str]:
    """Let one sync fail; who is told that all is well may rely on it."""
    disk, count = _begin(deed), 0

    def on_call(_: int, call: str) -> None:
        nonlocal count
        count += call.startswith("fsync")
        if call.startswith("fsync") and count == failing:
            raise OSError(errno.EIO, "Input/output error")

    disk.on_call = on_call
    try:
        deed.make(disk.machine)
    except OSError:
        disk.cut(luck)
        return (
            [] if deed.is_legal(disk.view()) else [f"{deed.name}: failed, it leaves neither what was nor what shall be"]
        )
    disk.cut(luck)
    return [] if deed.is_new(disk.view()) else [f"{deed.name}: a sync failed, and it says that it is done"]
