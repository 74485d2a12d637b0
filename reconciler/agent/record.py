"""Our own state files: a version, a sum, and a body. What does not verify is not read as anything.

The bytes of a file must be exactly those that were written: a file that was cut anywhere, or of which one bit changed,
is told from a whole one, also where the difference would mean nothing to a reader of JSON.

Must not: repair, or guess at a body whose sum is wrong.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from typing import Any, Dict, Optional

from .machine import Machine

VERSION = 1
LIMIT = 32 << 20
_HEAD = b'{"body":'
_TAIL = re.compile(rb'(?:,"file":"([A-Za-z0-9._-]{1,100})")?,"sha256":"([0-9a-f]{64})","v":1\}\n\Z')
_TAIL_LIMIT = 256
_ASIDE = ".corrupt-"
_KEPT_ASIDE = 9
LATEST_S = 200_000_000_000
"""A time after that cannot be written as a date."""
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class RecordError(ValueError):
    """A state file that is torn or changed."""

    code = "REC5020"


class FutureError(RecordError):
    """A state file that a later recon wrote: it may be whole, and is not understood here."""

    code = "REC5021"


def canonical(body: Any) -> bytes:
    """Return the one way to write a document, for sums and for comparing."""
    return _CANONICAL.encode(body).encode("utf-8", "backslashreplace")


def seal(body: Dict[str, Any], name: str = "") -> bytes:
    """Wrap a body so that a reader can tell whether it is whole, and by its name whether it is the right file."""
    raw = canonical(body)
    named = b',"file":"%b"' % name.encode() if name else b""
    return b'{"body":%b%b,"sha256":"%b","v":%d}\n' % (raw, named, _sum(raw, name.encode()), VERSION)


def unseal(data: bytes, name: str = "") -> Dict[str, Any]:
    """Return the body of a wrapped document; `RecordError` says why when it does not verify."""
    found = _TAIL.search(data[-_TAIL_LIMIT:])
    if found is None or not data.startswith(_HEAD):
        raise _why_not(data)
    raw, own = data[len(_HEAD) : len(data) - len(found[0])], found[1] or b""
    if _sum(raw, own) != found[2]:
        raise RecordError("its sum is wrong")
    if own and name and own != name.encode():
        raise RecordError(f"it is another file, {own.decode()}")
    try:
        body = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RecordError("it is not JSON") from error
    if not isinstance(body, dict):
        raise RecordError("it has no body")
    return body


def number_in(body: Dict[str, Any], key: str) -> float:
    """Return the time in a body, in seconds; `RecordError` when it is no number, not finite, or beyond all dates.

    JSON as Python reads it knows NaN, infinities and whole numbers without an end: none of them can be compared,
    calculated with or told.
    """
    value = body.get(key)
    # What is not a number is not below anything either.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LATEST_S:
        raise RecordError(f"it has no proper {key}")
    return float(value)


def _sum(raw: bytes, name: bytes) -> bytes:
    return hashlib.sha256(raw + name).hexdigest().encode()


def _why_not(data: bytes) -> RecordError:
    """Say why bytes are not what `seal` writes."""
    try:
        document = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        return RecordError("it is not JSON")
    if not isinstance(document, dict) or not isinstance(document.get("body"), dict):
        return RecordError("it has no body")
    version = document.get("v")
    if isinstance(version, int) and not isinstance(version, bool) and version > VERSION:
        return FutureError(f"it is of version {version}, this recon knows {VERSION}")
    if version != VERSION:
        return RecordError(f"it is of version {version!r}, not {VERSION}")
    return RecordError("its bytes are not those that were written")


def read_record(machine: Machine, path: str) -> Dict[str, Any]:
    """Read a wrapped file. FileNotFoundError when absent, `RecordError` when it does not verify."""
    try:
        return unseal(machine.read(path, LIMIT), _name(path))
    except RecordError as error:
        raise type(error)(f"{path}: {error}") from error
    except OSError as error:
        if not is_no_file(machine, path):
            raise
        raise RecordError(f"{path}: it is no file") from error


def write_record(machine: Machine, path: str, body: Dict[str, Any], mode: int = 0o644) -> None:
    """Replace a wrapped file durably."""
    machine.write(path, seal(body, _name(path)), mode)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def set_aside(machine: Machine, path: str) -> str:
    """Move a file that does not verify out of the way, for a person to look at; return its new name.

    Only who may change the host does this. The first few of a file are kept; what comes after them is dropped.
    """
    names = [f"{path}{_ASIDE}{number}" for number in range(1, _KEPT_ASIDE + 1)]
    free = next((name for name in names if machine.stat(name) is None), names[-1])
    if is_no_file(machine, path):
        # A directory, a link, a FIFO: nothing to be copied, and nothing of it is removed.
        if machine.stat(free) is not None:
            raise RecordError(f"{path} is no file, and {free} is taken: remove what was put aside")
        machine.rename(path, free)
        return free
    machine.write(free, machine.read(path, LIMIT), 0o600)
    machine.remove(path)
    return free


def make_way(machine: Machine, path: str) -> Optional[str]:
    """Set a file aside when it does not verify, before it is written anew; return its new name, None when it is fine.

    A disk that has no room for the copy does not keep the new file from being written.
    """
    try:
        read_record(machine, path)
    except RecordError:
        with contextlib.suppress(OSError, RecordError):
            return set_aside(machine, path)
    except OSError:
        pass
    return None


def is_no_file(machine: Machine, path: str) -> bool:
    """Say whether something is there that is not a file, and so can be neither read nor written as one."""
    found = machine.stat(path)
    return found is not None and found.kind != "file"


def is_set_aside(name: str) -> bool:
    """Say whether a name is that of a file which was moved out of the way."""
    return _ASIDE in name
