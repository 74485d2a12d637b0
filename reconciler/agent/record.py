"""Our own state files: a version, a sum, and a body. What does not verify is not read as anything.

Must not: repair, or guess at a body whose sum is wrong.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Dict

from .machine import Machine

VERSION = 1
_LIMIT = 32 << 20


class RecordError(ValueError):
    """A state file that is torn, changed or of another version."""


def canonical(body: Any) -> bytes:
    """Return the one way to write a document, for sums and for comparing."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "backslashreplace"
    )


def seal(body: Dict[str, Any]) -> bytes:
    """Wrap a body so that a reader can tell whether it is whole."""
    digest = hashlib.sha256(canonical(body)).hexdigest()
    return canonical({"v": VERSION, "sha256": digest, "body": body}) + b"\n"


def unseal(data: bytes) -> Dict[str, Any]:
    """Return the body of a wrapped document; `RecordError` says why when it does not verify."""
    try:
        document = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RecordError("it is not JSON") from error
    if not isinstance(document, dict) or not isinstance(document.get("body"), dict):
        raise RecordError("it has no body")
    if document.get("v") != VERSION:
        raise RecordError(f"it is of version {document.get('v')!r}, not {VERSION}")
    body: Dict[str, Any] = document["body"]
    if hashlib.sha256(canonical(body)).hexdigest() != document.get("sha256"):
        raise RecordError("its sum is wrong")
    return body


def read_record(machine: Machine, path: str) -> Dict[str, Any]:
    """Read a wrapped file. FileNotFoundError when absent, `RecordError` when it does not verify."""
    try:
        return unseal(machine.read(path, _LIMIT))
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from error


def write_record(machine: Machine, path: str, body: Dict[str, Any], mode: int = 0o644) -> None:
    """Replace a wrapped file durably."""
    machine.write(path, seal(body), mode)
