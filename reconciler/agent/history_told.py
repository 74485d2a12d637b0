"""Tells the history of the host to whoever asks: its last lines, and what is wrong with it.

Must not: write, or leave damage untold.
"""

from __future__ import annotations

from typing import Any, Dict, List

from . import fact, history, history_parts, outbox, places
from .machine import Machine
from .wire import RequestError

MOST = 2000
_USUAL = 20


def tell(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Return `lines`, oldest first, at most `limit` of them, and `problems` in words."""
    limit = args.get("limit", _USUAL)
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MOST:
        raise RequestError("REC5016", "the agent does not know this request", "history without a limit", "update recon")
    problems: List[str] = []
    try:
        problem = history.examine(machine).problem
        problems += [f"{places.HISTORY}: {problem}"] if problem else []
        if machine.stat(places.HISTORY) is not None or history_parts.numbers(machine):
            problems += list(history_parts.verify(machine))
    except OSError as error:
        problems.append(fact.why(error))
    try:
        bodies = outbox.last_lines(machine, limit)
    except OSError:
        bodies = []
    return {"lines": bodies, "problems": problems}
