"""When the jobs that other programs registered on a host run.

Pure. Must not: judge whether that is a good time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from reconciler.model.observed_schedule import Job
from reconciler.model.week import DAYS, times

_MOST = 10_000
_ANY_DAY = f"{DAYS[0]}..{DAYS[-1]}"


def runs_of(job: Job, since: float, until: float) -> Iterator[tuple[float, float]]:
    """Yield when a job begins and ends, in order, each time that falls between two instants in part or whole."""
    if job.at is not None:
        yield from _within(job.at, job, since, until)
    elif job.every_s:
        first = job.since or 0.0
        number = max(0, math.floor((since - job.lasts_s - first) / job.every_s))
        for step in range(number, number + _MOST):
            begins = first + step * job.every_s
            if begins >= until:
                return
            yield from _within(begins, job, since, until)
    elif job.clock is not None:
        for begins in times(job.clock, job.days or _ANY_DAY, job.timezone or "UTC", since - job.lasts_s - 1, until):
            yield from _within(begins, job, since, until)


def _within(begins: float, job: Job, since: float, until: float) -> Iterator[tuple[float, float]]:
    if begins < until and begins + job.lasts_s > since:
        yield begins, begins + job.lasts_s


def on_at(jobs: tuple[Job, ...], since: float, until: float) -> Iterator[tuple[Job, float, float]]:
    """Yield the jobs that run at some time between two instants, each with its first run there."""
    for job in jobs:
        run = next(runs_of(job, since, until), None)
        if run is not None:
            yield job, *run


def describe(job: Job) -> str:
    """Say when a job runs, without the instant it was asked at."""
    from reconciler.model.base import format_duration

    lasts = f"for {format_duration(job.lasts_s)}"
    if job.every_s:
        return f"every {format_duration(job.every_s)} {lasts}"
    if job.clock is not None:
        return f"{job.days or _ANY_DAY} {job.clock} {job.timezone or 'UTC'} {lasts}"
    return f"once {lasts}"
