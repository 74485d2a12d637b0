"""Differences in the host's own programs: the timers that look, tell and switch without a controller.

Must not: judge what those programs found.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model import live
from reconciler.model.change import Change, ChangeKind
from reconciler.model.observed import Known
from reconciler.model.subject import Subject

TIMER = "recon-watchdog.timer"
SCHEDULE_TIMER = "recon-schedule.timer"
EVENTS_TIMER = "recon-events.timer"


def timer_changes(subject: Subject) -> Iterator[Change]:
    """Yield a change for each timer that was committed and does not run: nobody looks, or nobody is told."""
    if not isinstance(subject.state.units, Known):
        return
    committed = live.committed_manifest(subject.state).files
    is_tended = subject.rendered.spiral is not None and subject.rendered.spiral.enabled
    timers: tuple[tuple[bool, ChangeKind, str, str], ...] = (
        (subject.rendered.watchdog is not None, "watchdog", TIMER, "nobody looks after what is committed"),
        (subject.rendered.events is not None, "timer", EVENTS_TIMER, "events are told late, or not at all"),
        (is_tended, "timer", "recon-spiral.timer", "nobody tends the spiral"),
        (is_tended, "timer", "recon-reaper.timer", "nothing deletes what the spiral makes"),
    )
    for is_wanted, kind, name, why in timers:
        unit = subject.units.get(name)
        if is_wanted and name in committed and (unit is None or unit.active not in live.UP):
            reason = f"{name} is not running: {why}"
            yield Change(kind=kind, name=name, word="unit_stopped", reason=reason, cause="drift")


def schedule_changes(subject: Subject, *, changed_files: set[str]) -> Iterator[Change]:
    """Yield a change when the host goes by another schedule than git's, or by none at all: its timer does not run."""
    spec, committed = subject.rendered.schedule, subject.committed.schedule
    if spec is None or committed is None:
        return  # a schedule that is new or gone changes the files that bring it
    if spec != committed and not any(name.startswith("recon-schedule.") for name in changed_files):
        yield Change(
            kind="setting",
            name="schedule",
            word="settings_changed",
            reason="what is declared outside of the windows, or how a switch is made, changed in git",
            cause="desired",
        )
    unit = subject.units.get(SCHEDULE_TIMER)
    if isinstance(subject.state.units, Known) and (unit is None or unit.active not in live.UP):
        yield Change(
            kind="schedule",
            name=SCHEDULE_TIMER,
            word="unit_stopped",
            reason=f"{SCHEDULE_TIMER} is not running: no window begins or ends by itself",
            cause="drift",
        )
