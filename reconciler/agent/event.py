"""From a line of the history to the event that tells of it: its id, its type, and the bytes that are sent.

The id is made of the line, so it is the same at every try, after every crash, and in whichever part of the history the
line lies by then. What is said is made of the line too: a retry says what the first try said.

Must not: touch a machine. Pure.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from typing import Any, Dict, NamedTuple, Sequence

from .record import LATEST_S, canonical

STARTED = "transition.started"
COMPLETED = "transition.completed"
FAILED = "transition.failed"
ROLLED_BACK = "transition.rolled_back"
HELD = "transition.held"
DRIFT = "drift.found"
GUARDRAIL = "guardrail.broken"
FORCED = "lock.forced"
TEST = "test"
OTHER = "host."
"""What every other kind of line becomes: `host.` and its kind."""

_ENDS = {"applied": COMPLETED, "nothing": COMPLETED, "rolled_back": ROLLED_BACK, "held": HELD, "released": FORCED}
_KINDS = {"started": STARTED, "drift": DRIFT, "guardrail": GUARDRAIL}
_FORCED = ("force-release", "forced")
_UNTOLD = ("txid", "logs", "events")


class Event(NamedTuple):
    """What is sent: `at` is when it happened, in Unix seconds, 0 when the line does not say."""

    id: str
    type: str
    at: float
    line: Dict[str, Any]


def of(line: Dict[str, Any]) -> Event:
    """Return the event of a line of the history."""
    return Event("evt_" + hashlib.sha256(canonical(line)).hexdigest()[:40], type_of(line), _at(line), line)


def type_of(line: Dict[str, Any]) -> str:
    """Return the type of the event that a line is."""
    kind = line.get("kind")
    if kind is None:
        return _ENDS.get(str(line.get("state")), FAILED)
    if kind == "lock" and line.get("deed") in _FORCED:
        return FORCED
    return _KINDS.get(str(kind), OTHER + str(kind))


def is_wanted(kind: str, wanted: Sequence[str]) -> bool:
    """Say whether a webhook wants a type: it names it, or `area.*`; one that names none wants all."""
    return not wanted or any(kind == each or (each.endswith(".*") and kind.startswith(each[:-1])) for each in wanted)


def payload(event: Event, about: Dict[str, str]) -> bytes:
    """Return the body that is sent. `about` says whose line it is where the line itself does not."""
    line = event.line
    data = {**about, **{key: value for key, value in line.items() if key not in _UNTOLD}}
    data["transaction"] = line.get("transaction", line.get("txid"))
    when = datetime.datetime.fromtimestamp(event.at, datetime.timezone.utc)
    told = {"type": event.type, "timestamp": when.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
    return json.dumps({**told, "data": data}, separators=(",", ":")).encode()


def _at(line: Dict[str, Any]) -> float:
    began, took = _seconds(line.get("started_at")), _seconds(line.get("elapsed_s"))
    return _seconds(line.get("at")) or (began + took if began else 0.0)


def _seconds(value: Any) -> float:
    is_time = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < LATEST_S
    return float(value) if is_time else 0.0
