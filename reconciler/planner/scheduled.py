"""What a plan says of a host's schedule: what is in force, what comes next, and whose jobs a transition would meet.

Pure. Must not: refuse anything (the guards do), or take the controller's clock for the host's.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model import jobs, live, week
from reconciler.model.base import format_duration
from reconciler.model.intent import SlotMove
from reconciler.model.intent_schedule import SlotNow
from reconciler.model.observed import Known
from reconciler.model.observed_schedule import Job
from reconciler.model.subject import Subject

TRANSITION_S = 600.0
"""How long a switch is taken for where the host has not recorded one."""
SILENT_S = 600.0
_WEEK_S = 7 * 86400.0


def schedule_now(subject: Subject) -> tuple[SlotNow, ...]:
    """Return what the schedule says of every slot by the host's own clock; nothing for a host without windows."""
    spec = subject.rendered.schedule
    if spec is None:
        return ()
    return week.now_of(spec, subject.committed.live, subject.state.identity.wall_time)


def schedule_warnings(subject: Subject, moves: tuple[SlotMove, ...]) -> Iterator[str]:
    """Yield what a person should know before saying yes: jobs that are met, and a schedule that nobody looks at."""
    state = subject.state
    registered = state.registry.value if isinstance(state.registry, Known) else ()
    now = state.identity.wall_time
    for move in moves if registered else ():
        coven = move.new.coven if move.new else None
        lasts = (state.timings.get(coven) if coven else None) or TRANSITION_S
        for job, begins, ends in jobs.on_at(registered, now, now + lasts):
            when = f"runs until {_when(ends, job)}" if begins <= now else f"begins at {_when(begins, job)}"
            yield f"a transition now would fall on {job.name} of {job.owner}, which {when}"
    yield from _edges_on_jobs(subject, registered, now)
    yield from _silence(subject)


def _edges_on_jobs(subject: Subject, registered: tuple[Job, ...], now: float) -> Iterator[str]:
    spec = subject.rendered.schedule
    if spec is None or not registered:
        return
    told = set()
    for slot in spec.declared:
        for change in week.changes_of(spec, slot, now, now + _WEEK_S):
            lasts = subject.state.timings.get(change.coven or "") or TRANSITION_S
            for job, _, _ in jobs.on_at(registered, change.at, change.at + lasts):
                if (slot, job.name, change.coven) not in told:
                    told.add((slot, job.name, change.coven))
                    what, zone = f"the switch of slot {slot} to {change.coven or 'nothing'}", spec.windows[0].timezone
                    yield f"{what} at {week.when(change.at, zone)} would fall on {job.name} of {job.owner}"


def _silence(subject: Subject) -> Iterator[str]:
    """Yield that the schedule was committed and nobody has looked at it for long."""
    seen = subject.state.schedule
    if subject.committed.schedule is None or subject.rendered.schedule is None or not isinstance(seen, Known):
        return
    silent = live.quiet_s(subject.state) if seen.value.looked_s is None else seen.value.looked_s
    if silent > SILENT_S and not subject.state.executor.active:
        how_long = format_duration(silent)
        yield f"the schedule has not been looked at for {how_long}: journalctl -u recon-schedule.service"


def _when(at: float, job: Job) -> str:
    return week.when(at, job.timezone or "UTC")
