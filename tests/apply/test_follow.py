"""Following a transaction: news in order, broken lines, hosts that have nothing more to say."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from reconciler.apply.events import HostEvent, HostLost, HostProgress
from reconciler.apply.follow import attach
from reconciler.model.outcome import Outcome
from tests.apply.plans import (
    Answer,
    FakePace,
    Hosts,
    ScriptedHost,
    an_event,
    an_outcome,
    lost,
    news,
    refusal,
)
from tests.builders import a_host


def follow(*script: Answer, pace: FakePace | None = None) -> tuple[Outcome, ScriptedHost, list[HostEvent]]:
    host, events = ScriptedHost(*script), list[HostEvent]()
    outcome = attach(
        a_host(), "t1", Hosts(spark_1=host), on_event=events.append, detach=threading.Event(), pace=pace or FakePace()
    )
    return outcome, host, events


def seen(events: list[HostEvent]) -> list[int]:
    return [event.event.seq for event in events if isinstance(event, HostProgress)]


def test_a_transaction_is_followed_from_its_first_line() -> None:
    outcome, host, events = follow(
        news(an_event(1), an_event(2)), news(an_event(3), outcome=an_outcome("spark-1", state="rolled_back"))
    )

    assert outcome == Outcome.model_validate(an_outcome("spark-1", state="rolled_back"))
    assert seen(events) == [1, 2, 3]
    assert host.asked == [
        ("follow", {"txid": "t1", "after_seq": 0, "wait_s": 2.0}),
        ("follow", {"txid": "t1", "after_seq": 2, "wait_s": 2.0}),
    ]


def test_a_broken_line_is_picked_up_where_it_broke() -> None:
    outcome, host, events = follow(
        news(an_event(1)), lost(), lost("REC6007"), news(an_event(1), an_event(2), outcome=an_outcome("spark-1"))
    )

    assert outcome.state == "applied"
    assert seen(events) == [1, 2]
    assert [event.reason for event in events if isinstance(event, HostLost)] == ["REC6008: lost", "REC6007: lost"]
    assert host.connections == 3


def test_waits_between_tries_grow_and_end_within_a_minute() -> None:
    pace = FakePace()
    outcome, _, _ = follow(lost(), pace=pace)

    assert (outcome.state, outcome.code) == ("unknown", "REC6008")
    assert outcome.fix == "recon apply --attach t1 --host spark-1"
    assert sum(pace.waits) <= 60.0
    expected = [0.5, 1.0, 2.0, 4.0] + [8.0] * (len(pace.waits) - 4)
    assert all(0.75 <= wait / base <= 1.25 for wait, base in zip(pace.waits, expected, strict=True))


def test_a_host_that_comes_back_gets_a_whole_minute_again() -> None:
    pace = FakePace()
    gone = [lost("REC6007")] * 6
    outcome, _, _ = follow(*gone, news(an_event(1)), *gone, news(outcome=an_outcome("spark-1")), pace=pace)

    assert outcome.state == "applied"
    assert sum(pace.waits) > 40.0


@pytest.mark.parametrize("code", ["REC6001", "REC6002", "REC6004"])
def test_a_login_that_is_refused_is_not_tried_again(code: str) -> None:
    outcome, host, _ = follow(news(an_event(1)), lost(code))

    assert (outcome.state, outcome.code) == ("unknown", "REC6008")
    assert len(host.asked) == 2


def test_a_host_that_refuses_for_a_while_is_asked_again() -> None:
    outcome, _, _ = follow(refusal("REC5014"), news(outcome=an_outcome("spark-1")))

    assert outcome.state == "applied"


def test_an_executor_that_has_not_begun_yet_is_waited_for() -> None:
    idle = [news(active=False)] * 20
    outcome, _, _ = follow(*idle, news(an_event(1)), news(outcome=an_outcome("spark-1")))

    assert outcome.state == "applied"


def test_an_executor_that_is_gone_without_an_outcome_is_unknown_and_says_where_to_look() -> None:
    outcome, _, _ = follow(news(an_event(1)), news(active=False))

    assert (outcome.state, outcome.code, outcome.fix) == ("unknown", "REC6022", "recon status --host spark-1")
    assert outcome.reason.endswith("the host restarted, or it was killed")


def test_a_transaction_the_host_never_heard_of_is_said_to_be_that() -> None:
    outcome, _, _ = follow(news(active=False))

    assert (outcome.state, outcome.code) == ("unknown", "REC6022")
    assert outcome.reason.endswith("it was never begun")


def test_a_host_that_answers_at_once_is_not_asked_in_a_circle() -> None:
    pace = FakePace()
    follow(news(), news(), news(an_event(1)), news(outcome=an_outcome("spark-1")), pace=pace)

    assert pace.waits == [0.2, 0.2]


def test_a_host_that_waits_for_news_is_asked_again_at_once() -> None:
    pace = FakePace()
    follow(pace.passing(2.0, news()), pace.passing(2.0, news()), news(outcome=an_outcome("spark-1")), pace=pace)

    assert pace.waits == []


@pytest.mark.parametrize("strange", [{"txid": "t0"}, {"host": "spark-9"}, {"txid": "t0", "host": "spark-9"}])
@pytest.mark.parametrize("state", ["applied", "rolled_back"])
def test_how_something_else_ended_is_not_how_this_did(strange: dict[str, Any], state: str) -> None:
    outcome, _, _ = follow(news(an_event(1), outcome=an_outcome("spark-1", state=state) | strange))

    assert (outcome.state, outcome.code, outcome.host, outcome.txid) == ("unknown", "REC5005", "spark-1", "t1")
    assert all(value in outcome.reason for value in strange.values())


def test_the_end_of_an_order_that_the_host_could_not_read_names_no_host() -> None:
    outcome, _, _ = follow(news(outcome=an_outcome("", state="refused")))

    assert (outcome.state, outcome.txid) == ("refused", "t1")


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"events": [], "outcome": {"state": "applied"}, "active": False},
        {"events": [{"seq": "one"}], "outcome": None, "active": True},
        {"events": None, "outcome": None, "active": True},
        {"events": [an_event(1) | {"t": float("inf")}], "outcome": None, "active": True},
        {"events": [], "outcome": an_outcome("spark-1", elapsed_s=float("inf")), "active": False},
        {"events": [], "outcome": an_outcome("spark-1", steps_s={"warm": float("nan")}), "active": False},
        {"events": [], "outcome": an_outcome("spark-1", elapsed_s=10**400), "active": False},
    ],
)
def test_an_answer_that_is_not_understood_is_never_an_applied_one(reply: dict[str, Any]) -> None:
    outcome, _, _ = follow(reply)

    assert (outcome.state, outcome.code) == ("unknown", "REC5005")


def test_what_began_before_a_rename_is_followed_to_its_end_under_the_new_name() -> None:
    host = ScriptedHost(news(an_event(1)), news(outcome=an_outcome("old-1")))
    renamed = a_host(formerly="studio/old-1")
    outcome = attach(renamed, "t1", Hosts(spark_1=host), on_event=lambda _: None, pace=FakePace())

    assert outcome == Outcome.model_validate(an_outcome("old-1"))


@pytest.mark.parametrize("ended", [an_outcome("old-2"), an_outcome("studio/old-1"), an_outcome("old-1", txid="t2")])
def test_nothing_else_passes_for_it(ended: dict[str, Any]) -> None:
    host = ScriptedHost(news(outcome=ended))
    renamed = a_host(formerly="studio/old-1")
    outcome = attach(renamed, "t1", Hosts(spark_1=host), on_event=lambda _: None, pace=FakePace())

    assert (outcome.state, outcome.code) == ("unknown", "REC5005")
