"""Locks: a host, or one slot of it, reserved for whoever has the token.

A lock stands until its time is up by the clock since boot, which nobody can set; then it is nobody's, without a deed of
anyone. A reboot begins that clock anew, and how much of the time had passed is not known: such a lock stands for at
most its whole time again, counted from the boot. So a reboot may make a lock longer, and never shorter: whoever
restarts a host in the middle of their work still has it. One that had run out before the reboot is forgotten by
whatever writes the book, and by every regular look (`settle`); only a reboot that comes before brings it back, once.

What the book keeps of a token is a salted hash, which any account may read: of 256 bits that nobody chose, nothing
comes back. A token is compared in constant time with every lock there is and with one of nobody, whether it fits or
not: so a wrong token and a lock that is not there take the same path, and no time tells how far a guess was right.

Must not: keep a token, or take a book that does not verify for "nobody".
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set

from . import patience, places, processes
from .journal import boot_id
from .machine import BusyError, Machine
from .plain import clean
from .record import RecordError, number_in, read_record, write_record

PATIENCE_S = 10.0
UNREADABLE = "unreadable"
"""What a person names in the place of a lock's id when the book itself cannot be read."""
_WIDTH = 64
_FIRST = 1
"""The process that a boot begins with."""


class Lock(NamedTuple):
    """A reservation; `slot` None is the whole host. Times are seconds since the boot of `boot_id`."""

    id: str
    slot: Optional[str]
    owner: str
    reason: str
    salt: str
    hash: str
    boot_id: str
    since: float
    expires: float
    ttl_s: float


@contextlib.contextmanager
def alone(machine: Machine) -> Iterator[None]:
    """Keep everybody else from writing the book, or the hold, for the length of a block."""
    machine.mkdir(places.RUN)
    with patience.locked(machine, places.LOCKS_LOCK, PATIENCE_S):
        yield


def read_book(machine: Machine) -> List[Lock]:
    """Return every lock in the book, also those whose time is up; RecordError when it does not verify."""
    try:
        body = read_record(machine, places.LOCKS)
    except FileNotFoundError:
        return []
    found = body.get("locks")
    if not isinstance(found, list):
        raise RecordError(f"{places.LOCKS}: it has no locks")
    return [_of(entry) for entry in found]


def write_book(machine: Machine, found: Sequence[Lock]) -> None:
    """Replace the book; without a lock there is none, which a full disk allows too."""
    if not found:
        machine.remove(places.LOCKS)
        return
    machine.mkdir(places.STATE)
    write_record(machine, places.LOCKS, {"locks": [lock._asdict() for lock in found]})


def standing(machine: Machine) -> List[Lock]:
    """Return the locks whose time is not up."""
    return [lock for lock in read_book(machine) if left_s(machine, lock) > 0]


def left_s(machine: Machine, lock: Lock) -> float:
    """Return how long a lock still stands at most; zero or less when its time is up."""
    now, boot = machine.boottime(), boot_id(machine)
    of_this_boot = lock.expires - now
    if lock.boot_id == boot:
        return of_this_boot
    # Not zero everywhere: a container has a boot of its own, and the clock of the kernel that it shares.
    of_an_earlier = _began(machine) + lock.ttl_s - now
    return of_an_earlier if boot else max(of_this_boot, of_an_earlier)


def settle(machine: Machine) -> None:
    """Drop from the book what has run out, and count what an earlier boot left from this one; else write nothing.

    For the looks that come by themselves: what is still in the book comes back with every boot. A book that cannot be
    read or written is left as it is, for the next look and for a person.
    """
    with contextlib.suppress(OSError, BusyError, RecordError):
        # Looked at without the lock first: nearly always there is nothing to do, and then nobody is kept waiting.
        if _settled(machine) is not None:
            with alone(machine):
                found = _settled(machine)
                if found is not None:
                    write_book(machine, found)


def _settled(machine: Machine) -> Optional[List[Lock]]:
    """Return the book as it should be, None when it is so or the kernel does not say which boot this is."""
    found, boot = read_book(machine), boot_id(machine)
    if not found or not boot:
        return None
    began = _began(machine)
    counted = [
        lock if lock.boot_id == boot else lock._replace(boot_id=boot, since=began, expires=began + lock.ttl_s)
        for lock in found
        if left_s(machine, lock) > 0
    ]
    return counted if counted != found else None


def _began(machine: Machine) -> float:
    """Return when this boot began, by the clock since boot."""
    return processes.started_s(machine, _FIRST)


def observed(machine: Machine, tokens: Any = None) -> List[Dict[str, Any]]:
    """Return `model.observed.Lock` for each that stands; `yours` are those whose token was told."""
    found = standing(machine)
    yours = {lock.id for lock in opened_by(found, tokens)}
    return [
        {
            "id": lock.id,
            "slot": lock.slot,
            "owner": lock.owner,
            "reason": lock.reason,
            "left_s": round(left_s(machine, lock), 1),
            "ttl_s": lock.ttl_s,
            "yours": lock.id in yours,
        }
        for lock in found
    ]


def hashed(salt: str, token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256((salt + token).encode("utf-8", "backslashreplace")).hexdigest()


def opened_by(found: Iterable[Lock], tokens: Any) -> List[Lock]:
    """Return the locks of which a token was told; every token is compared with every lock, and with one of nobody."""
    told = [token for token in tokens if isinstance(token, str)] if isinstance(tokens, (list, tuple)) else []
    each = list(found)
    salts, kept = [*(lock.salt for lock in each), ""], [*(lock.hash for lock in each), "0" * _WIDTH]
    opened: Set[int] = set()
    for token in told:
        fits = [hmac.compare_digest(hashed(salt, token), one) for salt, one in zip(salts, kept)]
        opened.update(number for number, fit in enumerate(fits) if fit)
    return [lock for number, lock in enumerate(each) if number in opened]


def against(intent: Dict[str, Any], found: Sequence[Dict[str, Any]], passed: Iterable[str]) -> List[Dict[str, Any]]:
    """Return the locks (as observed) that keep a transaction out, without those whose token came with it.

    A lock of the host keeps everything out. One of a slot keeps out what moves that slot; and what stops a left-over
    unit, for which slot that is of is not known; and everything when the host has no such slot any more. Files that
    nothing running is made of, and residents, belong to no slot.
    """
    own = set(passed)
    moved = {move["slot"] for move in intent["moves"]}
    everywhere = bool(intent["stop_units"])

    def concerns(slot: Optional[str]) -> bool:
        return slot is None or everywhere or slot in moved or slot not in intent["manifest_live"]

    return [lock for lock in found if lock["id"] not in own and concerns(lock["slot"])]


def slots(machine: Machine) -> List[Optional[str]]:
    """Return what is locked: slots, and None for the whole host."""
    return [lock.slot for lock in standing(machine)]


def said(lock: Dict[str, Any]) -> str:
    """Say who has what, for how long still, and why."""
    what = f"slot {lock['slot']} is locked" if lock["slot"] else "locked"
    return f"{what} by {lock['owner']} for another {span(lock['left_s'])}: {lock['reason']}"


def span(seconds: float) -> str:
    """Say a time as people do: `1h30m`, `45s`."""
    minutes, left = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return "".join(f"{number}{unit}" for number, unit in ((hours, "h"), (minutes, "m"), (left, "s")) if number) or "0s"


def _of(entry: Any) -> Lock:
    try:
        slot = entry["slot"]
        words = {key: entry[key] for key in ("id", "owner", "reason", "salt", "hash", "boot_id")}
    except (TypeError, KeyError) as error:
        raise RecordError(f"{places.LOCKS}: a lock in it is not whole") from error
    of_words = all(isinstance(each, str) for each in words.values())
    if not (of_words and (slot is None or isinstance(slot, str)) and len(words["hash"]) == _WIDTH):
        raise RecordError(f"{places.LOCKS}: a lock in it is not understood")
    try:
        since, expires, ttl_s = (number_in(entry, key) for key in ("since", "expires", "ttl_s"))
    except RecordError as error:
        raise RecordError(f"{places.LOCKS}: a lock in it is not understood: {error}") from error
    words.update(owner=clean(words["owner"], 200), reason=clean(words["reason"], 500))
    return Lock(slot=slot, since=since, expires=expires, ttl_s=ttl_s, **words)
