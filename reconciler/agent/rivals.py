"""Who else on this host runs, restarts or starts what the spiral declares: units, processes and containers of others.

Must not: touch any of them, or take what cannot be read for nobody.
"""

from __future__ import annotations

import fnmatch
import json
from typing import Any, Dict, Iterator, List, Optional, Sequence

from . import places, privilege, processes, stray, systemd
from .machine import Machine
from .plain import clean

_PODMAN_S = 20.0
_OURS = "recon-"
_FORMAT = "{{.Name}}\t{{.ImageName}}\t{{.HostConfig.RestartPolicy.Name}}\t{{json .Mounts}}"
_NO_POLICY = ("", "no")
_PROC = "/proc"


class RivalsError(Exception):
    """Whether there is anybody else cannot be told."""


def units(machine: Machine, globs: Sequence[str]) -> List[str]:
    """Return units of others with such names that are active or start by themselves, each with how it is."""
    if not globs:
        return []
    found: Dict[str, str] = {}
    for name, state in systemd.show_units(machine, list(globs)).items():
        if not name.startswith(_OURS) and state.active not in ("inactive", "failed"):
            found[name] = state.active
    for name in stray.wanted(machine):
        if not name.startswith(_OURS) and any(fnmatch.fnmatchcase(name, glob) for glob in globs):
            found.setdefault(name, "enabled")
    return [f"{clean(name)} ({how})" for name, how in sorted(found.items())]


def running(machine: Machine, argv: Sequence[str]) -> List[str]:
    """Return processes outside of our units that run these words, each with its unit if it has one."""
    if not argv:
        return []
    found = []
    for pid in _pids(machine):
        words = _command(machine, pid)
        if words is None or not _is_same(words, argv):
            continue
        unit = _unit(machine, pid)
        if unit is None or not unit.startswith(_OURS):
            found.append(f"process {pid}" + (f" of {clean(unit)}" if unit else ""))
    return found


def containers(machine: Machine, root: str, images: Sequence[str]) -> List[str]:
    """Return containers that podman restarts by itself and that work on the same root or are of the same image."""
    ids = _strangers(machine, "--all")
    if not ids:
        return []
    done = machine.run(["podman", "inspect", "--type=container", "--format", _FORMAT, *ids], _PODMAN_S)
    if done.rc != 0:
        raise RivalsError(f"podman inspect: {clean(done.err, 200) or f'exit status {done.rc}'}")
    lines = [line for line in done.out.decode("utf-8", "backslashreplace").splitlines() if line]
    return sorted(name for line in lines for name in _restarted(line, root, images))


def of_image(machine: Machine, image: str) -> List[str]:
    """Return containers outside of our units that run this image, whatever name of it they were started by."""
    ids = _strangers(machine)
    if not ids:
        return []
    done = machine.run(["podman", "inspect", "--type", "container", "--", *ids], _PODMAN_S)
    if done.rc != 0:
        raise RivalsError(f"podman inspect: {clean(done.err, 200) or f'exit status {done.rc}'}")
    digest = image.partition("@")[2]
    try:
        found = [(str(each["Name"]), each["ImageName"], each.get("ImageDigest")) for each in json.loads(done.out)]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RivalsError(f"podman inspect: {error}") from error
    same = [name for name, named, content in found if named == image or (digest and content == digest)]
    return [f"container {clean(name)}" for name in sorted(same)]


def _strangers(machine: Machine, *which: str) -> List[str]:
    """Return the containers that run, or `--all`, and are not of our units."""
    if privilege.is_guest(machine):
        raise RivalsError(privilege.NOT_OURS)
    listed = machine.run(["podman", "ps", *which, "--no-trunc", "--format", "json"], _PODMAN_S)
    if listed.rc != 0:
        raise RivalsError(f"podman ps: {clean(listed.err, 200) or f'exit status {listed.rc}'}")
    try:
        return [str(each["Id"]) for each in json.loads(listed.out or b"[]") or [] if not _is_ours(each)]
    except (ValueError, TypeError, KeyError) as error:
        raise RivalsError(f"podman ps: {error}") from error


def _restarted(line: str, root: str, images: Sequence[str]) -> Iterator[str]:
    try:
        name, image, policy, mounts = line.split("\t", 3)
        sources = [str(mount.get("Source", "")) for mount in json.loads(mounts) or []]
    except (ValueError, TypeError, AttributeError) as error:
        raise RivalsError(f"podman inspect: {error}") from error
    shares = image in images or any(_meets(source, root) for source in sources)
    if shares and policy not in _NO_POLICY:
        yield f"container {clean(name)} (restart policy {clean(policy)})"


def _is_ours(container: Dict[str, Any]) -> bool:
    labels = container.get("Labels") or {}
    return str(labels.get("PODMAN_SYSTEMD_UNIT", "")).startswith(_OURS)


def _meets(path: str, root: str) -> bool:
    one, other = path.rstrip("/") + "/", root.rstrip("/") + "/"
    return one.startswith(other) or other.startswith(one)


def _is_same(words: Sequence[str], argv: Sequence[str]) -> bool:
    """Say whether a command line ends with these words: whoever starts it may name its interpreter in his own way."""
    tail = words[-len(argv) :]
    if len(tail) < len(argv) or tail[1:] != list(argv[1:]):
        return False
    return tail[0] == argv[0] or tail[0].rsplit("/", 1)[-1] == argv[0].rsplit("/", 1)[-1]


def _pids(machine: Machine) -> List[int]:
    try:
        return [int(name) for name in machine.listdir(_PROC) if name.isascii() and name.isdigit()]
    except OSError as error:
        raise RivalsError(f"{_PROC}: {error}") from error


def _command(machine: Machine, pid: int) -> Optional[List[str]]:
    try:
        data = machine.read(f"{_PROC}/{pid}/cmdline")
    except (FileNotFoundError, ProcessLookupError):
        return None  # it ended meanwhile
    except OSError as error:
        raise RivalsError(f"{_PROC}/{pid}/cmdline: {error}") from error
    words = data.decode("utf-8", "surrogateescape").split("\0")
    return words[:-1] if words[-1] == "" else words


def _unit(machine: Machine, pid: int) -> Optional[str]:
    try:
        text = machine.read(f"{_PROC}/{pid}/cgroup").decode("utf-8", "backslashreplace")
    except (FileNotFoundError, ProcessLookupError):
        return places.EXECUTOR  # it ended meanwhile: nobody's any more
    except OSError as error:
        raise RivalsError(f"{_PROC}/{pid}/cgroup: {error}") from error
    return processes.place_of(processes.cgroup_path(text), machine.own_manager).unit
