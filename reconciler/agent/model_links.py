"""Where the links in the directory of a model lead, as the container of its server sees them.

It has that directory and a few others at the same paths as the host, and nothing else of the host: a link is good only
when each step of its way lies in one of them.

Must not: judge a link that leads nowhere on the host either.
"""

from __future__ import annotations

import posixpath
from typing import List, Optional

from .machine import Machine

_LINKS = 40


def way_out(machine: Machine, path: str, mounted: List[str]) -> Optional[str]:
    """Return the first place outside of what is mounted on the way to where a path leads, None when it stays inside."""
    at, links = "/", 0
    rest = path.split("/")
    while rest:
        name = rest.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            at = posixpath.dirname(at)
            continue
        step = posixpath.join(at, name)
        if not any(_is_below(step, place) or _is_below(place, step) for place in mounted):
            return step
        # What is mounted, and what leads to it, is a directory in the container whatever it is on the host.
        found = None if any(_is_below(place, step) for place in mounted) else machine.stat(step)
        if found is None or found.kind != "link":
            at = step
            continue
        links += 1
        if links > _LINKS:
            return step
        target = machine.read_link(step)
        at, rest = "/" if target.startswith("/") else at, target.split("/") + rest
    return None if any(_is_below(at, place) for place in mounted) else at


def _is_below(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")
