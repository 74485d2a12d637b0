"""What goes wrong in a history: at which change of a transaction, right before or right after it, and what it is.

Must not: judge what comes of it.
"""

from __future__ import annotations

import errno
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reconciler.agent.record import seal
from reconciler.model.outcome import STEPS
from reconciler.sim.faults import clear_fault, set_fault
from reconciler.sim.machine import KilledError, PowerCutError, SimMachine
from reconciler.sim.state import Node
from tests.agent.bench import IMAGES
from tests.volume.invariants import EPOCH, Watch
from tests.volume.world import LOAD_S, World

_LENGTHS = {"": 90, "stage": 34, "launch": 8, "finish": 9, "rollback": 14}
"""About how many changes a step makes; what is meant to strike later than its last does not strike."""

_STEPS = ("", "", "", "launch", "claim", "stage", "stage", *STEPS, "start", "warm", "rollback", "rollback")

_SERVICES = ("reasoning-vllm", "reasoning-rerank", "reasoning-tokens", "vision-llama", "vision-tokens")
_ON_UNITS = (
    "crash-at-start",
    "crash-after-ready",
    "never-healthy",
    "slow-load",
    "slow-release",
    "ignores-sigterm",
    "no-metrics",
    "wrong-model",
)
_ON_HOST = ("nvml", "gpu-lost", "unpullable")
_INSIDE = ("kill", "cut", "no-space", "io-error")
_ANYTIME = ("systemctl", "clock", *_ON_UNITS, *_ON_HOST)
KINDS = ("kill", "cut", "no-space", "io-error", "steal", "systemctl", "clock", "second", *_ON_UNITS, *_ON_HOST)
_WEIGHTS = (6, 6, 3, 4, 3, 3, 2, 2, 2, 2, 2, 1, 3, 2, 1, 1, 2, 1, 1)
_WRITES = ("mkdir", "write", "append", "symlink", "remove", "remove_tree")
_STATE = re.compile(
    r"/var/lib/recon/(?!agent/).*|/etc/recon/generations/\d+/manifest\.json|/run/recon/.*\.json|/etc/recon/hold\.json"
)


@dataclass
class Fault:
    """One thing that goes wrong. `at` counts the changes of a step, or of the whole transaction without one."""

    kind: str
    step: str
    at: int
    when: Literal["before", "after", "inside"]
    """Right before or after a change, or before one of the calls of the system that it is made of."""
    target: str
    value: float
    lasting: int = 1
    delay: float = 0.0
    """So many seconds after the change, for what needs no change to strike at: while somebody waits."""
    call: int = 0
    struck: str = ""


def draw(rng: random.Random, kinds: Sequence[str] = KINDS) -> Fault:
    """Draw a fault of one of these kinds."""
    kind = rng.choices(kinds, [_WEIGHTS[KINDS.index(kind)] for kind in kinds])[0]
    step = rng.choice(_STEPS)
    return Fault(
        kind=kind,
        step=step,
        at=rng.randrange(_LENGTHS.get(step, 5)),
        when=rng.choice(("before", "after", "inside") if kind in _INSIDE else ("before", "after")),
        target=rng.choice(_SERVICES),
        value=rng.choice((1.0, 3.0, 20.0, 80.0)),
        lasting=rng.choice((1, 1, 1, 3, 40)),
        call=rng.randrange(9),
        delay=rng.choice((0.0, 0.0, 0.1, 0.4, 1.0, 2.5)) if kind in _ANYTIME else 0.0,
    )


class Striker:
    """Counts the changes of one operation and lets its faults strike."""

    def __init__(self, world: World, watch: Watch, faults: list[Fault], second: Callable[[], None]) -> None:
        self.world = world
        world.machine.clock.on("volume.strike", lambda args: self.strike(faults[int(args["fault"])]))
        self.watch = watch
        self.faults = faults
        self._second = second
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
            if fault.when == "inside" and when == "before" and deed in _WRITES and self._counts[fault.step] > fault.at:
                self.world.machine.on_call = self._inside(fault, what, step)
            if fault.when != when:
                continue
            if self._counts[fault.step] <= fault.at or not _may_strike(fault, deed, what):
                continue
            fault.struck = f"{when} {what}"
            self.watch.reached[f"strike {fault.kind} at {step}"] += 1
            if fault.delay:
                self.world.machine.clock.schedule(fault.delay, "volume.strike", fault=self.faults.index(fault))
            else:
                self.strike(fault)
        if self._failing is not None and deed in _WRITES and when == "before":
            code, left = self._failing
            self._failing = (code, left - 1) if left > 1 else None
            raise OSError(code, "no space left on device" if code == errno.ENOSPC else "input/output error")

    def _inside(self, fault: Fault, what: str, step: str) -> Callable[[str], None]:
        """Return what lets a fault strike before one of the calls that a change is made of."""
        left = fault.call
        # Most often it is a sync that fails: only then what was written before does not come.
        is_sync = fault.kind == "io-error" and fault.call % 3 > 0

        def on_call(call: str) -> None:
            nonlocal left
            left -= 1
            if (call.startswith("fsync") if is_sync else left < 0) and not fault.struck:
                fault.struck = f"inside {what}, before {call}"
                self.watch.reached[f"strike {fault.kind} inside {what.partition(' ')[0]} at {step}"] += 1
                self.world.machine.on_call = None
                self.world.machine.clock.note(f"fault {fault.kind} inside {what}, before {call.partition(' ')[0]}")
                if fault.kind in ("kill", "cut"):
                    raise KilledError if fault.kind == "kill" else PowerCutError
                raise OSError(errno.ENOSPC if fault.kind == "no-space" else errno.EIO, f"{call} failed")

        return on_call

    def strike(self, fault: Fault) -> None:
        """Let a fault happen now."""
        machine = self.world.machine
        machine.clock.note(f"fault {fault.kind} {fault.target} {fault.value:g}")
        if fault.kind == "kill":
            raise KilledError
        if fault.kind == "cut":
            raise PowerCutError
        if fault.kind in ("no-space", "io-error"):
            code = errno.ENOSPC if fault.kind == "no-space" else errno.EIO
            self._failing = (code, fault.lasting)
            if fault.when == "after":
                # It has happened, and the sync of the directory failed.
                self._failing = (code, fault.lasting - 1) if fault.lasting > 1 else None
                raise OSError(code, "the directory could not be synced")
        elif fault.kind == "steal":
            steal(machine, self.watch)
        elif fault.kind == "systemctl":
            by_hand(self.world, self.watch, fault)
        elif fault.kind == "clock":
            machine.state.epoch += fault.value * 3600 * self.world.ahead * (1 if fault.at % 2 else -1)
        elif fault.kind == "second":
            self._second()
        else:
            set_sim_fault(machine, fault)


def _may_strike(fault: Fault, deed: str, what: str) -> bool:
    if fault.kind in ("no-space", "io-error"):
        return deed in _WRITES
    # Who takes an epoch holds the lock, so not while another one has read it and not written the next.
    return fault.kind != "steal" or not what.endswith(EPOCH)


def set_sim_fault(machine: SimMachine, fault: Fault) -> None:
    """Let a unit or the host misbehave from now on."""
    unit = f"recon-{fault.target}.service"
    if fault.kind == "nvml":
        set_fault(machine.state, "nvml", value=999, text="Unknown Error")
    elif fault.kind == "gpu-lost":
        set_fault(machine.state, "gpu-lost", machine.state.gpus[0].uuid)
    elif fault.kind == "unpullable":
        image = IMAGES["llamacpp"]
        machine.state.images = [ref for ref in machine.state.images if ref != image]
        machine.state.images_missing.append(image)
        machine.state.images_unpullable.append(image)
    else:
        set_fault(machine.state, fault.kind, unit, fault.value)


def heal(machine: SimMachine) -> None:
    """Take away everything that misbehaves."""
    clear_fault(machine.state)
    set_fault(machine.state, "slow-load", value=LOAD_S)
    machine.state.images_missing.clear()
    machine.state.images_unpullable.clear()
    machine.clock.drop("gpu.released")
    machine.state.holdings[:] = [holding for holding in machine.state.holdings if holding.pid]
    machine.clock.drop("server.dies")
    loading = {str(event.args["container"]) for event in machine.state.events if event.name == "server.loaded"}
    for container in machine.state.containers.values():
        if container.server is not None and container.server.phase != "ready" and container.id not in loading:
            container.server.phase = "loading"
            machine.clock.schedule(LOAD_S, "server.loaded", container=container.id)


def is_ill(machine: SimMachine) -> bool:
    """Say whether anything misbehaves now."""
    return len(machine.state.faults) > 1 or bool(machine.state.images_missing)


def steal(machine: SimMachine, watch: Watch) -> None:
    """Take a higher epoch, as another executor would."""
    files = machine.files
    found = re.search(rb'"epoch":(\d+)', files.read(EPOCH)) if files.stat(EPOCH) else None
    epoch = int(found[1]) + 1 if found else 1
    files.make_dirs("/var/lib/recon")
    files.put(EPOCH, Node.of(seal({"epoch": epoch}, "epoch")))
    watch.epoch_was(epoch)


def by_hand(world: World, watch: Watch, fault: Fault) -> None:
    """Let a person start or stop a unit beside recon."""
    coven = fault.target.partition("-")[0]
    units = {1.0: f"recon-{fault.target}.service", 3.0: f"recon-gate-all-{coven}.service"}
    unit = units.get(fault.value, f"recon-coven-{coven}.target")
    watch.is_tampered = True
    quietly(world, lambda: world.machine.run(["systemctl", "stop" if fault.at % 2 else "start", "--no-block", unit], 5))


def quietly(world: World, deed: Callable[[], Any]) -> Any:
    """Do something that is not the executor's while its own changes are counted."""
    hook, world.machine.hook = world.machine.hook, None
    try:
        return deed()
    finally:
        world.machine.hook = hook


def corrupt(rng: random.Random, world: World) -> str:
    """Truncate a state file, or flip a bit of one byte of it; returns which."""
    files = world.machine.files
    paths = [path for path in sorted(world.machine.state.files) if _STATE.fullmatch(path)]
    paths = [path for path in paths if (node := files.lstat(path)) is not None and node.kind == "file" and node.data]
    if not paths:
        return ""
    path = rng.choice(paths)
    data = bytearray(files.read(path))
    at = rng.randrange(len(data))
    if rng.random() < 0.5:
        del data[at:]
    else:
        data[at] ^= 1 << rng.randrange(8)
    files.put(path, Node.of(bytes(data)))
    return path
