"""What of somebody else a service is to take over, as it is on this host now, and why it cannot be where it cannot.

It can be taken over only when it can be brought back as it was, and when nothing but its own links starts it: so
whatever a transition does to it can be undone, and what it is kept from after the commit it stays kept from.

Must not: change anything.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from . import places, privilege, systemd
from .machine import Machine
from .plain import clean

TIMEOUT_S = 20.0
SERVICE = ".service"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@:_.-]{0,199}\Z")
_OURS = "recon-"
_GONE = ("inactive", "failed")
_LINKS = (".wants", ".requires", ".upholds")
_LINKED = (places.NATIVE, places.MASKS)
_TRANSIENT = "/run/systemd/transient/"
_PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "FragmentPath",
    "TriggeredBy",
    "WantedBy",
    "RequiredBy",
    "UpheldBy",
    "RequisiteOf",
    "BoundBy",
    "ConsistsOf",
    "PropagatesStopTo",
    "TimeoutStopUSec",
    "InvocationID",
    "Job",
)
_STOPPED_WITH = ("RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo")
"""Who else is stopped when systemd stops a unit, whatever the mode of the job; see systemd.unit(5)."""
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|min|h|d|w|month|y)\b")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_S = 900.0
STARTS_AGAIN = ("always", "unless-stopped")
"""The restart policies by which podman starts a container again that somebody else stopped, as at a boot."""


_OWN = ("fragment", "restart", "cgroup", "run", "is_queued")


class Adoptee(NamedTuple):
    """See `model.observed.Adoptee`; beside it what only the agent needs.

    `fragment` is the file of a unit, `restart` the restart policy of a container, `cgroup` where its processes are,
    `run` another word for each time that it was started. `is_queued`: systemd has yet to start or stop it.
    """

    name: str
    kind: str
    active: str = ""
    is_up: bool = False
    boots: bool = False
    container: Optional[str] = None
    stop_timeout_s: float = 0.0
    problem: str = ""
    fix: str = ""
    fragment: str = ""
    restart: str = ""
    cgroup: str = ""
    run: str = ""
    is_queued: bool = False

    def told(self) -> Dict[str, Any]:
        """Return what a plan is told of it."""
        return {name: value for name, value in self._asdict().items() if name not in _OWN}


class AdopteeError(systemd.SystemdError):
    """How it is cannot be told; podman is asked for what systemd does not know, and whoever minds one minds both."""


def is_name(name: object) -> bool:
    """Say whether that can name a unit or container of somebody else: no pattern, no path, nothing of recon's."""
    return isinstance(name, str) and _NAME.match(name) is not None and not name.startswith(_OURS)


def look(machine: Machine, names: Sequence[str]) -> List[Adoptee]:
    """Return each of them as it is now; AdopteeError or SystemdError when that cannot be told."""
    units = [name for name in names if is_name(name) and name.endswith(SERVICE)]
    shown = systemd.show(machine, units, _PROPERTIES) if units else {}
    beside = _stopped_with(machine, shown, names)
    found = []
    for name in names:
        if not is_name(name):
            found.append(Adoptee(name=clean(str(name), 200), kind="missing", problem="it is none of somebody else's"))
        elif name.endswith(SERVICE):
            found.append(_unit(machine, name, shown.get(name), beside.get(name, [])))
        else:
            found.append(_container(machine, name))
    return found


def links(machine: Machine, name: str) -> Dict[str, str]:
    """Return the links that make a unit start with something else, by path, with where each points."""
    found = {}
    for place in _LINKED:
        for directory in _names(machine, place):
            path = f"{place}/{directory}/{name}"
            if directory.endswith(_LINKS) and _is_link(machine, path):
                found[path] = machine.read_link(path)
    return found


def is_own_file(machine: Machine, name: str) -> bool:
    """Say whether a unit's file stands where a mask of it would have to: such a unit is disabled, others are masked."""
    return machine.stat(f"{places.NATIVE}/{name}") is not None and not _is_mask(machine, name)


def _stopped_with(machine: Machine, shown: Dict[str, Dict[str, str]], names: Sequence[str]) -> Dict[str, List[str]]:
    """Return by unit what runs, would be stopped with it, and is not asked for by name itself."""
    tied = {
        name: {word for key in _STOPPED_WITH for word in own.get(key, "").split()}.difference(names)
        for name, own in shown.items()
    }
    others = sorted({other for found in tied.values() for other in found})
    states = systemd.show(machine, others, ("ActiveState",)) if others else {}
    up = {other for other in others if states.get(other, {}).get("ActiveState") not in _GONE}
    return {name: sorted(found & up) for name, found in tied.items()}


def _is_mask(machine: Machine, name: str) -> bool:
    path = f"{places.NATIVE}/{name}"
    return _is_link(machine, path) and machine.read_link(path) == "/dev/null"


def _unit(machine: Machine, name: str, shown: Optional[Dict[str, str]], beside: Sequence[str]) -> Adoptee:
    if shown is None:
        problem, fix = "it is another name of a unit", f"systemctl show --property=Id {name}, and name that one"
        return Adoptee(name=name, kind="unit", problem=problem, fix=fix)
    active, load = clean(shown.get("ActiveState", "")), clean(shown.get("LoadState", ""))
    is_up = active not in _GONE
    if load == "not-found" and not is_up:
        return Adoptee(name=name, kind="missing", active=active)
    wanted = [word for key in ("WantedBy", "RequiredBy", "UpheldBy") for word in shown.get(key, "").split()]
    found = Adoptee(
        name=name,
        kind="unit",
        active=active,
        is_up=is_up,
        boots=load == "loaded" and bool(wanted or links(machine, name)),
        stop_timeout_s=_span(shown.get("TimeoutStopUSec", "")),
        fragment=shown.get("FragmentPath", ""),
        run=shown.get("InvocationID", ""),
        is_queued=shown.get("Job", "").split(" ")[0] not in ("", "0"),
    )
    problem, fix = _problem(machine, found, shown, wanted)
    if not problem and is_up and beside:
        problem, fix = _would_stop(machine, name, clean(beside[0], 200))
    return found._replace(problem=problem, fix=fix)


def _would_stop(machine: Machine, name: str, other: str) -> "tuple[str, str]":
    """Say what else would be stopped with a unit, which nobody has said may be, and what to do."""
    problem = f"systemd stops {other} with it, which is not named"
    if any(path.rsplit("/", 2)[1] == f"{other}.requires" for path in links(machine, name)):
        return problem, f"systemctl disable {name} && systemctl add-wants {other} {name}"
    return problem, f"name it under adopts: too, or stop it on the host: systemctl stop {other}"


def _problem(machine: Machine, found: Adoptee, shown: Dict[str, str], wanted: Sequence[str]) -> "tuple[str, str]":
    """Say why a unit could not be brought back as it was, or would start again, and what to do; empty when neither."""
    name, load, triggers = found.name, clean(shown.get("LoadState", "")), clean(shown.get("TriggeredBy", ""))
    if load != "loaded" and found.is_up:
        return f"it runs and is {load}, so it could not be started again", f"systemctl unmask {name}"
    if found.is_up and found.fragment.startswith(_TRANSIENT):
        return "it has no file, so it could not be started again", f"stop it on the host: systemctl stop {name}"
    if triggers and load == "loaded":
        return f"{triggers} starts it again", f"disable that first: systemctl disable --now {triggers}"
    if load == "loaded" and is_own_file(machine, name):
        linked = {path.rsplit("/", 2)[1].rpartition(".")[0] for path in links(machine, name)}
        others = sorted({clean(word, 200) for word in wanted} - linked)
        if others:
            return f"{', '.join(others)} asks for it in its own file", "remove it there"
    if shown.get("SubState", "").startswith("auto-restart"):
        problem = "it crashes, and systemd starts it again and again, so nobody could say whether it came back"
        return problem, f"see why on the host: journalctl -u {name}; or systemctl stop {name}"
    return "", ""


def _container(machine: Machine, name: str) -> Adoptee:
    if privilege.is_guest(machine):
        raise AdopteeError(privilege.NOT_OURS)
    done = machine.run(["podman", "inspect", "--type", "container", "--", name], TIMEOUT_S)
    if done.rc == 125 and b"no such" in done.err:
        return Adoptee(name=name, kind="missing")
    if done.rc == 127:
        return Adoptee(name=name, kind="missing")
    try:
        if done.rc != 0:
            raise AdopteeError(f"podman inspect {name}: {clean(done.err, 200) or f'exit status {done.rc}'}")
        (document,) = json.loads(done.out.decode("utf-8", "replace"))
        state, config, host = document["State"], document.get("Config") or {}, document.get("HostConfig") or {}
        own = str(document["Id"])
        if str(document.get("Name", "")).lstrip("/") != name:
            # podman takes the beginning of an id for a name too.
            return Adoptee(name=name, kind="missing")
        policy = clean(str((host.get("RestartPolicy") or {}).get("Name") or ""), 40)
        retries = int((host.get("RestartPolicy") or {}).get("MaximumRetryCount") or 0)
        unit = clean(str((config.get("Labels") or {}).get("PODMAN_SYSTEMD_UNIT") or ""), 200)
        status = clean(str(state.get("Status", "")), 40)
        found = Adoptee(
            name=name,
            kind="container",
            active=status,
            is_up=state.get("Running") is True or status in ("running", "paused", "stopping"),
            boots=policy in STARTS_AGAIN,
            container=own,
            stop_timeout_s=min(_LONGEST_S, float(config.get("StopTimeout") or 10)),
            restart=f"{policy}:{retries}" if policy == "on-failure" and retries else policy,
            cgroup=str(state.get("CgroupPath") or ""),
            run=str(state.get("StartedAt") or ""),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdopteeError(f"podman inspect {name}: {type(error).__name__}: {clean(str(error), 200)}") from error
    if unit:
        return found._replace(problem=f"{unit} runs it", fix=f"write 'adopts: {unit}'")
    if host.get("AutoRemove") is True:
        fix = f"stop it on the host: podman stop {name}"
        return found._replace(problem="podman removes it when it stops, so it could not be started again", fix=fix)
    if status == "paused":
        return found._replace(problem="it is paused, and podman stops nothing that is", fix=f"podman unpause {name}")
    return found


def _span(text: str) -> float:
    """Return a time as `systemctl show` says it (`1min 30s`), no more than a stop is waited for."""
    found = _SPAN.findall(text)
    seconds = sum(float(number) * _SECONDS.get(unit, _LONGEST_S) for number, unit in found)
    return min(_LONGEST_S, seconds) if found else _LONGEST_S


def _is_link(machine: Machine, path: str) -> bool:
    found = machine.stat(path)
    return found is not None and found.kind == "link"


def _names(machine: Machine, directory: str) -> List[str]:
    try:
        return machine.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
