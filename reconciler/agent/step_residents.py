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
        step_drain.drain(run, [member], None)
        with run.step("stop", f"stopping {unit}"):
            run.was_up.append(unit)
            run.residents.append(member)
            groups = step_stop.cgroups(run, [unit])
            systemd.stop(run.machine, [unit])
            step_stop.wait_gone(run, groups, step_stop.longest_stop([member]))
            run.paused.pop(unit, None)
    else:
        run.residents.append(member)
    step_memory.verify_residents(run, [member])
    step_trial.begin_trial(run, [member], None)
    need = step_memory.need_of_residents(run, [member])
    step_bring_up.until_up(run, step_bring_up.Side(member["service"], None, [member], None, need))
