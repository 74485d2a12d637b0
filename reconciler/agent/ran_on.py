"""Which GPUs the covens of the committed generation were given, by the files that they run from.

An intent says what git gives a slot now; a way back that measures that looks at memory which nothing of it will use.

Must not: ask the GPUs, or read the files of a generation that is not committed.
"""

from __future__ import annotations

from typing import List, Sequence

from . import places
from .txn import Run, known

_GIVEN = "AddDevice=nvidia.com/gpu="
_ALL = "all"


def gpus_of(run: Run, units: Sequence[str]) -> List[str]:
    """Return the GPUs of units together, by UUID or index as their slot had them; none when that is not known."""
    found = set()
    try:
        for text in _files(run, units):
            found |= {line[len(_GIVEN) :].strip() for line in text.splitlines() if line.startswith(_GIVEN)}
    except OSError:
        return []
    return [each["uuid"] for each in known(run.state["gpus"]) or []] if _ALL in found else sorted(found)


def _files(run: Run, units: Sequence[str]) -> List[str]:
    if run.old_generation is None:
        return []
    directory = places.generation(run.old_generation)
    names = [name for name in run.machine.listdir(directory) if name.endswith(".container")]
    wanted = [name for name in names if places.unit_of(name) in units]
    return [run.machine.read(f"{directory}/{name}").decode("utf-8", "replace") for name in wanted]
