"""The users of the host that a login has for those inside of its containers (subuid(5), subgid(5)).

Must not: judge whether they are enough.
"""

from __future__ import annotations

from typing import List, NamedTuple

from .machine import Machine

USERS, GROUPS = "/etc/subuid", "/etc/subgid"


class Range(NamedTuple):
    """So many ids of the host from the first on."""

    first: int
    size: int


def ranges(machine: Machine, path: str) -> List[Range]:
    """Return what a file gives the login, by its name or its number, in order; OSError when it cannot be read."""
    rows = [line.strip().split(":") for line in machine.read(path).decode("utf-8", "backslashreplace").split("\n")]
    names = (machine.own_login, str(machine.own_uid))
    own = [row for row in rows if len(row) == 3 and row[0] in names]
    return [Range(int(row[1]), int(row[2])) for row in own if row[1].isdecimal() and row[2].isdecimal()]
