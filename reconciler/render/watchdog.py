"""The watchdog's two units, and by what it goes.

A timer runs the installed agent for one look. The settings stand in the service's own file too, in a section that
systemd leaves alone: so they are reviewed in git, and a change of one is a change of a file like any other.

Must not: know a host's name; hosts of one kind share these files.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.desired import Host, Watchdog
from reconciler.model.intent import WatchdogSpec
from reconciler.model.rendered import RenderedFile
from reconciler.render import encode
from reconciler.render.defaults import WATCHDOG_SERVICE, WATCHDOG_TIMER
from reconciler.render.units import native_file

SERVICE = "recon-watchdog.service"
TIMER = "recon-watchdog.timer"

LONGEST_S = 3 * 3600
"""More than the slowest stop and release together: nothing waits without an end."""


def spec_of(host: Host) -> WatchdogSpec | None:
    """Return by what the watchdog of a host goes, None when it has none."""
    watchdog = host.watchdog
    if watchdog is None:
        return None
    return WatchdogSpec(
        looks=watchdog.looks,
        attempts=watchdog.attempts,
        window_s=watchdog.window,
        over_memory=watchdog.over_memory,
        reset_command=watchdog.reset.command,
        reset_timeout_s=watchdog.reset.timeout,
        gpus={slot.name: ("all",) if slot.gpus == "all" else slot.gpus for slot in host.slots},
        memory=host.memory.kind,
        reserve=host.reserve,
        release_s=host.memory.release,
        drop_caches=host.memory.drop_caches,
    )


def watchdog_files(watchdog: Watchdog, spec: WatchdogSpec, templates: Mapping[str, str]) -> tuple[RenderedFile, ...]:
    """Render service and timer."""
    service = {
        "description": "recon: look after what was committed",
        "longest": encode.systemd_seconds(LONGEST_S),
        "settings": _settings(spec),
    }
    timer = {
        "description": "recon: when to look after what was committed",
        "every": encode.systemd_seconds(watchdog.every),
        "service": SERVICE,
    }
    start = "ExecStart=/usr/bin/python3 -I -S %S/recon/agent/current watch"
    kept = {start, "Type=oneshot", *(f"{key}={value}" for key, value in service["settings"])}
    return (
        native_file(SERVICE, WATCHDOG_SERVICE, service, kept, templates),
        native_file(
            TIMER, WATCHDOG_TIMER, timer, {f"OnUnitInactiveSec={timer['every']}", f"Unit={SERVICE}"}, templates
        ),
    )


def _settings(spec: WatchdogSpec) -> tuple[tuple[str, str], ...]:
    field = "watchdog"
    lines: list[tuple[str, str]] = [
        ("Looks", str(spec.looks)),
        ("Attempts", str(spec.attempts)),
        ("Window", encode.systemd_seconds(spec.window_s)),
        ("OverMemory", spec.over_memory),
        ("Memory", spec.memory),
    ]
    lines += [
        (f"Gpus-{slot}", encode.unit_value(" ".join(gpus), field=field)) for slot, gpus in sorted(spec.gpus.items())
    ]
    if spec.reserve is not None:
        lines.append(("Reserve", str(spec.reserve)))
    if spec.release_s is not None:
        lines.append(("Release", encode.systemd_seconds(spec.release_s)))
    if spec.drop_caches:
        lines.append(("DropCaches", "yes"))
    if spec.reset_command:
        lines.append(("ResetCommand", encode.words(spec.reset_command, field=f"{field}.reset.command")))
        lines.append(("ResetTimeout", encode.systemd_seconds(spec.reset_timeout_s)))
    return tuple(lines)
