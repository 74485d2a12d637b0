"""The share of the spiral on this host: what is mounted or exported, and whether it is safe to claim from there.

    hub       exports the root of the loop to each worker, by a unit for each
    worker    mounts it; everything of the loop hangs on the target that the mount hangs on

A file server that does not answer stops whoever asks it, for as long as it likes. So a path below a mount is looked at
in time that is bounded, and what is mounted is read from the kernel, which asks nobody.

Must not: mount, export, or start anything; `share_deeds` does.
"""

from __future__ import annotations

import re
import socket
from typing import Any, Dict, List, NamedTuple, Optional

from . import bounded, fact, files, places, stray
from .machine import Machine
from .plain import clean

PREFIX = "recon-share-"
MOUNTS = "/proc/1/mountinfo"
FSTAB = "/etc/fstab"
EXPORTS = "/var/lib/nfs/etab"
MARKER_S = 3.0
THERE, MISSING, UNKNOWN = "there", "missing", "unknown"
_HELPERS = {"worker": ("/usr/sbin/mount.nfs4", "/sbin/mount.nfs4"), "hub": ("/usr/sbin/exportfs", "/sbin/exportfs")}
_PACKAGES = {"worker": "nfs-common", "hub": "nfs-kernel-server"}
_TABLE_OF_PEOPLE = "/etc/exports"
_OCTAL = re.compile(rb"\\([0-7]{3})")
_LIMIT = 4 << 20

Spec = Dict[str, Any]


class Marker(NamedTuple):
    """Whether the marker is there (`there`, `missing` or `unknown`), and what was seen, in words."""

    state: str
    text: str


def state(machine: Machine, spec: Spec) -> Optional[Dict[str, Any]]:
    """Return `model.spiral_state.ShareState` of a declared spiral, None when it is in no share."""
    share = spec.get("share")
    if not share:
        return None
    found = marker(machine, share)
    told: Dict[str, Any] = {
        "marker": found.state,
        "text": found.text,
        "foreign": "",
        "lacks": lacks(machine, share["role"]),
        "mounted": None,
        "unexported": [],
        "unread": "",
    }
    try:
        if share["role"] == "worker":
            told["foreign"] = foreign(machine, share)
            told["mounted"] = mounted(machine, root_of(share))
        else:
            told["unexported"] = unexported(machine, share)
    except (OSError, ValueError) as error:
        told["unread"] = fact.why(error)
    return told


def root_of(share: Spec) -> str:
    """Return the directory that is shared."""
    return str(share["marker"]).rpartition("/")[0]


def marker(machine: Machine, share: Spec) -> Marker:
    """Look for the marker: on the hub's own disk, or through the mount; without the mount nobody can tell."""
    root, path = root_of(share), str(share["marker"])
    try:
        if share["role"] == "worker":
            source = mounted(machine, root)
            if source is None:
                return Marker(UNKNOWN, f"{root} is not mounted from {share['hub']}")
            if source != share["source"]:
                return Marker(UNKNOWN, f"{clean(source, 200)} is mounted at {root}, not {share['source']}")
        is_there = bounded.within(lambda: machine.stat(path), MARKER_S) is not None
    except TimeoutError:
        return Marker(UNKNOWN, f"{path} does not answer: {share['hub']} is away, or its file server hangs")
    except (OSError, ValueError) as error:
        return Marker(UNKNOWN, f"{path}: {fact.why(error)}")
    return Marker(THERE, f"{path} is there") if is_there else Marker(MISSING, f"{path} is not there")


def mounted(machine: Machine, path: str) -> Optional[str]:
    """Return what is mounted at a path, on top where there are several; None when nothing is."""
    found = None
    for line in machine.read(MOUNTS, _LIMIT).splitlines():
        before, _, after = line.partition(b" - ")
        place, what = before.split(b" "), after.split(b" ")
        if len(place) > 4 and len(what) > 1 and _plain(place[4]) == path:
            found = _plain(what[1])
    return found


def exported(machine: Machine, path: str) -> List[str]:
    """Return the clients that a path is exported to, as the file server's own table names them, sorted."""
    try:
        table = machine.read(EXPORTS, _LIMIT)
    except FileNotFoundError:
        return []
    found = set()
    for line in table.splitlines():
        what, _, client = line.partition(b"\t")
        if client and _plain(what) == path:
            found.add(clean(client.split(b"(", 1)[0], 200))
    return sorted(found)


def unexported(machine: Machine, share: Spec) -> List[str]:
    """Return the units of a hub whose address is not in the table; a name may stand there as another, and counts."""
    there = {_packed(client) for client in exported(machine, root_of(share))}
    exports = share["exports"].items()
    return sorted(unit for unit, address in exports if _is_address(address) and _packed(address) not in there)


def foreign(machine: Machine, share: Spec) -> str:
    """Say who else has the place of the mount, empty when nobody does; OSError when that cannot be told."""
    if share["role"] != "worker":
        return ""
    root, name = root_of(share), share["mount"]
    own = f"{places.NATIVE}/{name}"
    for path in stray.named(machine, name):
        if path != own or not files.is_ours(machine, path):
            return f"{path} is a unit of somebody else"
    for line in _lines(machine, FSTAB):
        words = line.split()
        if len(words) > 1 and not line.startswith(b"#") and _plain(words[1]).rstrip("/") == root:
            return f"{FSTAB} mounts {clean(_plain(words[0]), 200)} at {root}"
    source = mounted(machine, root)
    if source is not None and source != share["source"] and not files.is_ours(machine, own):
        return f"{clean(source, 200)} is mounted at {root}"
    return ""


def lacks(machine: Machine, role: str) -> str:
    """Say what of NFS is missing and what to type for it, empty when all is there."""
    if not any(machine.stat(path) is not None for path in _HELPERS[role]):
        return f"{_HELPERS[role][0]} is not there: apt install {_PACKAGES[role]}"
    # Without this file, if only an empty one, exportfs does what it is told and still says that it failed.
    if role == "hub" and machine.stat(_TABLE_OF_PEOPLE) is None:
        return f"{_TABLE_OF_PEOPLE} is not there: touch {_TABLE_OF_PEOPLE}"
    return ""


def anchors(spec: Optional[Spec]) -> List[str]:
    """Return the units that a share of a spiral is started and stopped by, sorted."""
    share = (spec or {}).get("share")
    if not share:
        return []
    return [share["unit"]] if share["role"] == "worker" else sorted(share["exports"])


def away(spec: Optional[Spec]) -> str:
    """Return the directory that is there only when it is mounted, empty where there is none."""
    share = (spec or {}).get("share")
    return root_of(share) if share and share["role"] == "worker" else ""


def _lines(machine: Machine, path: str) -> List[bytes]:
    try:
        return machine.read(path).splitlines()
    except FileNotFoundError:
        return []


def _plain(word: bytes) -> str:
    """Undo the escapes of the kernel's tables: white space and backslashes are octal numbers there."""
    return _OCTAL.sub(lambda match: bytes((int(match[1], 8) & 0xFF,)), word).decode("utf-8", "backslashreplace")


def _packed(address: str) -> "str | bytes":
    """Return what an address is, however it is written: the table has one of IPv6 in its shortest form."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except OSError:
        return address


def _is_address(text: str) -> bool:
    return ":" in text or all(part.isdigit() for part in text.split("."))
