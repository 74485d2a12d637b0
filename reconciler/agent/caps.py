"""The rate caps in the loop's control file: recon's own keys, and nothing else in it.

Must not: make the file, or replace one that is not what it should be: it is told, and a person looks.
"""

from __future__ import annotations

import errno
from typing import Any, Dict, NamedTuple, Optional, Tuple

from . import fact, splice
from .machine import BusyError, Directory, Machine

LIMIT = 1 << 20


class Written(NamedTuple):
    """What came of it: `problem` says why the file is not as it should be."""

    changed: bool
    problem: str = ""


def wanted(spec: Dict[str, Any], caps: Dict[str, int]) -> Dict[str, int]:
    """Return which dotted key gets which value: of the caps that are declared and have a key."""
    control = spec.get("control") or {"keys": {}}
    return {key: caps[name] for name, key in control["keys"].items() if name in caps}


def write(machine: Machine, spec: Dict[str, Any], caps: Dict[str, int]) -> Written:
    """Write the caps that hold now into the control file, where they are not there already."""
    control = spec.get("control")
    keys = wanted(spec, caps)
    if not control or not keys:
        return Written(changed=False)
    if not _is_below(control["file"], spec["root"]):
        return Written(changed=False, problem=f"{control['file']} is not below {spec['root']}")
    try:
        return Written(machine.rewrite(control["file"], lambda data: splice.splice(data, keys)))
    except BusyError:
        return Written(changed=False, problem=f"{control['file']}: another program writes it all the time")
    except (OSError, ValueError) as error:
        return Written(changed=False, problem=_why(control["file"], error))


def read(machine: Machine, spec: Dict[str, Any]) -> Optional[fact.Fact]:
    """Return the owned keys as they are in the file, by cap; None when none are declared. An absent key is null."""
    control = spec.get("control")
    if not control:
        return None
    try:
        data = read_file(machine, spec, control["file"])
        return fact.value({name: splice.look_up(data, key)[1] for name, key in sorted(control["keys"].items())})
    except (OSError, ValueError) as error:
        return fact.unknown(_why(control["file"], error))


def check(machine: Machine, spec: Dict[str, Any]) -> None:
    """Raise what `write` would stop at, without writing: OSError of the file, ValueError of what is in it."""
    directory, name = _place(machine, spec, spec["control"]["file"])
    try:
        found = directory.entry(name)
        if found is not None and found.links > 1:
            raise OSError(errno.EMLINK, "it has another name, which would keep the old bytes")
        data = directory.read(name, LIMIT + 1)
    finally:
        directory.close()
    if len(data) > LIMIT:
        raise OSError(errno.EFBIG, "larger than a control file may be")
    splice.splice(data, wanted(spec, spec["caps"]))


def why(error: BaseException) -> str:
    """Return what the system said, without the path that its callers name anyway."""
    return (error.strerror if isinstance(error, OSError) else None) or fact.why(error)


def read_file(machine: Machine, spec: Dict[str, Any], path: str) -> bytes:
    """Read a file of the loop: a plain one below the root, no link on the way to it."""
    directory, name = _place(machine, spec, path)
    try:
        return directory.read(name, LIMIT)
    finally:
        directory.close()


def _place(machine: Machine, spec: Dict[str, Any], path: str) -> Tuple[Directory, bytes]:
    """Open the directory of a file of the loop, and return the file's name in it."""
    if not _is_below(path, spec["root"]):
        raise OSError(errno.EINVAL, f"is not below {spec['root']}")
    place, _, name = path.rpartition("/")
    return machine.open_directory(place), name.encode("utf-8", "surrogateescape")


def _is_below(path: str, root: str) -> bool:
    return ".." not in path.split("/") and path.startswith(root.rstrip("/") + "/")


def _why(path: str, error: BaseException) -> str:
    return f"{path}: {why(error)}"
