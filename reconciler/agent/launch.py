"""The two verbs with which a controller changes a host: hand over an intent, and follow what becomes of it.

The transition itself runs in a unit of its own, owned by PID 1: a closed lid or a dropped connection does not end it.
PID 1 also refuses a second unit of that name: one transaction per host, without a lock of ours that could go stale.

Must not: do a step of a transition.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional

from . import claims, install, places, systemd, versions
from .journal import read_events
from .machine import Machine
from .outcome import read_outcome
from .plain import clean
from .record import RecordError, canonical, read_record, write_record
from .wire import RequestError

PYTHON = "/usr/bin/python3"
_TXID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}\Z")
_LAUNCH_TIMEOUT_S = 30.0
_MAX_WAIT_S = 5.0
_POLL_S = 0.05
_GATHER_S = 0.15
_RECHECK_S = 0.5
# Where systemd puts the executor's processes; it may be told to put them elsewhere, and then it is asked.
_GROUP = f"/system.slice/{places.EXECUTOR}"


def apply(machine: Machine, args: Dict[str, Any], ctx: Dict[str, Any]) -> Dict[str, Any]:
    """Install the agent, write the intent, start the executor; one that runs already for this transaction is joined."""
    intent = args.get("intent")
    if not isinstance(intent, dict) or intent.get("protocol") != 1:
        raise RequestError("REC5016", "the agent does not know this request", "apply without intent", "update recon")
    txid = checked(intent.get("txid"))
    if _is_known(machine, txid, intent) or _runs(machine, txid):
        return {"launched": True, "txid": txid}
    if _is_active(machine):
        return _busy(machine)
    place = _installed(machine, ctx)
    install.make_current(machine, place)
    versions.remember(machine)
    began = machine.stat(places.transaction(txid)) is not None
    machine.mkdir(places.transaction(txid), 0o700)
    write_record(machine, places.transaction(txid) + "/intent.json", intent, 0o600)
    done = machine.run(launch_argv(place, txid), _LAUNCH_TIMEOUT_S)
    if done.rc == 0:
        return {"launched": True, "txid": txid}
    if not began:
        # This transaction never was. What an executor of it that died has left stays: it tells how to go back.
        machine.remove_tree(places.transaction(txid))
    if _is_active(machine):
        return _busy(machine)  # somebody was faster between our look and systemd's
    text = clean(done.err) or f"exit status {done.rc}"
    raise RequestError("REC7117", "the host would not start the executor", text, "systemctl status recon-executor")


def launch_argv(place: str, txid: str) -> List[str]:
    """Return the words that start the executor.

    Never with a pipe to this connection: its death would end the transition. ExecStopPost runs however the executor
    ended; with an outcome written it does nothing, without one it brings the host to an end state.
    """
    program = [PYTHON, "-I", "-S", place, "execute", txid]
    return [
        "systemd-run",
        f"--unit={places.EXECUTOR}",
        "--collect",
        "--no-block",
        "--no-ask-password",
        "--service-type=exec",
        f"--description=recon transaction {txid}",
        "--property=StandardOutput=journal",
        "--property=StandardError=journal",
        "--property=TimeoutStopSec=infinity",
        "--property=ExecStopPost=" + " ".join(program),
        *program,
    ]


def follow(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Return what happened since an event, waiting a little for news so that asking again is cheap.

    News is gathered for a moment: steps come in bursts, and every request is an interpreter that competes with them.
    """
    txid = checked(args["txid"])
    after = int(args.get("after_seq", 0))
    began = machine.monotonic()
    ends = began + min(_MAX_WAIT_S, max(0.0, float(args.get("wait_s", 0))))
    path = places.transaction(txid) + "/journal.jsonl"
    rechecked = False
    while True:
        # In this order: an executor that ends between two looks has written its outcome before it went.
        active = _is_active(machine)
        outcome = read_outcome(machine, txid)
        events = read_events(machine, path, after)
        reply = {"events": events, "outcome": outcome, "active": active}
        now = machine.monotonic()
        if outcome is not None or (events and (now >= began + _GATHER_S or now >= ends)):
            return reply
        if not active:
            if events:
                return reply
            if rechecked:
                return reply
            rechecked = True
            machine.sleep(_RECHECK_S)
            continue
        if now >= ends:
            return reply
        machine.sleep(_POLL_S)


def checked(txid: Any) -> str:
    """Return a transaction id that is safe in a path and on a command line."""
    if not isinstance(txid, str) or not _TXID.match(txid):
        raise RequestError("REC5016", "the agent does not know this request", "not a transaction id", "update recon")
    return txid


def _installed(machine: Machine, ctx: Dict[str, Any]) -> str:
    if ctx["mode"] == "simulated" and ctx.get("bundle") is None:
        return install.install(machine, ctx["digest"], {})
    return install.install(machine, ctx["digest"], ctx.get("bundle"))


def _is_known(machine: Machine, txid: str, intent: Dict[str, Any]) -> bool:
    """Say whether this very order has ended here; another order under the same name is refused."""
    try:
        earlier = read_record(machine, places.transaction(txid) + "/intent.json")
    except (OSError, RecordError):
        return False
    if canonical(earlier) != canonical(intent):
        raise RequestError("REC7118", "another order has this transaction id", txid, "recon apply")
    return read_outcome(machine, txid) is not None


def _runs(machine: Machine, txid: str) -> bool:
    lease = _lease(machine)
    return lease is not None and lease["txid"] == txid and _is_active(machine)


def _is_active(machine: Machine) -> bool:
    # A process of its own is proof, and a look at one file; systemctl takes ten milliseconds of two programs.
    if systemd.is_populated(machine, _GROUP):
        return True
    shown = systemd.show_units(machine, [places.EXECUTOR]).get(places.EXECUTOR)
    # Queued counts: systemd-run returns before the unit has begun.
    return shown is not None and (shown.active not in ("inactive", "failed") or bool(shown.job))


def _busy(machine: Machine) -> Dict[str, Any]:
    lease = _lease(machine)
    if lease is not None:
        lease = {**lease, "age_s": round(machine.boottime() - lease["since"], 1)}
    return {"launched": False, "lease": lease}


def _lease(machine: Machine) -> Optional[Dict[str, Any]]:
    try:
        return claims.lease(machine)
    except (OSError, ValueError):
        return None
