"""The files of recon on a host: headers, every tier they may lie in, the committed generation.

A file's tier says where it was found: `committed` through the one symlink, `native` beside the host's own units,
`trial` in /run, `stray` anywhere else a unit or Quadlet of our name takes effect or shadows one of ours.

Must not: write, or leave out a file that could not be read: then the whole answer is an error.
"""

import hashlib
import re
from typing import Any, Dict, List, NamedTuple, Optional

from . import fact, places, stray
from .machine import Machine
from .plain import clean
from .record import RecordError, read_record

FILE_LIMIT = 1 << 20
BODY_LIMIT = 64 << 10
_MOUNT = ".mount"
_KEY = re.compile(r"^# recon-(owner|config-hash|source-commit): (.*)$")


class Header(NamedTuple):
    """What the comment lines at the top of a managed file say, and the digest of what follows them."""

    owner: Optional[str]
    config_hash: Optional[str]
    source_commit: Optional[str]
    body_sha256: str
    body: bytes


def read_header(data: bytes) -> Header:
    """Split a managed file; a file of somebody else has no owner and is all body, comments at its top excepted."""
    found: Dict[str, str] = {}
    rest = data
    while rest.startswith(b"#"):
        line, newline, rest = rest.partition(b"\n")
        match = _KEY.match(line.decode("utf-8", "backslashreplace"))
        if match:
            found.setdefault(match[1], clean(match[2]))
        if not newline:
            break
    digest = hashlib.sha256(rest).hexdigest()
    return Header(found.get("owner"), found.get("config-hash"), found.get("source-commit"), digest, rest)


def managed_files(machine: Machine, expect: Optional[Dict[str, str]] = None) -> List[Dict[str, Any]]:
    """Return every file of ours in every tier, sorted; OSError when one cannot be read.

    Args:
        machine: where to look.
        expect: by file name, the body digest that is wanted; a file with another one carries its body in the answer.
    """
    found: Dict[str, str] = {}
    for tier, link in (("committed", places.COMMITTED), ("trial", places.TRIAL)):
        for name in names_in(machine, link):
            if name.endswith(stray.QUADLETS):
                found[f"{link}/{name}"] = tier
    for name in names_in(machine, places.NATIVE):
        path = f"{places.NATIVE}/{name}"
        is_named = name.startswith("recon-") and not name.endswith(stray.DIRECTORIES)
        # A mount has the name of its path: there the header alone says whose it is.
        if is_named or (name.endswith(_MOUNT) and _is_our_mount(machine, path)):
            found[path] = "native"
    has_trial = machine.stat(places.TRIAL) is not None
    for path in stray.find(machine):
        is_mask = has_trial and path.startswith(places.MASKS + "/") and _link(machine, path) == "/dev/null"
        found.setdefault(path, "trial" if is_mask else "stray")
    return [_describe(machine, path, found[path], expect or {}) for path in sorted(found)]


def _is_our_mount(machine: Machine, path: str) -> bool:
    """Say whether a mount is recon's; what a guest may not read is not, for recon's units everybody may read."""
    try:
        return is_ours(machine, path)
    except PermissionError:
        return False


def is_ours(machine: Machine, path: str) -> bool:
    """Say whether a unit file carries recon's header, whatever its name."""
    found = machine.stat(path)
    return found is not None and found.kind == "file" and read_header(machine.read(path, FILE_LIMIT)).owner is not None


def names_in(machine: Machine, directory: str) -> List[str]:
    """Return the names in a directory, none when it is not there."""
    try:
        return machine.listdir(directory)
    except FileNotFoundError:
        return []


def _link(machine: Machine, path: str) -> Optional[str]:
    found = machine.stat(path)
    return machine.read_link(path) if found is not None and found.kind == "link" else None


def _describe(machine: Machine, path: str, tier: str, expect: Dict[str, str]) -> Dict[str, Any]:
    target = _link(machine, path)
    if target is not None:
        # A link (a mask, a file kept elsewhere) is what it points to: the bytes behind it may be those of a device.
        header = read_header(f"-> {target}\n".encode("utf-8", "surrogateescape"))
    else:
        data = machine.read(path, FILE_LIMIT + 1)
        if len(data) > FILE_LIMIT:
            raise OSError(27, "file too large for a unit file", path)
        header = read_header(data)
    described: Dict[str, Any] = {
        "path": clean(path),
        "owner": header.owner,
        "config_hash": header.config_hash,
        "source_commit": header.source_commit,
        "body_sha256": header.body_sha256,
        "tier": tier,
    }
    wanted = expect.get(path.rsplit("/", 1)[1])
    if wanted is not None and wanted != header.body_sha256 and len(header.body) <= BODY_LIMIT:
        described["body"] = header.body.decode("utf-8", "backslashreplace")
    return described


def units_of(paths: List[str]) -> List[str]:
    """Return the names of the units that files become, sorted: `recon-a-b.container` is `recon-a-b.service`."""
    units = set()
    for path in paths:
        stem, dot, suffix = path.rsplit("/", 1)[1].rpartition(".")
        if ".d/" in path:
            continue
        if dot + suffix in (".container", ".kube"):
            units.add(stem + ".service")
        elif dot + suffix in stray.QUADLETS:
            units.add(f"{stem}-{suffix}.service")
        else:
            units.add(stem + dot + suffix)
    return sorted(units)


def committed_number(machine: Machine) -> Optional[int]:
    """Return which generation the one symlink names, None when nothing was ever committed.

    ValueError when something else stands where the symlink belongs.
    """
    found = machine.stat(places.COMMITTED)
    if found is None:
        return None
    if found.kind != "link":
        raise ValueError(f"{places.COMMITTED} is no symlink")
    return _number_in(machine.read_link(places.COMMITTED))


def committed_if_told(machine: Machine) -> Optional[int]:
    """Return the committed generation, None also when it cannot be told."""
    try:
        return committed_number(machine)
    except (OSError, ValueError):
        return None


def _number_in(target: str) -> int:
    directory, _, number = target.rstrip("/").rpartition("/")
    if directory != places.GENERATIONS or not (number.isascii() and number.isdigit()):
        raise ValueError(f"the committed link points to {target}, which is no generation")
    return int(number)


def manifest(machine: Machine, number: int) -> Dict[str, Any]:
    """Return the manifest of a generation; FileNotFoundError when it was never completed, RecordError when it lies."""
    path = places.generation(number) + "/manifest.json"
    found = read_record(machine, path)
    if found.get("generation", number) != number:
        raise RecordError(f"{path}: it is of generation {clean(str(found['generation']), 20)}")
    return found


def generation(machine: Machine) -> Optional[Dict[str, Any]]:
    """Return the committed generation, None when there is none; OSError or ValueError when it cannot be told.

    One that is named and lost is still the committed one: of its manifest nothing is known.
    """
    number = committed_number(machine)
    if number is None:
        return None
    try:
        if machine.stat(places.generation(number)) is None:
            raise RecordError(f"generation {number} is committed, but {places.generation(number)} is not there")
        body = fact.value(manifest(machine, number))
    except (OSError, RecordError) as error:
        body = fact.unknown(fact.why(error))
    return {"number": number, "manifest": body, "boot": names_in(machine, places.generation(number) + "/boot.wants")}


def live_members(body: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Return the members of the covens that should run by a manifest, and the residents."""
    live = {coven for coven in body.get("live", {}).values() if coven is not None}
    groups = [group for group in body.get("groups", []) if group.get("coven") in live]
    members = [member for group in groups for member in group.get("members", [])]
    return [member for member in (*members, *body.get("residents", [])) if "unit" in member]
