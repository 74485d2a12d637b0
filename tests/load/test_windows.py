"""Windows of two zones, compared with each time that they are open within the years that are looked at."""

from __future__ import annotations

import datetime
import random
from pathlib import Path

from reconciler.agent import week
from tests.load.states import COVEN, HOST, lines, write

BOX = "desired/hosts/box.yaml"
ZONES = (
    "UTC",
    "Europe/Berlin",
    "Europe/Lisbon",
    "America/New_York",
    "America/Los_Angeles",
    "America/Santiago",
    "Asia/Kolkata",
    "Australia/Sydney",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
)
DAYS = ("Sun", "Sat", "Sun", "Mon..Fri", "Mon..Sun")
FIRST, LAST = (datetime.datetime(year, 1, 1, tzinfo=datetime.UTC).timestamp() for year in (2025, 2037))


def told(root: Path, *windows: dict[str, str]) -> list[str]:
    listed = "".join(f"  - {{{', '.join(f'{key}: {value}' for key, value in window.items())}}}\n" for window in windows)
    return lines(write(root, {"desired/covens/b.yaml": COVEN, BOX: f"{HOST}schedule:\n{listed}"}))


def a_window(coven: str, begins: str, ends: str, days: str, zone: str) -> dict[str, str]:
    return {"coven": coven, "from": f'"{begins}"', "to": f'"{ends}"', "days": days, "timezone": zone}


def periods(window: dict[str, str]) -> list[tuple[int, int]]:
    words = {"begins": window["from"].strip('"'), "ends": window["to"].strip('"')}
    return list(week.periods({**window, **words}, FIRST, LAST))


def meet(one: dict[str, str], other: dict[str, str]) -> bool:
    mine, others = periods(one), periods(other)
    while mine and others:
        if max(mine[-1][0], others[-1][0]) < min(mine[-1][1], others[-1][1]):
            return True
        (mine if mine[-1][0] > others[-1][0] else others).pop()
    return False


def test_two_windows_tie_exactly_when_they_are_ever_open_together(tmp_path: Path) -> None:
    chance, seen = random.Random(7), set()
    for _ in range(80):
        one, other = (
            a_window(coven, *_times(chance), chance.choice(DAYS), chance.choice(ZONES)) for coven in ("writing", "b")
        )
        expected = [f"REC2070 {BOX}:4:5", f"REC2070 {BOX}:5:5"] if meet(one, other) else []
        seen.add(bool(expected))
        assert told(tmp_path, one, other) == expected, (one, other)
    assert seen == {True, False}


def _times(chance: random.Random) -> tuple[str, str]:
    begins = chance.randrange(0, 24 * 60, 15)
    ends = (begins + chance.choice([15, 30, 60, 600])) % (24 * 60)
    return f"{begins // 60:02}:{begins % 60:02}", f"{ends // 60:02}:{ends % 60:02}"


def test_a_difference_that_two_zones_have_on_a_sunday_alone_ties_no_windows_of_other_days(tmp_path: Path) -> None:
    new_york = a_window("writing", "04:00", "04:30", "Mon..Fri", "America/New_York")
    los_angeles = a_window("b", "00:00", "00:20", "Mon..Fri", "America/Los_Angeles")

    assert told(tmp_path, new_york, los_angeles) == []
