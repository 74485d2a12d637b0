"""Whether a coven has nothing to do just now, by what its own servers say.

A server that cannot say how busy it is counts as busy, and so does one that does not answer: what waits for idleness
waits rather than guess.

Must not: pause, seal or stop anything.
"""

from __future__ import annotations

import functools
from typing import Any, Dict, List

from . import systemd
from .asleep import asleep
from .busy import Busy, busy_of
from .machine import Machine

_POLLS = 3
_POLL_S = 0.25


def why_busy(machine: Machine, members: List[Dict[str, Any]]) -> str:
    """Return what speaks against idleness on three polls in a row; empty when nothing does."""
    shown = systemd.show_units(machine, [member["unit"] for member in members]) if members else {}
    up = [member for member in members if member["unit"] in shown and shown[member["unit"]].active != "inactive"]
    blind = [member["service"] for member in up if not member["in_flight"]]
    if blind:
        return f"{', '.join(blind)} cannot say how busy it is"
    for poll in range(_POLLS if up else 0):
        if poll:
            machine.sleep(_POLL_S)
        asked = machine.parallel([functools.partial(_ask, machine, member) for member in up])
        busy = [f"{member['service']} {found}" for member, found in zip(up, asked) if found.figure != 0]
        if busy:
            return f"busy: {', '.join(busy)}"
    return ""


def _ask(machine: Machine, member: Dict[str, Any]) -> Busy:
    return busy_of(machine, member["in_flight"], asleep(machine, member))
