"""The schedule's units: the calendar lines of all windows, and the windows for whoever reviews them."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.errors import DesiredStateError
from reconciler.model.window import Window
from reconciler.render.host import render_host
from tests.agent.bench import VISION, Bench, a_coven, a_service

NIGHT = {"coven": "vision", "from": "02:00", "to": "04:00"}


def timer_of(*windows: dict[str, Any]) -> list[str]:
    host = Bench()
    host.schedule = tuple(Window.model_validate(window) for window in windows)
    files = {file.name: file.body for file in host.rendered("reasoning")[0].files}
    return [line for line in files["recon-schedule.timer"].splitlines() if "=" in line and "Description" not in line]


def test_a_window_becomes_two_calendar_lines_by_the_clock_of_its_zone() -> None:
    assert timer_of({**NIGHT, "days": "Mon..Fri", "timezone": "Europe/Berlin"}) == [
        "OnCalendar=Mon,Tue,Wed,Thu,Fri *-*-* 02:00:00 Europe/Berlin",
        "OnCalendar=Mon,Tue,Wed,Thu,Fri *-*-* 04:00:00 Europe/Berlin",
        "OnBootSec=30",
        "OnUnitInactiveSec=60",
        "AccuracySec=1s",
        "Persistent=no",
        "Unit=recon-schedule.service",
    ]


@pytest.mark.parametrize(
    ("window", "lines"),
    [
        (NIGHT, ["*-*-* 02:00:00 UTC", "*-*-* 04:00:00 UTC"]),
        ({**NIGHT, "from": "22:00", "days": "Sat,Sun"}, ["Sat,Sun *-*-* 22:00:00 UTC", "Mon,Sun *-*-* 04:00:00 UTC"]),
        ({**NIGHT, "days": "Fri..Mon"}, ["Mon,Fri,Sat,Sun *-*-* 02:00:00 UTC", "Mon,Fri,Sat,Sun *-*-* 04:00:00 UTC"]),
    ],
    ids=["every day", "over midnight", "over the end of the week"],
)
def test_the_end_of_a_window_has_the_days_on_which_it_ends(window: dict[str, Any], lines: list[str]) -> None:
    assert [line.removeprefix("OnCalendar=") for line in timer_of(window) if "Calendar" in line] == lines


def test_an_edge_that_two_windows_share_is_one_line() -> None:
    found = timer_of(NIGHT, {**NIGHT, "from": "04:00", "to": "06:00"})

    assert sum("04:00:00" in line for line in found) == 1


def test_the_windows_stand_in_the_service_for_whoever_reviews_it() -> None:
    host = Bench()
    host.schedule = (Window.model_validate({**NIGHT, "require": "drained", "yields": "10m", "priority": 7}),)
    files = {file.name: file.body for file in host.rendered("reasoning")[0].files}

    assert files["recon-schedule.service"].splitlines()[-2:] == [
        "[X-Recon]",
        "Window=all vision Mon..Sun 02:00-04:00 UTC priority 7 require drained yields 10m",
    ]


def test_a_template_that_leaves_out_a_calendar_line_is_refused() -> None:
    host = Bench()
    host.schedule = (Window.model_validate(NIGHT),)
    _, declared = host.rendered("reasoning")
    from reconciler.model.desired import Fleet, Policy

    fleet = Fleet(name="studio", transport="ssh", policy=Policy(), covens=host.covens, hosts={"h-1": declared})
    with pytest.raises(DesiredStateError) as caught:
        render_host(fleet, declared, {"schedule.timer.j2": "[Timer]\nUnit={{ service }}\n"})

    assert caught.value.problems[0].code == "REC4009"


def test_on_two_slots_the_coven_of_a_window_is_rendered_for_its_own() -> None:
    host = Bench(a_coven("reasoning", vllm=a_service("vllm", 8001)), VISION, slots={"left": ("0",), "right": ("1",)})
    host.schedule = (Window.model_validate({**NIGHT, "slot": "right"}),)
    rendered, _ = host.rendered("reasoning", None)

    assert {name: group.gate for name, group in rendered.groups.items()} == {
        "reasoning": "recon-gate-left-reasoning.service",
        "vision": "recon-gate-right-vision.service",
    }
    assert "recon-schedule.timer" in rendered.boot


def test_a_host_without_windows_has_no_units_of_a_schedule() -> None:
    rendered, _ = Bench().rendered("reasoning")

    assert (rendered.schedule, [file.name for file in rendered.files if "schedule" in file.name]) == (None, [])
