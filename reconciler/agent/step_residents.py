"""Residents: services outside any coven, restarted one by one when their own definition changed.

Must not: touch a resident that the intent does not name.
"""

from __future__ import annotations

from typing import Any, Dict

from . import step_bring_up, step_drain, step_memory, step_stop, step_trial, systemd
from .txn import Run


def restart_residents(run: Run) -> None:
    """Drain, stop, measure, try, start and judge each named resident before the next one is touched."""
    by_unit = {member["unit"]: member for member in run.intent["residents"]}
    for unit in run.intent["restart_residents"]:
        _restart(run, by_unit[unit])


def _restart(run: Run, member: Dict[str, Any]) -> None:
    unit = member["unit"]
    shown = systemd.show_units(run.machine, [unit])
    was_up = unit in shown and shown[unit].active in ("active", "activating", "reloading")
    if was_up:
        before = _as_it_runs(run, member)
        step_drain.drain(run, [before], None)
        with run.step("stop", f"stopping {unit}"):
            run.was_up.append(unit)
            run.residents.append(member)
            groups = step_stop.cgroups(run, [unit])
            systemd.stop(run.machine, [unit])
            step_stop.wait_gone(run, groups, step_stop.longest_stop([before]))
            run.paused.pop(unit, None)
    else:
        run.residents.append(member)
    need = step_memory.need_of_residents(run, [member])
    step_memory.verify_residents(run, need, [member])
    step_trial.begin_trial(run, [member], None)
    step_bring_up.until_up(run, step_bring_up.Side(member["service"], None, [member], None, need))


def _as_it_runs(run: Run, member: Dict[str, Any]) -> Dict[str, Any]:
    """Return a resident as it was committed: there it serves, and so long it takes to stop.

    How long to wait for its clients, what then, and whether it must pause first are what git says now, as for covens.
    """
    committed = step_stop.committed_members(run, [member["unit"]])
    if not committed:
        return member
    before = committed[0]
    return {
        **before,
        "drain_timeout_s": member["drain_timeout_s"],
        "on_timeout": member["on_timeout"],
        "must_pause": bool(member.get("must_pause") and before["pause"]),
    }
