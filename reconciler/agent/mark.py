"""The mark of a completely installed agent: `.ok` in its directory, which says which one it is.

Must not: write it; `install` does, last of all.
"""

from __future__ import annotations

from . import places
from .machine import Machine


def content(digest: str) -> bytes:
    """Return what the mark holds."""
    return digest.encode() + b"\n"


def is_complete(machine: Machine, digest: str) -> bool:
    """Say whether the agent of a digest was installed to the end."""
    try:
        return machine.read(f"{places.AGENTS}/{digest}/.ok", 256) == content(digest)
    except OSError:
        return False
