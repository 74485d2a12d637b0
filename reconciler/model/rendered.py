"""What a host's files should be: the bytes of every unit, and the groups that run from them.

Must not: know how templates work or what a host has on its disk.
"""

from __future__ import annotations

from typing import Literal

from reconciler.model.base import Wire
from reconciler.model.intent import Group, Member, WatchdogSpec

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
    `live` maps every slot to the coven it should run; `watchdog` is by what the host's watchdog goes, None without one.
    """

    host: str
    files: tuple[RenderedFile, ...]
    groups: dict[str, Group]
    residents: tuple[Member, ...]
    boot: tuple[str, ...]
    live: dict[str, str | None]
    watchdog: WatchdogSpec | None = None

    def member_units(self) -> frozenset[str]:
        """Return the units of the members of all its covens."""
        return frozenset(member.unit for group in self.groups.values() for member in group.members)
