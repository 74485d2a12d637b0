"""The week of hosts as a chart in the terminal and as data, and the jobs of other programs.

The chart says everything in letters, so it reads the same without colours.

Must not: decide what is in force; the rule does (`model.week`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from reconciler.model import jobs, live, week
from reconciler.model.base import Wire
from reconciler.model.intent_schedule import ScheduleSpec, SlotNow
from reconciler.model.observed import HostState, Known, Observation, Unknown, Unreachable
from reconciler.model.observed_schedule import Job
from reconciler.model.rendered import RenderedHost
from reconciler.views.envelope import host_facts
from reconciler.views.escape import one_line
from reconciler.views.paint import Paint

_CELLS = 48
_MARKED = 6
"""A mark above the chart every three hours."""
_DAYS = 7
_DECLARED, _NOTHING, _LEFT_OUT = "·", "-", " "
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_STYLES = ("green", "magenta", "cyan", "yellow", "blue")


class Row(Wire):
    """One day of a chart: its date, and one letter for every half hour of its clock."""

    day: str
    cells: str


class Week(Wire):
    """The week of one slot, from the day of `at` on; `is_own_clock` when the host itself said what time it is."""

    host: str
    now: SlotNow
    at: float
    is_own_clock: bool
    letters: dict[str, str]
    rows: tuple[Row, ...]
    changes: tuple[tuple[int, str | None], ...]
    said: str = ""


def weeks_of(rendered: Mapping[str, RenderedHost], answers: Mapping[str, Observation], *, now: float) -> list[Week]:
    """Return the weeks of all slots of hosts with windows; `now` is for hosts that did not answer."""
    found = []
    for name, files in sorted(rendered.items()):
        if files.schedule is None:
            continue
        answer = answers[name]
        at = answer.identity.wall_time if isinstance(answer, HostState) else now
        committed = live.committed_manifest(answer).live if isinstance(answer, HostState) else {}
        fact = answer.schedule if isinstance(answer, HostState) else None
        said = fact.value.said if isinstance(fact, Known) else ""
        own = isinstance(answer, HostState)
        slots = week.now_of(files.schedule, committed, at)
        found += [_week(name, files.schedule, slot, at, said=said, is_own=own) for slot in slots]
    return found


def _week(host: str, spec: ScheduleSpec, now: SlotNow, at: float, *, said: str, is_own: bool) -> Week:
    where = week.zone(now.timezone)
    today = datetime.fromtimestamp(at, where).date()
    begin, end = week.instant(today, "00:00", where), week.instant(today + timedelta(days=_DAYS), "00:00", where)
    others = [coven for coven in spec.covens_of(now.slot) if coven != now.declared]
    letters = {coven: _LETTERS[number % len(_LETTERS)] for number, coven in enumerate(others)}
    timeline = _timeline(spec, now.slot, begin, end)
    rows = []
    for step in range(_DAYS):
        day = today + timedelta(days=step)
        ends = [week.instant(day, f"{half // 2:02}:{half % 2 * 30:02}", where) for half in range(_CELLS)]
        ends.append(week.instant(day + timedelta(days=1), "00:00", where))
        marks = [_cell(timeline, ends[half], ends[half + 1], now.declared, letters) for half in range(_CELLS)]
        rows.append(Row(day=f"{day:%a %d %b}", cells="".join(marks)))
    return Week(
        host=host,
        now=now,
        at=at,
        is_own_clock=is_own,
        letters=letters,
        rows=tuple(rows),
        changes=tuple((change.at, change.coven) for change in week.changes_of(spec, now.slot, at, at + week.HORIZON_S)),
        said=said,
    )


def _timeline(spec: ScheduleSpec, slot: str, begin: int, end: int) -> list[tuple[int, int, str | None]]:
    """Return what is in force from when until when, between two instants."""
    first = week.first_of(spec, slot, begin)
    marks = [(begin, first), *((change.at, change.coven) for change in week.changes_of(spec, slot, begin, end))]
    return [
        (since, until, coven)
        for (since, coven), until in zip(marks, [*(at for at, _ in marks[1:]), end], strict=True)
    ]  # fmt: skip


def _cell(
    timeline: list[tuple[int, int, str | None]],
    begin: int,
    end: int,
    declared: str | None,
    letters: Mapping[str, str],
) -> str:
    """Return the letter of half an hour; a window that is shorter is shown all the same."""
    if begin >= end:
        return _LEFT_OUT
    parts = [(min(until, end) - max(since, begin), coven) for since, until, coven in timeline]
    found = [(lasts, coven) for lasts, coven in parts if lasts > 0 and coven != declared]
    if not found:
        return _DECLARED
    coven = max(found, key=lambda part: part[0])[1]
    return letters.get(coven or "", _NOTHING)


def schedule_document(fleet: str, weeks: list[Week]) -> dict[str, Any]:
    """Return the weeks as data, in the usual envelope."""
    hosts: dict[str, Any] = {}
    for each in weeks:
        slot = {
            **each.now.model_dump(mode="json", exclude={"slot"}),
            "changes": [{"at": at, "coven": coven} for at, coven in each.changes],
        }
        host = hosts.setdefault(each.host, {"at": each.at, "is_own_clock": each.is_own_clock, "slots": {}})
        host["said"] = each.said
        host["slots"][each.now.slot] = slot
    return {"format_version": "1.0", "command": "schedule", "status": "ok", "fleet": fleet, "hosts": hosts}


def schedule_lines(weeks: list[Week], paint: Paint) -> Iterator[str]:
    """Yield a chart for every slot: a line a day, a letter for every half hour."""
    if not weeks:
        yield "No host has windows: add schedule: to a file in desired/hosts/"
    for number, each in enumerate(weeks):
        if number:
            yield ""
        yield from _chart(each, paint)


def _chart(each: Week, paint: Paint) -> Iterator[str]:
    zone = each.now.timezone
    clock = "" if each.is_own_clock else ", by this computer's clock: the host did not answer"
    yield f"{paint(each.host, 'bold')}  {week.when(each.at, zone)}{clock}"
    yield f"  {one_line(week.said(each.now))}"
    if each.said and not each.said.startswith("as it should be"):
        yield f"  {paint(one_line(each.said), 'yellow')}"
    marks = "".join(f"{half // 2:02}".ljust(_MARKED) for half in range(0, _CELLS, _MARKED))
    yield paint(f"  {'':<10}  {marks}24", "dim")
    styles = {letter: _STYLES[number % len(_STYLES)] for number, letter in enumerate(each.letters.values())}
    for row in each.rows:
        cells = "".join(paint(cell, styles.get(cell, "dim")) if paint.on else cell for cell in row.cells)
        yield f"  {row.day:<10}  {cells}"
    legend = [f"{_DECLARED} {each.now.declared or 'nothing'} (declared)"]
    legend += [f"{paint(letter, styles[letter])} {coven}" for coven, letter in each.letters.items()]
    yield "  " + "   ".join(legend)


def jobs_document(fleet: str, answers: Mapping[str, Observation]) -> dict[str, Any]:
    """Return the registered jobs of every host, in the usual envelope."""
    return host_facts("schedule list", fleet, answers, lambda state: state.registry)


def job_lines(answers: Mapping[str, Observation], paint: Paint) -> Iterator[str]:
    """Yield every registered job, host by host, then the hosts that have none."""
    quiet = []
    for name, answer in sorted(answers.items()):
        if isinstance(answer, Unreachable):
            yield f"{paint(name, 'bold')}: {paint('unreachable', 'red')} [{answer.code}] {one_line(answer.reason)}"
        elif isinstance(answer.registry, Unknown):
            yield f"{paint(name, 'bold')}: {paint('unknown', 'red')} {one_line(answer.registry.unknown)}"
        elif isinstance(answer.registry, Known):
            for job in answer.registry.value:
                yield _job(name, job, answer.identity.wall_time, paint)
        else:
            quiet.append(name)
    if quiet:
        yield f"No jobs: {one_line(', '.join(quiet))}"


def _job(host: str, job: Job, now: float, paint: Paint) -> str:
    text = f"{paint(host, 'bold')}: {one_line(job.name)} of {one_line(job.owner)}, {one_line(jobs.describe(job))}"
    run = next(jobs.runs_of(job, now, now + 366 * 86400.0), None)
    if run is None:
        return f"{text}; {paint('over', 'dim')}"
    zone = job.timezone or "UTC"
    return f"{text}; {'runs until' if run[0] <= now else 'next'} {week.when(run[run[0] <= now], zone)}"
