"""What the windows of a host say at an instant: the one rule, by which host and controller go alike.

A window is a time of the day on some days of the week, in a time zone. Its day is the one on which it begins; one that
ends at or before its beginning ends on the next day. Windows are level-triggered: nothing remembers an edge, and what
is in force follows from the instant alone. Where windows overlap the higher priority wins, then the first in the file.

Local time becomes an instant by the rules of the zone, with two rules for the nights on which clocks are moved:

    a time that is left out    is the moment at which the clock jumps: a window that lies wholly in the hour that is
                               left out does not occur that night
    a time that comes twice    is the first of the two, for the beginning of a window and for its end

So a window is one piece each time, and which of two times of a zone is earlier never changes.

A window with a condition (`require`, `yields_s`) may begin, and need not: what is in force is then a chain of choices,
of which the first that is sure, or that runs already, is what should run.

Pure, standard library alone; the controller imports it too (decision 0026). Must not: look at a clock or a host.
"""

from __future__ import annotations

import datetime
import functools
import zoneinfo
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY_S = 86400
HORIZON_S = 8 * DAY_S
"""Longer than a week: whatever comes next comes within it."""

_DAY = datetime.timedelta(days=1)
Windows = Sequence[Mapping[str, Any]]
"""As `model.intent_schedule.WindowSpec`, in the order of the file."""


class ZoneError(ValueError):
    """The data of a time zone cannot be read here."""


class Choice(NamedTuple):
    """A coven that may be in force on a slot: of a window (by its number), or the one that is declared (None).

    `since` and `until` are the ends of the window in Unix seconds; `is_sure` when no condition keeps it from beginning.
    """

    coven: Optional[str]
    window: Optional[int]
    since: Optional[int]
    until: Optional[int]
    is_sure: bool


class Change(NamedTuple):
    """From an instant on another coven is in force."""

    at: int
    coven: Optional[str]


def zone(name: str) -> datetime.tzinfo:
    """Return a time zone; ZoneError when its data is not there."""
    if name == "UTC":
        return datetime.timezone.utc
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ZoneError(f"the data of time zone {name!a} cannot be read") from error


@functools.lru_cache(maxsize=256)
def days_of(text: str) -> Tuple[int, ...]:
    """Return the days that `Mon..Fri,Sun` names, Monday is 0; `Fri..Mon` goes over the end of the week."""
    found: Set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("..")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        found.update(day % 7 for day in range(begin, end + 1 + 7 * (end < begin)))
    return tuple(sorted(found))


@functools.lru_cache(maxsize=4096)
def instant(day: datetime.date, clock: str, where: datetime.tzinfo) -> int:
    """Return when a clock on the wall shows a time on a day, in Unix seconds; hosts of a fleet ask for the same."""
    wall = datetime.datetime(day.year, day.month, day.day, int(clock[:2]), int(clock[3:]))
    at = int(wall.replace(tzinfo=where).timestamp())
    if datetime.datetime.fromtimestamp(at, where).replace(tzinfo=None) == wall:
        return at
    return _jump(int(wall.replace(tzinfo=where, fold=1).timestamp()), at, where)


def _jump(before: int, after: int, where: datetime.tzinfo) -> int:
    """Return the first second after the clock was moved, somewhere between two instants."""
    old = datetime.datetime.fromtimestamp(before, where).utcoffset()
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.datetime.fromtimestamp(middle, where).utcoffset() == old:
            before = middle
        else:
            after = middle
    return after


def periods(window: Mapping[str, Any], since: float, until: float) -> Iterator[Tuple[int, int]]:
    """Yield when a window begins and ends, in order, each time that falls between two instants in part or whole."""
    where, days = zone(window["timezone"]), days_of(window["days"])
    over = _DAY if window["ends"] <= window["begins"] else _DAY * 0
    day = datetime.datetime.fromtimestamp(since, where).date() - 2 * _DAY
    last = datetime.datetime.fromtimestamp(until, where).date() + _DAY
    while day <= last:
        if day.weekday() in days:
            begins, ends = instant(day, window["begins"], where), instant(day + over, window["ends"], where)
            if begins < ends and begins < until and ends > since:
                yield begins, ends
        day += _DAY


def times(clock: str, days: str, timezone: str, since: float, until: float) -> Iterator[int]:
    """Yield the instants after one and up to another at which a clock shows a time, on some days of the week."""
    where, wanted = zone(timezone), days_of(days)
    day = datetime.datetime.fromtimestamp(since, where).date() - 2 * _DAY
    last = datetime.datetime.fromtimestamp(until, where).date() + _DAY
    while day <= last:
        if day.weekday() in wanted and since < instant(day, clock, where) <= until:
            yield instant(day, clock, where)
        day += _DAY


def chain(windows: Windows, declared: Mapping[str, Optional[str]], slot: str, at: float) -> List[Choice]:
    """Return what may be in force on a slot at an instant, the best first; the last one, and only that, is sure."""
    open_now = []
    for number, window in enumerate(windows):
        if window["slot"] == slot:
            for begins, ends in periods(window, at, at + 1):
                if begins <= at < ends:
                    open_now.append((-window["priority"], number, begins, ends))
    choices = []
    for _, number, begins, ends in sorted(open_now):
        window = windows[number]
        choices.append(Choice(window["coven"], number, begins, ends, not is_conditional(window)))
        if choices[-1].is_sure:
            return choices
    return [*choices, Choice(declared[slot], None, None, None, is_sure=True)]


def is_conditional(window: Mapping[str, Any]) -> bool:
    """Say whether a window begins only when the host is idle enough."""
    return window.get("require") is not None or window.get("yields_s") is not None


def settled(choices: List[Choice], live: Optional[str]) -> Choice:
    """Return what should run: what runs already where that is one of the choices, else the one that is sure.

    A window with a condition that has not begun is left to the host, which alone can tell whether it may.
    """
    return next(choice for choice in choices if choice.is_sure or choice.coven == live)


def edges(windows: Windows, slot: str, since: float, until: float) -> List[int]:
    """Return the instants at which a window of a slot begins or ends, after one instant and up to another."""
    mine = [window for window in windows if window["slot"] == slot]
    found = {edge for window in mine for period in periods(window, since, until + 1) for edge in period}
    return sorted(edge for edge in found if since < edge <= until)


def changes(
    windows: Windows, declared: Mapping[str, Optional[str]], slot: str, since: float, until: float
) -> Iterator[Change]:
    """Yield from when on another coven is in force, as if every window with a condition began at once."""
    now = chain(windows, declared, slot, since)[0].coven
    for edge in edges(windows, slot, since, until):
        then = chain(windows, declared, slot, edge)[0].coven
        if then != now:
            now = then
            yield Change(edge, then)


def mark(windows: Windows, at: float) -> List[List[int]]:
    """Return what tells the time between two edges from every other: which windows are open, and since when."""
    found = []
    for number, window in enumerate(windows):
        found += [[number, begins] for begins, ends in periods(window, at, at + 1) if begins <= at < ends]
    return found


def unread(names: Sequence[str]) -> Dict[str, str]:
    """Return the time zones whose data cannot be read here, each with the reason."""
    return {name: why for name in names for why in [_unread(name)] if why}


def _unread(name: str) -> str:
    try:
        zone(name)
    except ZoneError as error:
        return str(error)
    return ""
