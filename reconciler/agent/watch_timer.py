"""The timers of a generation: started with the commit that brings them, anew when they changed, stopped when they go.

Which those are the order says: what boots and is a timer (the watchdog's, the schedule's).

Must not: touch any other unit.
"""

from __future__ import annotations

from typing import List

from . import step_undo, systemd
from .txn import Run

_TIMER = ".timer"


def stop(run: Run) -> str:
    """Stop timers that the new generation no longer has, before their files go."""
    gone = [name for name in run.intent["remove_natives"] if name.endswith(_TIMER)]
    if gone:
        systemd.stop(run.machine, gone)
    return ""


def start(run: Run) -> str:
    """Start the timers that the new generation has; call when systemd has loaded them."""
    undo = step_undo.read_undo(run.machine, run.txid)
    runs = _running(run)
    missing = [name for name in _wanted(run) if name not in runs]
    if missing:
        systemd.start(run.machine, missing)
    for name in runs:
        if undo is not None and name in undo["natives"]:
            systemd.restart(run.machine, name)
    return ""


def is_as_wanted(run: Run) -> bool:
    """Say whether every timer runs that should."""
    return _running(run) == _wanted(run)


def _wanted(run: Run) -> List[str]:
    natives = [file["name"] for file in run.intent["natives"]]
    return sorted(name for name in run.intent["boot"] if name.endswith(_TIMER) and name in natives)


def _running(run: Run) -> List[str]:
    wanted = _wanted(run)
    shown = systemd.show_units(run.machine, wanted) if wanted else {}
    return [name for name in wanted if name in shown and shown[name].active == "active"]
