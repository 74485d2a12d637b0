"""Which units of this host are recon's, by what a person calls them.

A person says `vllm`, `worker`, `refill`, or the whole name of the unit. Only what the committed manifest names, and
recon's own programs, can be meant: nothing of anybody else is ever shown or touched by a name.

Must not: do anything with a unit.
"""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from . import fact, files, places
from .machine import Machine
from .plain import clean
from .wire import RequestError

OWN = (
    places.EXECUTOR,
    places.WATCHDOG_SERVICE,
    places.TICK_SERVICE,
    places.REAPER_SERVICE,
    "recon-events.service",
    "recon-schedule.service",
)


def manifest(machine: Machine) -> Dict[str, Any]:
    """Return the committed manifest, empty when nothing is committed; RequestError REC7392 when it cannot be read."""
    try:
        number = files.committed_number(machine)
        return {} if number is None else files.manifest(machine, number)
    except (OSError, ValueError) as error:
        raise RequestError(
            "REC7392", "which units are recon's cannot be told", fact.why(error), "recon plan --host HOST"
        ) from error


def loops(body: Dict[str, Any]) -> Dict[str, str]:
    """Return the units of the spiral's loops by their names."""
    return {each["name"]: each["unit"] for each in (body.get("spiral") or {}).get("units", [])}


def jobs(body: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    """Return the jobs by their names."""
    return {each["name"]: each for each in (body.get("spiral") or {}).get("jobs", [])}


def unit_of(body: Dict[str, Any], word: str) -> str:
    """Return the unit that a person means; RequestError REC7392 names what there is."""
    known = _known(body)
    meant = sorted({unit for name, unit in known if word in (name, unit, unit.rpartition(".")[0])})
    if len(meant) == 1:
        return meant[0]
    if meant:
        detail = f"{clean(word, 80)} means {', '.join(meant)}"
        raise RequestError("REC7392", "that name is not one unit's", detail, "name the unit, or coven/service")
    names = ", ".join(sorted({name for name, _ in known if "/" not in name})) or "none"
    detail = f"{clean(word, 80)} is none of recon's on this host: {clean(names, 600)}"
    raise RequestError("REC7392", "no such service of recon's", detail, "name one of them, or its unit")


def _known(body: Dict[str, Any]) -> List[Tuple[str, str]]:
    found: List[Tuple[str, str]] = []
    for group in body.get("groups", []):
        found.append((group["gate"], group["gate"]))
        for member in group["members"]:
            found += [(member["service"], member["unit"]), (f"{group['coven']}/{member['service']}", member["unit"])]
            found += _by_container(member)
    for each in body.get("residents", []):
        found += [(each["service"], each["unit"]), *_by_container(each)]
    found += list(loops(body).items())
    found += [(name, each["unit"]) for name, each in jobs(body).items()]
    return found + [(unit[len("recon-") : -len(".service")], unit) for unit in OWN]


def _by_container(member: Dict[str, Any]) -> List[Tuple[str, str]]:
    """Return the name that git gave its container; one that is named like its unit is known already."""
    name, unit = member.get("container", ""), member["unit"]
    return [(name, unit)] if name and f"{name}.service" != unit else []
