"""Takes the host away from whoever has it, when a person says so and knows whom they take it from.

The person names the epoch they were shown: a claim that is newer than that is not the one they meant. An executor that
runs is stopped first, and its unit brings the host to an end state (ExecStopPost) before anything else is granted; that
can take as long as a coven takes to load, so one request only begins it, and the same request is sent again until it
is done. The next epoch is granted under the executor's own lock, which proves that nobody executes any more.

Must not: end a process by itself, or grant anything while an executor is there.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Optional

from . import claims, history, lease, places, systemd
from .executor_unit import TXID, is_active, running_txid
from .machine import BusyError, Machine
from .plain import clean
from .record import RecordError, make_way, read_record, write_record
from .wire import RequestError

_REASON_LIMIT = 500


def release(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Do as `_release` says; what systemd refuses is a refusal with its words."""
    try:
        return _release(machine, args)
    except systemd.SystemdError as error:
        raise RequestError("REC7109", "a command on the host failed", str(error), "recon status") from error


def _release(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Return `{"released": False, …}` while an executor is still being ended, and the new epoch once it is granted.

    Args:
        machine: the host.
        args: `epoch` as it was shown, `reason` and `owner` for the history, `host` its name there, `id` of this deed.
    """
    epoch, reason, owner = _checked(args)
    earlier = _done(machine, str(args["id"]))
    if earlier is not None:
        with contextlib.suppress(BusyError), machine.lock(places.LOCK):
            _settle(machine, earlier)
        return _reply(earlier)
    ticket = _ticket(machine, epoch)
    now = lease.current(machine)
    if ticket is None and epoch != now:
        raise _moved(machine, epoch, now)
    machine.mkdir(places.RUN)
    if is_active(machine):
        return _end_executor(machine, epoch, ticket)
    try:
        with machine.lock(places.LOCK):
            return _grant(machine, args, epoch, {"owner": owner, "reason": reason}, ticket)
    except BusyError as error:
        raise _locked_out(machine, args, epoch) from error


def _locked_out(machine: Machine, args: Dict[str, Any], epoch: int) -> RequestError:
    """Say who has the host's lock although no executor runs."""
    if claims.is_deed(machine):
        again = f"recon lock force-release {clean(str(args.get('host', 'HOST')), 200)} --epoch {epoch} --reason TEXT"
        who = f"{claims.who_acts(machine)}; it ends by itself"
        return RequestError("REC7232", "the host is not free yet", who, again)
    detail = f"{places.LOCK} is held although {places.EXECUTOR} does not run: somebody executes by hand"
    return RequestError("REC7153", "the executor does not let go", detail, f"on the host: fuser -v {places.LOCK}")


def _end_executor(machine: Machine, epoch: int, ticket: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    txid = running_txid(machine)
    if ticket is None:
        # First the note, then the deed: who asks again is recognised by it although the epoch will have moved.
        write_record(machine, places.RELEASE, {"epoch": epoch, "txid": txid, "stopped": txid})
        systemd.end(machine, places.EXECUTOR)
    elif ticket["txid"] != txid:
        raise _moved(machine, epoch, lease.current(machine))
    return {"released": False, "txid": txid, "step": _step(machine)}


def _grant(
    machine: Machine, args: Dict[str, Any], epoch: int, who: Dict[str, str], ticket: Optional[Dict[str, Any]]
) -> Dict[str, Any]:
    now = lease.current(machine)
    if ticket is not None and not _is_of(machine, ticket["txid"], now):
        make_way(machine, places.RELEASE)
        machine.remove(places.RELEASE)
        raise _moved(machine, epoch, now)
    if ticket is None:
        ticket = {"epoch": epoch, "txid": (_claim(machine) or {"txid": None})["txid"], "stopped": None}
        write_record(machine, places.RELEASE, ticket)
    granted = lease.advance(machine)
    line = {
        "txid": str(args["id"]),
        "host": clean(str(args.get("host", "")), 200),
        "state": "released",
        **who,
        "epoch": granted,
        "released_epoch": epoch,
        "taken_from": ticket["txid"],
        "stopped": ticket.get("stopped"),
        "started_at": machine.wall(),
    }
    # The line first: by it the watchdog knows what a person took over, also when nobody lives to remove the claim.
    history.append(machine, line)
    _settle(machine, line)
    return _reply(line)


def _settle(machine: Machine, line: Dict[str, Any]) -> None:
    """Take away the claim that the line ends and the note of the deed; newer ones are somebody else's."""
    held = _claim(machine)
    if held is None or held["epoch"] < line["epoch"]:
        machine.remove(places.LEASE)
    if _ticket(machine, line["released_epoch"]) is not None:
        machine.remove(places.RELEASE)


def _reply(line: Dict[str, Any]) -> Dict[str, Any]:
    return {"released": True, "epoch": line["epoch"], "stopped": line["stopped"]}


def _is_of(machine: Machine, txid: Optional[str], epoch: int) -> bool:
    """Say whether the newest claim is still the one of the executor that was stopped (its second one, at the end)."""
    ended = [line for line in history.recent(machine) if line.get("epoch") == epoch]
    return not ended or ended[-1].get("txid") == txid


def _checked(args: Dict[str, Any]) -> "tuple[int, str, str]":
    epoch, reason = args.get("epoch"), args.get("reason")
    named = isinstance(args.get("id"), str) and TXID.match(args["id"])
    if not isinstance(epoch, int) or isinstance(epoch, bool) or not named:
        raise RequestError("REC5016", "the agent does not know this request", "release without epoch", "update recon")
    if not isinstance(reason, str) or not reason.strip():
        raise RequestError("REC7154", "a claim is not taken away without a reason", "", "say it with --reason")
    return epoch, clean(reason, _REASON_LIMIT), clean(str(args.get("owner", "unknown")), 200)


def _ticket(machine: Machine, epoch: int) -> Optional[Dict[str, Any]]:
    try:
        found = read_record(machine, places.RELEASE)
    except (OSError, RecordError):
        return None
    return found if found.get("epoch") == epoch else None


def _done(machine: Machine, name: str) -> Optional[Dict[str, Any]]:
    lines = [line for line in history.recent(machine) if line.get("txid") == name and line["state"] == "released"]
    return lines[-1] if lines else None


def _step(machine: Machine) -> Optional[str]:
    held = _claim(machine)
    return held["step"] if held else None


def _claim(machine: Machine) -> Optional[Dict[str, Any]]:
    """Return the claim that is there, None when there is none or it cannot be read."""
    try:
        return claims.lease(machine)
    except (OSError, RecordError):
        return None


def _moved(machine: Machine, epoch: int, now: int) -> RequestError:
    held = _claim(machine)
    whose = f", claimed by {held['owner']} for transaction {held['txid']}" if held else ""
    return RequestError(
        "REC7152",
        "the host is not at that epoch",
        f"{epoch} was named, the host is at {now}{whose}",
        "recon status shows the epoch of the claim that is held now",
    )
