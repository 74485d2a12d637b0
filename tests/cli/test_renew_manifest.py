"""`recon apply --renew-manifest` on a simulated host whose committed manifest was damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.agent import files, places
from reconciler.cli.app import run
from reconciler.sim.deeds import perform
from tests.scenarios.sim_world import SimWorld

MANIFEST = places.generation(1) + "/manifest.json"


@pytest.fixture
def world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> SimWorld:
    world = SimWorld(tmp_path)
    assert run(["-C", str(tmp_path), "apply", "--yes"]) == 0
    perform(world.fleet, "h-1", "wait", ["60"])
    with world.fleet.open("h-1") as machine:
        machine.write(MANIFEST, machine.read(MANIFEST)[:-40])
    capsys.readouterr()
    return world


def pids(world: SimWorld) -> list[int]:
    with world.fleet.open("h-1") as machine:
        return sorted(pid for pid, process in machine.state.processes.items() if "recon-reasoning" in process.cgroup)


def test_an_apply_is_refused_and_names_the_way_on(world: SimWorld, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-C", str(world.root), "apply", "--yes", "--host", "h-1"]) == 3

    shown = capsys.readouterr()
    assert "REC8008" in shown.out
    assert "recon apply --host h-1 --renew-manifest" in shown.out


def test_the_way_on_commits_a_new_generation_and_restarts_nothing(
    world: SimWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    before = pids(world)
    assert before != []

    assert run(["-C", str(world.root), "apply", "--yes", "--host", "h-1", "--renew-manifest"]) == 0

    assert pids(world) == before
    with world.fleet.open("h-1") as machine:
        assert files.committed_number(machine) == 2
        assert files.manifest(machine, 2)["live"] == {"all": "reasoning"}
    capsys.readouterr()
    assert run(["-C", str(world.root), "plan", "--detailed-exitcode", "--host", "h-1"]) == 0


def test_a_switch_goes_the_whole_way_too(world: SimWorld) -> None:
    world.set_coven("h-1", "vision")

    assert run(["-C", str(world.root), "apply", "--yes", "--host", "h-1", "--renew-manifest"]) == 0

    with world.fleet.open("h-1") as machine:
        assert files.manifest(machine, 2)["live"] == {"all": "vision"}
        assert {c.name.split("-")[1] for c in machine.state.containers.values()} == {"vision"}


def test_after_a_reboot_the_way_on_is_the_same(world: SimWorld) -> None:
    with world.fleet.open("h-1") as machine:
        machine.reboot()
    perform(world.fleet, "h-1", "wait", ["120"])

    assert run(["-C", str(world.root), "apply", "--yes", "--host", "h-1", "--renew-manifest"]) == 0
