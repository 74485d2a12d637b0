"""What a transaction and the tick do about a share: mount, export, and take both away.

    on the way    what changed or goes is stopped by its old definition, and the mount is waited for
    finish        what should be mounted or exported is
    every tick    what should be is, again: a hub was away, or somebody emptied its table

Everything goes by recon's own units; what else stands in the way is refused before anything is changed.

Must not: act on a unit of another name, the mount's own included.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, List, Optional

from . import fact, files, places, share, step_undo, systemd, watch_site
from .machine import BusyError, Machine
from .plain import clean
from .txn import HaltError, Run

_WAIT_S = 120.0
_POLL_S = 0.5
_GONE = ("inactive", "failed")
_LEAVING = (*_GONE, "deactivating")
"""What an executor stopped before it died may still be on its way."""


def refuse_foreign(run: Run) -> None:
    """HaltError when the place of the mount is somebody else's; nothing of theirs is ever replaced."""
    found = (run.intent.get("spiral") or {}).get("share")
    if found:
        text = share.foreign(run.machine, found)
        if text:
            fix = f"take it away, then: recon plan --host {run.intent['host']}"
            raise HaltError("REC7480", f"the place of the mount is taken: {text}", fix=fix, state="refused")


def leave(run: Run) -> None:
    """Stop what of a share is about to be another one, and wait until nothing of the old one is mounted."""
    before = _committed(run.machine)
    old = (before or {}).get("share")
    if not old:
        return
    new = (run.intent.get("spiral") or {}).get("share")
    shown = systemd.show_units(run.machine, share.anchors(before)) if share.anchors(before) else {}
    changed = [unit for unit in _replaced(run, old) if unit in shown and shown[unit].active not in _GONE]
    moves = old["role"] == "worker" and (not new or new.get("source") != old["source"])
    if not changed and not moves:
        return
    with run.step("share", f"leaving share {old['name']}: {', '.join(changed) or share.root_of(old)}"):
        run.orphans = [*run.orphans, *(unit for unit in changed if unit not in run.orphans)]
        if changed:
            systemd.end_all(run.machine, changed)
        _wait_left(run, old, changed)


def left(run: Run) -> List[str]:
    """Return the units of the committed share that an executor which is gone had stopped to replace them."""
    before = _committed(run.machine)
    old = (before or {}).get("share")
    units = _replaced(run, old) if old else []
    shown = systemd.show_units(run.machine, units) if units else {}
    return [unit for unit in units if unit not in shown or shown[unit].active in _LEAVING]


def settle(run: Run) -> str:
    """Mount or export what was just committed; returns what could not be, in words."""
    return run.with_claim("the share", _settle)


def is_as_wanted(run: Run) -> bool:
    """Say whether everything is mounted and exported that should be."""
    return not _down(run.machine, run.intent.get("spiral"))


def tend(machine: Machine, spec: Dict[str, Any]) -> str:
    """Start what is down of the committed share again; returns what is in the way, in words."""
    try:
        down = _down(machine, spec)
        if down:
            with machine.lock(places.LOCK):
                if spec["share"]["role"] == "worker":
                    # With the mount the loops come up, and those of the GPU lane are not always welcome.
                    watch_site.stay_away(machine, asks_covens=False)
                    if spec["slot"] in watch_site.locked_slots(machine):
                        return ""
                systemd.reset_failed(machine, down)
                _start(machine, down)
    except (BusyError, watch_site.ApartError):
        return ""  # a transition runs, which does it at its end, or a person has the host
    except (OSError, ValueError, systemd.SystemdError) as error:
        return f"the share: {fact.why(error)}"
    return f"the share: {', '.join(down)} was down, and is started" if down else ""


def _settle(run: Run) -> str:
    spec = run.intent.get("spiral")
    down = _down(run.machine, spec)
    if not down:
        return ""
    with run.step("share", f"starting {', '.join(down)}"):
        systemd.reset_failed(run.machine, down)
        _start(run.machine, down)
        left = _wait_up(run, down)
    if not left:
        return ""
    said = "; ".join(left)
    return f"the share is not there: {clean(said, 400)}; on the host: journalctl -u {down[0]}"


def _start(machine: Machine, units: List[str]) -> None:
    """Start units; one that is up and exports nothing any more does so when it is restarted."""
    shown = systemd.show_units(machine, units)
    up = [unit for unit in units if unit in shown and shown[unit].active == "active"]
    rest = [unit for unit in units if unit not in up]
    if rest:
        systemd.start_all(machine, rest)
    for unit in up:
        systemd.restart_any(machine, unit)


def _down(machine: Machine, spec: Optional[Dict[str, Any]]) -> List[str]:
    """Return the units of a share that are not up, or up without what they are for."""
    wanted = share.anchors(spec)
    if not wanted or spec is None:
        return []
    shown = systemd.show_units(machine, wanted)
    down = {unit for unit in wanted if unit not in shown or shown[unit].active != "active"}
    if spec["share"]["role"] == "hub":
        down.update(share.unexported(machine, spec["share"]))
    return sorted(down)


def _wait_up(run: Run, units: List[str]) -> List[str]:
    machine = run.machine
    ends = machine.monotonic() + _WAIT_S
    while True:
        shown = systemd.show_units(machine, units)
        waiting = [unit for unit in units if unit in shown and (shown[unit].job or shown[unit].active == "activating")]
        if not waiting or machine.monotonic() >= ends:
            return [
                f"{unit} is {shown[unit].active if unit in shown else 'unknown'}"
                for unit in units
                if unit not in shown or shown[unit].active != "active"
            ]
        run.progress(f"waiting for {', '.join(waiting)}")
        machine.sleep(_POLL_S)


def _wait_left(run: Run, old: Dict[str, Any], units: List[str]) -> None:
    machine, root = run.machine, share.root_of(old)
    ends = machine.monotonic() + _WAIT_S
    while True:
        shown = systemd.show_units(machine, units) if units else {}
        left = [name for name, state in shown.items() if state.active not in _GONE or state.job]
        if old["role"] == "worker" and share.mounted(machine, root) == old["source"]:
            left.append(f"{old['source']} at {root}")
        if not left:
            return
        if machine.monotonic() >= ends:
            why = "somebody works in it, or its hub is away"
            text = f"the share is not left after {_WAIT_S:g} s: {', '.join(left)}; {why}"
            raise HaltError("REC7482", text, fix=f"on {run.intent['host']}: fuser -vm {root}")
        machine.sleep(_POLL_S)


def _replaced(run: Run, old: Dict[str, Any]) -> List[str]:
    """Return the units of the old share whose definition stage has replaced with another one.

    A root that moves is another mount below the same target: the old one is then no file that was replaced.
    """
    undo = step_undo.read_undo(run.machine, run.txid)
    natives = [] if undo is None else [name for name, text in undo["natives"].items() if text is not None]
    if old["role"] == "worker":
        new = (run.intent.get("spiral") or {}).get("share") or {}
        moves = new.get("unit") == old["unit"] and new.get("mount") != old["mount"]
        return [old["unit"]] if moves or old["mount"] in natives else []
    return sorted(set(natives) & set(old["exports"]))


def _committed(machine: Machine) -> Optional[Dict[str, Any]]:
    with contextlib.suppress(OSError, ValueError):
        number = files.committed_number(machine)
        found = None if number is None else files.manifest(machine, number).get("spiral")
        return found if isinstance(found, dict) else None
    return None
