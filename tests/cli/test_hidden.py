"""`hidden: true`: out of sight while it is well, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.cli.app import run
from reconciler.sim.deeds import perform
from tests.scenarios.sim_world import SimWorld


@pytest.fixture
def world(tmp_path: Path) -> SimWorld:
    world = SimWorld(tmp_path)
    file = tmp_path / "desired/covens/reasoning.yaml"
    text = file.read_text()
    file.write_text(text.replace("    runtime: vllm\n", "    runtime: vllm\n    hidden: true\n", 1))
    assert "hidden: true" in file.read_text()
    assert run(["-C", str(tmp_path), "apply", "--yes", "--host", "h-1"]) == 0
    return world


def test_a_hidden_service_is_not_shown_while_it_is_well(world: SimWorld, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["-C", str(world.root), "status", "--host", "h-1"]) == 0
    shown = capsys.readouterr().out

    assert "reasoning" in shown
    assert "vllm" not in shown


def test_a_hidden_service_that_is_ill_is_shown(world: SimWorld, capsys: pytest.CaptureFixture[str]) -> None:
    perform(world.fleet, "h-1", "fault", ["unhealthy", "reasoning/vllm"])
    capsys.readouterr()
    assert run(["-C", str(world.root), "status", "--host", "h-1"]) == 0
    shown = capsys.readouterr().out

    assert "vllm unhealthy (500)" in shown
    assert "recon-reasoning-vllm.service" in shown
