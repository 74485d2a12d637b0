"""What is done with locks: acquired, renewed, released, and taken away by force.

A lock is given under the host's own lock, while no transaction runs: an executor claims the host under the same one, so
either it sees the lock, or there was none. Everything else is done while a transition goes on as well, for its holder
must be able to renew. Each deed is a line of the history; the token is in none.

Must not: tell a token twice, or say of a token that is of no lock whether there is a lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from typing import Any, Dict, List, Optional

from . import claims, fact, history, locks, patience, places, record, transactions
from .asked import host_in, who_and_why
from .executor_unit import is_active
from .journal import boot_id, is_of_this_boot
from .locks import Lock
from .machine import BusyError, Machine
from .record import RecordError
from .systemd import SystemdError
from .wire import RequestError

LEAST_TTL_S = 1.0
MOST_TTL_S = 24 * 3600.0
_SLOT = re.compile(r"^[a-z][a-z0-9-]{0,30}\Z")
_PATIENCE_S = 2.0
_TOKEN = "recon_lock_"  # noqa: S105 - what every token begins with, so that it is known for one


def handle(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Do what `deed` says; what the disk or another writer refuses is told in words, and nothing was done."""
    deeds = {"acquire": acquire, "renew": renew, "release": release, "force": force_release}
    deed = deeds.get(str(args.get("deed")))
    if deed is None:
        raise RequestError("REC5016", "the agent does not know this request", "no such deed on a lock", "update recon")
    try:
        return deed(machine, args)
    except RecordError as error:
        raise unreadable(str(error), host_in(args)) from error
    except BusyError as error:
        detail = "somebody else has written locks for a while"
        raise RequestError("REC7309", "the locks of the host could not be written", detail, "try again") from error
    except OSError as error:
        fix = f"recon lock list --host {host_in(args)}"
        raise RequestError("REC7309", "the locks of the host could not be written", fact.why(error), fix) from error


def acquire(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Reserve the host, or a slot of it, and return the lock with its token: the only time that is told."""
    owner, reason = who_and_why(args)
    slot, ttl_s, host = _slot(args), _ttl(args), host_in(args)
    machine.mkdir(places.RUN)
    if _is_executing(machine):
        raise _in_transition(machine, host)
    try:
        with patience.locked(machine, places.LOCK, _PATIENCE_S):
            left = [txid for txid in transactions.unfinished(machine) if _is_of_this_boot(machine, txid)]
            if left:
                raise _in_transition(machine, host)
            with locks.alone(machine):
                return _grant(machine, slot, ttl_s, {"host": host, "owner": owner, "reason": reason})
    except BusyError as error:
        raise _in_transition(machine, host) from error


def _grant(machine: Machine, slot: Optional[str], ttl_s: float, said: Dict[str, str]) -> Dict[str, Any]:
    found = locks.standing(machine)
    taken = [lock for lock in found if slot is None or lock.slot in (None, slot)]
    if taken:
        shown = next(each for each in locks.observed(machine) if each["id"] == taken[0].id)
        raise locked(said["host"], locks.said(shown), f"recon lock list --host {said['host']}")
    token, salt, now = _TOKEN + machine.secret(), machine.secret(), round(machine.boottime(), 3)
    lock = Lock(
        id=hashlib.sha256(salt.encode()).hexdigest()[:8],
        slot=slot,
        owner=said["owner"],
        reason=said["reason"],
        salt=salt,
        hash=locks.hashed(salt, token),
        boot_id=boot_id(machine),
        since=now,
        expires=now + ttl_s,
        ttl_s=ttl_s,
    )
    locks.write_book(machine, [*found, lock])
    try:
        _tell(machine, "acquired", lock, said)
    except BaseException:
        # A lock that nobody was told of would keep everybody out for nothing.
        with contextlib.suppress(OSError):
            locks.write_book(machine, found)
        raise
    return {**_reply(machine, lock), "token": token}


def renew(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Let a lock stand for its time again from now, or for another one; its holder shows the token."""
    with locks.alone(machine):
        found = locks.standing(machine)
        lock = _opened(found, args)
        ttl_s = lock.ttl_s if args.get("ttl_s") is None else _ttl(args)
        boot = boot_id(machine)
        after = lock._replace(boot_id=boot, expires=round(machine.boottime(), 3) + ttl_s, ttl_s=ttl_s)
        locks.write_book(machine, [after if each is lock else each for each in found])
        _tell_if_possible(machine, "renewed", after, args)
        return _reply(machine, after)


def release(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Give a lock back before its time is up; its holder shows the token."""
    with locks.alone(machine):
        found = locks.standing(machine)
        lock = _opened(found, args)
        locks.write_book(machine, [each for each in found if each is not lock])
        _tell_if_possible(machine, "released", lock, args)
        return _reply(machine, lock)


def force_release(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Take a lock away from its holder, by its id; who did it and why is written down before it is done."""
    owner, reason = who_and_why(args)
    said = {"host": host_in(args), "owner": owner, "reason": reason}
    name = str(args.get("lock", ""))
    with locks.alone(machine):
        try:
            found = locks.standing(machine)
        except RecordError:
            if name != locks.UNREADABLE:
                raise
            _append(machine, {"deed": "forced", "lock": name, "slot": None, "holder": None, **said})
            return {"lock": None, "aside": record.set_aside(machine, places.LOCKS)}
        lock = next((each for each in found if each.id == name), None)
        if lock is None:
            fix = f"recon lock list --host {said['host']}"
            raise RequestError("REC7307", "no such lock stands on the host", "it was released, or its time is up", fix)
        _append(machine, {"deed": "forced", **_about(lock), "holder": lock.owner, **said})
        locks.write_book(machine, [each for each in found if each is not lock])
        return _reply(machine, lock)


def locked(host: str, said: str, fix: str) -> RequestError:
    """Say REC7300: somebody else has it."""
    return RequestError("REC7300", f"{host} is locked", said, fix)


def unreadable(reason: str, host: str) -> RequestError:
    """Say REC7301: what cannot be read counts as locked; what to type puts the book aside."""
    fix = f"recon lock force-release {host} --lock {locks.UNREADABLE} --reason TEXT"
    return RequestError("REC7301", "whether the host is locked cannot be told", f"{reason}; it counts as locked", fix)


def _opened(found: List[Lock], args: Dict[str, Any]) -> Lock:
    """Return the lock of the token; one path, and one answer, for a wrong token and for a lock that is not there."""
    opened = locks.opened_by(found, [args.get("token")])
    meant = [lock for lock in opened if args.get("slot") in (None, lock.slot)]
    if not meant:
        detail = "it is wrong, or the lock's time is up; somebody may have another one by now"
        raise RequestError(
            "REC7302", "the token is of no lock that stands", detail, f"recon lock list --host {host_in(args)}"
        )
    return meant[0]


def _slot(args: Dict[str, Any]) -> Optional[str]:
    slot = args.get("slot")
    if slot is None:
        return None
    if not isinstance(slot, str) or not _SLOT.match(slot):
        raise RequestError("REC7305", "the host has no such slot", ascii(slot)[:60], "recon status shows the slots")
    return slot


def _ttl(args: Dict[str, Any]) -> float:
    ttl_s = args.get("ttl_s")
    fits = isinstance(ttl_s, (int, float)) and not isinstance(ttl_s, bool) and LEAST_TTL_S <= ttl_s <= MOST_TTL_S
    if not fits:
        detail = f"{ascii(ttl_s)[:40]} seconds; from 1s to 24h, and it can be renewed"
        raise RequestError("REC7303", "that is no time for a lock to stand", detail, "--ttl 30m")
    return round(float(ttl_s), 3)  # type: ignore[arg-type] # a number, as looked at above


def _is_executing(machine: Machine) -> bool:
    try:
        return is_active(machine)
    except SystemdError:
        return True


def _is_of_this_boot(machine: Machine, txid: str) -> bool:
    return is_of_this_boot(machine, places.transaction(txid) + "/journal.jsonl")


def _in_transition(machine: Machine, host: str) -> RequestError:
    detail = (
        claims.who_acts(machine)
        or "somebody has the host's own lock just now, or a transition that was begun has no end yet"
    )
    return RequestError("REC7308", "a host in transition is not locked", detail, f"recon status --host {host}")


def _about(lock: Lock) -> Dict[str, Any]:
    return {"lock": lock.id, "slot": lock.slot}


def _reply(machine: Machine, lock: Lock) -> Dict[str, Any]:
    told = {key: getattr(lock, key) for key in ("id", "slot", "owner", "reason", "ttl_s")}
    return {"lock": {**told, "left_s": round(max(0.0, locks.left_s(machine, lock)), 1)}}


def _tell(machine: Machine, deed: str, lock: Lock, said: Dict[str, str]) -> None:
    _append(machine, {"deed": deed, **_about(lock), "ttl_s": lock.ttl_s, **said})


def _tell_if_possible(machine: Machine, deed: str, lock: Lock, args: Dict[str, Any]) -> None:
    """Write the line of a deed that its holder did; a full disk must not keep them from it."""
    said = {"host": host_in(args), "owner": lock.owner, "reason": lock.reason}
    try:
        _tell(machine, deed, lock, said)
    except (OSError, RecordError) as error:
        machine.log_error(f"recon lock {lock.id} {deed}, which the history does not tell: {fact.why(error)}")


def _append(machine: Machine, line: Dict[str, Any]) -> None:
    machine.mkdir(places.STATE)
    history.append(machine, {"kind": "lock", "at": machine.wall(), **line})
