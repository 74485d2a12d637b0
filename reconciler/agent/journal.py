"""The journal of a transaction: one line per event, durable before the effect that it announces.

It says who did what and why. It is never read back to decide anything: what is true is the committed symlink, systemd
and the GPU. A torn last line, as a power cut leaves it, is no event.

Must not: decide, or swallow a failure to write: an effect that cannot be announced must not happen.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional

from .machine import Machine
from .plain import clean

_READ_LIMIT = 16 << 20


class Journal:
    """Writes the events of one transaction; counts go on where an earlier executor of it stopped."""

    def __init__(self, machine: Machine, path: str) -> None:
        self._machine = machine
        self._path = path
        earlier = read_events(machine, path, 0)
        self.resumed = bool(earlier)
        # A writer that was killed may have left half a line behind; the newline ends it.
        self._lead = "\n" if machine.stat(path) is not None else ""
        self._seq = earlier[-1]["seq"] if earlier else 0
        # The clock goes on from the last event, so that times never run backwards within one journal.
        self._zero = machine.monotonic() - (earlier[-1]["t"] if earlier else 0.0)

    def say(self, step: str, status: str, text: str, slot: Optional[str] = None) -> None:
        """Append one event and return when it is on disk."""
        self._seq += 1
        event = {
            "seq": self._seq,
            "t": round(self._machine.monotonic() - self._zero, 3),
            "step": step,
            "slot": slot,
            "status": status,
            "text": clean(text, 1000),
        }
        line = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
        self._machine.append(self._path, f"{self._lead}{line}\n".encode())
        self._lead = ""


def read_events(machine: Machine, path: str, after_seq: int) -> List[Dict[str, Any]]:
    """Return the events after a number, in order; none when there is no journal yet."""
    try:
        data = machine.read(path, _READ_LIMIT)
    except FileNotFoundError:
        return []
    events: List[Dict[str, Any]] = []
    for line in data.split(b"\n"):
        try:
            event = json.loads(line.decode("utf-8"))
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("seq"), int) and event["seq"] > after_seq:
            events.append(event)
    return events
