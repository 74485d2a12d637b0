"""The covens of a committed generation as an answer tells them: all of them in short, those that run as a whole.

A plan must know all about what it may drain, stop and bring back, and that is what runs. Of the others it compares a
digest, and needs the names of their units; a host has units for many covens, so whole ones would be most of the answer.

Must not: judge which coven should run. Pure.
"""

from typing import Any, Dict, List, Set

from . import fact

UP = ("active", "activating", "reloading")


def in_short(generation: fact.Fact, units: fact.Fact) -> fact.Fact:
    """Return a generation with its manifest as `model.observed.Manifest` lays it down; `units` as in the answer."""
    committed = generation.get("value")
    if not committed or "value" not in committed["manifest"]:
        return generation
    up = {unit["name"] for unit in units.get("value", []) if unit["active"] in UP}
    try:
        told = fact.value(_told(committed["manifest"]["value"], up))
    except (KeyError, TypeError):
        told = fact.unknown("its covens are not written as this version of recon writes them")
    return fact.value({**committed, "manifest": told})


def _told(body: Dict[str, Any], up: Set[str]) -> Dict[str, Any]:
    groups: List[Dict[str, Any]] = body.get("groups", [])
    running = [group for group in groups if group["gate"] in up]
    return {**body, "groups": [_short(group) for group in groups], "running": running}


def _short(group: Dict[str, Any]) -> Dict[str, Any]:
    return {
        "coven": group["coven"],
        "gate": group["gate"],
        "target": group["target"],
        "units": [member["unit"] for member in group["members"]],
        "digest": group.get("digest", ""),
    }
