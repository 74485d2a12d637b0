"""What the watchdog knows about memory: whether it can be measured at all, and who holds more than was declared.

Must not: take a GPU that does not answer for a free one, or a figure that is missing for zero.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from . import gpu, memory, step_memory
from .machine import Machine

GPU_TIMEOUT_S = 10.0
_ROOM = 1 << 30
_PART = 20
# As the planner has it: a unified host wedges as a whole when its memory runs out.
_RESERVE = {"unified": 12 << 30, "discrete": 1 << 29, "gh200": 1 << 29}
_RELEASE_S = {"discrete": 60.0, "unified": 240.0, "gh200": 60.0}


class Seen(NamedTuple):
    """One look at the GPUs: `problem` says why nothing may be concluded from it."""

    kind: str
    gpus: List[Dict[str, Any]]
    problem: str = ""


def look(machine: Machine, configured: str) -> Seen:
    """Ask the GPUs once."""
    told = gpu.describe(machine, machine.gpu_facts(GPU_TIMEOUT_S), configured, GPU_TIMEOUT_S)
    kind = told.memory_class.get("value")
    if kind is None or "value" not in told.gpus:
        missing = told.memory_class if kind is None else told.gpus
        return Seen("", [], f"what the GPUs hold is not known: {missing.get('unknown') or missing.get('na')}")
    return Seen(kind, told.gpus["value"])


def gpus_of(seen: Seen, names: Sequence[str]) -> Optional[List[Dict[str, Any]]]:
    """Return the GPUs of a slot, None when one of them is not there or cannot be read."""
    if list(names) == ["all"]:
        found = seen.gpus
    else:
        by_name = {**{each["uuid"]: each for each in seen.gpus}, **{str(each["index"]): each for each in seen.gpus}}
        found = [by_name[name] for name in names if name in by_name]
        if len(found) < len(names):
            return None
    readable = all("value" in each["processes"] for each in found)
    return found if found and readable else None


def held(gpus: List[Dict[str, Any]], unit: str) -> Optional[int]:
    """Return the bytes that a unit's processes hold on GPUs, None when one of them does not tell."""
    sizes = [
        process["bytes"].get("value")
        for each in gpus
        for process in each["processes"]["value"]
        if process["unit"] == unit
    ]
    return None if any(size is None for size in sizes) else sum(sizes)


def excess(gpus: List[Dict[str, Any]], member: Dict[str, Any]) -> Optional[int]:
    """Return by how much a member is over what it declared and a little more, None when that cannot be told."""
    size = held(gpus, member["unit"])
    declared = int(member["memory"])
    return None if size is None else max(0, size - declared - max(_ROOM, declared // _PART))


def is_low(machine: Machine, spec: Dict[str, Any], seen: Seen) -> Optional[bool]:
    """Say whether a host whose memory the GPU shares has less left than its reserve, None when that cannot be told."""
    if seen.kind != "unified":
        return False
    try:
        return memory.meminfo(machine)["available"] < reserve(spec, seen)
    except (OSError, ValueError):
        return None


def reserve(spec: Dict[str, Any], seen: Seen) -> int:
    """Return the memory that is never given to a coven."""
    return int(spec["reserve"]) if spec["reserve"] is not None else _RESERVE[seen.kind]


def need_of(
    spec: Dict[str, Any], seen: Seen, gpus: List[Dict[str, Any]], members: List[Dict[str, Any]]
) -> step_memory.Need:
    """Return what must be free before members start again."""
    total = sum(int(member["memory"]) for member in members)
    return step_memory.Need(
        memory_class=seen.kind,
        gpus=[each["uuid"] for each in gpus],
        total=total,
        per_gpu=-(-total // max(1, len(gpus))),
        reserve=reserve(spec, seen),
        timeout_s=spec["release_s"] or _RELEASE_S[seen.kind],
        drop_caches=seen.kind != "discrete" and bool(spec.get("drop_caches")),
    )
