"""A claim that nobody can read or nobody gives back: what plan, apply and status say, and how it is taken away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.agent import history, places
from reconciler.errors import ExitCode
from reconciler.hosts.connect import SIM_DIRECTORY
from reconciler.sim import SimFleet
from tests.cli.test_commands import recon
from tests.scenarios.sim_world import SimWorld

TAKE = "recon lock force-release h-1 --epoch 1 --reason TEXT"


@pytest.fixture
def torn(tmp_path: Path) -> SimWorld:
    """Two hosts that run what is declared; on the first lies a claim that cannot be read, and a switch is declared."""
    world = SimWorld(tmp_path)
    assert recon("-C", str(world.root), "apply", "--yes").code == 0
    with SimFleet(world.root / SIM_DIRECTORY).open("h-1") as machine:
        machine.mkdir(places.RUN)
        machine.write(places.LEASE, b'{"half')
    world.set_coven("h-1", "vision")
    return world


def test_a_claim_that_cannot_be_read_is_held_for_plan_and_apply_and_the_command_is_named(torn: SimWorld) -> None:
    root = str(torn.root)
    planned = recon("-C", root, "plan", "--host", "h-1")
    applied = recon("-C", root, "apply", "--yes", "--host", "h-1")
    shown = recon("-C", root, "status", "--host", "h-1")

    assert (planned.code, applied.code, shown.code) == (ExitCode.LOCKED, ExitCode.LOCKED, ExitCode.OK)
    for out in (planned.out, applied.out, shown.out):
        assert TAKE in out
    assert "REC7150" in planned.out
    assert f"damaged [REC5020] {places.LEASE}: it is not JSON" in shown.out
    assert f"[REC5020] {places.LEASE}: it is not JSON" in planned.out


def test_taking_it_away_needs_the_epoch_that_was_shown_and_a_reason(torn: SimWorld) -> None:
    root = str(torn.root)
    wrong = recon("-C", root, "lock", "force-release", "h-1", "--epoch", "7", "--reason", "a test")
    silent = recon("-C", root, "lock", "force-release", "h-1", "--epoch", "1", "--reason", " ")
    unsaid = recon("-C", root, "lock", "force-release", "h-1", "--epoch", "1")

    assert (wrong.code, silent.code, unsaid.code) == (ExitCode.STALE, ExitCode.REFUSED, ExitCode.USAGE)
    assert "REC7152" in wrong.err
    assert "7 was named, the host is at 1" in wrong.err
    assert "REC7154" in silent.err


def test_what_was_taken_away_is_free_and_it_is_kept_who_did_it_and_why(torn: SimWorld) -> None:
    root = str(torn.root)
    done = recon("-C", root, "lock", "force-release", "h-1", "--epoch", "1", "--reason", "a disk error")

    assert done.code == ExitCode.OK
    assert done.out.splitlines() == [
        "h-1 is free: the claim of epoch 1 is void, the host is at 2",
        "look at it with: recon status --host h-1",
    ]
    with SimFleet(torn.root / SIM_DIRECTORY).open("h-1") as machine:
        line = history.recent(machine)[-1]
    assert (line["state"], line["reason"], line["released_epoch"]) == ("released", "a disk error", 1)
    assert "@" in line["owner"]
    assert recon("-C", root, "apply", "--yes", "--host", "h-1").code == ExitCode.OK
    assert torn.serves("h-1", "vision")


def test_a_program_reads_what_was_granted(torn: SimWorld) -> None:
    done = recon("-C", str(torn.root), "lock", "force-release", "h-1", "--epoch", "1", "--reason", "x", "-o", "json")

    assert json.loads(done.out) == {
        "format_version": "1.0",
        "command": "lock force-release",
        "status": "ok",
        "host": "h-1",
        "epoch": 2,
        "stopped": None,
    }


def test_only_one_host_at_a_time_is_taken_away(torn: SimWorld) -> None:
    ran = recon("-C", str(torn.root), "lock", "force-release", "h-*", "--epoch", "1", "--reason", "x")

    assert ran.code == ExitCode.USAGE
    assert "h-1, h-2" in ran.err
