"""`recon schedule`, and what plan and status say of windows, on simulated hosts whose night comes by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.cli.app import run
from reconciler.sim.deeds import perform
from tests.scenarios.sim_world import SimWorld

WINDOW = 'schedule:\n  - {coven: vision, from: "02:00", to: "04:00", days: Mon..Fri}\n'
IN_FORCE = "slot all: vision is in force until Thu 2026-01-01 04:00 (UTC), then reasoning"


@pytest.fixture
def world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> SimWorld:
    """Two hosts that serve since midnight of a Thursday; the first one has a window at night."""
    world = SimWorld(tmp_path)
    file = world.host_file("h-1")
    file.write_text(file.read_text(encoding="utf-8") + WINDOW, encoding="utf-8")
    assert run(["-C", str(tmp_path), "apply", "--yes"]) == 0
    capsys.readouterr()
    return world


def said(world: SimWorld, capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> str:
    assert run(["-C", str(world.root), *argv]) == code
    told = capsys.readouterr()
    return told.out + told.err


def test_the_week_is_drawn_in_letters_that_need_no_colours(
    world: SimWorld, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = said(world, capsys, "schedule").splitlines()

    assert shown[0].startswith("h-1  Thu 2026-01-01 00:0")
    assert shown[1:] == [
        "  slot all: reasoning is declared until Thu 2026-01-01 02:00 (UTC), then vision",
        "              00    03    06    09    12    15    18    21    24",
        "  Thu 01 Jan  ····AAAA········································",
        "  Fri 02 Jan  ····AAAA········································",
        "  Sat 03 Jan  ················································",
        "  Sun 04 Jan  ················································",
        "  Mon 05 Jan  ····AAAA········································",
        "  Tue 06 Jan  ····AAAA········································",
        "  Wed 07 Jan  ····AAAA········································",
        "  · reasoning (declared)   A vision",
    ]


def test_the_host_switches_by_itself_and_everybody_says_what_is_in_force(
    world: SimWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    perform(world.fleet, "h-1", "wait", ["8000"])

    assert f"h-1: {IN_FORCE}" in said(world, capsys, "status")
    assert "vision (schedule)" in said(world, capsys, "status")
    planned = said(world, capsys, "plan", "--detailed-exitcode")
    assert f"schedule h-1 {IN_FORCE}" in planned
    assert "No changes. Every host runs what is declared." in planned
    assert IN_FORCE in said(world, capsys, "schedule", "--host", "h-1")
    document = json.loads(said(world, capsys, "plan", "--output", "json"))
    assert document["hosts"][0]["schedule"] == [
        {
            "slot": "all",
            "coven": "vision",
            "declared": "reasoning",
            "waits": None,
            "until": 1767240000,
            "then": "reasoning",
            "timezone": "UTC",
        }
    ]
    assert "schedule" not in document["hosts"][1]

    assert " · inside a window of their schedule: h-1" in said(world, capsys, "plan", "--output", "markdown")

    perform(world.fleet, "h-1", "reboot")
    perform(world.fleet, "h-1", "wait", ["7200"])
    assert said(world, capsys, "plan", "--detailed-exitcode").startswith("Fleet sim")
    assert "DECLARED" in said(world, capsys, "status")
    assert "vision is in force" not in said(world, capsys, "status")


def test_the_week_as_data_has_every_change_and_what_the_host_said(
    world: SimWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    perform(world.fleet, "h-1", "wait", ["600"])
    document = json.loads(said(world, capsys, "schedule", "--output", "json"))

    assert (document["command"], document["status"], list(document["hosts"])) == ("schedule", "ok", ["h-1"])
    host = document["hosts"]["h-1"]
    assert (host["is_own_clock"], host["said"]) == (True, "as it should be: all reasoning")
    changes = host["slots"]["all"]["changes"]
    assert changes[:2] == [{"at": 1767232800, "coven": "vision"}, {"at": 1767240000, "coven": "reasoning"}]
    assert len(changes) == 12


def test_the_week_of_a_host_that_does_not_answer_is_drawn_by_another_clock_and_says_so(
    world: SimWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    perform(world.fleet, "h-1", "down")

    shown = said(world, capsys, "schedule", code=8)

    assert "by this computer's clock: the host did not answer" in shown
    assert "AAAA" in shown


def test_a_fleet_without_windows_says_where_they_would_stand(
    world: SimWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(world, capsys, "schedule", "--host", "h-2") == (
        "No host has windows: add schedule: to a file in desired/hosts/\n"
    )


def test_jobs_are_registered_listed_met_and_removed(world: SimWorld, capsys: pytest.CaptureFixture[str]) -> None:
    register = ["schedule", "register", "h-1", "--name", "backup", "--owner", "ann", "--lasts", "45m"]
    assert said(world, capsys, *register, "--calendar", "Mon..Fri 02:30") == "backup is registered on h-1\n"
    other = ["schedule", "register", "h-1", "--name", "probe", "--owner", "bob", "--lasts", "1m", "--every", "6h"]
    assert said(world, capsys, *other, "--at", "2026-01-01T00:00:00+01:00") == "probe is registered on h-1\n"

    listed = said(world, capsys, "schedule", "list").splitlines()
    assert listed == [
        "h-1: backup of ann, Mon..Fri 02:30 UTC for 45m; next Thu 2026-01-01 02:30 (UTC)",
        "h-1: probe of bob, every 6h for 1m; next Thu 2026-01-01 05:00 (UTC)",
        "No jobs: h-2",
    ]
    document = json.loads(said(world, capsys, "schedule", "list", "--output", "json"))
    assert [job["name"] for job in document["hosts"]["h-1"]["value"]] == ["backup", "probe"]
    assert "[REC7345]: the job is somebody else's" in said(
        world, capsys, "schedule", "remove", "h-1", "--name", "backup", "--owner", "bob", code=3
    )
    assert "is no longer registered" in said(
        world, capsys, "schedule", "remove", "h-1", "--name", "backup", "--owner", "ann"
    )


def test_a_plan_warns_before_a_transition_falls_on_a_job(world: SimWorld, capsys: pytest.CaptureFixture[str]) -> None:
    said(world, capsys, "schedule", "register", "h-2", "--name", "train", "--owner", "ann", "--lasts", "2h", "--every",
         "24h", "--at", "2026-01-01T00:00")  # fmt: skip
    world.rewrite(world.host_file("h-2"), "coven: reasoning", "coven: vision")

    shown = said(world, capsys, "plan")

    assert "! a transition now would fall on train of ann, which runs until Thu 2026-01-01 02:00 (UTC)" in shown


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--lasts", "1m"], 64, "say once when it runs"),
        (["--lasts", "1m", "--every", "1h", "--calendar", "02:00"], 64, "say once when it runs"),
        (["--lasts", "soon", "--every", "1h"], 3, "'soon' is not a duration"),
        (["--lasts", "1m", "--at", "tomorrow"], 3, "REC7347"),
        (["--lasts", "1m", "--calendar", "Mo 02:00"], 3, "REC7347"),
        (["--lasts", "1m", "--calendar", "Mon 25:00"], 3, "REC7347"),
        (["--lasts", "1m", "--every", "1h", "--timezone", "Mars/Base"], 3, "REC7347"),
    ],
)
def test_a_time_that_is_none_is_refused_with_its_name(
    world: SimWorld, capsys: pytest.CaptureFixture[str], words: list[str], code: int, told: str
) -> None:
    assert told in said(world, capsys, "schedule", "register", "h-1", "--name", "x", *words, code=code)
    assert said(world, capsys, "schedule", "list") == "No jobs: h-1, h-2\n"


def test_a_way_back_to_a_generation_with_windows_runs_what_they_say_now(
    world: SimWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    world.rewrite(world.host_file("h-1"), "coven: reasoning", "coven: vision")
    said(world, capsys, "apply", "--yes")
    perform(world.fleet, "h-1", "wait", ["8000"])

    assert "slot all: vision is in force until" in said(world, capsys, "rollback", "h-1", "--yes")
    perform(world.fleet, "h-1", "wait", ["7200"])
    assert "reasoning" in said(world, capsys, "status", "--host", "h-1")
