"""What the watchdog saw last and did, and which alerts stand, as `model.observed.WatchdogState`.

Must not: look in the watchdog's place, or take a record that does not verify for "all is well".
"""

from typing import Any, Dict

from . import alerts, fact, places
from .machine import Machine
from .plain import clean
from .record import read_record


def watchdog(machine: Machine, generation: fact.Fact) -> fact.Fact:
    """Return the fact; unknown when one of its records cannot be read."""
    try:
        return _told(machine, generation)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return fact.unknown(fact.why(error))


def _told(machine: Machine, generation: fact.Fact) -> fact.Fact:
    standing = alerts.standing(machine)
    committed = generation.get("value")
    body = committed["manifest"].get("value") if committed else None
    if not standing and not (body and body.get("watchdog")):
        return fact.not_applicable("the committed generation has no watchdog")
    looks, book = _record(machine, places.LOOKS), _record(machine, places.WATCHDOG)
    if committed is None or book.get("generation") != committed["number"]:
        book = {}
    return fact.value(
        {
            "looked_s": round(max(0.0, machine.boottime() - looks["at"]), 1) if looks else None,
            "said": clean(str(looks.get("said", "")), 2000),
            "attempts": {clean(unit): int(count) for unit, count in sorted(book.get("attempts", {}).items())},
            "held_off": {clean(name): clean(str(why)) for name, why in sorted(book.get("held_off", {}).items())},
            "alerts": standing,
        }
    )


def _record(machine: Machine, path: str) -> Dict[str, Any]:
    try:
        return read_record(machine, path)
    except FileNotFoundError:
        return {}
