"""A window of a host's schedule as people write it.

Must not: know what is in force when; that is `model.week`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from reconciler.model.base import Duration, Frozen, Name

DEFAULT_PRIORITY = 50

WEEKDAYS = (
    r"^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)(\.\.(Mon|Tue|Wed|Thu|Fri|Sat|Sun))?"
    r"(,(Mon|Tue|Wed|Thu|Fri|Sat|Sun)(\.\.(Mon|Tue|Wed|Thu|Fri|Sat|Sun))?)*$"
)
CLOCK_TIME = r"^([01]\d|2[0-3]):[0-5]\d$"
Weekdays = Annotated[str, Field(pattern=WEEKDAYS)]
ClockTime = Annotated[str, Field(pattern=CLOCK_TIME)]


class Window(Frozen):
    """A time in the week in which a slot runs another coven; outside of all windows it runs the declared one."""

    coven: Name
    start: ClockTime = Field(alias="from", description="Local time at which it begins, `HH:MM`.")
    to: ClockTime = Field(description="Local time at which it ends; not after `from` means on the next day.")
    days: Weekdays = Field(default="Mon..Sun", description="Days on which it begins.")
    timezone: str = Field(default="UTC", description="Whose clock; the host needs the data of the zone (tzdata).")
    slot: Name | None = Field(default=None, description="Only, and then always, on hosts with several slots.")
    priority: int = Field(
        default=DEFAULT_PRIORITY, ge=0, le=100, description="Where windows overlap the higher one wins."
    )
    require: Literal["drained"] | None = Field(
        default=None,
        description="`drained` begins only while nothing is in flight or waiting, and never cuts work.",
    )
    yields: Duration | None = Field(
        default=None, description="Begins only after the live coven was idle that long, inside the window."
    )
