"""By what the host's own programs of the spiral go: the settings in the manifest of the committed generation.

Must not: read what git says, or guess at a manifest that does not verify.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional

from . import claims, fact, files
from .machine import Machine
from .record import RecordError


class Site(NamedTuple):
    """The committed generation's spiral: `spec` is `model.intent_spiral.SpiralSpec`, `gpus` are those of its slot."""

    host: str
    generation: int
    spec: Dict[str, Any]
    gpus: List[str]


class NoSpiralError(Exception):
    """There is nothing to go by, and why."""


def site_of(machine: Machine) -> Site:
    """Return the spiral that was committed here; NoSpiralError when there is none, or that cannot be told."""
    try:
        number = files.committed_number(machine)
        body = None if number is None else files.manifest(machine, number)
    except (OSError, ValueError) as error:
        raise NoSpiralError(f"what is committed cannot be told: {fact.why(error)}") from error
    spec = (body or {}).get("spiral")
    if number is None or not spec:
        raise NoSpiralError("no spiral is committed on this host")
    slots = ((body or {}).get("watchdog") or {}).get("gpus", {})
    return Site(str((body or {}).get("host", "HOST")), number, spec, list(slots.get(spec["slot"], ["all"])))


def held_by(machine: Machine) -> Optional[str]:
    """Say why a person wants nothing touched here, None when nobody does; a hold that cannot be read is one."""
    try:
        hold = claims.hold(machine)
    except (OSError, RecordError) as error:
        return f"a hold cannot be read: {fact.why(error)}"
    return None if hold is None else f"held by {hold['owner']}: {hold['reason']}"
