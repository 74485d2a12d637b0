"""What a host runs, read off its observation: which coven is live on which slot, what the committed manifest says.

Pure look-ups used by the diff and by the planner. Must not: compare with the desired state.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from reconciler.model.base import END_OF_TIME_S
from reconciler.model.desired import Host
from reconciler.model.observed import Gpu, GpuProcess, Hold, HostState, Known, Lease, Lock, Manifest, Unit

_NO_MANIFEST = Manifest()
UP = frozenset({"active", "activating", "reloading"})


CRASHES = 2
"""So many crashes in a row are a crash loop."""

GRAPHICS_ONLY = "G"
"""NVML's kind of a desktop process; expected on a machine with a screen, so it is ignored and counted."""


def units_by_name(state: HostState) -> dict[str, Unit]:
    """Return the units the host told about; none when they are unknown (a guard refuses before that matters)."""
    return {unit.name: unit for unit in state.units.value} if isinstance(state.units, Known) else {}


def is_fresh(lease: Lease, state: HostState) -> bool:
    """Say whether the holder of a claim lately showed that it lives, by the host's own clock since boot."""
    silent = state.identity.boottime_s - lease.renewed
    return lease.boot_id == state.identity.boot_id and silent <= lease.ttl_s


def quiet_s(state: HostState) -> float:
    """Return for how long nothing was done on a host: since it booted, or since its last transaction ended.

    Before that nobody had a first look to take, whatever the host is looked after by.
    """
    ended = last_ended(state)
    if ended is None:
        return state.identity.boottime_s
    since = state.identity.wall_time - ended
    # A clock that was set back says nothing; the one since boot cannot be.
    return min(state.identity.boottime_s, since) if since >= 0 else state.identity.boottime_s


def last_ended(state: HostState) -> float | None:
    """Return when the last transaction ended, by the host's wall clock; None when there was none, or it does not say.

    An outcome is a record of whichever agent wrote it: nothing of it is believed to be there, or to be a number.
    """
    last = state.executor.last
    if not isinstance(last, Known):
        return None
    told = [last.value.get("started_at"), last.value.get("elapsed_s", 0)]
    numbers = [float(each) for each in told if isinstance(each, int | float) and 0 <= each <= END_OF_TIME_S]
    return sum(numbers) if len(numbers) == len(told) else None


def deed(state: HostState) -> Lease | None:
    """Return the claim of a watchdog that acts just now, None when none does."""
    lease = state.lease.value if isinstance(state.lease, Known) else None
    return lease if lease and lease.doing and not state.executor.active and is_fresh(lease, state) else None


_TIMERS = {
    "recon-spiral.timer": "nothing holds its rate caps or backs off",
    "recon-reaper.timer": "nothing deletes what is over its budget",
}


def unattended(state: HostState) -> tuple[str, ...]:
    """Say what nobody does for a spiral that somebody started by force: its timers boot with its flag alone."""
    is_forced = isinstance(state.down, Known) and state.down.value.forced is not None
    if not is_forced or not isinstance(state.units, Known):
        return ()
    up = {unit.name for unit in state.units.value if unit.active == "active"}
    return tuple(f"{timer} does not run: {what}" for timer, what in _TIMERS.items() if timer not in up)


def until(hold: Hold) -> str:
    """Say when a hold ends by itself, nothing when it does not."""
    if hold.until is None:
        return ""
    try:
        return f" until {datetime.fromtimestamp(hold.until, UTC):%Y-%m-%d %H:%M}Z"
    except (ValueError, OverflowError, OSError):
        return ""


def locked_what(host: str, lock: Lock) -> str:
    """Say what a lock is on."""
    return f"slot {lock.slot} of {host}" if lock.slot else host


def crashes(unit: Unit) -> str | None:
    """Say how often a unit crashed and how it ended last, None when it did not since somebody started it.

    One that waits for its next restart has crashed once more than systemd restarted it.
    """
    times = unit.restarts + unit.sub.startswith("auto-restart")
    if not times:
        return None
    last = f", last with {unit.last_exit}" if unit.last_exit else ""
    return f"crashes again and again ({times} times{last})" if times >= CRASHES else f"crashed once{last}"


def live_covens(host: Host, state: HostState) -> dict[str, tuple[str, ...]]:
    """Return for every slot the covens whose gate is up: none, one, or (what must never be) more."""
    units = state.units.value if isinstance(state.units, Known) else ()
    gates = [unit.name for unit in units if unit.active in UP and unit.name.startswith("recon-gate-")]
    return {slot.name: tuple(sorted(_covens_of_gates(gates, slot.name))) for slot in host.slots}


def _covens_of_gates(gates: list[str], slot: str) -> list[str]:
    prefix, suffix = f"recon-gate-{slot}-", ".service"
    return [name[len(prefix) : -len(suffix)] for name in gates if name.startswith(prefix) and name.endswith(suffix)]


def committed_manifest(state: HostState) -> Manifest:
    """Return the manifest of the committed generation, an empty one when there is none or it cannot be read."""
    if isinstance(state.generation, Known) and state.generation.value:
        manifest = state.generation.value.manifest
        if isinstance(manifest, Known):
            return manifest.value
    return _NO_MANIFEST


def committed_number(state: HostState) -> int | None:
    """Return the number of the committed generation, None when nothing was ever committed."""
    if isinstance(state.generation, Known) and state.generation.value:
        return state.generation.value.number
    return None


def slot_gpus(host: Host, slot: str, state: HostState) -> tuple[Gpu, ...] | None:
    """Return the GPUs of a slot, None when the host could not tell or one of them is not there."""
    if not isinstance(state.gpus, Known):
        return None
    wanted = host.slot(slot).gpus
    if wanted == "all":
        return state.gpus.value
    by_name = _by_name(state.gpus.value)
    found = tuple(by_name[name] for name in wanted if name in by_name)
    return found if len(found) == len(wanted) else None


def same_gpus(names: Collection[str], others: Collection[str], state: HostState) -> bool:
    """Say whether these are the same GPUs, by index, by UUID or all; names decide of those that nobody knows."""
    there = _by_name(state.gpus.value) if isinstance(state.gpus, Known) else {}
    return _uuids(names, there) == _uuids(others, there)


def _uuids(names: Collection[str], there: dict[str, Gpu]) -> set[str]:
    every = {gpu.uuid for gpu in there.values()} or set(names)
    return every if "all" in names else {there[name].uuid if name in there else name for name in names}


def _by_name(gpus: tuple[Gpu, ...]) -> dict[str, Gpu]:
    return {gpu.uuid: gpu for gpu in gpus} | {str(gpu.index): gpu for gpu in gpus}


def foreign_processes(processes: tuple[GpuProcess, ...], ours: frozenset[str]) -> tuple[GpuProcess, ...]:
    """Return the holders of GPU memory that are neither ours nor shared; desktop processes are left out."""
    return tuple(process for process in processes if process.unit not in ours and process.kind != GRAPHICS_ONLY)


def describe(process: GpuProcess) -> str:
    """Name a process so that a person finds it: command, pid, and the unit or container it belongs to."""
    where = process.unit or (f"container {process.container[:12]}" if process.container else "no unit")
    return f"{process.comm} (pid {process.pid}, {where})"
