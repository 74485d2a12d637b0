"""Alerts: what a person must look at on this host, until the next applied transition or until somebody clears them.

Each is stamped with the generation that was committed when it was raised, and holds only while that one is: whatever an
applied transition repaired or replaced is no longer worth an alert. Alerts are shown by status and plan and written to
the log of the host with the priority of an error.

One writer at a time (`alone`): the watchdog for a whole look, so that what it counted is not written back after
somebody cleared it, the executor for its one alert, and whoever clears.

Must not: decide that something is worth an alert, or fail what raises one.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List

from . import files, patience, places, transactions
from .machine import BusyError, Machine
from .plain import clean
from .record import RecordError, make_way, read_record, write_record
from .wire import RequestError

KEEP = 20
PATIENCE_S = 10.0


@contextlib.contextmanager
def alone(machine: Machine, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Keep everybody else from writing alerts for the length of a block; `BusyError` when somebody still does."""
    machine.mkdir(places.RUN)
    with patience.locked(machine, places.ALERTS_LOCK, patience_s):
        yield


def call_a_person(machine: Machine, *, code: str, about: str, text: str, fix: str) -> None:
    """Raise the alert of an executor; one that somebody else overwrites is better than none.

    It waits for nobody: whoever calls is alone with the history, and who writes alerts may be waiting for that.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(BusyError, OSError):
            stack.enter_context(alone(machine, 0.0))
        raise_alert(machine, by="executor", code=code, about=about, text=text, fix=fix)


def raise_alert(machine: Machine, *, by: str, code: str, about: str, text: str, fix: str) -> None:
    """Record an alert, once for the same matter; what cannot be written is in the log all the same. Call it alone."""
    alert: Dict[str, Any] = {
        "by": by,
        "code": code,
        "about": about,
        "text": clean(text, 1000),
        "fix": fix,
        "at": machine.wall(),
        "generation": files.committed_if_told(machine),
    }
    with contextlib.suppress(OSError, RecordError):
        machine.mkdir(places.STATE)
        make_way(machine, places.ALERTS)
        known = standing(machine)
        if any((each["code"], each["about"]) == (code, about) for each in known):
            return
        write_record(machine, places.ALERTS, {"alerts": [*known, alert][-KEEP:]})
    machine.log_error(f"recon alert [{code}] {about}: {alert['text']}")


def standing(machine: Machine) -> List[Dict[str, Any]]:
    """Return the alerts that hold, oldest first; RecordError when the record does not verify."""
    try:
        body = read_record(machine, places.ALERTS)
    except FileNotFoundError:
        return []
    now = files.committed_if_told(machine)
    return [alert for alert in body["alerts"] if alert["generation"] == now]


def withdraw(machine: Machine, code: str, about: str) -> None:
    """Take an alert back whose matter is settled by itself."""
    with contextlib.suppress(OSError, RecordError):
        known = standing(machine)
        left = [each for each in known if (each["code"], each["about"]) != (code, about)]
        if len(left) < len(known):
            write_record(machine, places.ALERTS, {"alerts": left})


def clear(machine: Machine, host: str = "HOST") -> Dict[str, Any]:
    """Forget all alerts, and what watchdog and schedule counted: they begin anew. Returns how many there were."""
    try:
        with alone(machine):
            return _clear(machine)
    except BusyError as error:
        detail = "a look or a restart of the watchdog goes on for longer; nothing was cleared"
        fix = f"recon alerts --clear --host {clean(host, 80)}"
        raise RequestError("REC7230", "the alerts of the host are being written", detail, fix) from error


def _clear(machine: Machine) -> Dict[str, Any]:
    try:
        count = len(standing(machine))
    except (OSError, RecordError):
        count = 1
    for path in (places.ALERTS, places.WATCHDOG, places.LOOKS, places.SCHEDULE):
        machine.remove(path)
    with contextlib.suppress(OSError, RecordError):
        _see(machine)
    return {"cleared": count}


def _see(machine: Machine) -> None:
    """Let watchdog and schedule go on after a transition that was left held, or whose end cannot be read.

    A reboot may have put it right; then no apply finds anything to do, and only a person can say that all is well.
    """
    for txid in (transactions.left_to_a_person(machine), transactions.unreadable(machine)):
        if txid is not None:
            machine.write(f"{places.transaction(txid)}/{transactions.SEEN}", b"")
