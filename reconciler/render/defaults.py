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
NAMES = (SERVICE, GATE, TARGET, BOOT, WATCHDOG_SERVICE, WATCHDOG_TIMER)

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
