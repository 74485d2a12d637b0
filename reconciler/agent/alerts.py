"""Alerts: what a person must look at on this host, until the next applied transition or until somebody clears them.

Each is stamped with the generation that was committed when it was raised, and holds only while that one is: whatever an
applied transition repaired or replaced is no longer worth an alert. Alerts are shown by status and plan and written to
the log of the host with the priority of an error.

Must not: decide that something is worth an alert, or fail what raises one.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, List, Optional

from . import files, places
from .machine import Machine
from .plain import clean
from .record import RecordError, make_way, read_record, write_record

KEEP = 20


def raise_alert(machine: Machine, *, by: str, code: str, about: str, text: str, fix: str) -> None:
    """Record an alert, once for the same matter; what cannot be written is in the log all the same."""
    alert: Dict[str, Any] = {
        "by": by,
        "code": code,
        "about": about,
        "text": clean(text, 1000),
        "fix": fix,
        "at": machine.wall(),
        "generation": _committed(machine),
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
    now = _committed(machine)
    return [alert for alert in body["alerts"] if alert["generation"] == now]


def withdraw(machine: Machine, code: str, about: str) -> None:
    """Take an alert back whose matter is settled by itself."""
    with contextlib.suppress(OSError, RecordError):
        known = standing(machine)
        left = [each for each in known if (each["code"], each["about"]) != (code, about)]
        if len(left) < len(known):
            write_record(machine, places.ALERTS, {"alerts": left})


def clear(machine: Machine) -> Dict[str, Any]:
    """Forget all alerts, and what the watchdog counted: it begins anew. Returns how many there were."""
    try:
        count = len(standing(machine))
    except (OSError, RecordError):
        count = 1
    for path in (places.ALERTS, places.WATCHDOG, places.LOOKS):
        machine.remove(path)
    return {"cleared": count}


def _committed(machine: Machine) -> Optional[int]:
    try:
        return files.committed_number(machine)
    except (OSError, ValueError):
        return None
