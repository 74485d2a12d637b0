"""`recon alerts`, and what status and plan say about a watchdog, on simulated hosts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.agent import files, places
from reconciler.cli.app import run
from reconciler.sim.deeds import perform
from tests.scenarios.sim_world import SimWorld

CAUSE = "recon-reasoning-vllm.service health answered 500: engine is dead"
ALERT = f"[REC7171] reasoning: was reset, and is left to a person from now on: {CAUSE}"


@pytest.fixture
def world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> SimWorld:
    """Two hosts that serve; on the first one a server is ill and no restart helps."""
    world = SimWorld(tmp_path)
    assert run(["-C", str(tmp_path), "apply", "--yes"]) == 0
    perform(world.fleet, "h-1", "wait", ["60"])
    perform(world.fleet, "h-1", "fault", ["unhealthy", "reasoning/vllm"])
    perform(world.fleet, "h-1", "wait", ["1800"])
    perform(world.fleet, "h-2", "wait", ["60"])
    capsys.readouterr()
    return world


def said(world: SimWorld, capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert run(["-C", str(world.root), *argv]) == 0
    return capsys.readouterr().out


def test_alerts_are_shown_cleared_and_the_watchdog_begins_anew(
    world: SimWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = said(world, capsys, "alerts")
    assert shown == f"h-1: alert {ALERT}\n  recon alerts --clear --host h-1\nNo alerts: h-2\n"

    perform(world.fleet, "h-1", "heal")
    cleared = said(world, capsys, "alerts", "--clear", "--host", "h-1")
    assert cleared.splitlines()[-1] == "h-1: cleared"

    perform(world.fleet, "h-1", "wait", ["60"])
    assert said(world, capsys, "alerts") == "No alerts: h-1, h-2\n"
    assert "all is well" in said(world, capsys, "status", "--host", "h-1")


def test_clearing_while_the_watchdog_acts_is_refused_with_what_to_type(
    world: SimWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    with world.fleet.open("h-1") as machine:
        machine.state.locked.append(places.ALERTS_LOCK)

    assert run(["-C", str(world.root), "alerts", "--clear", "--host", "h-1"]) == 4

    told = capsys.readouterr().err
    assert "error[REC7230]: the alerts of the host are being written" in told
    assert "hint: recon alerts --clear --host h-1" in told


def test_alerts_as_data_are_the_facts_of_the_hosts(world: SimWorld, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(said(world, capsys, "alerts", "--output", "json"))

    assert (document["command"], document["status"], document["cleared"]) == ("alerts", "ok", {})
    (alert,) = document["hosts"]["h-1"]["value"]["alerts"]
    assert (alert["by"], alert["code"], alert["about"]) == ("watchdog", "REC7171", "reasoning")
    assert document["hosts"]["h-2"]["value"]["alerts"] == []


def test_status_tells_the_last_look_the_restarts_and_the_alert(
    world: SimWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = said(world, capsys, "status")

    assert f"h-1: alert {ALERT}" in shown
    assert "holds off from reasoning" in shown
    assert "h-1: watchdog restarted recon-reasoning-vllm.service 3 times in a row" in shown


def test_a_plan_warns_and_has_nothing_to_do(world: SimWorld, capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(world, capsys, "plan", "--detailed-exitcode")

    assert f"! alert {ALERT}; recon alerts --clear --host h-1" in shown
    assert "No changes. Every host runs what is declared." in shown


def test_a_timer_that_somebody_stopped_is_drift(world: SimWorld, capsys: pytest.CaptureFixture[str]) -> None:
    perform(world.fleet, "h-2", "stop", ["recon-watchdog.timer"])

    assert run(["-C", str(world.root), "plan", "--detailed-exitcode", "--host", "h-2"]) == 2
    shown = capsys.readouterr().out
    assert "recon-watchdog.timer is not running: nobody looks after what is committed (drift)" in shown
    assert run(["-C", str(world.root), "apply", "--yes", "--host", "h-2"]) == 0
    capsys.readouterr()
    assert run(["-C", str(world.root), "plan", "--detailed-exitcode", "--host", "h-2"]) == 0


def test_a_watchdog_that_does_not_look_any_more_is_a_warning(
    world: SimWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    with world.fleet.open("h-2") as machine:
        machine.clock.drop("timer.")
        machine.clock.advance(3600.0)

    shown = said(world, capsys, "plan", "--host", "h-2")

    assert "the watchdog has not looked for 1h" in shown


def test_that_nobody_has_looked_is_said_when_a_first_look_is_overdue_and_not_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = SimWorld(tmp_path)
    for host in ("h-1", "h-2"):
        perform(world.fleet, host, "wait", ["500000"])
    assert run(["-C", str(tmp_path), "apply", "--yes"]) == 0
    capsys.readouterr()
    at_once = said(world, capsys, "status") + said(world, capsys, "plan")
    with world.fleet.open("h-2") as machine:
        machine.clock.drop("timer.")
        machine.clock.advance(90.0)
    overdue = said(world, capsys, "status", "--host", "h-2")

    assert "looked" not in at_once
    assert "h-2: watchdog has not looked since the host booted" in overdue


def test_a_way_back_by_hand_keeps_the_watchdog_of_that_generation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = SimWorld(tmp_path)
    assert run(["-C", str(tmp_path), "apply", "--yes"]) == 0
    world.set_coven("h-1", "vision")
    assert run(["-C", str(tmp_path), "apply", "--yes"]) == 0

    assert run(["-C", str(tmp_path), "rollback", "h-1", "--yes"]) == 0

    capsys.readouterr()
    with world.fleet.open("h-1") as machine:
        first, third = (files.manifest(machine, number)["watchdog"] for number in (1, 3))
        assert files.committed_number(machine) == 3
        assert third == first
        assert third is not None
        assert machine.manager.run_of("recon-watchdog.timer").active == "active"
