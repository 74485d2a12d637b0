"""The names of a model that was split over several files: `…-00001-of-00005.gguf`, and safetensors the same way.

Must not: know whether anything of it is there.
"""

from __future__ import annotations

import re
from typing import Dict, Iterable, List

# The controller mounts what these names say (`model.weights.parts_of`).
_PART = re.compile(r"(.*)-([0-9]{5})-of-([0-9]{5})\.(gguf|safetensors)", re.DOTALL)
_MOST_PARTS = 1000  # a name alone must not make a list without end


def parts_of(name: str) -> List[str]:
    """Return the names of all parts of a model by the name of one, the name alone of what was not split."""
    found = _PART.fullmatch(name)
    if found is None or not 1 <= int(found[2]) <= int(found[3]) <= _MOST_PARTS:
        return [name]
    return [f"{found[1]}-{number:05}-of-{found[3]}.{found[4]}" for number in range(1, int(found[3]) + 1)]


def models(names: Iterable[str]) -> List[List[str]]:
    """Return every model of which some files are there: the names of all of its parts, whether they are or not."""
    found: Dict[str, List[str]] = {}
    for name in names:
        parts = parts_of(name)
        found[parts[0]] = parts
    return list(found.values())
