"""What each fault does to a host, and how everything that misbehaves is put right again.

Must not: choose when.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

from reconciler.agent.record import seal
from reconciler.sim.faults import clear_fault, fault_of, set_fault
from reconciler.sim.machine import SimMachine
from reconciler.sim.state import GiB, Gpu, Holding, Node
from tests.agent.bench import IMAGES
from tests.volume.invariants import EPOCH, Watch
from tests.volume.slots import SLOTS, slot_of
from tests.volume.world import HOOKS, LOAD_S, World

SOMEBODY = "somebody"
"""Who holds memory that no coven ever had."""

_DISK = 800 * GiB
_HANGS_S = 900
_STATE = re.compile(
    r"/var/lib/recon/(?!agent/).*|/etc/recon/generations/\d+/manifest\.json|/run/recon/.*\.json|/etc/recon/hold\.json"
)


def set_sim_fault(machine: SimMachine, kind: str, target: str, value: float) -> None:
    """Let a unit or the host misbehave from now on."""
    if kind == "nvml":
        set_fault(machine.state, "nvml", value=999, text="Unknown Error")
    elif kind == "gpu-lost":
        set_fault(machine.state, "gpu-lost", _gpus_for(machine, target)[0].uuid)
    elif kind in ("reload", "generator"):
        set_fault(machine.state, kind)
    elif kind == "taken":
        take_memory(machine, value, _gpus_for(machine, target))
    elif kind == "unpullable":
        image = IMAGES["llamacpp"]
        machine.state.images = [ref for ref in machine.state.images if ref != image]
        machine.state.images_missing.append(image)
        machine.state.images_unpullable.append(image)
    else:
        set_fault(machine.state, kind, f"recon-{target}.service", value)


def _gpus_for(machine: SimMachine, target: str) -> list[Gpu]:
    """Return the GPUs of the slot that a service is for."""
    gpus, slot = machine.state.gpus, slot_of(f"recon-{target}")
    return gpus if len(gpus) == 1 or slot is None else [gpus[SLOTS.index(slot)]]


def take_memory(machine: SimMachine, value: float, gpus: list[Gpu]) -> None:
    """Let memory be held that the driver lists with no process; a little of it soon comes back by itself."""
    for gpu in gpus:
        used = sum(holding.bytes for holding in machine.state.holdings if holding.gpu == gpu.uuid)
        size = min(gpu.total - gpu.reserved - used, int(value) * 4 * GiB)
        if size <= 0:
            continue
        machine.state.holdings.append(Holding(gpu=gpu.uuid, bytes=size, pid=0, owner=SOMEBODY))
        if value <= 1:
            machine.clock.schedule(5.0, "gpu.released", gpu=gpu.uuid, bytes=size, owner=SOMEBODY)


def heal(machine: SimMachine) -> None:
    """Take away everything that misbehaves."""
    state = machine.state
    lost_units = fault_of(state, "generator", "*") is not None
    clear_fault(state)
    set_fault(state, "slow-load", value=LOAD_S)
    state.disk_free = _DISK
    state.images_missing.clear()
    state.images_unpullable.clear()
    for hook in HOOKS:
        if machine.files.stat(hook) is not None:
            machine.files.put(hook, Node.of(b"#!/bin/sh\nexit 0\n", 0o755))
    machine.clock.drop("gpu.released")
    state.holdings[:] = [holding for holding in state.holdings if holding.pid]
    machine.clock.drop("server.dies")
    # What loads slowly, or never, loads from now on as everything does.
    machine.clock.drop("server.loaded")
    for container in state.containers.values():
        if container.server is not None and container.server.phase != "ready":
            container.server.phase = "loading"
            machine.clock.schedule(LOAD_S, "server.loaded", container=container.id)
    if lost_units:
        # Who repairs a generator lets systemd run it again.
        machine.manager.daemon_reload()


def is_ill(machine: SimMachine) -> bool:
    """Say whether anything misbehaves now."""
    state = machine.state
    is_taken = any(holding.owner == SOMEBODY for holding in state.holdings)
    hangs = any((node := state.files.get(hook)) is not None and b"sleep" in node.data for hook in HOOKS)
    sticks = any(one.server is not None and one.server.phase == "stuck" for one in state.containers.values())
    return sticks or len(state.faults) > 1 or bool(state.images_missing) or state.disk_free < _DISK or is_taken or hangs


def hang(machine: SimMachine, hook: str) -> None:
    """Let a hook's program hang from now on."""
    machine.files.put(hook, Node.of(b"#!/bin/sh\nsleep %d\n" % _HANGS_S, 0o755))


def stick(machine: SimMachine, rng: random.Random) -> None:
    """Let one server of a coven answer no more, without an end of its process."""
    servers = {one.name: one.server for one in machine.state.containers.values() if one.server and slot_of(one.unit)}
    if servers:
        name = rng.choice(sorted(servers))
        machine.clock.note(f"fault stuck {name}")
        servers[name].phase = "stuck"


def steal(machine: SimMachine, watch: Watch) -> None:
    """Take a higher epoch, as another executor would."""
    files = machine.files
    found = re.search(rb'"epoch":(\d+)', files.read(EPOCH)) if files.stat(EPOCH) else None
    epoch = int(found[1]) + 1 if found else 1
    files.make_dirs("/var/lib/recon")
    files.put(EPOCH, Node.of(seal({"epoch": epoch}, "epoch")))
    watch.epoch_was(epoch)


def by_hand(world: World, watch: Watch, target: str, value: float, *, stops: bool) -> None:
    """Let a person start or stop a unit beside recon."""
    coven = target.partition("-")[0]
    slot = slot_of(f"recon-{target}") if watch.has_two else "all"
    units = {1.0: f"recon-{target}.service", 3.0: f"recon-gate-{slot}-{coven}.service"}
    unit = units.get(value, f"recon-coven-{coven}.target")
    watch.is_tampered = True
    quietly(world, lambda: world.machine.run(["systemctl", "stop" if stops else "start", "--no-block", unit], 5))


def quietly(world: World, deed: Callable[[], Any]) -> Any:
    """Do something that is not the executor's while its own changes are counted."""
    hook, world.machine.hook = world.machine.hook, None
    try:
        return deed()
    finally:
        world.machine.hook = hook


def ask_only(world: World, watch: Watch, what: str, deed: Callable[[], Any]) -> Any:
    """Let somebody else ask the agent for something that changes nothing, while a transaction runs."""
    hook = world.machine.hook
    world.machine.hook = lambda when, change: watch.break_(21, f"{what} did: {change}")
    try:
        return deed()
    finally:
        world.machine.hook = hook


def corrupt(rng: random.Random, world: World, *, but: Callable[[str], bool] = lambda path: False) -> str:
    """Truncate a state file, or flip a bit of one byte of it; returns which. Files to spare are those of `but`."""
    files = world.machine.files
    paths = [path for path in sorted(world.machine.state.files) if _STATE.fullmatch(path)]
    paths = [path for path in paths if (node := files.lstat(path)) is not None and node.kind == "file" and node.data]
    paths = [path for path in paths if not but(path)]
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
