"""Who a process is: its unit by control group path, its container, its name and state.

The path is the kernel's word; a process cannot choose it, while it can choose its name. A unit of a user's own manager
is written `user@UID.service/NAME`, so that it never passes for the host's unit of the same name.

Must not: trust a name that a workload gave itself, or end a process.
"""

import re
from typing import Any, Dict, NamedTuple, Optional

from . import fact
from .machine import Machine
from .plain import clean

_HEX = "[0-9a-f]{64}"
_CONTAINER = re.compile(f"^(?:libpod-payload-|libpod-|docker-|crio-|cri-containerd-)({_HEX})(?:\\.scope)?$|^({_HEX})$")
_USER_MANAGER = re.compile(r"^user@\d+\.service$")
_MOST_ANCESTORS = 16
_TICKS = 100
"""In which the kernel tells times to programs, for each second, whatever it uses itself."""


class Place(NamedTuple):
    """Where a process belongs; None for what is nobody's."""

    unit: Optional[str]
    container: Optional[str]


class _Stat(NamedTuple):
    comm: bytes
    state: str
    parent: int
    started: int


def cgroup_path(text: str) -> Optional[str]:
    """Return the control group in /proc/PID/cgroup: of version 2, or of systemd's own hierarchy when that says `/`."""
    unified = named = None
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            unified = path
        elif controllers == "name=systemd":
            named = path
    path = unified if unified and unified != "/" else (named or unified or "")
    suffix = " (deleted)"
    return (path[: -len(suffix)] if path.endswith(suffix) else path) or None


def place_of(path: Optional[str], manager: str = "") -> Place:
    """Return unit and container of a control group.

    The outermost service owns the process: what is deeper was made inside it, by a container's own systemd perhaps.
    Units of the manager that is ours go by their names alone: the system's, or that of a user; then the system's units
    are written `system/NAME`.
    """
    user = "system/" if manager else ""
    unit: Optional[str] = None
    for part in (path or "").split("/"):
        name = part[1:] if part.startswith("_") else part
        match = _CONTAINER.match(name)
        if match:
            return Place(unit, match[1] or match[2])
        if _USER_MANAGER.match(name):
            user = "" if name == manager else name + "/"
        elif unit is None and name.endswith(".service"):
            unit = user + name
    return Place(unit, None)


def describe(machine: Machine, row: Dict[str, Any]) -> Dict[str, Any]:
    """Return a GPU holder as `model.observed.GpuProcess` from NVML's row."""
    pid = int(row["pid"])
    size = row["bytes"]
    found: Dict[str, Any] = {
        "pid": pid,
        "started": None,
        "bytes": fact.unknown("the driver does not say how much") if size is None else fact.value(int(size)),
        "kind": clean(str(row["kind"])),
        "unit": None,
        "container": None,
        "comm": "",
        "uid": None,
        "state": "gone",
    }
    try:
        stat = _stat(machine, pid)
        uid = _uid(machine.read(f"/proc/{pid}/status"))
        place = place_of(_path(machine, pid), machine.own_manager)
    except (FileNotFoundError, ProcessLookupError):
        return found  # it ended meanwhile, or lives in another pid namespace: NVML's row stays, its owner is not known
    except (OSError, ValueError, IndexError):
        return {**found, "state": "unknown"}
    found.update(started=stat.started, comm=clean(stat.comm, 64), uid=uid, state=clean(stat.state))
    unit = place.unit
    if place.container and not unit:
        unit = _unit_of_keeper(machine, stat.parent, place.container)
    found.update(unit=clean(unit) if unit else None, container=place.container)
    return found


def state_of(machine: Machine, pid: int) -> str:
    """Return the state of a process as the kernel writes it, one letter; OSError when there is none of that number."""
    return _stat(machine, pid).state


def started_s(machine: Machine, pid: int) -> float:
    """Return when a process was started, in seconds on the clock since boot; OSError when it is gone."""
    return _stat(machine, pid).started / _TICKS


def _unit_of_keeper(machine: Machine, pid: int, container: str) -> Optional[str]:
    """Return the unit of a container that lies outside of its unit's group, as podman does unless told to split.

    Its keeper, conmon, stays in the unit. Going up from a process of the container, the first ancestor that is not in
    it is the keeper; what is inside cannot pretend to be outside.
    """
    for _ in range(_MOST_ANCESTORS):
        if pid <= 1:
            return None
        try:
            stat, place = _stat(machine, pid), place_of(_path(machine, pid), machine.own_manager)
        except (OSError, ValueError, IndexError):
            return None
        if place.container != container:
            return place.unit if stat.comm == b"conmon" else None
        pid = stat.parent
    return None


def _stat(machine: Machine, pid: int) -> _Stat:
    # The name is between the first and the LAST parenthesis: a program may put some into its own.
    head, _, tail = machine.read(f"/proc/{pid}/stat").rpartition(b")")
    fields = tail.split()
    return _Stat(head.partition(b"(")[2], fields[0].decode("ascii", "replace"), int(fields[1]), int(fields[19]))


def _path(machine: Machine, pid: int) -> Optional[str]:
    return cgroup_path(machine.read(f"/proc/{pid}/cgroup").decode("utf-8", "backslashreplace"))


def _uid(status: bytes) -> Optional[int]:
    for line in status.split(b"\n"):
        if line.startswith(b"Uid:"):
            return int(line.split()[1])
    return None
