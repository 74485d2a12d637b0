"""The most that was measured free since the boot while nobody was on the GPUs: what can come back.

A figure for people who look for memory that did not: on a GPU that is a NUMA node the host keeps pages of its own, a
driver has its floor, and a failed load may keep some until a reboot. Nothing is accepted or refused by it.

Must not: be needed. A host that has none, or a damaged one, says nothing here.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict

from . import places
from .machine import Machine
from .record import RecordError, make_way, read_record, write_record

_TOLERANCE = 256 << 20
_MIB = 1 << 20


def note(machine: Machine, free: Dict[str, int]) -> None:
    """Remember what is free on each GPU, or of the host's memory, where it is more than was ever seen."""
    best = _noted(machine)
    more = {name: size for name, size in free.items() if size > best.get(name, 0) + _TOLERANCE}
    if not more:
        return
    with contextlib.suppress(OSError, RecordError):
        machine.mkdir(places.RUN)
        make_way(machine, places.IDLE)
        write_record(machine, places.IDLE, {"free": {**best, **more}})


def missing(machine: Machine, free: Dict[str, int]) -> str:
    """Say how much less is free than was when nobody was there; empty when it is not less."""
    best = _noted(machine)
    return "; ".join(
        f"since the boot {name} had up to {best[name] // _MIB} MiB free with nobody on it,"
        f" {(best[name] - size) // _MIB} MiB more than now"
        for name, size in sorted(free.items())
        if best.get(name, 0) - size > _TOLERANCE
    )


def _noted(machine: Machine) -> Dict[str, int]:
    try:
        free: Any = read_record(machine, places.IDLE).get("free")
    except (OSError, RecordError):
        return {}
    if not isinstance(free, dict):
        return {}
    return {str(name): size for name, size in free.items() if isinstance(size, int)}
