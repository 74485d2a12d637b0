"""Which GPUs units are given, by the files they come from.

Git gives every GPU to one slot at a time, but to another one from one generation to the next, if it likes.

Must not: ask the GPUs.
"""

from __future__ import annotations

from typing import Any, Dict, List, Set

from . import places
from .txn import Run, starting, stopping, units_of

_GIVEN = "AddDevice=nvidia.com/gpu="
_ALL = _GIVEN + "all"


def would_meet(run: Run, new: Dict[str, Any], old: Dict[str, Any]) -> bool:
    """Say whether the new side of a move has a GPU that the old side of another one had; what is not known may."""
    now: Set[str] = set()
    units = units_of(starting(new))
    for file in run.intent["quadlets"]:
        if places.unit_of(file["name"]) in units:
            now |= _given(file["content"])
    try:
        before = _committed(run, units_of(stopping(old)))
    except OSError:
        return True
    return bool(now & before) or bool(now and before and _ALL in now | before)


def _committed(run: Run, units: List[str]) -> Set[str]:
    found: Set[str] = set()
    if run.old_generation is not None:
        directory = places.generation(run.old_generation)
        for name in run.machine.listdir(directory):
            if name.endswith(".container") and places.unit_of(name) in units:
                found |= _given(run.machine.read(f"{directory}/{name}").decode("utf-8", "replace"))
    return found


def _given(text: str) -> Set[str]:
    return {line for line in text.splitlines() if line.startswith(_GIVEN)}
