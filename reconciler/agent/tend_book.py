"""What the spiral's tick remembers from one to the next, in /var/lib/recon: over a reboot the caps stay down.

A record that does not verify says nothing about how far the caps were down, so they begin at the least: the loop speeds
up again by itself, and never bursts.

Must not: judge anything.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional

from . import places
from .backoff import Factor
from .machine import Machine
from .record import RecordError, make_way, number_in, read_record, write_record


class Book(NamedTuple):
    """What was so at the tick before: the back-off, who was stopped because the loop has converged, what was broken."""

    factor: Factor
    stopped: List[str]
    broken: Dict[str, str]
    converged: Optional[bool] = None


def open_book(machine: Machine, boot_id: str, least: float) -> Book:
    """Return what is remembered; counts of an earlier boot begin anew."""
    try:
        body = read_record(machine, places.LOOP)
        factor = Factor(number_in(body, "factor"), number_in(body, "since"))
        if body["boot_id"] != boot_id:
            return Book(factor, [], dict(body["broken"]), body["converged"])
        factor = Factor(factor.value, factor.since, body["busy_since"], body["clear_since"], number_in(body, "at"))
        return Book(factor, list(body["stopped"]), dict(body["broken"]), body["converged"])
    except FileNotFoundError:
        return Book(Factor(), [], {})
    except (RecordError, KeyError, TypeError, ValueError):
        return Book(Factor(least, machine.wall()), [], {})


def save_book(machine: Machine, book: Book, boot_id: str, seen: Dict[str, Any]) -> None:
    """Write it down, with what this tick saw, for whoever asks how the loop is."""
    machine.mkdir(places.STATE)
    make_way(machine, places.LOOP)
    body = {
        "boot_id": boot_id,
        "factor": book.factor.value,
        "since": book.factor.since,
        "busy_since": book.factor.busy_since,
        "clear_since": book.factor.clear_since,
        "at": book.factor.at,
        "stopped": book.stopped,
        "broken": book.broken,
        "converged": book.converged,
        "seen": seen,
    }
    write_record(machine, places.LOOP, body)
