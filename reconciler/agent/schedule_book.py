"""What the schedule remembers: the switch it ordered last (durable), and what it saw at its last look (in /run).

A switch that failed is not ordered again before the next edge of a window or a new commit; that is remembered by slot,
so that one slot keeps no other from its own. What tells one time between two edges from another is a mark
(`week.mark`), and it is kept beside the number of the generation.

A record that does not verify is put aside, and whoever looks into the host is told; it costs one more try at most.

Must not: judge anything.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable

from . import places
from .machine import Machine
from .record import RecordError, read_record, set_aside, write_record


def tried(machine: Machine) -> Dict[str, Any]:
    """Return the last order, empty when there was none.

    `generation` and `mark` say for when it was, `txid` and `deed` what it is, and `moved` that by slot; `orders` how
    many there were for that time, `boot_id` in which boot; `failed` is why, or empty, and `may_repeat` whether to give
    up is no failure. `slots` are those that failed in that time, by this order or one before, each with the reason.
    """
    try:
        return read_record(machine, places.SCHEDULE)
    except FileNotFoundError:
        return {}
    except RecordError:
        set_aside(machine, places.SCHEDULE)
        return {}


def failed(last: Dict[str, Any], slots: Iterable[str]) -> Dict[str, str]:
    """Return by slot why its switch failed in the time of the last order; an older agent wrote that of the host."""
    if "slots" in last:
        return dict(last["slots"])
    return dict.fromkeys(slots, str(last["failed"])) if last["failed"] else {}


def note(machine: Machine, body: Dict[str, Any]) -> None:
    """Write the last order down, before it is launched and when its end is known."""
    machine.mkdir(places.STATE)
    write_record(machine, places.SCHEDULE, body)


def look(machine: Machine) -> Dict[str, Any]:
    """Return what the last look saw; nothing after a boot, or when it cannot be read."""
    try:
        return read_record(machine, places.SCHEDULE_LOOK)
    except (OSError, RecordError):
        return {}


def save_look(machine: Machine, said: str, idle: Dict[str, Any]) -> None:
    """Write down what a look came to, and by slot since when what runs there was idle (seconds since boot)."""
    machine.mkdir(places.RUN)
    write_record(machine, places.SCHEDULE_LOOK, {"at": machine.boottime(), "said": said, "idle": idle})
