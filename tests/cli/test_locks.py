"""`recon lock` and `recon hold`: what people type, what they are told, and whom it keeps out."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from reconciler.agent import history, places
from reconciler.errors import ExitCode
from reconciler.hosts.connect import SIM_DIRECTORY
from reconciler.sim import SimFleet
from reconciler.sim.faults import set_fault
from tests.scenarios.sim_world import SimWorld
from tests.scenarios.world import Ran

ACQUIRE = ("lock", "acquire", "h-1", "--ttl", "30m", "--owner", "ann", "--reason", "measuring")


@pytest.fixture
def world(tmp_path: Path) -> SimWorld:
    """Two hosts that run what is declared; a switch of the first is declared."""
    made = SimWorld(tmp_path)
    assert made.recon("apply", "--yes").code == 0
    made.set_coven("h-1", "vision")
    return made


def acquire(world: SimWorld, *words: str) -> str:
    ran = world.recon(*(words or ACQUIRE))
    assert ran.code == ExitCode.OK, ran.err
    return ran.out.removesuffix("\n")


def apply(world: SimWorld, *words: str) -> Ran:
    return world.recon("apply", "--yes", "--host", "h-1", *words)


def typing(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def pass_time(world: SimWorld, seconds: float, host: str = "h-1") -> None:
    with SimFleet(world.root / SIM_DIRECTORY).open(host) as machine:
        machine.clock.advance(seconds)


def told(world: SimWorld, kind: str) -> list[dict[str, Any]]:
    with SimFleet(world.root / SIM_DIRECTORY).open("h-1") as machine:
        return [line for line in history.recent(machine) if line.get("kind") == kind]


def test_the_token_is_all_of_stdout_and_names_its_host(world: SimWorld) -> None:
    ran = world.recon(*ACQUIRE)

    assert ran.code == ExitCode.OK
    assert re.fullmatch(r"h-1:recon_lock_[\w-]{43}\n", ran.out)
    assert re.match(r"h-1 is locked by ann for 30m \(lock [0-9a-f]{8}\); ", ran.err)
    assert told(world, "lock")[0]["owner"] == "ann"


def test_a_program_gets_the_lock_and_its_token(world: SimWorld) -> None:
    document = json.loads(world.recon(*ACQUIRE, "-o", "json").out)

    token, lock = document.pop("token"), document["lock"]
    assert token.startswith("h-1:recon_lock_")
    assert document == {
        "format_version": "1.0",
        "command": "lock acquire",
        "status": "ok",
        "host": "h-1",
        "lock": {
            "id": lock["id"],
            "slot": None,
            "owner": "ann",
            "reason": "measuring",
            "ttl_s": 1800.0,
            "left_s": lock["left_s"],
        },
    }


def test_while_it_is_locked_others_get_exit_4_and_are_told_who_why_and_how_long(world: SimWorld) -> None:
    acquire(world)

    planned, applied = world.recon("plan", "--host", "h-1"), apply(world)
    shown = world.recon("status", "--host", "h-1").out

    assert (planned.code, applied.code) == (ExitCode.LOCKED, ExitCode.LOCKED)
    for out in (planned.out, applied.out):
        assert "[REC7300] h-1 is locked by ann" in out
        assert re.search(r"why: +measuring; it frees itself in (30m|29m\d+s) at the latest", out)
    assert re.search(r"h-1: locked by ann for another (30m|29m\d+s) \(lock [0-9a-f]{8}\): measuring", shown)
    assert world.serves("h-1", "reasoning")


def test_the_rest_of_the_fleet_goes_on_and_the_exit_code_says_that_not_all_did(world: SimWorld) -> None:
    acquire(world)
    world.set_coven("h-2", "vision")

    assert world.recon("apply", "--yes").code == ExitCode.SOME_FAILED
    assert world.serves("h-2", "vision")


@pytest.mark.parametrize("how", ["option", "stdin", "environment", "several in the environment"])
def test_who_has_the_token_passes(world: SimWorld, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    token = acquire(world)
    words: tuple[str, ...] = ()
    if how == "option":
        words = ("--lock-token", token)
    elif how == "stdin":
        typing(monkeypatch, f"{token}\n")
        words = ("--lock-token", "-")
    else:
        others = "h-2:recon_lock_x recon_lock_y " if how.startswith("several") else ""
        monkeypatch.setenv("RECON_LOCK_TOKEN", others + token)

    assert apply(world, *words).code == ExitCode.OK
    assert world.serves("h-1", "vision")


@pytest.mark.parametrize("token", ["h-1:recon_lock_wrong", "recon_lock_wrong", "h-2:{}", "{}x"])
def test_a_wrong_token_and_one_of_another_host_do_not_pass(world: SimWorld, token: str) -> None:
    secret = acquire(world).partition(":")[2]

    assert apply(world, "--lock-token", token.format(secret)).code == ExitCode.LOCKED
    assert world.serves("h-1", "reasoning")


def test_a_way_back_needs_the_token_too(world: SimWorld) -> None:
    assert apply(world).code == ExitCode.OK
    token = acquire(world)

    assert world.recon("rollback", "h-1", "--yes").code == ExitCode.LOCKED
    assert world.recon("rollback", "h-1", "--yes", "--lock-token", token).code == ExitCode.OK
    assert world.serves("h-1", "reasoning")


def test_a_lock_whose_time_is_up_is_in_nobodys_way(world: SimWorld) -> None:
    acquire(world)
    pass_time(world, 1801.0)

    assert world.recon("lock", "list").out == "Not locked: h-1, h-2\n"
    assert apply(world).code == ExitCode.OK


def test_a_lock_is_renewed_and_given_back(world: SimWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECON_LOCK_TOKEN", acquire(world))
    pass_time(world, 1700.0)
    renewed = world.recon("lock", "renew", "h-1", "--ttl", "2h")
    pass_time(world, 7000.0)
    listed = world.recon("lock", "list", "--host", "h-1").out
    released = world.recon("lock", "release", "h-1")

    assert renewed.code == released.code == ExitCode.OK
    assert re.fullmatch(r"h-1 is locked by ann for 2h \(lock [0-9a-f]{8}\)\n", renewed.out)
    assert re.search(r"h-1 +\(the host\) +ann +3m\d*s? +[0-9a-f]{8} +measuring", listed)
    assert re.fullmatch(r"lock [0-9a-f]{8} of ann on h-1 is gone\n", released.out)
    again = world.recon("lock", "release", "h-1")
    assert (again.code, "REC7302" in again.err) == (ExitCode.REFUSED, True)
    assert apply(world).code == ExitCode.OK


def test_a_second_lock_is_refused_and_names_the_first(world: SimWorld) -> None:
    acquire(world)

    ran = world.recon("lock", "acquire", "h-1/all", "--ttl", "5m", "--reason", "mine")

    assert (ran.code, ran.out) == (ExitCode.LOCKED, "")
    assert re.search(r"REC7300.*\n  why: locked by ann for another (30m|29m\d+s): measuring", ran.err)


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (("h-1", "--ttl", "0s", "--reason", "x"), ExitCode.REFUSED, "REC7303"),
        (("h-1", "--ttl", "30", "--reason", "x"), ExitCode.REFUSED, "REC7303"),
        (("h-1", "--ttl", "25h", "--reason", "x"), ExitCode.REFUSED, "REC7303"),
        (("h-1", "--ttl", "500ms", "--reason", "x"), ExitCode.REFUSED, "REC7303"),
        (("h-1", "--ttl", "5m", "--reason", ""), ExitCode.REFUSED, "REC7304"),
        (("h-1", "--ttl", "5m", "--reason", "a\x1b[2Jb"), ExitCode.REFUSED, "REC7304"),
        (("h-1", "--ttl", "5m", "--reason", "x", "--owner", " "), ExitCode.REFUSED, "REC7304"),
        (("h-1/left", "--ttl", "5m", "--reason", "x"), ExitCode.REFUSED, "REC7305"),
        (("h-1/", "--ttl", "5m", "--reason", "x"), ExitCode.REFUSED, "REC7305"),
        (("h-9", "--ttl", "5m", "--reason", "x"), ExitCode.USAGE, "REC7020"),
        (("h-*", "--ttl", "5m", "--reason", "x"), ExitCode.USAGE, "REC7018"),
        (("h-1", "--ttl", "5m"), ExitCode.USAGE, "REC7018"),
        (("h-1", "--reason", "x"), ExitCode.USAGE, "REC7018"),
    ],
)
def test_what_is_no_lock_is_refused_by_name(
    world: SimWorld, words: tuple[str, ...], code: ExitCode, named: str
) -> None:
    ran = world.recon("lock", "acquire", *words)

    assert (ran.code, ran.out) == (code, "")
    assert f"error[{named}]" in ran.err
    assert "\x1b" not in ran.err
    assert "Not locked: h-1, h-2" in world.recon("lock", "list").out


@pytest.mark.parametrize("token", [None, "h-2:recon_lock_x", "recon_lock_x recon_lock_y"])
def test_a_deed_without_exactly_one_token_of_that_host_is_refused(
    world: SimWorld, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire(world)
    monkeypatch.delenv("RECON_LOCK_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("RECON_LOCK_TOKEN", token)

    ran = world.recon("lock", "release", "h-1")

    assert (ran.code, "error[REC7306]" in ran.err) == (ExitCode.REFUSED, True)


def test_a_lock_is_taken_away_by_id_with_a_reason_and_both_are_kept(world: SimWorld) -> None:
    acquire(world)
    lock = told(world, "lock")[0]["lock"]
    neither = world.recon("lock", "force-release", "h-1", "--reason", "x")
    both = world.recon("lock", "force-release", "h-1", "--lock", lock, "--epoch", "1", "--reason", "x")
    unknown = world.recon("lock", "force-release", "h-1", "--lock", "00000000", "--reason", "x")
    done = world.recon("lock", "force-release", "h-1", "--lock", lock, "--reason", "she is on leave")

    assert (neither.code, both.code, unknown.code) == (ExitCode.USAGE, ExitCode.USAGE, ExitCode.STALE)
    assert "REC7307" in unknown.err
    assert (done.code, done.out) == (ExitCode.OK, f"lock {lock} of ann on h-1 is gone\n")
    line = told(world, "lock")[-1]
    assert (line["deed"], line["holder"], line["reason"]) == ("forced", "ann", "she is on leave")
    assert apply(world).code == ExitCode.OK


def test_a_book_of_locks_that_cannot_be_read_is_told_and_put_aside_by_a_person(world: SimWorld) -> None:
    with SimFleet(world.root / SIM_DIRECTORY).open("h-1") as machine:
        machine.write(places.LOCKS, b"torn")
    command = "recon lock force-release h-1 --lock unreadable --reason TEXT"

    refused, listed = apply(world), world.recon("lock", "list").out
    shown = world.recon("status").out
    done = world.recon("lock", "force-release", "h-1", "--lock", "unreadable", "--reason", "a bad disk")

    assert (refused.code, "REC7301" in refused.out) == (ExitCode.LOCKED, True)
    assert all(command in out for out in (refused.out, listed, shown))
    assert (done.code, f"{places.LOCKS}.corrupt-1" in done.out) == (ExitCode.OK, True)
    assert apply(world).code == ExitCode.OK


# -- holds ----------


def test_a_hold_keeps_everybody_out_and_shows_until_somebody_releases_it(world: SimWorld) -> None:
    held = world.recon("hold", "h-1", "--reason", "a new disk", "--until", "4h")
    planned, applied, shown = world.recon("plan", "--host", "h-1"), apply(world), world.recon("status").out
    released = world.recon("release", "h-1", "--reason", "it is in")

    assert held.code == ExitCode.OK
    assert re.match(r"h-1 is held until \d{4}-\d\d-\d\d \d\d:\d\dZ; lift it with: recon release h-1 ", held.out)
    assert (planned.code, applied.code) == (ExitCode.LOCKED, ExitCode.LOCKED)
    assert re.search(
        r"\[REC8012\] h-1 is held by \S+ until .*Z\n    why:  a new disk\n.*recon release h-1", planned.out
    )
    assert re.search(r"h-1: held by \S+ until .*Z: a new disk", shown)
    assert re.fullmatch(r"h-1 is free: the hold of \S+ is gone\n", released.out)
    assert [line["deed"] for line in told(world, "hold")] == ["held", "released"]
    assert apply(world).code == ExitCode.OK


def test_a_hold_ends_when_it_said_by_the_clock_of_the_host(world: SimWorld) -> None:
    assert world.recon("hold", "h-1", "--reason", "x", "--until", "1h").code == ExitCode.OK
    pass_time(world, 3601.0)

    assert "h-1: held" not in world.recon("status").out
    assert apply(world).code == ExitCode.OK
    late = world.recon("release", "h-1", "--reason", "x")
    assert (late.code, late.out) == (ExitCode.OK, "h-1 is free: a hold that had ended is gone\n")


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (("hold", "h-1", "--reason", "x", "--until", "noon"), ExitCode.REFUSED, "REC7311"),
        (("hold", "h-1", "--reason", "x", "--until", "0s"), ExitCode.REFUSED, "REC7311"),
        (("hold", "h-1", "--reason", "x", "--until", "2026-12-24T18:00"), ExitCode.REFUSED, "REC7311"),
        (("hold", "h-1", "--reason", "x", "--until", "2001-01-01T00:00Z"), ExitCode.REFUSED, "REC7311"),
        (("hold", "h-1", "--reason", "x", "--until", "9999-01-01T00:00Z"), ExitCode.REFUSED, "REC7311"),
        (("hold", "h-1", "--reason", " "), ExitCode.REFUSED, "REC7304"),
        (("hold", "h-1", "--reason", "a\nb"), ExitCode.REFUSED, "REC7304"),
        (("hold", "h-9", "--reason", "x"), ExitCode.USAGE, "REC7020"),
        (("hold", "h-1"), ExitCode.USAGE, "REC7018"),
        (("release", "h-1", "--reason", ""), ExitCode.REFUSED, "REC7304"),
        (("release", "h-1", "--reason", "x"), ExitCode.STALE, "REC7313"),
        (("release", "h-1"), ExitCode.USAGE, "REC7018"),
    ],
)
def test_what_is_no_hold_is_refused_by_name(
    world: SimWorld, words: tuple[str, ...], code: ExitCode, named: str
) -> None:
    ran = world.recon(*words)

    assert (ran.code, ran.out) == (code, "")
    assert f"error[{named}]" in ran.err


def test_somebody_elses_hold_is_not_replaced(world: SimWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world.recon("hold", "h-1", "--reason", "x").code == ExitCode.OK
    monkeypatch.setenv("CI_USER", "somebody-else")
    ran = world.recon("hold", "h-1", "--reason", "y")

    assert (ran.code, "error[REC7312]" in ran.err) == (ExitCode.LOCKED, True)


def test_programs_read_what_became_of_a_hold(world: SimWorld) -> None:
    held = json.loads(world.recon("hold", "h-1", "--reason", "x", "--until", "1h", "-o", "json").out)
    free = json.loads(world.recon("release", "h-1", "--reason", "x", "-o", "json").out)

    envelope = {"format_version": "1.0", "status": "ok", "host": "h-1"}
    hold = held.pop("hold")
    assert held == {**envelope, "command": "hold", "running": None}
    assert hold == {"owner": hold["owner"], "reason": "x", "since": hold["since"], "until": hold["since"] + 3600.0}
    assert free == {**envelope, "command": "release", "holder": hold["owner"], "aside": None}


def test_a_host_that_does_not_answer_is_exit_8(world: SimWorld) -> None:
    with SimFleet(world.root / SIM_DIRECTORY).open("h-1") as machine:
        set_fault(machine.state, "down", "*")

    assert world.recon(*ACQUIRE).code == ExitCode.UNKNOWN_OUTCOME
    assert world.recon("hold", "h-1", "--reason", "x").code == ExitCode.UNKNOWN_OUTCOME
    listed = world.recon("lock", "list")
    assert (listed.code, "h-1: unreachable" in listed.out) == (ExitCode.UNKNOWN_OUTCOME, True)
