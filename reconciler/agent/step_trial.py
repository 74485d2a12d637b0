"""Trial: the new generation in /run, where it wins over the committed one and does not survive a reboot.

Units of the committed generation that the new one no longer has would still be generated from /etc and pulled in by
their target: they are masked until the commit, except those that still run for a later move.

Must not: write in /etc.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from . import files, places, step_stage, systemd
from .machine import Machine
from .txn import HaltError, Run


def begin_trial(run: Run, members: List[Dict[str, Any]], slot: Optional[str]) -> None:
    """Put the generation on trial, load it once, and see that every unit to start is the new one."""
    with run.step("trial", f"generation {run.new_generation} on trial in /run", slot):
        run.prove_claim()
        if not run.on_trial:
            # Marked first: a link whose fsync failed may be there, and is taken away all the same.
            run.on_trial = True
            run.machine.mkdir(places.TRIAL.rsplit("/", 1)[0])
            run.machine.symlink(run.directory, places.TRIAL)
        for unit in _to_mask(run):
            systemd.mask(run.machine, unit)
        systemd.daemon_reload(run.machine)
        check_loaded(run, members)


def end_trial(run: Run) -> None:
    """Take the trial and its masks away; systemd still has to load again.

    The trial last: while it is there, a mask that could not be taken away is known for one of ours.
    """
    for unit in [*vanishing(run), *_for_nothing(run)]:
        systemd.unmask(run.machine, unit)
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


def _for_nothing(run: Run) -> List[str]:
    """Return what is no unit of the new one: a mask of it is of a transaction that could not take it away."""
    new = {places.unit_of(file["name"]) for file in run.intent["quadlets"]} | {n["name"] for n in run.intent["natives"]}
    return [unit for unit in files.names_in(run.machine, places.MASKS) if unit.startswith("recon-") and unit not in new]


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


def _to_mask(run: Run) -> List[str]:
    units = vanishing(run)
    shown = systemd.show_units(run.machine, units) if units else {}
    return [unit for unit in units if unit not in shown or shown[unit].active in ("inactive", "failed")]
