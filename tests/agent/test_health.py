"""Health addresses: no answer is an answer."""

from __future__ import annotations

from reconciler.agent import health
from reconciler.agent.machine import Response
from tests.agent.fakehost import FakeHost

URL = "http://127.0.0.1:8000/health"


def test_2xx_is_healthy_and_its_body_is_nobodys_business() -> None:
    host = FakeHost(addresses={URL: Response(204, b"whatever")})

    assert health.probe(host, URL) == {"value": {"ok": True, "status": 204, "detail": ""}}


def test_anything_else_is_not_and_says_what_came_made_harmless_and_short() -> None:
    host = FakeHost(addresses={URL: Response(503, b"loading \x1b[31mmodel\n" + b"x" * 500)})

    found = health.probe(host, URL)["value"]

    assert (found["ok"], found["status"]) == (False, 503)
    assert found["detail"].startswith("loading \\x1b[31mmodel xxx")
    assert len(found["detail"]) == 200


def test_no_answer_is_not_healthy_either() -> None:
    assert health.probe(FakeHost(), URL) == {"value": {"ok": False, "status": 0, "detail": "Connection refused"}}


def test_without_an_address_there_is_no_such_fact() -> None:
    assert health.probe(FakeHost(), None) == {"na": "it has no health address"}
