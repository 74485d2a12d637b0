"""The outbox: for each webhook how far into the history it has been told, and which events are still to be sent.

The history is the outbox; nothing is copied. A webhook's record names the part of the history it stands in and the last
events it was done with, so its place is found again when a part was turned over, or a line of it was damaged:

    history-1 … history-N, live        the place: after the newest of `done` that is found, in `part` or later

A record that does not verify is put aside and begins again with the part before the live one: what was sent is sent
again, with the same ids, and nothing is passed over. One that was never there begins with the transition that brought
what is committed now.

Must not: send anything, or write the history.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from . import event, files, history_parts, lines, patience, places
from .event import Event
from .lines import Lines
from .machine import BusyError, Machine
from .record import RecordError, canonical, is_set_aside, make_way, read_record, write_record

REMEMBERED = 20
_PATIENCE_S = 1.0
_LIMIT = 256 << 20


class Place(NamedTuple):
    """An event, and the part of the history it was found in."""

    part: int
    event: Event


class Webhook:
    """One webhook as the committed generation declares it, and its record."""

    def __init__(self, name: str, spec: Dict[str, Any], body: Dict[str, Any]) -> None:
        self.name = name
        self.spec = spec
        self.part = int(body.get("part", 1))
        self.done: List[str] = [str(each) for each in body.get("done", [])]
        self.failures = int(body.get("failures", 0))
        self.error = str(body.get("error", ""))
        self.next_at = float(body.get("next_at", 0.0))
        self.boot_id = str(body.get("boot_id", ""))
        self.note = str(body.get("note", ""))
        is_same = body.get("spec") == _sum(spec)
        self.is_off = bool(body.get("off")) and is_same
        if not is_same:
            # Another address or key: what went wrong with the one before says nothing about it.
            self.failures, self.error, self.next_at = 0, "", 0.0

    def wants(self, found: Place) -> bool:
        """Say whether an event is one of those it asks for."""
        return event.is_wanted(found.event.type, self.spec["events"])

    def pass_by(self, found: Place) -> None:
        """Stand after an event."""
        self.part = found.part
        self.done = [*self.done, found.event.id][-REMEMBERED:]

    def is_waiting(self, boot_id: str, now: float) -> bool:
        """Say whether the next try is still to come; after a boot nobody waits, for that clock has begun again."""
        return self.boot_id == boot_id and now < self.next_at

    def save(self, machine: Machine) -> None:
        """Write its record durably."""
        body = {
            "part": self.part,
            "done": self.done,
            "failures": self.failures,
            "error": self.error,
            "next_at": round(self.next_at, 3),
            "boot_id": self.boot_id,
            "note": self.note,
            "off": self.is_off,
            "spec": _sum(self.spec),
        }
        machine.mkdir(places.OUTBOX, 0o700)
        make_way(machine, places.outbox(self.name))
        write_record(machine, places.outbox(self.name), body, 0o600)


class Outbox(NamedTuple):
    """The webhooks of the committed generation, by what is in its manifest."""

    about: Dict[str, str]
    txid: str
    specs: Dict[str, Dict[str, Any]]


def declared(machine: Machine) -> Optional[Outbox]:
    """Return what the committed generation says about webhooks, None when it has none. OSError, ValueError as usual."""
    number = files.committed_number(machine)
    return None if number is None else declared_in(files.manifest(machine, number))


def declared_in(body: Dict[str, Any]) -> Optional[Outbox]:
    """Return what a manifest says about webhooks, None when it has none."""
    said = body.get("events")
    if not said or not said.get("webhooks"):
        return None
    about = {"fleet": str(body.get("fleet", "")), "host": str(body.get("host", ""))}
    return Outbox(about, str(body.get("txid", "")), dict(said["webhooks"]))


def open_webhook(machine: Machine, name: str, box: Outbox) -> Webhook:
    """Return a webhook where it stands; one without a record that verifies gets a place, and that is written down."""
    spec = box.specs[name]
    try:
        return Webhook(name, spec, read_record(machine, places.outbox(name)))
    except FileNotFoundError:
        webhook = Webhook(name, spec, {"spec": _sum(spec)})
        _begin(machine, webhook, box.txid)
    except RecordError as error:
        webhook = Webhook(name, spec, {"spec": _sum(spec), "part": max(1, _live(machine)[0] - 1)})
        webhook.note = f"its record could not be read and begins again: {str(error).partition(': ')[2]}"
    webhook.save(machine)
    return webhook


def look_at(machine: Machine, name: str, box: Outbox) -> Optional[Webhook]:
    """Return a webhook where it stands and write nothing; None when it did not begin. RecordError as usual."""
    try:
        return Webhook(name, box.specs[name], read_record(machine, places.outbox(name)))
    except FileNotFoundError:
        return None


def to_come(machine: Machine, webhook: Webhook) -> Iterator[Place]:
    """Yield every event after the place of a webhook, in order, wanted or not, each once."""
    number, live = _live(machine)
    here = _places(number, live)
    after = _after(here, webhook.done)
    if after is not None:
        yield from after
        return
    earlier = [_older(machine, part) for part in range(max(1, webhook.part), number)]
    everything = [place for part in [*earlier, here] for place in part]
    # Not found at all: its line was damaged, and all that its part has is sent again.
    rest = _after(everything, webhook.done)
    told = set(webhook.done)
    for place in everything if rest is None else rest:
        # A part begins with the last lines of the one before.
        if place.event.id not in told:
            told.add(place.event.id)
            yield place


def last_lines(machine: Machine, limit: int) -> List[Dict[str, Any]]:
    """Return the last lines of the whole history, oldest first, each once."""
    number, live = _live(machine)
    found = _places(number, live)
    while number > 1 and len(found) < limit + history_parts.CARRIED:
        number -= 1
        found = [*_older(machine, number), *found]
    told = {place.event.id: place.event.line for place in found}
    return list(told.values())[-limit:]


def forget_others(machine: Machine, names: List[str]) -> None:
    """Remove the records of webhooks that are not declared any more."""
    kept = {places.outbox(name).rpartition("/")[2] for name in names}
    for name in files.names_in(machine, places.OUTBOX):
        if name not in kept and not is_set_aside(name):
            machine.remove(f"{places.OUTBOX}/{name}")


def forget_undeclared(machine: Machine) -> None:
    """Remove every record when what is committed has no webhooks: one that is declared again begins as a new one does.

    What cannot be told or removed stays; so it does while somebody delivers, who comes here in the end.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, BusyError):
        is_told = files.committed_number(machine) is not None and declared(machine) is None
        if is_told and any(not is_set_aside(name) for name in files.names_in(machine, places.OUTBOX)):
            with patience.locked(machine, places.OUTBOX_LOCK, _PATIENCE_S):
                forget_others(machine, [])


def _begin(machine: Machine, webhook: Webhook, txid: str) -> None:
    """Stand before the first line of a transaction, else before its end, else at the end of the history."""
    number, live = _live(machine)
    here = _places(number, live)
    first = next((at for at, place in enumerate(here) if _transaction(place) == txid), len(here))
    webhook.part = number
    webhook.done = [place.event.id for place in here[:first]][-REMEMBERED:]


def _transaction(place: Place) -> Any:
    line = place.event.line
    return line.get("transaction", line.get("txid"))


def _after(found: List[Place], done: List[str]) -> Optional[List[Place]]:
    """Return what comes after the newest of those done that is found; None when none is. Without any, it is all."""
    if not done:
        return None
    where = {place.event.id: at for at, place in enumerate(found)}
    at = next((where[each] for each in reversed(done) if each in where), None)
    if at is None:
        return None
    told = set(done)
    return [place for place in found[at + 1 :] if place.event.id not in told]


def _live(machine: Machine) -> Tuple[int, Lines]:
    """Return the number of the live part, and the part. Read before the others: those before it do not change."""
    try:
        found = lines.read_lines(machine.read(places.HISTORY, _LIMIT))
    except FileNotFoundError:
        found = Lines([], [], False, "")
    begin = lines.body_of(found.good[0]) if found.good else {}
    if begin.get("kind") == history_parts.KIND:
        return int(begin["part"]), found
    return max(history_parts.numbers(machine), default=0) + 1, found


def _older(machine: Machine, part: int) -> List[Place]:
    try:
        return _places(part, lines.read_lines(machine.read(places.history_part(part), _LIMIT)))
    except FileNotFoundError:
        return []


def _places(part: int, found: Lines) -> List[Place]:
    return [Place(part, event.of(body)) for body in history_parts.without_beginning(found)]


def _sum(spec: Dict[str, Any]) -> str:
    return hashlib.sha256(canonical(spec)).hexdigest()
