"""What every comparison needs: who moved, and what a host once committed.

Must not: compare anything itself.
"""

from __future__ import annotations

from reconciler.model.observed import Known, Tier
from reconciler.model.plan import Cause
from reconciler.model.subject import Subject

Place = tuple[Tier, str]
"""Where a file is on a host: its tier and its name."""


def cause_of(*, by_git: bool, by_host: bool) -> Cause:
    """Say who moved; where neither did by itself, the host differs from what git says: drift."""
    if by_git and by_host:
        return "both"
    return "desired" if by_git else "drift"


def quadlet_of(unit: str) -> str:
    """Return the file that makes a service's unit."""
    return unit.removesuffix(".service") + ".container"


def lost_commit(subject: Subject) -> bool:
    """Say whether something was committed here once and the one link that says so is gone."""
    generation = subject.state.generation
    nothing = isinstance(generation, Known) and generation.value is None
    return nothing and any(file.tier == "native" and file.owner for file in subject.files)
