"""What the watchdog remembers: from look to look in /run, and over a reboot what it did, in /var/lib/recon.

In /run are the counts of looks; they are worth nothing after a boot, and go with it. In /var/lib/recon is how often it
has restarted whom, from whom it holds off, and what it stopped and had not started again yet. All of it belongs to one
generation: with the next applied transition it begins anew. Times are seconds since boot, which no clock jump moves.

Must not: judge anything, or take a record that does not verify for an empty one.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from . import alerts, places
from .machine import Machine
from .record import RecordError, read_record, set_aside, write_record

EVERYTHING = "*"
"""The name under which it holds off from the whole host."""


class Book:
    """The durable half: written before a deed, so that a kill in the middle of one is seen afterwards."""

    def __init__(self, machine: Machine, generation: int, boot_id: str, body: Optional[Dict[str, Any]] = None) -> None:
        self._machine = machine
        body = body or {}
        same_boot = body.get("boot_id") == boot_id
        self.generation = generation
        self.boot_id = boot_id
        self.attempts: Dict[str, int] = dict(body.get("attempts", {}))
        self.held_off: Dict[str, str] = dict(body.get("held_off", {}))
        # After a boot systemd has started everything: nothing is down because of us.
        self.pending: List[str] = list(body.get("pending", [])) if same_boot else []

    def holds_off(self, charge: str) -> bool:
        """Say whether a coven or resident is left to a person."""
        return EVERYTHING in self.held_off or charge in self.held_off

    def save(self) -> None:
        """Write it down durably."""
        self._machine.mkdir(places.STATE)
        write_record(
            self._machine,
            places.WATCHDOG,
            {
                "generation": self.generation,
                "boot_id": self.boot_id,
                "attempts": self.attempts,
                "held_off": self.held_off,
                "pending": self.pending,
            },
        )


def open_book(machine: Machine, generation: int, boot_id: str) -> Book:
    """Return the book of a generation; one that does not verify is put aside, and then nothing is done any more."""
    try:
        body = read_record(machine, places.WATCHDOG)
    except FileNotFoundError:
        return Book(machine, generation, boot_id)
    except RecordError as error:
        return _quarantine(machine, generation, boot_id, str(error))
    return Book(machine, generation, boot_id, body if body.get("generation") == generation else None)


def _quarantine(machine: Machine, generation: int, boot_id: str, why: str) -> Book:
    # It may have said "hold off": to count from zero again would be a guess.
    set_aside(machine, places.WATCHDOG)
    book = Book(machine, generation, boot_id)
    book.held_off[EVERYTHING] = f"its record cannot be read: {why}"
    book.save()
    fix = "recon alerts --clear"
    alerts.raise_alert(
        machine, by="watchdog", code="REC7173", about="watchdog", text=f"{why}; it does nothing", fix=fix
    )
    return book


def recent_looks(machine: Machine, generation: int, boot_id: str) -> Dict[str, Any]:
    """Return the record of the look before: `units` with their counts, `silent` looks of the GPUs.

    It is as good as empty when it was of another boot or generation, or cannot be read: then counting begins anew.
    """
    empty: Dict[str, Any] = {"units": {}, "silent": 0}
    try:
        body = read_record(machine, places.LOOKS)
    except (OSError, RecordError):
        return empty
    return body if (body.get("generation"), body.get("boot_id")) == (generation, boot_id) else empty


def save_looks(machine: Machine, said: str, looks: Dict[str, Any]) -> None:
    """Keep the counts for the next look, and what this one came to."""
    machine.mkdir(places.RUN)
    write_record(machine, places.LOOKS, {**looks, "at": round(machine.boottime(), 3), "said": said})
