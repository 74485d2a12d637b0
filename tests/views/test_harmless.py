"""What a host says reaches no terminal as it came: no colours, titles or movements of the cursor but our own."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import pytest

from reconciler.cli import common
from reconciler.model.outcome import JournalEvent, Outcome
from reconciler.views.paint import Paint
from reconciler.views.plan_text import host_lines
from reconciler.views.run import event_line, outcome_lines, waiting_line
from tests.apply.plans import a_host_plan, an_event, an_outcome

PLAIN = Paint(on=False, width=None)
EVIL = "\x1b]0;owned\x07\x1b[2J\nx"
SEEN = "\\x1b]0;owned\\x07\\x1b[2J\\nx"


def shown(**over: Any) -> str:
    lines = list(outcome_lines(Outcome.model_validate(an_outcome("spark-1") | over), PLAIN))
    assert all(line.isprintable() for line in lines), lines
    return "\n".join(lines)


def attempt(what: str) -> dict[str, Any]:
    return {"what": what, "slot": None, "used": 2, "allowed": 3, "back": False}


@pytest.mark.parametrize(
    "over",
    [
        {"live": {"all": EVIL}},
        {"code": EVIL, "state": "held"},
        {"reason": EVIL, "state": "held"},
        {"reason": EVIL},
        {"fix": EVIL, "state": "held"},
        {"host": EVIL},
        {"logs": {EVIL: ["last"]}},
        {"logs": {"a.service": [EVIL]}},
        {"attempts": [attempt(EVIL)]},
    ],
)
def test_how_a_host_ended_is_shown_in_visible_characters(over: dict[str, Any]) -> None:
    assert SEEN in shown(**over)


@pytest.mark.parametrize("field", ["step", "slot", "text"])
def test_so_is_every_line_of_its_journal(field: str) -> None:
    line = event_line("spark-1", JournalEvent.model_validate(an_event(1) | {field: EVIL}), PLAIN)

    assert line.isprintable()
    assert SEEN in line


def test_and_the_line_that_moves() -> None:
    assert SEEN in waiting_line({"spark-1": (EVIL, 1.0)}, PLAIN)


def test_what_a_view_lets_through_is_held_up_where_lines_are_written() -> None:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        common.say(f"{Paint(on=True, width=None)('h-1', 'bold')} \x1b[2J")
        common.tell("\x1b]0;owned\x07")

    assert (out.getvalue(), err.getvalue()) == ("\x1b[1mh-1\x1b[0m \\x1b[2J\n", "\\x1b]0;owned\\x07\n")


A_CHANGE = {"actions": ["remove"], "action_reason": "file_extra", "reason": "by hand", "cause": "drift"}
A_MOVE = {
    "slot": "all",
    "from_coven": "a",
    "to_coven": "b",
    "disruption": "switch",
    "members": ["m"],
    "reason": "git moved",
    "cause": "desired",
    "cuts_off": "nobody",
    "estimated_s": None,
    "steps": [{"step": "claim", "text": "look again", "deadline_s": 30.0, "on_failure": "refused"}],
    "budget": None,
}


@pytest.mark.parametrize(
    "over",
    [
        {"changes": [{**A_CHANGE, "address": f"spark-1/file/{EVIL}"}]},
        {"live": {"all": EVIL}},
        {"live": {"left": EVIL, "right": None}},
        {"live": {"left": None, EVIL: None}},
        {"transitions": [{**A_MOVE, "from_coven": EVIL}]},
        {"transitions": [{**A_MOVE, "to_coven": EVIL}]},
        {"transitions": [{**A_MOVE, "disruption": "restart", "members": [EVIL]}]},
        {"transitions": [{**A_MOVE, "slot": EVIL}]},
    ],
)
def test_no_word_of_a_host_hides_or_adds_a_line_of_its_plan(over: dict[str, Any]) -> None:
    lines = list(host_lines(a_host_plan("spark-1", **over), PLAIN, diffs=True))

    assert all(line.isprintable() for line in lines), lines
    assert any(SEEN in line for line in lines)
