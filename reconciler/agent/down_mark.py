"""People's marks: the spiral or the covens of this host are down, or the spiral was started against a guardrail.

A mark is a file, and that it is there is what counts: units ask systemd for it by themselves. One that cannot be read
says that something is down, and not who said so.

Must not: start or stop anything.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from . import fact, places
from .machine import Machine
from .plain import clean
from .record import RecordError, make_way, number_in, read_record, write_record

SPIRAL = "spiral"
COVEN = "coven"
SCOPES = {SPIRAL: places.DOWN_SPIRAL, COVEN: places.DOWN_COVEN}
_LIMIT = 500


def of(machine: Machine, scope: str) -> Optional[Dict[str, Any]]:
    """Return who has a scope down, since when and why; None when nobody has."""
    return _read(machine, SCOPES[scope])


def forced(machine: Machine) -> Optional[Dict[str, Any]]:
    """Return who started the spiral against what it should not run with, None when nobody did."""
    return _read(machine, places.FORCED)


def put(machine: Machine, scope: str, *, owner: str, reason: str) -> None:
    """Keep a scope down from now on, durably."""
    _write(machine, SCOPES[scope], {"owner": owner, "reason": reason, "since": machine.wall()})


def put_forced(machine: Machine, *, owner: str, reason: str, against: List[str]) -> None:
    """Remember that somebody started the spiral all the same."""
    body = {"owner": owner, "reason": reason, "since": machine.wall(), "against": against}
    _write(machine, places.FORCED, body)


def lift(machine: Machine, scope: str) -> None:
    """Take the mark of a scope away."""
    machine.remove(SCOPES[scope])


def clear_forced(machine: Machine) -> None:
    """Forget that somebody started the spiral all the same."""
    machine.remove(places.FORCED)


def told(machine: Machine) -> Dict[str, Any]:
    """Return `model.observed.DownState`."""
    marks = {scope: of(machine, scope) for scope in SCOPES}
    return {**marks, "forced": forced(machine)}


def said(mark: Dict[str, Any]) -> str:
    """Say who and why, in one line."""
    return f"by {mark['owner']}: {mark['reason']}"


def _write(machine: Machine, path: str, body: Dict[str, Any]) -> None:
    machine.mkdir(places.DOWN)
    make_way(machine, path)
    write_record(machine, path, body)


def _read(machine: Machine, path: str) -> Optional[Dict[str, Any]]:
    if machine.stat(path) is None:
        return None
    try:
        body = read_record(machine, path)
        against = body.get("against", [])
        return {
            "owner": clean(str(body["owner"]), 200),
            "reason": clean(str(body["reason"]), _LIMIT),
            "since": number_in(body, "since"),
            "against": [clean(str(each), _LIMIT) for each in against] if isinstance(against, list) else [],
        }
    except (OSError, RecordError, KeyError, TypeError, ValueError) as error:
        return {"owner": "unknown", "reason": f"{path} cannot be read: {fact.why(error)}", "since": 0.0, "against": []}
