"""The schedule of a host as the host goes by it: it stands in the manifest of each generation.

Must not: know what is in force when; that is `model.week`, by the rule of `agent.week`.
"""

from __future__ import annotations

from typing import Literal

from reconciler.model.base import Wire


class WindowSpec(Wire):
    """One window; `begins` and `ends` are `HH:MM` of its zone's clock."""

    slot: str
    coven: str
    begins: str
    ends: str
    days: str
    timezone: str
    priority: int
    require: Literal["drained"] | None = None
    yields_s: float | None = None


class ScheduleSpec(Wire):
    """All windows in the order of the file, and what is declared outside of them, by slot.

    The rest is what an order for this host says of its memory and of its neighbours: the host makes the order of a
    switch by itself, from its manifest, and no figure in it may differ from what a plan would say.
    """

    windows: tuple[WindowSpec, ...]
    declared: dict[str, str | None]
    gpus: dict[str, tuple[str, ...]]
    memory: Literal["auto", "discrete", "unified", "gh200"]
    reserve: int | None
    release_s: float | None
    drop_caches: bool
    shared: tuple[str, ...]

    def zones(self) -> tuple[str, ...]:
        """Return the time zones that are named."""
        return tuple(sorted({window.timezone for window in self.windows}))

    def covens_of(self, slot: str) -> tuple[str, ...]:
        """Return every coven that may come to a slot, the declared one first."""
        named = [self.declared.get(slot), *(window.coven for window in self.windows if window.slot == slot)]
        return tuple(dict.fromkeys(coven for coven in named if coven is not None))


class SlotNow(Wire):
    """What the schedule says of one slot: what should run, until when, and what comes then.

    `waits` is a coven whose window is open and whose condition has not been met yet. Times are Unix seconds; `until` is
    None when nothing changes within a week. `timezone` is the one in which people wrote it.
    """

    slot: str
    coven: str | None
    declared: str | None
    waits: str | None = None
    until: int | None = None
    then: str | None = None
    timezone: str = "UTC"

    @property
    def is_declared(self) -> bool:
        """Say whether no window is in force."""
        return self.coven == self.declared
