"""Which GPUs units are given, by the files that they come from.

Git gives every GPU to one slot at a time, but to another one from one generation to the next, if it likes. An intent
says what git gives a slot now; a way back that measures that looks at memory which nothing of it will use.

Must not: ask the GPUs, or read the files of a generation that is not committed.
"""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Set

from . import places
from .txn import Run, known, starting, stopping, units_of

_GIVEN = "AddDevice=nvidia.com/gpu="
_ALL = "all"


def before(run: Run, units: Sequence[str]) -> List[str]:
    """Return the GPUs of units together, by UUID or index as the committed generation has them; none when not known."""
    try:
        found = _committed(run, units)
    except OSError:
        return []
    return [each["uuid"] for each in known(run.state["gpus"]) or []] if _ALL in found else sorted(found)


def would_meet(run: Run, new: Dict[str, Any], old: Dict[str, Any]) -> bool:
    """Say whether the new side of a move has a GPU that the old side of another one had; what is not known may."""
    now: Set[str] = set()
    units = units_of(starting(new))
    for file in run.intent["quadlets"]:
        if places.unit_of(file["name"]) in units:
            now |= _given(file["content"])
    try:
        then = _committed(run, units_of(stopping(old)))
    except OSError:
        return True
    now, then = _uuids(run, now), _uuids(run, then)
    # An index and a UUID: nobody can tell them apart while the host does not know its GPUs.
    is_unclear = _ALL in now | then or len({name.isdigit() for name in now | then}) > 1
    return bool(now & then) or bool(now and then and is_unclear)


def _uuids(run: Run, names: Set[str]) -> Set[str]:
    """Return GPUs by UUID as the host knows them; a name of none that it knows stays as it is."""
    by_name = {str(each["index"]): each["uuid"] for each in known(run.state["gpus"]) or []}
    return (names - {_ALL} | set(by_name.values())) if by_name and _ALL in names else {by_name.get(n, n) for n in names}


def _committed(run: Run, units: Sequence[str]) -> Set[str]:
    found: Set[str] = set()
    if run.old_generation is not None:
        directory = places.generation(run.old_generation)
        for name in run.machine.listdir(directory):
            if name.endswith(".container") and places.unit_of(name) in units:
                found |= _given(run.machine.read(f"{directory}/{name}").decode("utf-8", "replace"))
    return found


def _given(text: str) -> Set[str]:
    return {line[len(_GIVEN) :].strip() for line in text.splitlines() if line.startswith(_GIVEN)}
