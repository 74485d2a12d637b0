"""Requests, frames and verbs as the agent sees them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.agent import dispatch, observe, wire
from reconciler.agent.__main__ import USAGE, main
from reconciler.agent.wire import RequestError
from reconciler.errors import HostError
from reconciler.hosts.wire import ReplyReader
from tests.agent.test_observe import ARGS, CTX, a_host


def test_a_reply_is_read_by_the_controller_whatever_the_login_printed_before() -> None:
    assert ReplyReader("spark-1").feed(b"Welcome!" + wire.reply({"protocol": 1, "a": "ü"})) == {"protocol": 1, "a": "ü"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (observe.IdentityError("/etc/machine-id is empty"), "REC5015"),
        (RequestError("REC5016", "the agent does not know this request"), "REC5016"),
        (RuntimeError("boom"), "REC5014"),
    ],
)
def test_an_error_keeps_its_code_on_the_way_to_the_controller(error: Exception, code: str) -> None:
    with pytest.raises(HostError) as raised:
        ReplyReader("spark-1").feed(wire.refusal(error))

    assert [problem.code for problem in raised.value.problems] == [code]


@pytest.mark.parametrize(
    ("verb", "args"),
    [("reboot", {}), (None, {}), ("observe", []), ("follow", {}), ("execute", {"txid": 7}), ("\x1b[2J", {})],
)
def test_a_request_that_is_none_is_refused_with_what_is_wrong(verb: Any, args: Any) -> None:
    with pytest.raises(RequestError) as raised:
        dispatch.handle(a_host(), verb, args, CTX)

    assert raised.value.code == "REC5016"
    assert str(raised.value).isprintable()


def test_observe_answers_what_the_observation_says() -> None:
    answer = dispatch.handle(a_host(), "observe", ARGS, CTX)

    assert json.loads(json.dumps(answer))["fingerprint"] == observe.observe(a_host(), ARGS, CTX)["fingerprint"]
    assert (answer["agent"]["digest"], answer["agent"]["mode"]) == ("d" * 64, "streamed")


@pytest.mark.parametrize("argv", [[], ["execute"], ["observe", "x"], ["apply", "t1"]])
def test_a_wrong_command_line_gets_the_right_one(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 64
    assert capsys.readouterr().err == USAGE + "\n"
