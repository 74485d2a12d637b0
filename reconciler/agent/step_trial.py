"""Trial: the new generation in /run, where it wins over the committed one and does not survive a reboot.

Units of the committed generation that the new one no longer has would still be generated from /etc and pulled in by
their target: they are masked until the commit, except those that still run for a later move. Masks are there only
together with a trial, also one that its transaction left open: so whoever begins or ends one may take them all away.

Must not: write in /etc.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from . import places, step_stage, systemd
from .machine import Machine
from .txn import HaltError, Run


def begin_trial(run: Run, members: List[Dict[str, Any]], slot: Optional[str]) -> None:
    """Put the generation on trial, load it once, and see that every unit to start is the new one."""
    with run.step("trial", f"generation {run.new_generation} on trial in /run", slot):
        run.prove_claim()
        if not run.on_trial:
            # Marked first: a link whose fsync failed may be there, and is taken away all the same.
            run.on_trial = True
            if run.machine.stat(places.TRIAL) is not None:
                # Left open by another transaction, which may have masked what is to start now.
                _unmask_all(run)
            run.machine.mkdir(places.TRIAL.rsplit("/", 1)[0])
            run.machine.symlink(run.directory, places.TRIAL)
        for unit in _to_mask(run):
            systemd.mask(run.machine, unit)
        systemd.daemon_reload(run.machine)
        check_loaded(run, members)


def end_trial(run: Run) -> None:
    """Take the trial and all masks away, whoever left them; systemd still has to load again.

    The trial last: while it is there, a mask that could not be taken away is known for one of ours.
    """
    _unmask_all(run)
    run.machine.remove(places.TRIAL)
    run.on_trial = False


def is_open(machine: Machine) -> bool:
    """Say whether a generation is on trial that is not the committed one; the committed one's is only left over."""
    if machine.stat(places.TRIAL) is None:
        return False
    try:
        return machine.read_link(places.TRIAL) != machine.read_link(places.COMMITTED)
    except OSError:
        return True


def vanishing(run: Run) -> List[str]:
    """Return the units of the committed generation that the new one no longer has."""
    if run.old_generation is None:
        return []
    new = {places.unit_of(file["name"]) for file in run.intent["quadlets"]}
    return [unit for unit in step_stage.quadlet_units(run, run.old_generation) if unit not in new]


def check_loaded(run: Run, members: List[Dict[str, Any]]) -> None:
    """HaltError unless every unit is loaded from the new generation."""
    if not members:
        return
    shown = systemd.show_units(run.machine, [member["unit"] for member in members])
    problems = []
    for member in members:
        state = shown.get(member["unit"])
        if state is None or state.load != "loaded":
            problems.append(f"{member['unit']} is {state.load if state else 'unknown'}, not loaded")
        elif not state.source.startswith(run.directory + "/"):
            problems.append(f"{member['unit']} comes from {state.source or 'nowhere'}, not from {run.directory}")
    if problems:
        raise HaltError("REC7104", "; ".join(problems), fix=f"recon status --host {run.intent['host']}")


def _unmask_all(run: Run) -> None:
    for unit in systemd.masked(run.machine):
        systemd.unmask(run.machine, unit)


def _to_mask(run: Run) -> List[str]:
    units = vanishing(run)
    shown = systemd.show_units(run.machine, units) if units else {}
    return [unit for unit in units if unit not in shown or shown[unit].active in ("inactive", "failed")]
