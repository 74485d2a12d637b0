"""What a host says about its spiral: how each guardrail stands, and what people have down or started all the same.

Must not: judge any of it.
"""

from __future__ import annotations

from typing import Literal

from reconciler.model.base import Wire


class Guardrail(Wire):
    """One thing that must hold before the spiral runs; `fix` is empty when it does."""

    name: str
    state: Literal["ok", "broken", "unknown"]
    text: str
    fix: str


class Mark(Wire):
    """Who has something down, or started the spiral all the same, since when (wall clock) and why.

    `against`: what spoke against the start.
    """

    owner: str
    reason: str
    since: float
    against: tuple[str, ...] = ()


class DownState(Wire):
    """People's marks on a host."""

    spiral: Mark | None
    coven: Mark | None
    forced: Mark | None


class ShareState(Wire):
    """What was found out about a host's share.

    `marker`: whether `CLAIM_SAFE` is in the root, and `text` what was seen. `foreign`: who else has the place of the
    mount; `lacks`: what of NFS is missing, and what to type; both empty when nothing is. `mounted` is what the kernel
    shows at the root of a worker, `unexported` which units of a hub export nothing although they are up; `unread` says
    why either is not known.
    """

    marker: Literal["there", "missing", "unknown"]
    text: str
    foreign: str
    lacks: str
    mounted: str | None
    unexported: tuple[str, ...]
    unread: str


class SpiralState(Wire):
    """What was found out about the spiral; asked only where one is declared. `share` None: it is in none."""

    guardrails: tuple[Guardrail, ...]
    share: ShareState | None = None

    def broken(self) -> tuple[Guardrail, ...]:
        """Return what does not hold, or cannot be told."""
        return tuple(each for each in self.guardrails if each.state != "ok")
