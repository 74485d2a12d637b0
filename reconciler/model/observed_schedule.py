"""What a host says of its schedule, and of the jobs that other programs registered there.

Must not: judge anything.
"""

from __future__ import annotations

from pydantic import Field

from reconciler.model.base import Wire


class ScheduleState(Wire):
    """What the schedule of a host saw last; all of it moves by itself.

    `looked_s`: seconds since its last look, None when there was none since the host booted. `unread`: the time zones
    that were asked about and whose data the host does not have, with the reason.
    """

    looked_s: float | None
    said: str
    unread: dict[str, str] = Field(default_factory=dict)


class Job(Wire):
    """A job of another program: exactly one of `at` (once), `every_s` (from `since` on) and `clock` (on some days)."""

    name: str
    owner: str
    lasts_s: float
    at: float | None = None
    every_s: float | None = None
    since: float | None = None
    clock: str | None = None
    days: str = ""
    timezone: str = ""
    registered: float = 0.0
