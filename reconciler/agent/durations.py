"""How long a coven took last time, from the stop of what ran before to its first good answer.

Only for people: a plan says how long clients will be cut off. Must not: decide anything, or fail a transaction.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict

from . import places
from .machine import Machine
from .record import RecordError, make_way, read_record, write_record

_WITHOUT_SERVICE = ("stop", "take_over", "verify_memory", "trial", "start", "warm")


def remember(machine: Machine, intent: Dict[str, Any], steps_s: Dict[str, float]) -> None:
    """Keep the seconds without service of an applied transaction that brought up one coven."""
    started = [move["new"]["coven"] for move in intent["moves"] if move["new"] is not None]
    if len(started) != 1 or len(intent["moves"]) != 1:
        return
    known = recall(machine)
    known[started[0]] = round(sum(steps_s.get(step, 0.0) for step in _WITHOUT_SERVICE), 1)
    # A full disk costs an estimate, nothing else.
    with contextlib.suppress(OSError):
        make_way(machine, places.TIMINGS)
        write_record(machine, places.TIMINGS, known)


def recall(machine: Machine) -> Dict[str, float]:
    """Return seconds by coven; nothing when nothing can be read."""
    try:
        return dict(read_record(machine, places.TIMINGS))
    except (OSError, RecordError):
        return {}
