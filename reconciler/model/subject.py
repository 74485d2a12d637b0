"""One host as diff and planner look at it: what is declared, what it said, and what every rule looks up in them.

Looked up here, once per host: the rules are many, and so are the hosts of a big fleet.

Pure. Must not: compare what is declared with what is there, or decide anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.model import live, week
from reconciler.model.desired import Host
from reconciler.model.observed import HostState, Known, ManagedFile, Manifest, Unit
from reconciler.model.rendered import RenderedHost


@dataclass(frozen=True, slots=True)
class Subject:
    """A host in front of diff and planner. Made by `look_at` alone, so that its parts fit each other."""

    rendered: RenderedHost
    host: Host
    state: HostState
    units: Mapping[str, Unit]
    """By name; none when they are unknown (a guard refuses before that matters)."""
    running: Mapping[str, tuple[str, ...]]
    """For every slot the covens whose gate is up: none, one, or (what must never be) more."""
    files: tuple[ManagedFile, ...]
    """None when they are unknown (a guard refuses before that matters)."""
    committed: Manifest
    """Of the committed generation; an empty one when there is none or it cannot be read."""
    declared_units: frozenset[str]
    """Of the covens and residents that git declares."""
    committed_units: frozenset[str]
    """Of the covens of the committed generation."""
    our_units: frozenset[str]
    """All that may hold GPU memory: declared, committed, resident or shared."""
    renews_manifest: bool = False
    """A person asked to go on without the committed manifest, where git tells all that runs."""

    @property
    def is_another_machine(self) -> bool:
        """Say whether what is committed here was committed on a machine with another id."""
        return self.committed.machine_id not in (None, self.state.identity.machine_id)

    def is_up(self, unit: str) -> bool:
        """Say whether a unit runs or is about to."""
        return unit in self.units and self.units[unit].active in live.UP


def look_at(rendered: RenderedHost, host: Host, state: HostState, *, renews_manifest: bool = False) -> Subject:
    """Put together what is known of one host; what should be live there is what its schedule says now."""
    committed = live.committed_manifest(state)
    # By the host's own clock, which is what the host itself goes by.
    rendered, host = week.as_of(rendered, host, committed.live, state.identity.wall_time)
    declared_units = rendered.member_units().union(member.unit for member in rendered.residents)
    if rendered.spiral is not None:
        declared_units = declared_units.union(
            (member.unit for member in rendered.spiral.units),
            (job.unit for job in rendered.spiral.jobs),
            rendered.spiral.share.anchors if rendered.spiral.share else (),
        )
    committed_units = frozenset(unit for group in committed.groups for unit in group.units)
    residents = [member.unit for member in committed.residents]
    shared = [service.unit for service in host.shared]
    return Subject(
        rendered=rendered,
        host=host,
        state=state,
        units=live.units_by_name(state),
        running=live.live_covens(host, state),
        files=state.files.value if isinstance(state.files, Known) else (),
        committed=committed,
        declared_units=declared_units,
        committed_units=committed_units,
        our_units=declared_units.union(committed_units, residents, shared),
        renews_manifest=renews_manifest,
    )
