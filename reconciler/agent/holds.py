"""A person's "do not touch": put on the host, and taken off, by command.

The file is the same that people write by hand. A hold stops nothing that runs: a transition that began before goes on
to its end, and whoever holds the host is told of it.

Must not: replace what somebody else holds, or a hold that cannot be read.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

from . import claims, fact, history, locks, places, record
from .asked import host_in, who_and_why
from .executor_unit import is_active, running_txid
from .machine import BusyError, Machine
from .plain import clean
from .record import RecordError, write_record
from .systemd import SystemdError
from .wire import RequestError

MOST_S = 366 * 24 * 3600.0


def handle(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Do what `deed` says; what the disk or another writer refuses is told in words, and nothing was done."""
    deeds = {"hold": hold, "release": release}
    deed = deeds.get(str(args.get("deed")))
    if deed is None:
        raise RequestError("REC5016", "the agent does not know this request", "no such deed on a hold", "update recon")
    try:
        with locks.alone(machine):
            return deed(machine, args)
    except BusyError as error:
        detail = "somebody else has written locks or the hold for a while"
        raise RequestError("REC7309", "the hold of the host could not be written", detail, "try again") from error
    except (OSError, RecordError) as error:
        fix = f"recon status --host {host_in(args)}"
        raise RequestError("REC7309", "the hold of the host could not be written", fact.why(error), fix) from error


def hold(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Put a hold on the host; one of the same owner is replaced. Tells which transition goes on all the same."""
    owner, reason = who_and_why(args)
    until = _until(machine, args)
    try:
        found = claims.hold(machine)
    except RecordError as error:
        raise RequestError(
            "REC7312", "the host is held already", f"by whom cannot be told: {error}", _look(args)
        ) from error
    if found is not None and found["owner"] != owner:
        detail = f"by {found['owner']}: {found['reason']}"
        raise RequestError("REC7312", "the host is held already", detail, _look(args))
    body = {"owner": owner, "reason": reason, "since": machine.wall(), "until": until}
    machine.mkdir(places.HOLD.rpartition("/")[0])
    write_record(machine, places.HOLD, body)
    try:
        _tell(machine, "held", args, owner, reason, until=until)
    except OSError as error:
        # The host is held, which is what was wanted; that alone is safe.
        machine.log_error(f"recon hold by {owner}, which the history does not tell: {fact.why(error)}")
    return {"hold": body, "running": _running(machine)}


def release(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Take the hold off, whoever put it there; who did it and why is written down before it is done."""
    owner, reason = who_and_why(args)
    if machine.stat(places.HOLD) is None:
        raise RequestError("REC7313", "the host is not held", "nothing was released", _look(args))
    holder: Optional[str] = None
    try:
        found = claims.hold(machine)
    except RecordError:
        _tell(machine, "released", args, owner, reason, holder=None)
        return {"holder": None, "aside": record.set_aside(machine, places.HOLD)}
    holder = found["owner"] if found is not None else None
    _tell(machine, "released", args, owner, reason, holder=holder)
    machine.remove(places.HOLD)
    return {"holder": holder}


def _until(machine: Machine, args: Dict[str, Any]) -> Optional[float]:
    """Return when the hold ends by the host's wall clock; `for_s` counts from now on that clock."""
    until, for_s, now = args.get("until"), args.get("for_s"), machine.wall()
    if until is None and for_s is None:
        return None
    named = until if until is not None else for_s
    if not isinstance(named, (int, float)) or isinstance(named, bool):
        raise _no_end(ascii(named)[:40])
    ends = float(named) if until is not None else now + float(named)
    if not now < ends <= now + MOST_S:
        raise _no_end("it is past by the clock of the host, or more than a year ahead")
    return round(ends, 3)


def _no_end(why: str) -> RequestError:
    return RequestError("REC7311", "that is no time for a hold to end", why, "--until 4h, or --until 2026-12-24T18:00Z")


def _running(machine: Machine) -> Optional[str]:
    """Return the transaction that runs just now; asked after the hold was written, so any later one has seen it."""
    try:
        return clean(running_txid(machine) or "unknown") if is_active(machine) else None
    except SystemdError:
        return "unknown"


def _look(args: Dict[str, Any]) -> str:
    return f"recon status --host {host_in(args)}"


def _tell(machine: Machine, deed: str, args: Dict[str, Any], owner: str, reason: str, **more: Any) -> None:
    machine.mkdir(places.STATE)
    line = {"kind": "hold", "deed": deed, "at": machine.wall(), "host": host_in(args), "owner": owner, "reason": reason}
    history.append(machine, {**line, **more})
