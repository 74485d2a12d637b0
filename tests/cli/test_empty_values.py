"""What an option means that a script filled from a variable nobody set: never more than was typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.agent.executor_unit import TXID
from reconciler.model.base import TXID_PATTERN
from tests.scenarios.sim_world import SimWorld


@pytest.fixture
def world(tmp_path: Path) -> SimWorld:
    return SimWorld(tmp_path)


@pytest.mark.parametrize("txid", ["", " ", "../t1", "-t1", "t1\n", "t" * 81])
def test_whoever_wants_to_follow_something_without_a_name_begins_nothing(world: SimWorld, txid: str) -> None:
    ran = world.recon("apply", f"--attach={txid}", "--yes", "--host", "h-1")

    assert (ran.code, "REC7018" in ran.err, "recon status" in ran.err) == (64, True, True)
    assert "nothing has happened here yet" in world.recon("history", "h-1").out


def test_the_host_and_this_side_call_the_same_names_those_of_transactions() -> None:
    assert TXID.pattern == TXID_PATTERN


@pytest.mark.parametrize("deed", [("register", "--every", "1h", "--lasts", "5m"), ("remove",)])
def test_a_job_of_nobody_is_not_a_job_of_whoever_types(world: SimWorld, deed: tuple[str, ...]) -> None:
    world.recon("apply", "--yes")
    mine = ("--name", "mine", "--every", "1h", "--lasts", "5m")
    assert world.recon("schedule", "register", "h-1", *mine).code == 0

    word, *times = deed
    ran = world.recon("schedule", word, "h-1", "--name", "mine", *times, "--owner", "")

    assert ran.code == 3
    assert "mine of" in world.recon("schedule", "list", "--host", "h-1").out


def test_a_zone_without_a_name_is_none(world: SimWorld) -> None:
    world.recon("apply", "--yes")

    words = ("--name", "n", "--calendar", "02:00", "--lasts", "5m", "--timezone", "")
    ran = world.recon("schedule", "register", "h-1", *words)

    assert (ran.code, "REC7347" in ran.err) == (3, True)
