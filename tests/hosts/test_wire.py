"""Frames: what goes out word for word, and what may come back from a host nobody trusts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.errors import HostError
from reconciler.hosts.wire import MAX_REPLY, NEED, ReplyReader, bundle_frame, parse_reply, request_frame


def frame(document: Any) -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return b"RECON1 %d\n%b" % (len(body), body)


def code_of(document: Any) -> tuple[str, str]:
    with pytest.raises(HostError) as caught:
        ReplyReader("spark-1").feed(frame(document))
    problem = caught.value.problems[0]
    return problem.code, problem.detail


def test_a_request_is_one_line_and_one_document() -> None:
    body = '{"protocol":1,"verb":"observe","args":{"a":["ü"]},"digest":"d"}'.encode()

    assert request_frame("observe", {"a": ["ü"]}, "d") == b"RECON1 64\n" + body
    assert bundle_frame(b"abc") == b"RECON1-BUNDLE 3\nabc"


def test_a_reply_is_put_together_byte_by_byte_after_a_request_for_the_bundle() -> None:
    reader = ReplyReader("spark-1")
    sent = b"Last login: today\n\nRECON1-NEED " + b"a" * 64 + b"\n" + b"\n" + frame({"ok": True, "reply": {"n": 1}})
    found = [reader.feed(bytes([byte])) for byte in sent]

    assert [answer for answer in found if answer is not None] == [NEED, {"n": 1}]
    assert found[-1] == {"n": 1}


def test_the_word_in_the_middle_of_a_line_is_noise() -> None:
    reader = ReplyReader("spark-1")

    assert reader.feed(b"use RECON1 10\nto talk\n") is None
    assert reader.feed(frame({"ok": True, "reply": {}})) == {}


def test_noise_is_bounded() -> None:
    with pytest.raises(HostError) as caught:
        ReplyReader("spark-1").feed(b"\x1b[31m" + b"y\n" * 40_000)

    assert caught.value.problems[0].code == "REC5008"
    assert r"'\x1b[31my\ny\n" in caught.value.problems[0].detail


def test_a_length_beyond_the_limit_is_refused_at_once() -> None:
    with pytest.raises(HostError) as caught:
        ReplyReader("spark-1").feed(b"RECON1 %d\n" % (MAX_REPLY + 1))

    assert caught.value.problems[0].code == "REC5006"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"ok":true,"reply":{}} and more',
        b'{"ok":true,"reply":{"x":NaN}}',
        b'{"ok":true,"reply":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        {"ok": True, "reply": {"deep": json.loads("[" * 60 + "]" * 60)}},
        b"1" * 5000,
        [],
        {},
        {"ok": 1, "reply": {}},
        {"ok": True},
        {"ok": True, "reply": [1]},
        {"ok": False, "code": "no code"},
        {"ok": False, "code": 5},
    ],
)
def test_what_is_no_reply_is_not_taken_for_one(document: Any) -> None:
    assert code_of(document)[0] == "REC5005"


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400, "NaN", "Infinity"])
def test_a_number_that_nobody_can_count_with_is_no_reply(number: str) -> None:
    with pytest.raises(HostError) as caught:
        parse_reply(b'{"ok":true,"reply":{"lease":{"age_s":%b}}}' % number.encode(), "spark-1")

    assert caught.value.problems[0].code == "REC5005"


def test_numbers_as_hosts_have_them_are_read_as_they_are() -> None:
    body = b'{"ok":true,"reply":{"most":18446744073709551615,"less":-1,"part":1.5e3}}'

    assert parse_reply(body, "h") == {"most": 18446744073709551615, "less": -1, "part": 1500.0}


def test_half_a_pair_that_no_file_and_no_terminal_takes_is_replaced() -> None:
    body = rb'{"ok":true,"reply":{"a\uD800":["\udcff","\ud83d\ude00","\\udcff",1,null],"b":"\ud800"}}'

    assert parse_reply(body, "h") == {"a\ufffd": ["\ufffd", "\U0001f600", "\\udcff", 1, None], "b": "\ufffd"}


def test_another_protocol_version_has_its_own_code() -> None:
    code, detail = code_of({"ok": True, "reply": {"protocol": 2}})

    assert (code, detail) == ("REC5007", "spark-1 answers with version 2, this recon knows 1")


def test_a_refusal_of_the_agent_keeps_its_words_cut_to_a_length() -> None:
    refusal = {"ok": False, "code": "REC5015", "summary": "no", "detail": "d" * 9000, "fix": 7}

    assert code_of(refusal) == ("REC5015", "d" * 2000)


def test_output_that_ends_too_early_says_how_much_came() -> None:
    reader = ReplyReader("spark-1")
    reader.feed(b"RECON1 100\n{")

    assert reader.end_of_output().detail == "spark-1 promised 100 bytes and sent 1"
    assert ReplyReader("spark-1").end_of_output().detail == "spark-1 ended the request without any output"


def test_a_reply_may_be_deep_but_not_endless() -> None:
    deep: Any = 1
    for _ in range(30):
        deep = [deep]

    assert parse_reply(json.dumps({"ok": True, "reply": {"x": deep}}).encode(), "h") == {"x": deep}
