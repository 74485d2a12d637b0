"""Whether a server is paused, by its own word: a pause that was answered with 200 may not have happened.

Must not: pause or resume anything.
"""

from __future__ import annotations

import json
from typing import Any, Dict, NamedTuple, Optional

from .machine import Machine
from .plain import clean
from .warm import no_whole

_TIMEOUT_S = 5.0


class Said(NamedTuple):
    """What a server says; None when it does not. `text` says it to people."""

    paused: Optional[bool]
    text: str


def is_paused(machine: Machine, member: Dict[str, Any]) -> Said:
    """Ask a member whether it is paused."""
    # What a host has on record from before this was asked does not have it.
    probe = member.get("paused")
    if not probe:
        return Said(None, "nothing says whether it is paused")
    answer = machine.http("GET", probe["url"], _TIMEOUT_S)
    path = "/" + clean(probe["url"].split("/", 3)[-1], 80)
    problem = no_whole(answer)
    if problem:
        return Said(None, f"{path} {problem}")
    try:
        value = json.loads(answer.body.decode("utf-8"))[probe["field"]]
    except (ValueError, LookupError, TypeError, RecursionError):
        value = None
    if not isinstance(value, bool):
        return Said(None, f"{path} does not say {clean(probe['field'], 80)}")
    return Said(value, f"{path} says that it is {'paused' if value else 'not paused'}")
