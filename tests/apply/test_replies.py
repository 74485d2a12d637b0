"""A reply that is none ends as an error that names the host; where a deed was asked for, as one that may be done."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Any

import pytest

from reconciler.apply.alerts import clear
from reconciler.apply.down import Wish, down, up
from reconciler.apply.history import ask_history
from reconciler.apply.jobs import run_job, show_log
from reconciler.apply.locks import hold, lift, lock
from reconciler.apply.reap import reap
from reconciler.apply.registry import ask_registry
from reconciler.apply.webhooks import try_webhooks
from reconciler.errors import HostError, Problem, UnreachableError
from reconciler.hosts.strangers import ask_strangers
from tests.apply.plans import Answer, FakePace, Hosts, ScriptedHost, refusal
from tests.builders import a_host

HOST = a_host()
Ask = Callable[[Hosts], object]
BODIES: list[dict[str, Any]] = [{}, {"lines": 7}, {"lines": [3]}, {"x": "\x1b[8m"}, {"paths": None, "jobs": "x"}]
ABSURD = {"unit": "u", "cursor": "c", "lines": [{"at": 1e300, "text": "x"}]}


def fails(problem: object) -> object:
    """Raise the problem that stands for a host in the answer of many."""
    if isinstance(problem, Problem):
        raise HostError(problem)
    return problem


WISH = Wish(scope="coven", owner="ann", reason="r")
LOOKS: dict[str, Ask] = {
    "history": lambda to: ask_history(HOST, to, 5),
    "alerts": lambda to: clear(HOST, to),
    "reap": lambda to: reap(HOST, to, go=False, owner="ann"),
    "registry": lambda to: ask_registry(HOST, to, {}),
    "webhooks": lambda to: try_webhooks(HOST, to, "ann"),
    "strangers": lambda to: ask_strangers(HOST.name, to(HOST), []),
    "down": lambda to: fails(down([HOST], to, WISH)["spark-1"]),
    "up": lambda to: fails(up([HOST], to, WISH)["spark-1"]),
    "logs": lambda to: show_log(HOST, "x", to, lines=1, follows=False, on_lines=print, detach=Event()),
}
DEEDS: dict[str, Ask] = {
    "lock": lambda to: lock(HOST, to, {"deed": "acquire"}),
    "hold": lambda to: hold(HOST, to, {}),
    "lift": lambda to: lift(HOST, to, {}),
    "run": lambda to: run_job(
        HOST, "x", to, owner="ann", on_start=print, on_lines=print, detach=Event(), pace=FakePace()
    ),
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("asked", LOOKS)
def test_words_that_are_no_reply_are_an_error_of_that_host(asked: str, body: dict[str, Any]) -> None:
    with pytest.raises(HostError) as caught:
        LOOKS[asked](Hosts(spark_1=ScriptedHost(body)))

    problem = caught.value.problems[0]
    assert (problem.code, problem.detail.startswith("spark-1: ")) == ("REC5005", True)
    assert str(problem).replace("\n", "").isprintable()


def test_a_line_of_no_time_is_no_line() -> None:
    with pytest.raises(HostError, match="REC5005"):
        LOOKS["logs"](Hosts(spark_1=ScriptedHost(ABSURD)))


@pytest.mark.parametrize(
    "answer", [*BODIES, *(refusal(code) for code in ("REC5005", "REC5006", "REC5007", "REC5008", "REC5014"))]
)
@pytest.mark.parametrize("asked", DEEDS)
def test_a_deed_whose_answer_tells_nothing_may_be_done(asked: str, answer: Answer) -> None:
    with pytest.raises(UnreachableError) as caught:
        DEEDS[asked](Hosts(spark_1=ScriptedHost(answer)))

    assert caught.value.problems[0].code == "REC6008"


def test_so_may_a_job_whose_journal_says_nothing_that_can_be_read() -> None:
    start = {"unit": "recon-job-x.service", "cursor": "c0", "joined": False}

    answers: list[Answer] = [*BODIES, refusal("REC5014")]
    for answer in answers:
        with pytest.raises(UnreachableError) as caught:
            DEEDS["run"](Hosts(spark_1=ScriptedHost(start, answer)))
        assert (caught.value.problems[0].code, caught.value.problems[0].fix) == (
            "REC6008",
            "recon logs spark-1 x --follow",
        )
