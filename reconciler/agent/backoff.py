"""How far the rate caps go down while the host is too busy, and up again after. Pure.

    busy for the whole period   ─▶ the factor is multiplied once, and the period begins anew
    clear for the whole period  ─▶ it is divided once, up to 1
    not known, or not looked at ─▶ it stays, and both periods begin anew

Must not: read a clock or a GPU, or take what is not known for busy or for clear.
"""

from __future__ import annotations

import math
from typing import Any, Dict, NamedTuple, Optional

GAP_S = 180.0
"""Two looks that are farther apart say nothing about the time between them."""


class Factor(NamedTuple):
    """What the caps are multiplied by, since when, and what has been seen without a break until `at`."""

    value: float = 1.0
    since: float = 0.0
    busy_since: Optional[float] = None
    clear_since: Optional[float] = None
    at: float = 0.0


def step(before: Factor, spec: Optional[Dict[str, Any]], busy: Optional[bool], *, now: float, wall: float) -> Factor:
    """Return what follows from one more look.

    Args:
        before: what there was.
        spec: `model.intent_spiral.BackoffSpec`, None when none is declared: then the caps are as declared.
        busy: whether a threshold is passed, None when that cannot be told.
        now: seconds since boot, which no jump of the clock moves.
        wall: for people, when the factor changes.
    """
    if spec is None:
        return Factor(since=wall if before.value < 1 else before.since, at=now)
    is_broken = not 0 <= now - before.at <= GAP_S
    floor = max(before.value, spec["least"]) if before.value < spec["least"] else before.value
    if busy is None:
        return Factor(floor, before.since, at=now)
    since = before.busy_since if busy else before.clear_since
    since = now if since is None or is_broken else since
    if now - since < spec["for_s"]:
        busy_since, clear_since = (since, None) if busy else (None, since)
        return Factor(floor, before.since, busy_since, clear_since, now)
    value = max(spec["least"], floor * spec["factor"]) if busy else min(1.0, floor / spec["factor"])
    busy_since, clear_since = (now, None) if busy else (None, now)
    return Factor(value, before.since if value == before.value else wall, busy_since, clear_since, now)


def effective(caps: Dict[str, int], factor: float, least: float) -> Dict[str, int]:
    """Return the caps that hold now: never above what is declared, never below the least share of it."""
    return {
        name: min(declared, max(math.ceil(declared * least), math.floor(declared * factor)))
        for name, declared in caps.items()
    }
