"""Taking a claim away: ask until it is done, say what is ended first, never take silence for success."""

from __future__ import annotations

import threading

import pytest

from reconciler.apply.release import Demand, Released, force_release
from reconciler.errors import HostError, LockedError, RefusedError, StaleError, UnreachableError
from tests.apply.plans import Answer, FakePace, Hosts, ScriptedHost, lost, refusal
from tests.builders import a_host

WAITING = {"released": False, "txid": "t0", "step": "rollback"}
DONE = {"released": True, "epoch": 9, "stopped": "t0"}
ARGS = {"epoch": 7, "reason": "it hangs", "owner": "ann@laptop", "host": "spark-1", "id": "release-1"}


def ask(*script: Answer, detach: threading.Event | None = None) -> tuple[Released, ScriptedHost, list[object]]:
    host, told = ScriptedHost(*script), list[object]()
    demand = Demand(host=a_host(), epoch=7, reason="it hangs", owner="ann@laptop", name="release-1")
    done = force_release(
        demand, Hosts(spark_1=host), on_wait=lambda *what: told.append(what), detach=detach, pace=FakePace()
    )
    return done, host, told


def test_the_same_words_are_sent_until_the_host_says_that_it_is_done() -> None:
    done, host, told = ask(WAITING, lost(), WAITING, DONE)

    assert done == Released(9, "t0")
    assert host.asked == [("release", ARGS)] * 4
    assert told == [("t0", "rollback")] * 2


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("REC7152", StaleError),
        ("REC7153", LockedError),
        ("REC7154", RefusedError),
        ("REC7232", LockedError),
        ("REC6009", HostError),
    ],
)
def test_a_refusal_is_told_once_with_its_own_exit_code(code: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        ask(refusal(code))

    assert code in str(caught.value)


@pytest.mark.parametrize("code", ["REC5005", "REC5006", "REC5007", "REC5008", "REC5014"])
def test_an_answer_that_was_cut_leaves_it_unknown_whether_the_claim_is_gone(code: str) -> None:
    with pytest.raises(UnreachableError) as caught:
        ask(WAITING, refusal(code))

    problem = caught.value.problems[0]
    assert (problem.code, problem.fix) == ("REC6008", "recon lock force-release spark-1 --epoch 7 --reason TEXT")
    assert code in problem.detail


def test_a_host_that_cannot_be_asked_leaves_it_unknown_whether_the_claim_is_gone() -> None:
    with pytest.raises(UnreachableError) as caught:
        ask(WAITING, lost())

    problem = caught.value.problems[0]
    assert (problem.code, problem.fix) == ("REC6008", "recon lock force-release spark-1 --epoch 7 --reason TEXT")


@pytest.mark.parametrize(
    "reply",
    [
        {"released": True},
        {"released": True, "epoch": None},
        {"released": True, "epoch": "x", "stopped": None},
        {"released": True, "epoch": float("inf")},
        {"released": "yes", "epoch": 9, "stopped": None},
        {"released": True, "epoch": 9, "stopped": 7},
        {},
    ],
)
def test_an_answer_that_is_not_understood_is_never_a_claim_that_is_gone(reply: dict[str, object]) -> None:
    with pytest.raises(UnreachableError) as caught:
        ask(reply)

    problem = caught.value.problems[0]
    assert (problem.code, problem.fix) == ("REC6008", "recon lock force-release spark-1 --epoch 7 --reason TEXT")


def test_ctrl_c_says_how_to_go_on_too() -> None:
    def interrupted() -> dict[str, object]:
        raise KeyboardInterrupt

    with pytest.raises(UnreachableError) as caught:
        ask(WAITING, interrupted)

    assert caught.value.problems[0].fix == "recon lock force-release spark-1 --epoch 7 --reason TEXT"


def test_leaving_says_how_to_go_on() -> None:
    detach = threading.Event()

    def left() -> dict[str, object]:
        detach.set()
        return WAITING

    with pytest.raises(UnreachableError) as caught:
        ask(left, detach=detach)

    assert caught.value.problems[0].code == "REC6021"
