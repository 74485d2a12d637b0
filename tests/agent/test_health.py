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


class Slow(FakeHost):
    """A host whose addresses take their time, and may answer otherwise when they are asked again."""

    def __init__(self, *answers: tuple[float, Response]) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[float] = []

    def http(
        self, method: str, url: str, timeout_s: float, body: bytes | None = None, limit: int = 1 << 20
    ) -> Response:
        takes, answer = self.answers.pop(0)
        self.asked.append(round(timeout_s, 3))
        self.now += min(takes, timeout_s)
        return answer


def test_an_answer_that_does_not_come_in_time_is_slow_and_is_asked_for_once() -> None:
    host = Slow((9.0, Response(0, b"no answer within 2 s")))

    assert health.probe(host, URL) == {
        "value": {"ok": False, "status": 0, "detail": "no answer within 2 s", "slow": True}
    }
    assert host.asked == [2.0]


def test_an_answer_that_takes_long_is_good_and_slow() -> None:
    host = Slow((1.5, Response(200, b"")))

    assert health.probe(host, URL) == {
        "value": {"ok": True, "status": 200, "detail": "it took 1.5 s to answer", "slow": True}
    }


def test_an_answer_that_breaks_off_is_asked_for_again_within_the_same_time() -> None:
    host = Slow((0.5, Response(0, b"Connection reset by peer")), (0.1, Response(200, b"")))

    assert health.probe(host, URL) == {"value": {"ok": True, "status": 200, "detail": ""}}
    assert host.asked == [2.0, 1.5]


def test_who_does_not_listen_is_dead_and_not_slow() -> None:
    host = Slow((0.0, Response(0, b"[Errno 111] Connection refused")))

    assert health.probe(host, URL) == {"value": {"ok": False, "status": 0, "detail": "[Errno 111] Connection refused"}}
