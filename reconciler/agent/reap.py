"""The request to reap, by a person or by the host's own timer: what may be touched, who may, and what is said of it.

Must not: decide which file goes, or touch one.
"""

from __future__ import annotations

import contextlib
import posixpath
from typing import Any, Dict, List, Sequence

from . import alerts, deed, places, spiral_site
from .machine import BusyError, Machine
from .plain import clean
from .reaper import Budget, Reaping, TooManyError
from .wire import RequestError

ASKED_S = 60.0
TIMER_S = 1800.0
_OF_THE_SYSTEM = ("bin", "boot", "dev", "etc", "lib", "lib64", "proc", "root", "run", "sbin", "sys", "usr")
_OURS = (places.STATE, "/var/lib/containers", "/var/lib/systemd")
_BUDGETS = (("keep_bytes", "bytes"), ("keep_age_s", "age"), ("keep_count", "count"))


def reap(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Say which files are over the budget and, with `go`, let them go. A reply with `more` wants to be asked again.

    Raises:
        RequestError: REC7380 nothing is declared, REC7381 somebody reaps already, REC7382 the host is held, REC7383 a
            declared directory is none that a reaper may touch.
    """
    go, is_timer = args.get("go") is True, args.get("by") == "timer"
    owner = deed.OWNER if is_timer else clean(str(args.get("owner", "unknown")), 200)
    site = _site(machine)
    spec = site.spec["reaper"]
    paths = checked(site.spec)
    held = spiral_site.held_by(machine) if go else None
    if held:
        raise RequestError("REC7382", "nothing is deleted on a host that is held", held, f"recon release {site.host}")
    budget = Budget(spec["keep_bytes"], spec["keep_age_s"], spec["keep_count"])
    ends = machine.monotonic() + (TIMER_S if is_timer else ASKED_S)
    try:
        with contextlib.ExitStack() as stack:
            if go:
                machine.mkdir(places.RUN)
                stack.enter_context(machine.lock(places.REAPER_LOCK))
            reaping = Reaping(machine, paths, budget, go=go, ends=ends)
            done = reaping.run()
    except TooManyError as error:
        if is_timer:
            _say_uncounted(machine, site, str(error))
        fix = f"let the timer do it: on {site.host}, systemctl start recon-reaper.service"
        raise RequestError("REC7386", "there are too many files to look at meanwhile", str(error), fix) from error
    except BusyError as error:
        raise RequestError(
            "REC7381", "somebody reaps this host already", "the timer or another command", "wait, then ask again"
        ) from error
    gone = done["gone"]
    if go and gone["files"]:
        reason = f"{gone['files']} files, {gone['bytes']} bytes over the budget of {', '.join(paths)}"
        deed.tell(machine, "reap", host=site.host, owner=owner, reason=reason, **gone)
    if is_timer:
        _call_a_person(machine, site, done, budget, reaping.lost)
    return {**done, "paths": paths, "keep": _keep(spec)}


def checked(spec: Dict[str, Any]) -> List[str]:
    """Return the declared directories without those inside another; RequestError when one is not to be touched."""
    paths = sorted({str(path) for path in spec["reaper"]["paths"]})
    kept = [str(part["file"]) for part in (spec.get("control"), spec.get("convergence")) if part]
    for path in paths:
        problem = _problem(path, kept)
        if problem:
            fix = "correct reaper.paths in desired/workloads/spiral.yaml"
            raise RequestError("REC7383", "that is no directory for a reaper", f"{clean(path)} {problem}", fix)
    return [path for path in paths if not any(_is_in(path, other) for other in paths if other != path)]


def _problem(path: str, kept: Sequence[str]) -> str:
    if not path.startswith("/") or "\0" in path or posixpath.normpath(path) != path or path.startswith("//"):
        return "is not an absolute path without . and .."
    parts = path.split("/")[1:]
    if len(parts) < 2:
        return "is too near to the root of the host"
    if parts[0] in _OF_THE_SYSTEM or any(_is_in(path, ours) or _is_in(ours, path) for ours in _OURS):
        return "is of the system"
    if (parts[0] == "home" and len(parts) < 3) or any(part.startswith(".") for part in parts):
        return "is a home, or of what a user keeps out of sight"
    inside = [each for each in kept if _is_in(each, path)]
    return f"holds {clean(inside[0])}, which the loop needs" if inside else ""


def _is_in(path: str, other: str) -> bool:
    return path == other or path.startswith(other + "/")


def _site(machine: Machine) -> spiral_site.Site:
    try:
        site = spiral_site.site_of(machine)
        if not site.spec.get("reaper"):
            raise spiral_site.NoSpiralError("its spiral has no reaper")
    except spiral_site.NoSpiralError as error:
        fix = "declare reaper in desired/workloads/spiral.yaml and spiral in the host's file, then recon apply"
        raise RequestError("REC7380", "no reaper is committed on this host", str(error), fix) from error
    return site


def _keep(spec: Dict[str, Any]) -> Dict[str, Any]:
    return {name: spec[key] for key, name in _BUDGETS if spec[key] is not None}


def _call_a_person(
    machine: Machine, site: spiral_site.Site, done: Dict[str, Any], budget: Budget, lost: List[Dict[str, str]]
) -> None:
    """Raise an alert while more stays than may, or nobody can tell: the disk goes on filling. Else take it back."""
    stay = done["stay"]
    over = [
        name
        for name, is_over in (
            ("bytes", budget.most_bytes is not None and stay["bytes"] > budget.most_bytes),
            ("count", budget.most_files is not None and stay["files"] > budget.most_files),
        )
        if is_over
    ]
    with contextlib.suppress(BusyError, OSError), alerts.alone(machine):
        alerts.withdraw(machine, "REC7386", site.host)
        if lost:
            _say_lost(machine, site, lost[0])
            return
        if not over or done["more"]:
            alerts.withdraw(machine, "REC7385", site.host)
            return
        _raise(machine, site, done, over)


def _say_uncounted(machine: Machine, site: spiral_site.Site, why: str) -> None:
    """Raise an alert when not even the timer can count what is there: nothing went, and nothing will."""
    fix = "have reaper.paths in desired/workloads/spiral.yaml name directories with fewer files"
    with contextlib.suppress(BusyError, OSError), alerts.alone(machine):
        text = f"the reaper has no time to count the files: {why}"
        alerts.raise_alert(machine, by="reaper", code="REC7386", about=site.host, text=text, fix=fix)


def _say_lost(machine: Machine, site: spiral_site.Site, first: Dict[str, str]) -> None:
    text = f"the reaper does not get into a directory of its own: {first['path']} {first['why']}"
    fix = f"on {site.host}, make it a directory, or correct reaper.paths in desired/workloads/spiral.yaml: no link goes"
    alerts.raise_alert(machine, by="reaper", code="REC7385", about=site.host, text=text, fix=fix)


def _raise(machine: Machine, site: spiral_site.Site, done: Dict[str, Any], over: List[str]) -> None:
    first = done["skipped"][0] if done["skipped"] else {"path": "-", "why": "nothing could be taken away"}
    text = f"the reaper is still over its budget of {' and '.join(over)}: {first['path']} {first['why']}"
    fix = f"recon reap --host {site.host}"
    alerts.raise_alert(machine, by="reaper", code="REC7385", about=site.host, text=text, fix=fix)
