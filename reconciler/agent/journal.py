"""The journal of a transaction: one line per event, durable before the effect that it announces.

It says who did what and why. It is never read back to decide anything but whether the host has booted since: what is
true is the committed symlink, systemd and the GPU. A torn last line, as a power cut leaves it, is no event; a line that
was changed is told, and no event either.

Must not: decide, or swallow a failure to write: an effect that cannot be announced must not happen.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from . import lines
from .lines import Lines
from .machine import Machine
from .plain import clean
from .record import set_aside

_READ_LIMIT = 16 << 20
_AT = "boottime_s"
_BOOT = "boot_id"
_OF_THE_HOST = (_AT, _BOOT)
"""What only this host can make anything of."""


class Journal:
    """Writes the events of one transaction; counts go on where an earlier executor of it stopped."""

    def __init__(self, machine: Machine, path: str) -> None:
        self._machine = machine
        self._path = path
        self._found: Optional[Lines] = read_journal(machine, path)
        earlier = _events(self._found) if self._found else []
        self.resumed = _is_begun(self._found)
        self._failed = False
        self._has_told_boot = False
        self._last = self._found.last if self._found else ""
        self._seq = earlier[-1]["seq"] if earlier else 0
        # The clock goes on from the last event, so that times never run backwards within one journal; how long nobody
        # wrote is in it, as far as the host has not booted in between.
        self._zero = machine.monotonic() - (earlier[-1]["t"] + self._silence(earlier[-1]) if earlier else 0.0)

    @property
    def count(self) -> int:
        """Return the number of the last event."""
        return int(self._seq)

    def say(self, step: str, status: str, text: str, slot: Optional[str] = None) -> None:
        """Append one event and return when it is on disk."""
        if self._failed:
            self._look_again()
        self._make_whole()
        self._append(step, status, text, slot)

    def _append(self, step: str, status: str, text: str, slot: Optional[str]) -> None:
        event = {
            "seq": self._seq + 1,
            "t": round(self._machine.monotonic() - self._zero, 3),
            "step": step,
            "slot": slot,
            "status": status,
            "text": clean(text, 1000),
            _AT: round(self._machine.boottime(), 3),
        }
        if not self._has_told_boot:
            # Whoever comes after a reboot must know that it was one.
            event[_BOOT] = boot_id(self._machine)
        data, digest = lines.line(event, self._last)
        # A full disk may take half of it: until the whole line is written, nobody knows what is there.
        self._failed = True
        self._machine.append(self._path, data)
        self._seq, self._last, self._failed, self._has_told_boot = self._seq + 1, digest, False, True

    def _look_again(self) -> None:
        """Go on from what is really there, after an event could not be written."""
        self._found, self._failed = read_journal(self._machine, self._path), False
        if self._found is not None:
            self._last = self._found.last
            self._seq = max((event["seq"] for event in _events(self._found)), default=0)

    def _silence(self, last: Dict[str, Any]) -> float:
        now = self._machine.boottime()
        return max(0.0, now - float(last.get(_AT, now)))

    def _make_whole(self) -> None:
        """Before the first line of this writer: cut off half a line, put a damaged journal aside and say so.

        What is whole is written again too: its writer may have died of a sync that failed, and no later one would tell.
        """
        found, self._found = self._found, None
        if found is None:
            return
        data, self._last = lines.again([lines.body_of(raw) for raw in found.good])
        aside = set_aside(self._machine, self._path) if found.bad else None
        try:
            self._machine.write(self._path, data)
        except OSError:
            # A full disk takes a line where it does not take the whole.
            if found.bad or found.torn:
                raise
        if aside is not None:
            self._append("resume", "progress", f"the journal was damaged: {found.problem}; kept as {aside}", None)


def read_journal(machine: Machine, path: str) -> Optional[Lines]:
    """Return the lines of a journal, None when there is none."""
    try:
        return lines.read_lines(machine.read(path, _READ_LIMIT))
    except FileNotFoundError:
        return None


def read_events(machine: Machine, path: str, after_seq: int) -> List[Dict[str, Any]]:
    """Return the events after a number, in order; none when there is no journal yet."""
    found = read_journal(machine, path)
    news = [event for event in _events(found) if event["seq"] > after_seq] if found else []
    return [{key: value for key, value in event.items() if key not in _OF_THE_HOST} for event in news]


def is_of_an_earlier_boot(machine: Machine, path: str) -> bool:
    """Say whether whoever wrote a journal last is surely gone with an earlier boot, or never came to do anything.

    Nothing is done before it is announced, so a journal without a line is that of nothing.
    """
    try:
        found = read_journal(machine, path)
    except OSError:
        return False
    if found is None or found.bad:
        return False
    boots = _boots(found)
    return boots[-1] != boot_id(machine) if boots else not found.good


def is_of_this_boot(machine: Machine, path: str) -> bool:
    """Say whether somebody surely wrote in a journal since the host booted."""
    try:
        found = read_journal(machine, path)
    except OSError:
        return False
    return found is not None and bool(boot_id(machine)) and boot_id(machine) in _boots(found)


def boot_id(machine: Machine) -> str:
    """Return the id of this boot, empty when the kernel does not say."""
    try:
        return clean(machine.read("/proc/sys/kernel/random/boot_id", 64), 64)
    except OSError:
        return ""


def _events(found: Lines) -> List[Dict[str, Any]]:
    bodies = [lines.body_of(raw) for raw in found.good]
    return [body for body in bodies if isinstance(body.get("seq"), int)]


def _boots(found: Lines) -> List[str]:
    return [event[_BOOT] for event in _events(found) if event.get(_BOOT)]


def _is_begun(found: Optional[Lines]) -> bool:
    # A file that is there was begun by somebody, whatever is left of what was written in it.
    return found is not None and bool(_events(found) or found.bad or found.torn)
