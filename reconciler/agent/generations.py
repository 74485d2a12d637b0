"""One generation as it lies on this host, whole: what a way back by hand is planned from.

Must not: write, or hand out a file that is not the one its manifest names.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from . import files, places
from .machine import Machine
from .plain import clean
from .record import RecordError
from .wire import RequestError

UNITS_DIRECTORY = "units"
_LOOK = "look into /etc/recon/generations on the host"
_GIT = "change it in git, then recon apply"


def describe(
    machine: Machine, number: Optional[int], host: str = "HOST", *, is_committed: bool = False
) -> Dict[str, Any]:
    """Return a generation: its manifest and the text of every file it names.

    Args:
        machine: the host.
        number: which one; None means the one that was committed before the one that is committed now.
        host: what people call this host, for what they can type.
        is_committed: that one is meant, whatever its number.
    """
    committed = _committed(machine)
    number = committed if is_committed else number
    there = complete(machine)
    others = [each for each in there if each != committed]
    fix = f"recon rollback {clean(host, 80)} --to {others[-1]}" if others else ""
    wanted = number if number is not None else _before(machine, committed, fix, host)
    if wanted not in there:
        listed = ", ".join(str(each) for each in there) or "none"
        detail = f"there is no generation {wanted}; the host has {listed}"
        raise RequestError("REC7033", "the host does not have that generation", detail, fix or _GIT)
    manifest = _manifest(machine, wanted)
    return {
        "number": wanted,
        "committed": committed,
        "there": there,
        "manifest": manifest,
        "files": {name: _text(machine, wanted, name, digest) for name, digest in sorted(manifest["files"].items())},
    }


def problem(machine: Machine, number: int) -> str:
    """Say what is wrong with a generation as it lies on the disk, nothing when it is whole."""
    try:
        for name, digest in sorted(_manifest(machine, number)["files"].items()):
            _text(machine, number, name, digest)
    except RequestError as error:
        return str(error.detail)
    return ""


def complete(machine: Machine) -> List[int]:
    """Return the numbers of the generations that were written to their end, in order."""
    try:
        names = machine.listdir(places.GENERATIONS)
    except FileNotFoundError:
        return []
    numbers = sorted(int(name) for name in names if name.isascii() and name.isdigit())
    return [each for each in numbers if machine.stat(places.generation(each) + "/manifest.json") is not None]


def _committed(machine: Machine) -> int:
    try:
        number = files.committed_number(machine)
    except (OSError, ValueError) as error:
        raise RequestError("REC7034", "the committed generation cannot be told", clean(str(error)), _LOOK) from error
    if number is None:
        raise RequestError("REC7034", "nothing was ever committed on the host", "there is no way back", "recon apply")
    return number


def _before(machine: Machine, committed: int, fix: str, host: str) -> int:
    """Return what was committed before, as the committed generation itself recorded it: never a guess by number."""
    try:
        before = files.manifest(machine, committed).get("previous")
    except (OSError, RecordError) as error:
        anew = f"recon apply --host {clean(host, 80)} --renew-manifest"
        raise RequestError("REC7035", "the generation is not whole", clean(str(error)), fix or anew) from error
    if not isinstance(before, int) or isinstance(before, bool):
        detail = f"generation {committed} does not record one: it is the first, or an older recon made it"
        raise RequestError("REC7034", "no generation is known to have been committed before", detail, fix or _GIT)
    return before


def _manifest(machine: Machine, number: int) -> Dict[str, Any]:
    try:
        manifest = files.manifest(machine, number)
    except (OSError, RecordError) as error:
        raise RequestError("REC7035", "the generation is not whole", clean(str(error)), _LOOK) from error
    if not isinstance(manifest.get("files"), dict):
        raise RequestError("REC7035", "the generation is not whole", f"the manifest of {number} names no files", _LOOK)
    return manifest


def _text(machine: Machine, number: int, name: str, digest: Any) -> str:
    directory = places.generation(number)
    path = f"{directory}/{name}" if name.endswith(".container") else f"{directory}/{UNITS_DIRECTORY}/{name}"
    try:
        data = machine.read(path, files.FILE_LIMIT)
        text = data.decode("utf-8")
    except (OSError, ValueError) as error:
        raise RequestError("REC7035", "the generation is not whole", clean(f"{path}: {error}"), _LOOK) from error
    if files.read_header(data).body_sha256 != digest:
        detail = f"{path} is not what its manifest names: it was edited, or the disk lost it"
        raise RequestError("REC7035", "the generation is not whole", detail, _LOOK)
    return text
