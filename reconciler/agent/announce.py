"""Says that a transition began, in the history, and asks for a delivery now instead of at the next tick.

The line names its transaction as `transaction`, not `txid`: by `txid` is found what has ended, also by an agent of
before. It has no epoch for the same reason.

Must not: fail a transition, or send anything itself.
"""

from __future__ import annotations

import contextlib

from . import files, history, places, systemd
from .machine import Machine
from .record import RecordError
from .txn import Run

KIND = "started"


def started(run: Run) -> None:
    """Write the line that a transition has the host and begins."""
    intent = run.intent
    line = {
        "kind": KIND,
        "transaction": run.txid,
        "fleet": intent.get("fleet", ""),
        "host": intent["host"],
        "owner": intent["owner"],
        "source_commit": intent["source_commit"],
        "plan_digest": intent["plan_digest"],
        "from_generation": run.old_generation,
        "wanted": intent["manifest_live"],
        "at": run.started_at,
    }
    with contextlib.suppress(OSError, RecordError):
        history.append(run.machine, line)
    with run.machine.lowered():
        kick(run.machine)


def kick(machine: Machine) -> None:
    """Start a delivery when webhooks are committed, and do not wait for it."""
    with contextlib.suppress(OSError, ValueError, systemd.SystemdError):
        number = files.committed_number(machine)
        if number is not None and files.manifest(machine, number).get("events"):
            systemd.start_all(machine, [places.EVENTS_SERVICE])
