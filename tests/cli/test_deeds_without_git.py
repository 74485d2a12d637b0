"""What stops, holds, unlocks or looks does not wait until git is valid: a host is reached by its own file alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.errors import ExitCode
from tests.scenarios.sim_world import SimWorld

BAD_COVEN = "services: {vllm: {runtime: vllm}}\n"
TOLD = "! git is not valid: [REC2002] missing key at desired/covens/vision.yaml"


@pytest.fixture
def broken(tmp_path: Path) -> SimWorld:
    """Hosts that run what was declared, and a coven's file that somebody broke since."""
    world = SimWorld(tmp_path)
    assert world.recon("apply", "--yes").code == 0
    world.coven_file("vision").write_text(BAD_COVEN, encoding="utf-8")
    return world


@pytest.mark.parametrize(
    "words",
    [
        ("down", "coven", "--host", "h-1", "--reason", "smoke"),
        ("hold", "h-1", "--reason", "smoke"),
        ("lock", "acquire", "h-1", "--ttl", "30m", "--owner", "ada", "--reason", "smoke"),
        ("lock", "list"),
        ("history", "h-1"),
        ("logs", "h-1", "vllm"),
        ("status",),
        ("status", "--host", "h-1"),
        ("alerts", "--clear"),
        ("schedule", "list"),
        ("schedule", "register", "h-1", "--name", "index", "--calendar", "Mon 02:00", "--lasts", "5m"),
        ("restart", "h-1", "vllm", "--yes"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_it_is_done_and_git_is_said_not_to_be_valid(broken: SimWorld, words: tuple[str, ...]) -> None:
    ran = broken.recon(*words)

    assert ran.code == ExitCode.OK, ran.out + ran.err
    assert TOLD in ran.out + ran.err


def test_down_stops_a_host_while_another_ones_file_is_no_yaml(broken: SimWorld) -> None:
    broken.host_file("h-2").write_text("address: [\n", encoding="utf-8")

    ran = broken.recon("down", "all", "--host", "h-1", "--reason", "smoke")

    assert ran.code == ExitCode.OK, ran.out + ran.err
    assert not broken.serves("h-1", "reasoning")


def test_the_checks_of_a_host_need_nothing_of_git_but_the_way_to_it(broken: SimWorld) -> None:
    before = broken.recon("doctor").out
    broken.coven_file("vision").unlink()

    assert broken.recon("doctor").out == before


def test_a_host_goes_back_to_where_it_was(tmp_path: Path) -> None:
    world = SimWorld(tmp_path)
    assert world.recon("apply", "--yes").code == 0
    world.set_coven("h-1", "vision")
    assert world.recon("apply", "--yes").code == 0
    world.coven_file("vision").write_text(BAD_COVEN, encoding="utf-8")

    ran = world.recon("rollback", "h-1", "--yes")

    assert ran.code == ExitCode.OK, ran.out + ran.err
    assert world.serves("h-1", "reasoning")


def test_without_the_fleets_own_file_nobody_can_be_reached(broken: SimWorld) -> None:
    (broken.root / "desired/fleet.yaml").write_text("version: 1\n", encoding="utf-8")

    ran = broken.recon("down", "all", "--reason", "smoke")

    assert ran.code == ExitCode.REFUSED
    assert "desired/fleet.yaml" in ran.out + ran.err


def test_a_plan_of_it_is_still_refused(broken: SimWorld) -> None:
    assert broken.recon("plan").code == ExitCode.REFUSED
