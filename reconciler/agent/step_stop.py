"""Stop: take units down and wait until not a process of them is left.

"Inactive" is not enough: a control group may still hold a worker that is dying, and it holds GPU memory. The paths of
control groups are remembered from before, for systemd forgets them first.

Must not: kill. systemd does that at its own timeouts; what outlives them is told and left.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

from . import files, systemd
from .holders import in_group
from .txn import HaltError, Run, stopping, units_of

MARGIN_S = 15.0
_ORPHAN_S = 90.0
_POLL_S = (0.25, 1.0)
_GONE = ("inactive", "failed")


def stop_move(run: Run, move: Dict[str, Any]) -> None:
    """Stop what a move stops: the gate of a coven takes its members down, a restart stops its members only."""
    members = stopping(move)
    units = units_of(members)
    whole = move["kind"] == "switch"
    with run.step("stop", f"stopping {move['old']['coven']}: {', '.join(units)}", move["slot"]):
        run.touched.add(move["slot"])
        groups = cgroups(run, units)
        if whole:
            stop_group(run, move["old"])
        else:
            stop_known(run, units)
        wait_gone(run, groups, longest_stop(members))
        for member in members:
            run.paused.pop(member["unit"], None)


def stop_group(run: Run, group: Dict[str, Any]) -> None:
    """Queue the stop of a whole coven by its gate; members that do not go with it are stopped by name.

    Their gate may be down already; or their files are gone, and with them all that systemd knew of the gate.
    """
    gate, units = group["gate"], units_of(group["members"])
    shown = systemd.show_units(run.machine, [gate])
    if gate in shown and shown[gate].active not in _GONE:
        systemd.stop_gate(run.machine, gate)
    shown = systemd.show_units(run.machine, units) if units else {}
    left = [unit for unit in units if unit in shown and _up(shown[unit]) and not shown[unit].job]
    if left:
        systemd.stop(run.machine, left)


def known(run: Run, units: Sequence[str]) -> List[str]:
    """Return those units that systemd has a definition of, or processes: a gate may be up without its members."""
    shown = systemd.show_units(run.machine, units) if units else {}
    return [unit for unit in units if unit in shown and (shown[unit].load != "not-found" or _up(shown[unit]))]


def stop_known(run: Run, units: Sequence[str]) -> None:
    """Queue the stop of those units that there are, also of what only waits for its start."""
    there = known(run, units)
    if there:
        systemd.stop(run.machine, there)


def stop_up(run: Run, units: Sequence[str]) -> None:
    """Queue the stop of those units that are up."""
    shown = systemd.show_units(run.machine, units) if units else {}
    up = [unit for unit in units if unit in shown and _up(shown[unit])]
    if up:
        systemd.stop(run.machine, up)


def stop_units(run: Run, units: Sequence[str], known: Sequence[Dict[str, Any]] = ()) -> None:
    """Stop units that the new generation no longer has; `known` are those of them that somebody describes."""
    shown = systemd.show_units(run.machine, units) if units else {}
    up = [unit for unit, state in shown.items() if _up(state)]
    if not up:
        return
    with run.step("stop", f"stopping what is no longer declared: {', '.join(up)}"):
        run.orphans = up
        groups = cgroups(run, up)
        systemd.stop(run.machine, up)
        wait_gone(run, groups, max(_ORPHAN_S, longest_stop(known)))
        for unit in up:
            run.paused.pop(unit, None)


def committed_members(run: Run, units: Sequence[str]) -> List[Dict[str, Any]]:
    """Return what the committed generation says about units, as far as it knows them."""
    if run.old_generation is None or not units:
        return []
    try:
        body = files.manifest(run.machine, run.old_generation)
    except (OSError, ValueError):
        return []
    members = [member for group in body.get("groups", []) for member in group["members"]]
    return [member for member in [*members, *body.get("residents", [])] if member["unit"] in units]


def cgroups(run: Run, units: Sequence[str]) -> Dict[str, str]:
    """Return the control groups of units as they are now, empty for those that have none."""
    shown = systemd.show_units(run.machine, units) if units else {}
    return {unit: shown[unit].cgroup if unit in shown else "" for unit in units}


def wait_gone(run: Run, groups: Dict[str, str], timeout_s: float) -> None:
    """Wait until units are down and their control groups empty; HaltError with what is left at the deadline."""
    machine = run.machine
    ends = machine.monotonic() + timeout_s
    pause_s = _POLL_S[0]
    while True:
        left = _left(run, groups)
        if not left:
            return
        if machine.monotonic() >= ends:
            text = f"not gone after {timeout_s:g} s: {', '.join(left)}"
            named = [
                name for path in sorted({path for path in groups.values() if path}) for name in in_group(machine, path)
            ]
            if named:
                text = f"{text}; {', '.join(named)}"
            raise HaltError("REC7102", text, fix=f"recon status --host {run.intent['host']}")
        machine.sleep(pause_s)
        pause_s = min(_POLL_S[1], pause_s * 1.5)


def longest_stop(members: Sequence[Dict[str, Any]]) -> float:
    """Return how long the slowest member may take to stop, with a margin."""
    return max((member["stop_timeout_s"] for member in members), default=0.0) + MARGIN_S


def _left(run: Run, groups: Dict[str, str]) -> List[str]:
    if not groups:
        return []
    shown = systemd.show_units(run.machine, list(groups))
    left = []
    for unit, before in groups.items():
        state = shown.get(unit)
        if state is None or _up(state) or state.job:
            queued = f", with job {state.job} queued (systemctl list-jobs)" if state and not _up(state) else ""
            left.append(f"{unit} is {state.active if state else 'unknown'}{queued}")
            continue
        populated = [_populated(run, path) for path in {before, state.cgroup} if path]
        if any(answer is not False for answer in populated):
            left.append(f"{unit} still has processes")
    return left


def _populated(run: Run, path: str) -> Optional[bool]:
    return systemd.is_populated(run.machine, path)


def _up(state: systemd.UnitState) -> bool:
    return state.active not in _GONE
