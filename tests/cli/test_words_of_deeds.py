"""What people read about deeds: what was lifted and what was not down, who did what when, and what to type instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.errors import ExitCode
from reconciler.views.history import history_lines
from reconciler.views.paint import Paint
from tests.scenarios.sim_world import SimWorld

PLAIN = Paint(on=False)


@pytest.fixture
def world(tmp_path: Path) -> SimWorld:
    world = SimWorld(tmp_path)
    assert world.recon("apply", "--yes").code == 0
    return world


def test_up_says_what_was_not_down_and_why_nothing_started(world: SimWorld) -> None:
    ran = world.recon("up", "all", "--host", "h-1", "--reason", "calm")

    assert ran.out == (
        "h-1: spiral was not down; coven was not down; started nothing: no spiral is committed on the host\n"
    )


def test_up_says_what_may_run_again_and_how_it_comes_back(world: SimWorld) -> None:
    world.recon("down", "coven", "--host", "h-1", "--reason", "smoke")

    ran = world.recon("up", "coven", "--host", "h-1", "--reason", "calm")

    assert ran.out == (
        "h-1: coven may run again\n  recon apply --host h-1 brings its coven back, when its memory is free\n"
    )


def test_a_plan_says_held_and_locked_in_their_own_words_and_nothing_twice(world: SimWorld) -> None:
    world.recon("down", "coven", "--host", "h-1", "--reason", "smoke")
    down = world.recon("plan", "--host", "h-1").out
    world.recon("up", "coven", "--host", "h-1", "--reason", "calm")
    world.recon("lock", "acquire", "h-1", "--ttl", "5m", "--owner", "ada", "--reason", "tests")
    locked = world.recon("plan", "--host", "h-1").out

    assert "\nh-1  now nothing  held\n" in down
    assert down.count("smoke") == 1
    assert "\nh-1  now nothing  locked\n" in locked


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("status", "h-1"), "recon status --host h-1"),
        (("plan", "h-1", "h-2"), "recon plan --host h-1 --host h-2"),
        (("lock", "list", "h-1"), "recon lock list --host h-1"),
        (("hold", "--host", "h-1", "--reason", "x"), "recon hold HOST, see recon hold --help"),
        (("lock", "acquire"), "recon lock acquire --help"),
        (("lock", "nonsense"), "recon lock --help"),
        (("nonsense",), "recon --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_whoever_types_a_host_the_other_way_is_told(world: SimWorld, words: tuple[str, ...], hint: str) -> None:
    ran = world.recon(*words)

    assert ran.code == ExitCode.USAGE
    assert ran.err.endswith(f"\n  hint: {hint}\n")


def test_a_job_that_is_over_by_the_hosts_clock_or_overtakes_itself_is_refused(world: SimWorld) -> None:
    register = ("schedule", "register", "h-1", "--name", "index")

    over = world.recon(*register, "--at", "2020-01-01T00:00", "--lasts", "30m")
    overtakes = world.recon(*register, "--every", "1h", "--lasts", "2h")

    assert (over.code, overtakes.code) == (ExitCode.REFUSED, ExitCode.REFUSED)
    assert "it is over: the host's clock says 20" in over.err
    assert "it lasts 7200 s and begins again every 3600 s" in overtakes.err


def test_the_history_tells_a_deed_in_one_line_and_an_outcome_when_it_was_known() -> None:
    who = {"owner": "ada", "reason": "tests"}
    lines = (
        {"kind": "down", "state": "down", "scopes": ["spiral", "coven"], "at": 0.5, **who},
        {"kind": "lock", "deed": "acquired", "lock": "92c0b2fb", "slot": "left", "ttl_s": 300.0, "at": 60.0, **who},
        {"kind": "hold", "deed": "held", "until": 3600.0, "at": 61.0, **who},
        {
            "state": "rolled_back",
            "txid": "T1",
            "started_at": 100.0,
            "elapsed_s": 20.0,
            "source_commit": "0123456789abcdef",
            "plan_digest": "sha256:0123456789abcdef",
            "steps_s": {"claim": 20.0},
            **who,
        },
    )

    assert list(history_lines({"h-1": (lines, ())}, {}, PLAIN)) == [
        "h-1",
        "  1970-01-01 00:00:00Z  down spiral; coven by ada",
        "      reason: tests",
        "  1970-01-01 00:01:00Z  lock acquired 92c0b2fb of slot left for 5m by ada",
        "      reason: tests",
        "  1970-01-01 00:01:01Z  hold until 1970-01-01 01:00:00Z by ada",
        "      reason: tests",
        "  1970-01-01 00:02:00Z  rolled back T1 by ada",
        "      commit 0123456789ab, plan sha256:0123456789ab",
        "      reason: tests",
        "      20s: claim 20s",
    ]
