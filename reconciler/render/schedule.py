"""The schedule's two units, and by what the host goes.

One timer has the calendar lines of all windows, the boot, and a minute's tick for what could not be done at once; its
service runs the installed agent, which works out what should be live now. The windows stand in the service's own file
too, in a section that systemd leaves alone, so that a change of one is a change of a file like any other.

Must not: know what is in force; the host's own clock decides that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.model.base import format_duration
from reconciler.model.intent_schedule import ScheduleSpec, WindowSpec
from reconciler.model.rendered import RenderedFile
from reconciler.model.week import DAYS, days_of, spec_of
from reconciler.render import encode
from reconciler.render.defaults import SCHEDULE_SERVICE, SCHEDULE_TIMER
from reconciler.render.units import native_file

__all__ = ["SERVICE", "TIMER", "calendar_lines", "schedule_files", "spec_of"]

SERVICE = "recon-schedule.service"
TIMER = "recon-schedule.timer"

BOOT_S = 30
AGAIN_S = 60
LONGEST_S = 600
"""A look and the launch of an executor; the switch itself runs in the executor's unit."""


def schedule_files(spec: ScheduleSpec, templates: Mapping[str, str]) -> tuple[RenderedFile, ...]:
    """Render service and timer."""
    calendar = tuple(calendar_lines(spec))
    service = {
        "description": "recon: run what the schedule says",
        "longest": encode.systemd_seconds(LONGEST_S),
        "windows": tuple(_shown(window) for window in spec.windows),
    }
    timer = {
        "description": "recon: when to look at the schedule",
        "calendar": calendar,
        "boot": encode.systemd_seconds(BOOT_S),
        "again": encode.systemd_seconds(AGAIN_S),
        "service": SERVICE,
    }
    start = "ExecStart=/usr/bin/python3 -I -S %S/recon/agent/current schedule"
    kept = {start, "Type=oneshot", *(f"Window={window}" for window in service["windows"])}
    ticks = {f"OnBootSec={timer['boot']}", f"OnUnitInactiveSec={timer['again']}", f"Unit={SERVICE}"}
    return (
        native_file(SERVICE, SCHEDULE_SERVICE, service, kept, templates),
        native_file(TIMER, SCHEDULE_TIMER, timer, {*ticks, *(f"OnCalendar={line}" for line in calendar)}, templates),
    )


def calendar_lines(spec: ScheduleSpec) -> Iterator[str]:
    """Yield when windows begin and end as systemd.time(7) writes it, each once, by the clock of their own zone."""
    lines: dict[str, None] = {}
    for window in spec.windows:
        over = int(window.ends <= window.begins)
        for clock, later in ((window.begins, 0), (window.ends, over)):
            days = sorted((day + later) % 7 for day in days_of(window.days))
            names = "" if len(days) == len(DAYS) else ",".join(DAYS[day] for day in days) + " "
            lines[f"{names}*-*-* {clock}:00 {encode.unit_value(window.timezone, field='schedule.timezone')}"] = None
    yield from lines


def _shown(window: WindowSpec) -> str:
    conditions = f" require {window.require}" if window.require else ""
    if window.yields_s is not None:
        conditions += f" yields {format_duration(window.yields_s)}"
    text = (
        f"{window.slot} {window.coven} {window.days} {window.begins}-{window.ends} {window.timezone}"
        f" priority {window.priority}{conditions}"
    )
    return encode.unit_value(text, field="schedule")
