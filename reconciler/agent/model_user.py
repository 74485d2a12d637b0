"""Whether the user of a container may read the files of its model: the host's root always, others by each file's mode.

Groups are not looked at: a file that its group may read counts as readable, and so does whatever belongs to a user that
only the image knows by name. What is refused here surely cannot be read.

On a host without root the users of a container are others on the host: its root is the login, the rest are taken in
order from the login's ranges in /etc/subuid (subuid(5), podman-run(1) under --userns).

Must not: read weights beyond their first byte.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional

from . import subordinate
from .machine import Machine
from .model_places import Fault, find, real
from .plain import clean

_TIMEOUT_S = 60.0
_NUMBER = re.compile(r"[0-9]{1,10}")
_ROOT = ("", "root")  # an image that says nothing runs as root
_READ, _ENTER = 0o4, 0o1
_OWN, _GROUP = 6, 3


def unreadable(machine: Machine, check: Dict[str, Any], image: str) -> Optional[Fault]:
    """Return what the user of an image cannot read of a model whose files are there, None when it can."""
    files = find(machine, check)
    if isinstance(files, Fault):
        return files
    paths = [real(machine, f"{files.place}/{name}" if name else files.place) for name in sorted(files.sizes)]
    there = [path for path in paths if path is not None]
    if there and _is_refused_to_root(machine, there[0]):
        # A network file system may take root for nobody.
        return _fault(there[0], machine.own_login)
    closed = [path for path in [*_above(there), *there] if not _may(machine, path, None)]
    # Podman takes its time to tell, and for files that everybody may read nobody has to know.
    uid = _uid(machine, image) if closed else None
    on_host = None if uid is None else _on_host(machine, uid)
    if on_host is None or on_host == 0:
        return None
    who = f"user {uid} of the container" if uid else f"root of the container, which is {machine.own_login} on the host"
    refused = [path for path in closed if not _may(machine, path, on_host)]
    return _fault(refused[0], who) if refused else None


def _fault(path: str, who: str) -> Fault:
    return Fault("REC7407", f"{clean(path)} cannot be read by {who}", f"chmod a+rX {clean(path)}")


def _is_refused_to_root(machine: Machine, path: str) -> bool:
    found = machine.stat(path)
    try:
        if found is not None and found.kind == "file":
            machine.read(path, 1)
    except PermissionError:
        return True
    return False


def _uid(machine: Machine, image: str) -> Optional[int]:
    """Return the number of the user that an image runs as, 0 for root; None for one that only it knows by name."""
    done = machine.run(["podman", "image", "inspect", "--format", "{{.Config.User}}", image], _TIMEOUT_S)
    user = done.out.decode("utf-8", "replace").strip().partition(":")[0]
    if done.rc != 0:
        return None
    if user in _ROOT:
        return 0
    return int(user) if _NUMBER.fullmatch(user) else None


def _on_host(machine: Machine, uid: int) -> Optional[int]:
    """Return which user of the host a user of a container is; None when that cannot be told."""
    if machine.own_uid == 0:
        return uid
    if uid == 0:
        return machine.own_uid
    try:
        found = subordinate.ranges(machine, subordinate.USERS)
    except OSError:
        return None
    left = uid - 1
    for each in found:
        if left < each.size:
            return each.first + left
        left -= each.size
    return None


def _above(paths: List[str]) -> List[str]:
    """Return every directory above some paths, once, outermost first."""
    found = set()
    for path in paths:
        while path := path.rpartition("/")[0]:
            found.add(path)
    return sorted(found)


def _may(machine: Machine, path: str, uid: Optional[int]) -> bool:
    """Say whether a user may use a file or directory, everybody when no user is given."""
    found = machine.stat(path)
    if found is None or found.kind == "link":
        return True  # what it leads to is asked by its own name
    bit = _ENTER if found.kind == "dir" else _READ
    if uid is None:
        return bool(found.mode & bit)
    mine = found.mode >> _OWN & bit if found.uid == uid else found.mode & bit
    return bool(mine or found.mode >> _GROUP & bit)
