"""Jobs and journals from afar: a start is asked for once, its journal as often as it takes."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from reconciler.apply.jobs import run_job, show_log
from reconciler.errors import LockedError, RefusedError, UnreachableError
from reconciler.model.journal_lines import JobResult, JobStart
from tests.apply.plans import Answer, FakePace, Hosts, ScriptedHost, lost, refusal
from tests.builders import a_host

START = {"unit": "recon-job-refill.service", "cursor": "c0", "joined": False}


def news(*lines: str, cursor: str, result: dict[str, Any] | None = None, active: bool = True) -> dict[str, Any]:
    told = [{"at": 1.0, "text": line} for line in lines]
    return {"unit": START["unit"], "lines": told, "cursor": cursor, "result": result, "active": active}


DONE = {"ok": True, "text": "done"}


def run(*script: Answer, detach: threading.Event | None = None) -> tuple[JobResult, ScriptedHost, list[str]]:
    host, told = ScriptedHost(*script), list[str]()
    started: list[JobStart] = []
    result = run_job(
        a_host(),
        "refill",
        Hosts(spark_1=host),
        owner="ann@laptop",
        on_start=started.append,
        on_lines=lambda lines: told.extend(line.text for line in lines),
        detach=detach or threading.Event(),
        pace=FakePace(),
    )
    return result, host, told


def test_a_job_is_started_once_and_followed_from_where_its_journal_was() -> None:
    result, host, told = run(
        START, news("one", cursor="c1"), lost(), news("two", cursor="c2"), news(cursor="c2", result=DONE)
    )

    assert (result, told) == (JobResult(ok=True, text="done"), ["one", "two"])
    assert host.asked[0] == ("run", {"job": "refill", "owner": "ann@laptop", "host": "spark-1"})
    assert [verb for verb, _ in host.asked] == ["run", "job", "job", "job", "job"]


@pytest.mark.parametrize(
    ("code", "kind"), [("REC7392", RefusedError), ("REC7393", RefusedError), ("REC7394", LockedError)]
)
def test_a_refusal_has_its_own_exit_code(code: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=code):
        run(refusal(code))


def test_a_start_that_may_have_happened_is_not_asked_for_again() -> None:
    with pytest.raises(UnreachableError):
        run(lost(), START)


def test_who_leaves_is_told_how_to_look_again() -> None:
    detach = threading.Event()

    def leave() -> dict[str, Any]:
        detach.set()
        return news("one", cursor="c1")

    with pytest.raises(UnreachableError) as caught:
        run(START, leave, detach=detach)

    problem = caught.value.problems[0]
    assert (problem.code, problem.fix) == ("REC6021", "recon logs spark-1 refill --follow")


def test_a_job_that_neither_runs_nor_ended_is_given_up_on() -> None:
    silent = news(cursor="c1", active=False)

    with pytest.raises(UnreachableError, match="neither runs nor says how it ended"):
        run(START, *[silent] * 500)


def test_a_journal_is_shown_and_then_followed_until_a_person_leaves() -> None:
    detach, told = threading.Event(), list[str]()
    page = {key: value for key, value in news("one", cursor="c1").items() if key not in ("result", "active")}

    def last() -> dict[str, Any]:
        detach.set()
        return {**page, "lines": [{"at": 2.0, "text": "two"}], "cursor": "c2"}

    host = ScriptedHost(page, last)
    show_log(
        a_host(),
        "refill",
        Hosts(spark_1=host),
        lines=5,
        follows=True,
        on_lines=lambda lines: told.extend(line.text for line in lines),
        detach=detach,
        pace=FakePace(),
    )

    assert told == ["one", "two"]
    assert host.asked == [
        ("logs", {"service": "refill", "lines": 5}),
        ("logs", {"service": "refill", "after": "c1", "wait_s": 2.0}),
    ]


@pytest.mark.parametrize(
    ("first", "cursor", "second"),
    [
        (["old"], "c1", {"service": "refill", "after": "c1", "wait_s": 2.0}),
        ([], "", {"service": "refill", "lines": 1000}),
    ],
)
def test_without_old_lines_the_journal_is_followed_from_its_end(
    first: list[str], cursor: str, second: dict[str, Any]
) -> None:
    detach, told = threading.Event(), list[str]()

    def page(lines: list[str], cursor: str) -> dict[str, Any]:
        return {"unit": START["unit"], "lines": [{"at": 1.0, "text": text} for text in lines], "cursor": cursor}

    def last() -> dict[str, Any]:
        detach.set()
        return page(["new"], "c2")

    host = ScriptedHost(page(first, cursor), last)
    show_log(
        a_host(),
        "refill",
        Hosts(spark_1=host),
        lines=0,
        follows=True,
        on_lines=lambda lines: told.extend(line.text for line in lines),
        detach=detach,
        pace=FakePace(),
    )

    assert told == ["new"]
    assert host.asked == [("logs", {"service": "refill", "lines": 1}), ("logs", second)]
