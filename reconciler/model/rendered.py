"""What a host's files should be: the bytes of every unit, and the groups that run from them.

Must not: know how templates work or what a host has on its disk.
"""

from __future__ import annotations

from typing import Literal

from reconciler.model.base import Wire
from reconciler.model.intent import Group, Member, WatchdogSpec
from reconciler.model.intent_events import EventsSpec
from reconciler.model.intent_schedule import ScheduleSpec
from reconciler.model.intent_spiral import SpiralSpec

FileKind = Literal["quadlet", "native"]


class RenderedFile(Wire):
    """One file: `body` is everything after the header.

    `config_hash` is the first 16 hex digits of a SHA-256 over the body as it is without the hash in it, so a file can
    carry its own hash; `body_sha256` is over the body as written.
    """

    name: str
    kind: FileKind
    body: str
    body_sha256: str
    config_hash: str
    coven: str | None = None
    service: str | None = None


class RenderedHost(Wire):
    """Everything that belongs on one host.

    `groups` by coven, for every coven the host may run; `boot` are the targets that start with the host;
    `live` maps every slot to the coven it should run; `watchdog` is by what the host's watchdog goes, None without one;
    `spiral` is the host's research loop, None when the fleet has none.
    """

    host: str
    files: tuple[RenderedFile, ...]
    groups: dict[str, Group]
    residents: tuple[Member, ...]
    boot: tuple[str, ...]
    live: dict[str, str | None]
    watchdog: WatchdogSpec | None = None
    schedule: ScheduleSpec | None = None
    """By what the host decides what is in force when; `live` and `boot` are the declared ones until that is known."""

    spiral: SpiralSpec | None = None
    events: EventsSpec | None = None
    """Who is told of what happens on the host, None when nobody is."""

    def should_run(self) -> tuple[Member, ...]:
        """Return the members of the covens that should be live, and the residents: whatever a plan may start."""
        live = [self.groups[coven] for coven in self.live.values() if coven in self.groups]
        return (*(member for group in live for member in group.members), *self.residents)

    def members(self) -> tuple[Member, ...]:
        """Return the members of all its covens, and the residents."""
        return (*(member for group in self.groups.values() for member in group.members), *self.residents)

    def adopts(self) -> tuple[str, ...]:
        """Return everything of somebody else that a coven of the host names to take over, sorted."""
        return tuple(sorted({name for member in self.members() for name in member.adopts}))

    def container_names(self) -> tuple[str, ...]:
        """Return the names that git gave to containers of the host, sorted."""
        return tuple(sorted({member.container for member in self.members() if member.is_named}))

    def images(self) -> tuple[str, ...]:
        """Return every image that something of the host runs from, sorted."""
        loops = [unit.image for unit in self.spiral.units if unit.image] if self.spiral else []
        return tuple(sorted({*(member.image for member in self.members()), *loops}))

    def member_units(self) -> frozenset[str]:
        """Return the units of the members of all its covens."""
        return frozenset(member.unit for group in self.groups.values() for member in group.members)
