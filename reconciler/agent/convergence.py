"""Whether the loop has arrived, and its producers then: stopped while it has, started again when it has not any more.

Only what this stopped is started again, and never while a transition runs, the spiral is down or a person holds the
host: whoever stopped it then starts it too.

Must not: stop anything but a producer of the committed spiral.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional

from . import caps, fact, places, splice, systemd, watch_site
from .machine import BusyError, Machine

_RUNS = ("active", "activating", "reloading")


class Arrived(NamedTuple):
    """Whether it has: None is not known, and `problem` says why; None without a problem: nothing is declared."""

    value: Optional[bool]
    problem: str = ""


def look(machine: Machine, spec: Dict[str, Any]) -> Arrived:
    """Read what the loop says about itself."""
    declared = spec.get("convergence")
    if not declared:
        return Arrived(None)
    try:
        _, value = splice.look_up(caps.read_file(machine, spec, declared["file"]), declared["key"])
    except (OSError, ValueError) as error:
        text = (error.strerror if isinstance(error, OSError) else None) or fact.why(error)
        return Arrived(None, f"{declared['file']}: {text}")
    return Arrived(splice.is_same(value, declared["equals"]))


def settle(machine: Machine, spec: Dict[str, Any], arrived: Arrived, stopped: List[str]) -> List[str]:
    """Stop or start the producers; return which are stopped because of it. SystemdError when systemd refuses."""
    producers = [unit["unit"] for unit in spec["units"] if unit["producer"]]
    wanted = [*producers, spec["target"]]
    if arrived.value is None or not producers:
        return stopped
    try:
        with machine.lock(places.LOCK):
            watch_site.stay_away(machine, must_have_ended=False)
            shown = systemd.show_units(machine, wanted)
            return _settle(machine, spec, producers, shown, arrived.value, stopped)
    except (BusyError, watch_site.ApartError):
        # Somebody has the host just now; the next tick sees what became of it.
        return stopped


def _settle(
    machine: Machine,
    spec: Dict[str, Any],
    producers: List[str],
    shown: Dict[str, systemd.UnitState],
    has_arrived: bool,
    stopped: List[str],
) -> List[str]:
    running = [unit for unit in producers if unit in shown and shown[unit].active in _RUNS]
    if has_arrived:
        if running:
            # Not the stop that waits for its turn: it would keep the host's lock for as long as a loop crashes.
            systemd.end_all(machine, running)
        return sorted({*stopped, *running})
    target = shown.get(spec["target"])
    is_up = target is not None and target.active == "active" and machine.stat(places.DOWN_SPIRAL) is None
    again = [unit for unit in stopped if unit in producers and unit not in running]
    if not again:
        return []
    # To start asks for more than to stop: no lock on the slot, and no transaction that left the host to a person.
    watch_site.stay_away(machine, asks_covens=False)
    if spec["slot"] in watch_site.locked_slots(machine):
        return stopped
    if is_up:
        systemd.start(machine, again)
    return []
