"""The templates that come with the program; a repository's own `templates/<name>.j2` takes the place of each.

Must not: touch any other file: this read at import is the only one on this floor.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from reconciler.errors import DesiredStateError, Problem, Where

SERVICE = "service.container.j2"
GATE = "gate.service.j2"
TARGET = "coven.target.j2"
BOOT = "boot.target.j2"
WATCHDOG_SERVICE = "watchdog.service.j2"
WATCHDOG_TIMER = "watchdog.timer.j2"
EVENTS_SERVICE = "events.service.j2"
EVENTS_TIMER = "events.timer.j2"
SCHEDULE_SERVICE = "schedule.service.j2"
SCHEDULE_TIMER = "schedule.timer.j2"
SPIRAL_TARGET = "spiral.target.j2"
SPIRAL_SERVICE = "spiral.service.j2"
SPIRAL_CONTAINER = "spiral.container.j2"
SPIRAL_JOB = "spiral.job.j2"
SPIRAL_TIMED_SERVICE = "spiral-timed.service.j2"
SPIRAL_TIMED_TIMER = "spiral-timed.timer.j2"
SHARE_TARGET = "share.target.j2"
SHARE_MOUNT = "share.mount.j2"
SHARE_SERVICE = "share.service.j2"
NAMES = (
    SERVICE,
    GATE,
    TARGET,
    BOOT,
    WATCHDOG_SERVICE,
    WATCHDOG_TIMER,
    SCHEDULE_SERVICE,
    SCHEDULE_TIMER,
    SPIRAL_TARGET,
    SPIRAL_SERVICE,
    SPIRAL_CONTAINER,
    SPIRAL_JOB,
    SPIRAL_TIMED_SERVICE,
    SPIRAL_TIMED_TIMER,
    EVENTS_SERVICE,
    EVENTS_TIMER,
    SHARE_TARGET,
    SHARE_MOUNT,
    SHARE_SERVICE,
)

BUILTIN: Mapping[str, str] = {
    name: files("reconciler.render").joinpath("builtin", name).read_text(encoding="utf-8") for name in NAMES
}


def with_builtin(own: Mapping[str, str]) -> dict[str, str]:
    """Return all templates: the repository's where it has one of that name, else those that come with the program."""
    unknown = sorted(own.keys() - BUILTIN.keys())
    if unknown:
        raise DesiredStateError(
            *(
                Problem(
                    "REC4010",
                    "a template has a name that nothing renders",
                    f"templates/{name} would never be used",
                    f"name it one of {', '.join(NAMES)}, or remove it",
                    Where(f"templates/{name}"),
                )
                for name in unknown
            )
        )
    return {**BUILTIN, **own}
