"""Checks the windows of a host: zones, slots, and that it is always clear which of two windows wins.

Windows of one zone are compared by the clock of that zone. Those of two zones are compared by every difference that the
two have within some years, so what validates today validates after the clocks were moved. Some differences last for
hours, from when one zone moves its clock to when the other does; what would meet on another day then does not meet.

Must not: look at a clock; what is valid does not depend on the day.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise, product

from reconciler.load.codes import shown
from reconciler.load.effective import slots_of
from reconciler.load.report import Report
from reconciler.load.values import Finding, check_timezone
from reconciler.model.base import format_duration
from reconciler.model.desired import HostFile
from reconciler.model.window import Window

_DAY_MIN = 24 * 60
_WEEK_MIN = 7 * _DAY_MIN
_DAY_S = _DAY_MIN * 60
_FIRST = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
_LAST = _FIRST + 12 * 366 * _DAY_S
_MOST_MIN = 120
"""No clock is moved by more: so much sooner or later than by its clock a window that is open then begins or ends."""
_ROUND_S = 8 * _DAY_S
"""As long as clocks are not moved, what happens within it happens every week."""


def check_windows(host: HostFile, ports: Mapping[str, Mapping[int, str]], report: Report) -> None:
    """Check all windows of one host; `ports` are those of every coven, by the service that has them."""
    known = True
    for index, window in enumerate(host.schedule):
        finding = check_timezone(window.timezone)
        report.at_value(("schedule", index, "timezone"), finding)
        known = known and finding is None
        if window.start == window.to:
            detail = f"it ends at {window.to}, when it begins"
            report.at_value(
                ("schedule", index, "to"), Finding("REC2028", detail, "write another time, or remove the window")
            )
        _check_yields(index, window, report)
    if _check_slots(host, report) and known:
        _check_ties(host, report)
        _check_places(host, report)
        _check_ports(host, ports, report)


def _check_yields(index: int, window: Window, report: Report) -> None:
    lasts_s = _length_min(window) * 60.0
    if window.yields is not None and lasts_s and window.yields >= lasts_s:
        lasts = format_duration(lasts_s)
        detail = f"it waits for {format_duration(window.yields)} of idleness and is over after {lasts}"
        report.at_value(("schedule", index, "yields"), Finding("REC2073", detail, f"write less than {lasts}"))


def _check_slots(host: HostFile, report: Report) -> bool:
    """Check that every window means one slot of the host; say whether all do."""
    names = [slot.name for slot in slots_of(host)]
    sound = True
    for index, window in enumerate(host.schedule):
        if window.slot is None and len(names) > 1:
            detail = f"this host has the slots {', '.join(names)}, and nothing says which of them the window means"
            report.at_value(("schedule", index), Finding("REC2071", detail, f"add 'slot: {names[0]}'"))
            sound = False
        elif window.slot is not None and window.slot not in names:
            detail = f"this host has no slot {shown(window.slot)}; it has {', '.join(names)}"
            report.at_value(("schedule", index, "slot"), Finding("REC2071", detail, "name one of them, or remove it"))
            sound = False
    return sound


def _check_ties(host: HostFile, report: Report) -> None:
    """Refuse two windows of one slot and one priority that are open together and want different things."""
    for (first, one), (second, other) in combinations(enumerate(host.schedule), 2):
        same = (one.coven, one.require, one.yields) == (other.coven, other.require, other.yields)
        if _slot(host, one) != _slot(host, other) or one.priority != other.priority or same or not _overlap(one, other):
            continue
        here, there = (report.document.where(("schedule", index)) for index in (first, second))
        for index, window, place in ((second, one, here), (first, other, there)):
            detail = f"it overlaps the window of '{window.coven}' at {place}, and both have priority {window.priority}"
            report.at_value(("schedule", index), Finding("REC2070", detail, "give one of them another 'priority'"))


def _check_places(host: HostFile, report: Report) -> None:
    """Refuse a coven that would come to two slots: its units have the devices of one."""
    slots = slots_of(host)
    if len(slots) < 2:
        return
    owners = {slot.coven: slot.name for slot in slots if slot.coven is not None}
    for index, window in enumerate(host.schedule):
        owner = owners.setdefault(window.coven, window.slot or "")
        if owner != window.slot:
            detail = f"'{window.coven}' belongs to slot '{owner}' of this host, and its units exist once on a host"
            fix = "name another coven, or copy the coven's file under a second name and with other ports"
            report.at_value(("schedule", index, "coven"), Finding("REC2072", detail, fix))


def _check_ports(host: HostFile, ports: Mapping[str, Mapping[int, str]], report: Report) -> None:
    """Refuse a port that a window's coven shares with one that another slot may run at the same time."""
    placed = [(slot.name, slot.coven) for slot in slots_of(host) if slot.coven is not None and host.slots is not None]
    for index, window in enumerate(host.schedule if placed else ()):
        mine = _slot(host, window)
        for slot, coven in placed:
            both = sorted(set(ports.get(window.coven, {})) & set(ports.get(coven, {})))
            if slot != mine and both:
                detail = f"'{window.coven}' and '{coven}' of slot '{slot}' both want port {both[0]} at the same time"
                report.at_value(
                    ("schedule", index, "coven"), Finding("REC2004", detail, "give one of them another port")
                )
        placed.append((mine, window.coven))


def _slot(host: HostFile, window: Window) -> str:
    """Return the slot that a sound window means; without a name, it is the only one."""
    return window.slot or slots_of(host)[0].name


def _length_min(window: Window) -> int:
    return (_minutes(window.to) - _minutes(window.start)) % _DAY_MIN


def _minutes(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])


def _overlap(one: Window, other: Window) -> bool:
    """Say whether two windows are ever open together."""
    return any(
        _meet(one, other, later) and any(_both_open(one, other, since, until) for since, until in spans)
        for later, spans in _differences(one.timezone, other.timezone).items()
    )


def _meet(one: Window, other: Window, later: int) -> bool:
    """Say whether they may be open together while the clock of one is so many minutes ahead of the other's."""
    from reconciler.model.week import days_of  # the windows of a fleet without any need no rule

    around = 0 if one.timezone == other.timezone else _MOST_MIN
    lasts = _length_min(one) + 2 * around
    for day, other_day in product(days_of(one.days), days_of(other.days)):
        begin = day * _DAY_MIN + _minutes(one.start) - around
        other_begin = other_day * _DAY_MIN + _minutes(other.start) + later
        if (other_begin - begin) % _WEEK_MIN < lasts:
            return True
        if (begin - other_begin) % _WEEK_MIN < _length_min(other):
            return True
    return False


def _both_open(one: Window, other: Window, since: int, until: int) -> bool:
    """Say whether they are open together between two instants between which no clock is moved."""
    from reconciler.model.week import periods

    ends = min(until, since + _ROUND_S)
    mine, others = (
        list(periods({"timezone": w.timezone, "days": w.days, "begins": w.start, "ends": w.to}, since, ends))
        for w in (one, other)
    )
    return any(max(a[0], b[0], since) < min(a[1], b[1], ends) for a, b in product(mine, others))


@functools.lru_cache(maxsize=256)
def _differences(one: str, other: str) -> Mapping[int, tuple[tuple[int, int], ...]]:
    """Return by how many minutes the clock of one zone is ahead of another's, each with the times at which it is."""
    if one == other:
        return {0: ((_FIRST, _LAST),)}
    found: dict[int, tuple[tuple[int, int], ...]] = {}
    for since, until in pairwise(sorted({_FIRST, *_moved(one), *_moved(other), _LAST})):
        later = (_ahead(one)(since) - _ahead(other)(since)) // 60
        found[later] = (*found.get(later, ()), (since, until))
    return found


@functools.lru_cache(maxsize=64)
def _moved(zone: str) -> tuple[int, ...]:
    """Return the instants at which the clock of a zone is moved."""
    ahead, found = _ahead(zone), []
    for (day, before), (next_day, after) in pairwise((day, ahead(day)) for day in range(_FIRST, _LAST, _DAY_S)):
        if before != after:
            seconds = range(day, next_day + 1)
            found.append(seconds[bisect_left(seconds, True, key=lambda at: ahead(at) != before)])
    return tuple(found)


def _ahead(name: str) -> Callable[[int], int]:
    """Return what says by how many seconds the clock of a zone is ahead of UTC at an instant."""
    from reconciler.model.week import zone

    where = zone(name)
    return lambda at: round((datetime.fromtimestamp(at, where).utcoffset() or timedelta()).total_seconds())
