"""The watchdog's timer: started with the commit that brings it, started anew when it changed, stopped when it goes.

Must not: touch any other unit.
"""

from __future__ import annotations

from . import places, step_undo, systemd
from .txn import Run

TIMER = places.WATCHDOG_TIMER


def stop(run: Run) -> str:
    """Stop a timer that the new generation no longer has, before its file goes."""
    if TIMER in run.intent["remove_natives"]:
        systemd.stop(run.machine, [TIMER])
    return ""


def start(run: Run) -> str:
    """Start the timer that the new generation has; call when systemd has loaded it."""
    if not _is_wanted(run):
        return ""
    undo = step_undo.read_undo(run.machine, run.txid)
    if not _runs(run):
        systemd.start(run.machine, [TIMER])
    elif undo is not None and TIMER in undo["natives"]:
        systemd.restart(run.machine, TIMER)
    return ""


def is_as_wanted(run: Run) -> bool:
    """Say whether the timer runs if and only if it should."""
    return not _is_wanted(run) or _runs(run)


def _is_wanted(run: Run) -> bool:
    return any(file["name"] == TIMER for file in run.intent["natives"])


def _runs(run: Run) -> bool:
    shown = systemd.show_units(run.machine, [TIMER]).get(TIMER)
    return shown is not None and shown.active == "active"
