"""Starts a declared job of the spiral and tells how it goes: a oneshot of systemd, whose journal is followed.

Loops are never started by hand: the spiral is switched on in git, and systemd has them.

Must not: start anything but a job that the committed manifest names, or stop one.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Optional

from . import deed, ours, places, spiral_site, systemd, unit_log, watch_site
from .machine import BusyError, Machine
from .plain import clean
from .wire import RequestError

_UNDER_WAY = ("activating", "active", "reloading", "deactivating")
_POLL_S = 0.3
_LONGEST_WAIT_S = 5.0
_SETTLE_S = 0.2


def run(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Start a job, or join one that runs already; return its unit, and the cursor from which its journal is its own.

    Raises:
        RequestError: REC7392 no such job, REC7393 it is a loop, REC7394 not now: held, in transition, down.
    """
    word = str(args.get("job", ""))
    body = ours.manifest(machine)
    job = _job(body, word)
    unit = str(job["unit"])
    cursor = _page(machine, unit, 1, None).cursor
    shown = _shown(machine, unit)
    if shown.active in _UNDER_WAY or shown.job:
        return {"unit": unit, "cursor": cursor, "joined": True}
    host = str(args.get("host", "HOST"))
    machine.mkdir(places.RUN)
    try:
        # With the host's lock: who looks and then starts must not have an executor in between.
        with machine.lock(places.LOCK) if job["lane"] == "gpu" else contextlib.nullcontext():
            _refuse(machine, job, (body.get("spiral") or {}).get("slot"), host)
            systemd.reset_failed(machine, [unit])
            systemd.start(machine, [unit])
    except BusyError as error:
        fix = f"wait: recon status --host {host}"
        raise RequestError("REC7394", "the job may not start now", "somebody has the host just now", fix) from error
    except systemd.SystemdError as error:
        raise RequestError("REC7394", "the job cannot be started", str(error), "recon logs HOST JOB") from error
    owner, reason = clean(str(args.get("owner", "unknown")), 200), f"started {unit}"
    deed.tell(machine, "run", host=str(body.get("host", "HOST")), owner=owner, reason=reason, unit=unit)
    return {"unit": unit, "cursor": cursor, "joined": False}


def follow(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Return news of a job's journal, and how it ended once it has.

    Args:
        machine: the host.
        args: `job`, `after` the cursor, and `wait_s`.
    """
    unit = str(_job(ours.manifest(machine), str(args.get("job", "")))["unit"])
    after = str(args.get("after") or "")
    ends = machine.monotonic() + min(float(args.get("wait_s", 0.0)), _LONGEST_WAIT_S)
    while True:
        # The state first, and then a moment: what it says is over has written all it will write.
        shown = _shown(machine, unit)
        is_active = shown.active in _UNDER_WAY or bool(shown.job)
        if not is_active:
            machine.sleep(_SETTLE_S)
        page = _page(machine, unit, unit_log.MOST, after or None, tells=not is_active)
        if page.lines or not is_active or machine.monotonic() >= ends:
            return {
                "unit": unit,
                "lines": page.lines,
                "cursor": page.cursor or after,
                "result": None if is_active else _result(machine, shown, page.ended),
                "active": is_active,
            }
        machine.sleep(_POLL_S)


def _page(machine: Machine, unit: str, count: int, after: Optional[str], *, tells: bool = False) -> unit_log.Page:
    """Return what the journal has; a job runs and ends also where this account may not read it, which is told once."""
    try:
        return unit_log.read(machine, unit, count, after)
    except RequestError as error:
        line = {"at": machine.wall(), "text": f"its lines cannot be shown: {error.detail}"}
        return unit_log.Page([line] if tells else [], "", "")


def _result(machine: Machine, shown: systemd.UnitState, ended: str) -> Dict[str, Any]:
    """Return how a job ended that was started and is over.

    systemd keeps a unit that failed until somebody resets it, and forgets one that went well at once, with all it knew:
    so that nothing is known is the sign of a good end. What it says in the journal about the start counts too, where
    it says anything.
    """
    if shown.active == "failed" or shown.result != "success":
        return {"ok": False, "text": shown.last_exit or shown.result or ended}
    if ended not in ("", "done"):
        return {"ok": False, "text": ended}
    if machine.stat(places.DOWN_SPIRAL) is not None:
        return {"ok": False, "text": "the spiral was taken down"}
    return {"ok": True, "text": "done"}


def _job(body: Dict[str, Any], word: str) -> Dict[str, Any]:
    jobs, loops = ours.jobs(body), ours.loops(body)
    for name, job in jobs.items():
        if word in (name, job["unit"]):
            return job
    for name, unit in loops.items():
        if word in (name, unit):
            detail = f"{name} is a loop: it runs while the spiral is on, and systemd alone starts it"
            fix = "spiral: {enabled: true} in the host's file, then recon apply"
            raise RequestError("REC7393", "loops are not started by hand", detail, fix)
    names = ", ".join(sorted(jobs)) or "none"
    raise RequestError("REC7392", "no such job", f"{clean(word, 80)}; jobs of this host: {names}", "name one of them")


def _refuse(machine: Machine, job: Dict[str, Any], slot: Optional[str], host: str) -> None:
    held = spiral_site.held_by(machine)
    if held:
        raise RequestError("REC7394", "the job may not start now", held, f"recon release {host}")
    if machine.stat(places.DOWN_SPIRAL) is not None:
        raise RequestError(
            "REC7394", "the job may not start now", "the spiral is down", f"recon up spiral --host {host}"
        )
    if job["lane"] != "gpu":
        return
    try:
        watch_site.stay_away(machine)
        if slot in watch_site.locked_slots(machine):
            raise watch_site.ApartError(f"slot {slot} is locked: recon lock list")
    except (watch_site.ApartError, systemd.SystemdError) as error:
        fix = f"wait: recon status --host {host}"
        raise RequestError("REC7394", "the job may not start now", str(error), fix) from error


def _shown(machine: Machine, unit: str) -> systemd.UnitState:
    try:
        return systemd.show_units(machine, [unit])[unit]
    except (KeyError, systemd.SystemdError) as error:
        raise RequestError(
            "REC7396", "systemd does not say how the unit is", clean(str(error)), "look on the host: systemctl status"
        ) from error
