"""The spiral on this host: what of it should run now, and what a transition does about it.

    on the way    the GPU lane of a slot that moves is stopped after the drain, before the coven stops
    commit        finish starts what should run, restarts what changed, stops what should not
    every way back   the GPU lane of what is committed comes up again, after the coven does; not when the host is held

What should run is worked out from the committed manifest and people's marks each time, never remembered.

Must not: start anything while it is down, or while a guardrail of it does not hold.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, List, Optional, Set

from . import down_mark, files, guardrails, places, running, share, step_stop, systemd
from .journal import boot_id
from .lease import LeaseError
from .machine import Machine
from .plain import clean
from .record import RecordError, read_record
from .txn import HaltError, Run

_PREFIXES = ("recon-spiral-", "recon-job-")
_GONE = ("inactive", "failed")

Spec = Dict[str, Any]


def is_of_the_spiral(unit: str) -> bool:
    """Say whether a unit is one of the spiral's loops or jobs, or their target."""
    return unit.startswith(_PREFIXES) or unit == places.SPIRAL_TARGET


def committed(machine: Machine) -> Optional[Spec]:
    """Return what the committed generation says about the spiral, None when it says nothing."""
    try:
        number = files.committed_number(machine)
        found = None if number is None else files.manifest(machine, number).get("spiral")
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def is_wanted(machine: Machine, spec: Optional[Spec]) -> bool:
    """Say whether the spiral should run now."""
    if spec is None or down_mark.of(machine, down_mark.SPIRAL) is not None:
        return False
    return bool(spec["enabled"]) or down_mark.forced(machine) is not None


def resting(machine: Machine) -> Set[str]:
    """Return the units that the tick stopped because the loop has arrived: nobody else starts them meanwhile."""
    try:
        body = read_record(machine, places.LOOP)
        return {str(unit) for unit in body["stopped"]} if body["boot_id"] == boot_id(machine) else set()
    except (OSError, RecordError, KeyError, TypeError):
        return set()


def start(machine: Machine, spec: Spec, *, gpu_only: bool = False) -> List[str]:
    """Queue the start of every unit that is down and return them; who failed before begins anew."""
    rest = resting(machine)
    units = [unit["unit"] for unit in spec["units"] if unit["lane"] == "gpu" or not gpu_only]
    units = [unit for unit in units if unit not in rest]
    shown = systemd.show_units(machine, [*units, spec["target"]])
    down = [unit for unit in units if unit not in shown or shown[unit].active in _GONE]
    systemd.reset_failed(machine, down)
    # A start of the target pulls in all that it wants, who rests and who is of the other lane too.
    is_up = spec["target"] in shown and shown[spec["target"]].active not in _GONE
    wanted = down if is_up else [spec["target"], *down]
    if wanted:
        # A stop that is still under way is nothing to wait for; one that `down` queued leaves a mark they all ask for.
        systemd.start_all(machine, wanted)
    return down


def stop_gpu_lane(run: Run) -> None:
    """Stop what runs of the GPU lane on the slots that move, and wait until nothing of it is left."""
    slots = {move["slot"] for move in run.intent["moves"]}
    lane: Dict[str, Dict[str, Any]] = {}
    for spec in (committed(run.machine), run.intent.get("spiral")):
        if spec is not None and spec["slot"] in slots:
            lane.update({unit["unit"]: unit for unit in [*spec["units"], *spec["jobs"]] if unit["lane"] == "gpu"})
    shown = systemd.show_units(run.machine, sorted(lane)) if lane else {}
    # One that waits for its start, as for the mount of a share whose hub is away, would come up when the slot is full.
    up = [name for name in sorted(shown) if shown[name].active not in _GONE or shown[name].job]
    if not up:
        return
    with run.step("spiral", f"stopping its GPU lane: {', '.join(up)}"):
        groups = step_stop.cgroups(run, up)
        # In the way of everything that may be queued: a loop that crashes has its next start queued, and loses it.
        systemd.end_all(run.machine, up)
        step_stop.wait_gone(run, groups, step_stop.longest_stop([lane[name] for name in up]))


def settle(run: Run) -> str:
    """Bring the spiral to what was just committed; returns what keeps it from running, in words."""
    return run.with_claim("the spiral", _settle)


def _settle(run: Run) -> str:
    spec = run.intent.get("spiral")
    if spec is None:
        return ""
    units = [unit["unit"] for unit in spec["units"]]
    shown = systemd.show_units(run.machine, units) if units else {}
    if not is_wanted(run.machine, spec):
        up = [name for name in units if name in shown and shown[name].active not in _GONE]
        if up:
            with run.step("spiral", f"stopping {', '.join(up)}"):
                systemd.end_all(run.machine, [spec["target"], *up])
        return ""
    against = _against(run.machine, spec)
    if against:
        return f"the spiral is not started: {against}"
    rest = resting(run.machine)
    down = [name for name in units if name not in rest and (name not in shown or shown[name].active in _GONE)]
    changed = [unit["unit"] for unit in spec["units"] if _runs_another(run.machine, unit, shown)]
    if down or changed:
        what = [f"starting {', '.join(down)}"] if down else []
        what += [f"starting anew {', '.join(changed)}"] if changed else []
        with run.step("spiral", "; ".join(what)):
            start(run.machine, spec)
            for unit in changed:
                systemd.restart_any(run.machine, unit)
    if spec["enabled"]:
        with run.step("spiral", "letting its rate caps hold from now on"):
            systemd.start_all(run.machine, [places.TICK_SERVICE])
    return ""


def _against(machine: Machine, spec: Spec) -> str:
    """Return which guardrails do not hold, in words; nothing when a person started it against them."""
    if down_mark.forced(machine) is not None:
        return ""
    bad = guardrails.broken(guardrails.judge(machine, spec))
    return clean("; ".join(f"guardrail {each.name}: {each.text}" for each in bad), 600)


def bring_back(run: Run) -> None:
    """Bring the GPU lane of what is committed up again; what goes wrong is told, and spoils no way back."""
    try:
        spec = committed(run.machine)
        if spec is None or not is_wanted(run.machine, spec):
            return
        rest = resting(run.machine)
        # A share that was left took both lanes down, and is there again.
        gpu_only = not any(unit.startswith(share.PREFIX) for unit in run.orphans)
        lane = [unit["unit"] for unit in spec["units"] if unit["lane"] == "gpu" or not gpu_only]
        units = [unit for unit in lane if unit not in rest]
        shown = systemd.show_units(run.machine, units) if units else {}
        if any(name not in shown or shown[name].active in _GONE for name in units):
            against = _against(run.machine, spec)
            if against:
                run.note(f"the GPU lane of the spiral is not started again: {against}")
                return
            # Proven: who has the claim by now may be measuring memory, and brings it back at its own end.
            with run.machine.raised(), run.step("spiral", "starting its GPU lane again"):
                start(run.machine, spec, gpu_only=gpu_only)
    except (OSError, ValueError, KeyError, systemd.SystemdError, HaltError, LeaseError) as error:
        with contextlib.suppress(OSError):
            run.note(f"the GPU lane of the spiral is not started again: {clean(str(error), 200)}")


def is_as_wanted(run: Run) -> bool:
    """Say whether what should run of the spiral does, by the configuration that is committed, and nothing else."""
    spec = run.intent.get("spiral")
    if spec is None:
        return True
    units = [unit["unit"] for unit in spec["units"]]
    shown = systemd.show_units(run.machine, units) if units else {}
    up = [name for name in units if name in shown and shown[name].active not in _GONE]
    if not is_wanted(run.machine, spec):
        return not up
    missing = set(units) - set(up) - resting(run.machine)
    return not missing and not any(_runs_another(run.machine, unit, shown) for unit in spec["units"])


def _runs_another(machine: Machine, unit: Dict[str, Any], shown: Dict[str, systemd.UnitState]) -> bool:
    state = shown.get(unit["unit"])
    if state is None or state.active != "active":
        return False
    found = running.config_hash(machine, state.main_pid).get("value")
    return found is not None and found != unit["config_hash"]


def refuse_down(machine: Machine, host: str, *, state: Optional[str] = None) -> None:
    """HaltError when a person has the covens down and somebody is about to start one."""
    mark = down_mark.of(machine, down_mark.COVEN)
    if mark is not None:
        text = f"the covens of this host are down {down_mark.said(mark)}"
        raise HaltError("REC7360", text, fix=f"recon up coven --host {host} --reason TEXT", state=state)


def refuse_unguarded(run: Run) -> None:
    """HaltError when a guardrail broke since the plan was made: nothing is changed then.

    Of a spiral that is committed as it is nothing is asked: a coven must move, by night and back too, whatever became
    of the loop; its tick calls a person, and nothing of it that is down is started.
    """
    spec = run.intent.get("spiral")
    if spec == committed(run.machine):
        return
    if not is_wanted(run.machine, spec) or down_mark.forced(run.machine) is not None:
        return
    bad = guardrails.broken(guardrails.judge(run.machine, {**(spec or {}), "planned": True}))
    # What is not mounted yet is looked at when it is, by `settle`; the plan has asked the hub.
    bad = [each for each in bad if not (each.name == "claim-safe" and each.state == "unknown")]
    if bad:
        said = "; ".join(f"guardrail {each.name}: {each.text}" for each in bad)
        raise HaltError("REC7363", f"the spiral must not run: {clean(said, 600)}", fix=bad[0].fix, state="refused")
