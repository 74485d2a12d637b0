"""Down and up: a person stops the spiral, the covens, or both at once, and nothing starts them until it is lifted.

The mark is durable before anything is stopped, and every unit asks for it by itself: so whoever starts one meanwhile,
a transition, a restart by systemd, a boot, does not get it up. No claim is needed and none is respected: to stop is
always allowed.

Must not: start a coven. What was lifted comes back by an apply, which measures memory first.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, List, Optional, Sequence, Tuple

from . import down_mark, files, guardrails, history, places, spiral, systemd, watch_site
from .machine import BusyError, Machine
from .plain import clean
from .record import RecordError
from .wire import RequestError

ALL = "all"
_SCOPES = (down_mark.SPIRAL, down_mark.COVEN, ALL)
_WAIT_S = 25.0
_POLL_S = 0.5
_REASON_LIMIT = 500
_UP = ("active", "activating", "reloading", "deactivating")
_NO_COVEN = (
    "recon-gate-",
    "recon-resident-",
    "recon-spiral",
    "recon-job-",
    "recon-share-",
    "recon-executor.",
    "recon-watchdog.",
    "recon-reaper.",
    "recon-schedule.",
    "recon-events.",
)


def down(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Mark scopes as down, stop what they hold, and return what was stopped and what still ends.

    Args:
        machine: the host.
        args: `scope` (spiral, coven or all), `owner`, `reason`, `host` its name.

    Raises:
        RequestError: REC7389 systemd does not say what still runs; the mark is there, and stops are queued as far as
            they can be without that.
    """
    scopes, owner, reason = _checked(args)
    for scope in scopes:
        down_mark.put(machine, scope, owner=owner, reason=reason)
    stopped: List[str] = []
    ends = machine.monotonic() + _WAIT_S
    while True:
        left, unseen = _round(machine, scopes, stopped, ends)
        if not (left or unseen) or machine.monotonic() >= ends:
            break
        machine.sleep(_POLL_S)
    told = {"owner": owner, "reason": reason, "stopped": stopped}
    _write_down(machine, args, "down", scopes, {**told, "unseen": unseen} if unseen else told)
    if unseen:
        detail = f"nothing of it starts again; {clean(unseen, 300)}"
        fix = f"recon down {args['scope']} --host {args.get('host', 'HOST')} --reason TEXT"
        raise RequestError("REC7389", "it is marked as down, and what still runs cannot be told", detail, fix)
    return {"down": list(scopes), "stopped": stopped, "ending": left}


def up(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Lift marks; the spiral is started when its flag is on and every guardrail holds, or a person insists.

    Args:
        machine: the host.
        args: as of `down`, and `force`: whether the spiral starts all the same; `clear`: forget that it once was.

    Raises:
        RequestError: REC7361 the spiral must not start, REC7364 whether it may cannot be told. Where covens are lifted
            too, REC7361 says so: they do not wait for the loop.
    """
    if args.get("clear"):
        owner, reason = _who(args)
        down_mark.clear_forced(machine)
        _write_down(machine, args, "up", (), {"owner": owner, "reason": reason, "cleared": True})
        return {"up": [], "was_down": [], "started": [], "idle": "", "cleared": True, "against": []}
    scopes, owner, reason = _checked(args)
    against: List[str] = []
    spec = _committed(machine, str(args.get("host", "HOST"))) if down_mark.SPIRAL in scopes else None
    if spec is not None:
        against = _against(machine, spec)
        if against and not args.get("force"):
            raise _refused(machine, args, scopes, against)
        if against:
            down_mark.put_forced(machine, owner=owner, reason=reason, against=against)
    was_down = [scope for scope in scopes if down_mark.of(machine, scope) is not None]
    for scope in scopes:
        down_mark.lift(machine, scope)
    started, idle = _start(machine, spec) if down_mark.SPIRAL in scopes else ([], "")
    told = {"owner": owner, "reason": reason, "started": started, "against": against}
    _write_down(machine, args, "up", scopes, told)
    said = {"up": list(scopes), "was_down": was_down, "started": started, "idle": idle}
    return {**said, "cleared": False, "against": against}


def _refused(machine: Machine, args: Dict[str, Any], scopes: Sequence[str], against: List[str]) -> RequestError:
    """Return why the spiral stays down, when the covens that were to be lifted with it are."""
    host = args.get("host", "HOST")
    detail, fix = "; ".join(against), f"correct it, or: recon up spiral --host {host} --force --reason TEXT"
    if down_mark.COVEN not in scopes:
        return RequestError("REC7361", "the spiral must not be started", detail, fix)
    _, owner, reason = _checked(args)
    down_mark.lift(machine, down_mark.COVEN)
    told = {"owner": owner, "reason": reason, "started": [], "against": []}
    _write_down(machine, args, "up", (down_mark.COVEN,), told)
    summary = "the covens may run again, and the spiral must not be started"
    return RequestError("REC7361", summary, detail, f"recon apply --host {host}, for the covens; for the spiral {fix}")


def _committed(machine: Machine, host: str) -> Optional[Dict[str, Any]]:
    """Return the committed spiral; what cannot be read must not pass for none, for nobody could judge it."""
    try:
        number = files.committed_number(machine)
        return None if number is None else files.manifest(machine, number).get("spiral")
    except (OSError, ValueError) as error:
        text, fix = clean(str(error), 300), f"recon plan --host {host}"
        raise RequestError("REC7364", "what is committed on the host cannot be read", text, fix) from error


def _against(machine: Machine, spec: Dict[str, Any]) -> List[str]:
    """Return everything that speaks against a start, in words."""
    flag = [] if spec["enabled"] else ["git says 'enabled: false', so nothing holds its caps, or stops it"]
    bad = guardrails.broken(guardrails.judge(machine, spec))
    return [*flag, *(f"guardrail {each.name}: {each.text}" for each in bad)]


def _start(machine: Machine, spec: Optional[Dict[str, Any]]) -> Tuple[List[str], str]:
    """Start the spiral, unless the host is somebody's: a transition does it at its end, and an apply after a person.

    Returns:
        What was started; and when that is nothing, why.
    """
    if spec is None:
        return [], "no spiral is committed on the host"
    machine.mkdir(places.RUN)
    try:
        with machine.lock(places.LOCK):
            watch_site.stay_away(machine, asks_covens=False)
            if spec["slot"] in watch_site.locked_slots(machine):
                return [], f"slot {spec['slot']} is locked"
            started = spiral.start(machine, spec)
            return started, "" if started else "it runs already"
    except BusyError:
        return [], "a transition runs, which starts it at its end"
    except watch_site.ApartError as error:
        return [], clean(str(error), 300)


def _round(machine: Machine, scopes: Sequence[str], stopped: List[str], ends: float) -> "tuple[List[str], str]":
    """Stop what is up and add it to `stopped`; return which services still end, and why that cannot be told."""
    try:
        up = _up(machine, scopes)
    except systemd.SystemdError as error:
        # A busy systemd may take a stop where it gives no list in time; what is part of the target goes with it.
        if down_mark.SPIRAL in scopes:
            with contextlib.suppress(systemd.SystemdError):
                systemd.end(machine, places.SPIRAL_TARGET)
        return [], str(error)
    stopped += [unit for unit in up if unit not in stopped]
    _stop(machine, up, ends)
    try:
        return [unit for unit in _up(machine, scopes) if unit.endswith(".service")], ""
    except systemd.SystemdError as error:
        return [], str(error)


def _up(machine: Machine, scopes: Sequence[str]) -> List[str]:
    shown = systemd.show_units(machine, ["recon-*"])
    return sorted(name for name, state in shown.items() if state.active in _UP and _is_of(name, scopes))


def _is_of(name: str, scopes: Sequence[str]) -> bool:
    if down_mark.SPIRAL in scopes and spiral.is_of_the_spiral(name):
        return True
    if down_mark.COVEN not in scopes:
        return False
    if name.startswith("recon-gate-") or (name.startswith("recon-coven-") and name.endswith(".target")):
        return True
    return name.endswith(".service") and not name.startswith(_NO_COVEN)


def _stop(machine: Machine, units: Sequence[str], ends: float) -> None:
    """Queue stops, whatever else is queued. Where one call does not do it each is named, while there is time."""
    if not units:
        return
    try:
        systemd.end_all(machine, units)
    except systemd.SystemdError:
        for unit in units:
            if machine.monotonic() >= ends:
                return
            with contextlib.suppress(systemd.SystemdError):
                systemd.end(machine, unit)


def _checked(args: Dict[str, Any]) -> "tuple[tuple[str, ...], str, str]":
    scope = args.get("scope")
    if scope not in _SCOPES:
        raise RequestError("REC5016", "the agent does not know this request", "down of something else", "update recon")
    owner, reason = _who(args)
    return ((down_mark.SPIRAL, down_mark.COVEN) if scope == ALL else (str(scope),)), owner, reason


def _who(args: Dict[str, Any]) -> "tuple[str, str]":
    reason = args.get("reason")
    if not isinstance(reason, str) or not reason.strip():
        raise RequestError("REC7362", "nothing is taken down or up without a reason", "", "say it with --reason TEXT")
    return clean(str(args.get("owner", "unknown")), 200), clean(reason, _REASON_LIMIT)


def _write_down(machine: Machine, args: Dict[str, Any], kind: str, scopes: Sequence[str], more: Dict[str, Any]) -> None:
    """Add a line to the history; that it cannot be written stops nobody."""
    line = {
        "kind": kind,
        "state": kind,
        "host": clean(str(args.get("host", "")), 200),
        "scopes": list(scopes),
        "generation": files.committed_if_told(machine),
        "at": machine.wall(),
        **more,
    }
    with contextlib.suppress(OSError, RecordError):
        history.append(machine, line)
