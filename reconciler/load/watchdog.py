"""Checks what is said about a watchdog: times that make sense, and a reset command that is a program on the host.

Must not: know whether the program is there; the host does.
"""

from __future__ import annotations

from reconciler.load.codes import shown
from reconciler.load.effective import effective_watchdog
from reconciler.load.report import Report
from reconciler.load.values import Finding
from reconciler.model.base import format_duration
from reconciler.model.desired import Watchdog

Path = tuple[str | int, ...]

SHORTEST_S = 5.0
LONGEST_S = 3600.0


def check_watchdog(own: Watchdog | None, path: Path, report: Report, default: Watchdog | None = None) -> None:
    """Check the watchdog of a fleet, or of one host with the fleet's as `default`."""
    if own is None:
        return
    watchdog = effective_watchdog(own, default or own)
    if not SHORTEST_S <= watchdog.every <= LONGEST_S:
        least, most = format_duration(SHORTEST_S), format_duration(LONGEST_S)
        detail = f"it would look every {format_duration(watchdog.every)}; between {least} and {most} makes sense"
        report.at_value((*path, "every"), Finding("REC2060", detail, f"write at least {least} and at most {most}"))
    if watchdog.window < watchdog.every * watchdog.looks:
        detail = (
            f"restarts would be forgotten after {format_duration(watchdog.window)}, before {watchdog.looks} looks of"
            f" {format_duration(watchdog.every)} can tell that it is bad again: it would be restarted for ever"
        )
        report.at_key((*path, "window"), Finding("REC2061", detail, "raise 'window', or lower 'every' or 'looks'"))
    command = watchdog.reset.command
    if command and not command[0].startswith("/"):
        detail = f"{shown(command[0])} is looked up nowhere: there is no shell and no search path"
        fix = f"write the whole path, such as /usr/bin/{command[0]}"
        report.at_value((*path, "reset", "command", 0), Finding("REC2062", detail, fix))
    if watchdog.reset.timeout > LONGEST_S:
        detail = f"a reset would hold the host for {format_duration(watchdog.reset.timeout)}"
        fix = f"write at most {format_duration(LONGEST_S)}"
        report.at_value((*path, "reset", "timeout"), Finding("REC2012", detail, fix))
