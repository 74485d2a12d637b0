"""What is in force when, against an oracle that reads a clock on the wall minute by minute."""

from __future__ import annotations

import datetime
import functools
import zoneinfo
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.agent import week

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC")
UTC = datetime.UTC
MINUTE, HOUR, DAY = 60, 3600, 86400
BEGIN = int(datetime.datetime(2026, 1, 1, tzinfo=UTC).timestamp())
END = int(datetime.datetime(2029, 1, 1, tzinfo=UTC).timestamp())


def window(begins: str, ends: str, zone: str = "UTC", days: str = "Mon..Sun", **more: Any) -> dict[str, Any]:
    named = {"slot": "all", "coven": "night", "priority": 50, "require": None, "yields_s": None}
    return {**named, "begins": begins, "ends": ends, "timezone": zone, "days": days, **more}


def at(text: str, zone: str = "UTC") -> int:
    return int(datetime.datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(zone)).timestamp())


@functools.cache
def wall(zone: str, minute: int) -> datetime.datetime:
    """Return what the clock on the wall shows."""
    return datetime.datetime.fromtimestamp(minute, zoneinfo.ZoneInfo(zone)).replace(tzinfo=None)


@functools.cache
def transitions(zone: str) -> tuple[int, ...]:
    """Return every minute at which the clocks of a zone are moved, in three years."""
    where = zoneinfo.ZoneInfo(zone)
    ahead = [datetime.datetime.fromtimestamp(t, where).utcoffset() for t in range(BEGIN, END, HOUR // 2)]
    return tuple(BEGIN + HOUR // 2 * n for n in range(1, len(ahead)) if ahead[n] != ahead[n - 1])


def first_at(zone: str, when: datetime.datetime, near: int) -> int:
    """Return the first minute at which the clock shows a time or a later one: what a person would wait for."""
    minute = near - near % MINUTE
    while wall(zone, minute) > when - datetime.timedelta(hours=20):  # before any time that comes twice
        minute -= DAY // 4
    while wall(zone, minute) < when:
        minute += MINUTE
    return minute


def oracle(one: dict[str, Any], middle: int, span: int) -> Iterator[tuple[int, int]]:
    """Yield the pieces of a window around an instant."""
    begin, end = (datetime.time.fromisoformat(one[key]) for key in ("begins", "ends"))
    for step in range(-span, span + 1):
        day = wall(one["timezone"], middle + step * DAY).date()
        if week.DAYS[day.weekday()] not in names(one["days"]):
            continue
        after = day + datetime.timedelta(days=end <= begin)
        first = first_at(one["timezone"], datetime.datetime.combine(day, begin), middle + step * DAY)
        last = first_at(one["timezone"], datetime.datetime.combine(after, end), middle + step * DAY)
        if first < last:
            yield first, last


def names(days: str) -> set[str]:
    found: set[str] = set()
    for part in days.split(","):
        begin, _, end = part.partition("..")
        day = begin
        while True:
            found.add(day)
            if day == (end or begin):
                break
            day = week.DAYS[(week.DAYS.index(day) + 1) % 7]
    return found


def in_force(windows: list[dict[str, Any]], instant: float) -> str | None:
    return week.chain(windows, {"all": "day"}, "all", instant)[0].coven


CLOCKS = (
    ("01:00", "02:30"),
    ("01:45", "02:15"),
    ("02:00", "03:00"),
    ("02:10", "02:20"),
    ("02:30", "04:00"),
    ("22:00", "02:15"),
    ("02:59", "02:01"),
    ("00:00", "23:59"),
)


@pytest.mark.parametrize("zone", ZONES)
def test_on_every_night_on_which_clocks_are_moved_a_window_is_open_when_the_clock_on_the_wall_says_so(
    zone: str,
) -> None:
    nights = transitions(zone) or (at("2026-03-29T02:00"), at("2026-10-25T02:00"))
    assert zone in ("Asia/Kolkata", "UTC") or len(nights) >= 6
    for night in nights:
        for begins, ends in CLOCKS:
            one = window(begins, ends, zone)
            pieces = list(oracle(one, night, 2))
            edges = {edge + step for piece in pieces for edge in piece for step in (-1, 0, MINUTE)}
            for instant in sorted(edges | set(range(night - DAY, night + DAY, 45 * MINUTE))):
                wanted = "night" if any(first <= instant < last for first, last in pieces) else "day"
                if night - 2 * DAY < instant < night + 2 * DAY:
                    assert in_force([one], instant) == wanted, (zone, begins, ends, wall(zone, instant), instant)


ZONED = st.sampled_from(ZONES)
CLOCK = st.builds(lambda hour, minute: f"{hour:02}:{minute:02}", st.integers(0, 23), st.sampled_from([0, 15, 30, 59]))
DAYS = st.sampled_from(["Mon..Sun", "Mon..Fri", "Sat,Sun", "Fri..Mon", "Wed", "Tue,Thu..Fri,Sun"])
WINDOW = st.builds(
    lambda begins, ends, zone, days, priority, coven: window(begins, ends, zone, days, priority=priority, coven=coven),
    CLOCK, CLOCK, ZONED, DAYS, st.integers(0, 3), st.sampled_from(["a", "b", "c"]),
).filter(lambda one: one["begins"] != one["ends"])  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(st.lists(WINDOW, max_size=4), st.integers(BEGIN + 9 * DAY, END - 9 * DAY))
def test_of_windows_that_overlap_the_highest_priority_is_in_force_in_any_week(
    windows: list[dict[str, Any]], instant: int
) -> None:
    is_open = [
        (-one["priority"], number, one["coven"])
        for number, one in enumerate(windows)
        if any(first <= instant < last for first, last in oracle(one, instant, 2))
    ]

    assert in_force(windows, instant) == (min(is_open)[2] if is_open else "day")


@settings(max_examples=60, deadline=None)
@given(st.lists(WINDOW, min_size=1, max_size=3), st.integers(BEGIN + 9 * DAY, END - 20 * DAY))
def test_what_comes_next_is_what_a_look_at_every_quarter_of_a_minute_would_find(
    windows: list[dict[str, Any]], since: int
) -> None:
    told = list(week.changes(windows, {"all": "day"}, "all", since, since + 3 * DAY))

    now, found = in_force(windows, since), []
    for edge in week.edges(windows, "all", since, since + 3 * DAY):
        assert in_force(windows, edge - 1) == now
        if in_force(windows, edge) != now:
            now = in_force(windows, edge)
            found.append(week.Change(edge, now))
    assert told == found


@pytest.mark.parametrize(
    ("one", "zone", "first", "last"),
    [
        # Clocks go from 02:00 to 03:00: what is left out is the moment of the jump.
        (window("02:30", "04:00"), "Europe/Berlin", "2026-03-29T03:00", "2026-03-29T04:00"),
        (window("01:00", "02:30"), "Europe/Berlin", "2026-03-29T01:00", "2026-03-29T03:00"),
        # Clocks go from 03:00 back to 02:00: a time that comes twice is the first of the two.
        (window("02:30", "04:00"), "Europe/Berlin", "2026-10-25T02:30", "2026-10-25T04:00"),
        (window("01:00", "02:30"), "Europe/Berlin", "2026-10-25T01:00", "2026-10-25T02:30"),
        # Half an hour is left out.
        (window("02:15", "05:00"), "Australia/Lord_Howe", "2026-10-04T02:30", "2026-10-04T05:00"),
    ],
)
def test_the_two_rules_for_the_nights_on_which_clocks_are_moved(
    one: dict[str, Any], zone: str, first: str, last: str
) -> None:
    assert list(week.periods({**one, "timezone": zone}, at(first, zone), at(first, zone) + 1)) == [
        (at(first, zone), at(last, zone))
    ]


def test_a_window_in_the_hour_that_is_left_out_does_not_occur_that_night() -> None:
    one = window("02:10", "02:50", "Europe/Berlin")
    night = at("2026-03-29T00:00", "Europe/Berlin")

    assert [wall("Europe/Berlin", first).day for first, _ in week.periods(one, night - DAY, night + 2 * DAY)] == [
        28,
        30,
    ]


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    one = window("22:00", "04:00", days="Fri")

    assert in_force([one], at("2026-01-02T23:00")) == "night"  # a Friday
    assert in_force([one], at("2026-01-03T03:59")) == "night"
    assert in_force([one], at("2026-01-03T04:00")) == "day"
    assert in_force([one], at("2026-01-03T23:00")) == "day"


def test_a_window_with_a_condition_is_a_choice_and_what_is_sure_stands_behind_it() -> None:
    windows = [window("00:00", "12:00", require="drained"), window("00:00", "12:00", coven="other", priority=40)]
    choices = week.chain(windows, {"all": "day"}, "all", at("2026-01-02T01:00"))

    assert [(choice.coven, choice.is_sure) for choice in choices] == [("night", False), ("other", True)]
    assert week.settled(choices, "day").coven == "other"
    assert week.settled(choices, "night").coven == "night"


def test_a_zone_without_data_is_an_error_with_its_name() -> None:
    with pytest.raises(week.ZoneError, match="Europe/Atlantis"):
        week.chain([window("01:00", "02:00", "Europe/Atlantis")], {"all": None}, "all", 0)

    assert set(week.unread(["UTC", "Europe/Berlin", "Europe/Atlantis"])) == {"Europe/Atlantis"}


def test_times_of_a_clock_skip_no_night_and_come_once() -> None:
    since = at("2026-03-27T12:00", "Europe/Berlin")

    found = list(week.times("02:30", "Mon..Sun", "Europe/Berlin", since, since + 4 * DAY))

    assert [wall("Europe/Berlin", each).strftime("%a %H:%M") for each in found] == [
        "Sat 02:30", "Sun 03:00", "Mon 02:30", "Tue 02:30",
    ]  # fmt: skip


def test_a_mark_is_the_same_between_two_edges_and_another_on_every_other_night() -> None:
    one = [window("01:00", "03:00")]
    marks = [week.mark(one, at(text)) for text in ("2026-01-02T01:00", "2026-01-02T02:59", "2026-01-03T01:00")]

    assert marks[0] == marks[1] != marks[2]
    assert week.mark(one, at("2026-01-02T00:59")) == week.mark(one, at("2026-01-02T03:00")) == []
