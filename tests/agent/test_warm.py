from __future__ import annotations

from typing import Any

from reconciler.agent.machine import Response
from reconciler.agent.warm import Warmth, first_model, offered, warm_up
from tests.agent.fakehost import FakeHost

MODELS = "http://127.0.0.1:8000/v1/models"
GENERATE = "http://127.0.0.1:8000/v1/completions"


class Server(FakeHost):
    """Answers, and remembers what was sent."""

    def __init__(self, **addresses: Response) -> None:
        super().__init__()
        self.answers = {MODELS: addresses.get("models"), GENERATE: addresses.get("generate")}
        self.sent: list[tuple[str, str, bytes | None]] = []

    def http(
        self, method: str, url: str, timeout_s: float, body: bytes | None = None, limit: int = 1 << 20
    ) -> Response:
        self.sent.append((method, url, body))
        return self.answers.get(url) or Response(0, b"connection refused")


def a_warm_up(**over: Any) -> dict[str, Any]:
    body = '{"model": "{model}", "prompt": "1", "max_tokens": 1}'
    call = {"method": "POST", "url": GENERATE, "body": body, "optional": False}
    return {"call": call, "model_url": MODELS, "expect_model": None, "timeout_s": 30.0} | over


def listing(name: str) -> Response:
    return Response(200, b'{"data": [{"id": "%b"}, {"id": "lora"}]}' % name.encode())


def test_the_first_model_goes_into_the_body_as_json_writes_it() -> None:
    server = Server(models=Response(200, b'{"data": [{"id": "a \\"b\\""}]}'), generate=Response(200, b"{}"))

    assert warm_up(server, a_warm_up()) == Warmth(True, "")
    assert server.sent == [
        ("GET", MODELS, None),
        ("POST", GENERATE, b'{"model": "a \\"b\\"", "prompt": "1", "max_tokens": 1}'),
    ]


def test_another_model_than_expected_is_final_and_nothing_is_generated() -> None:
    server = Server(models=listing("small"), generate=Response(200, b"{}"))

    assert warm_up(server, a_warm_up(expect_model="big")) == Warmth(
        False, "it serves the model small, not big", final=True
    )
    assert [method for method, _, _ in server.sent] == ["GET"]


def test_a_generation_that_fails_is_told_and_may_be_tried_again() -> None:
    server = Server(models=listing("big"), generate=Response(500, b"Engine\x1b[31m died"))

    assert warm_up(server, a_warm_up()) == Warmth(
        False, f"POST {GENERATE} answered 500: Engine\\x1b[31m died", status=500
    )


def test_a_generation_that_is_not_offered_is_final() -> None:
    server = Server(models=listing("reranker"), generate=Response(404, b'{"detail":"Not Found"}'))

    assert warm_up(server, a_warm_up()) == Warmth(
        False,
        f'POST {GENERATE} answered 404: {{"detail":"Not Found"}}; '
        "asking again cannot help, `warm: {request: false}` does without",
        final=True,
    )


def test_a_list_that_wants_a_key_is_final() -> None:
    server = Server(models=Response(401, b'{"error":"Unauthorized"}'))

    assert warm_up(server, a_warm_up()) == Warmth(
        False,
        'the list of models answered 401: {"error":"Unauthorized"}; '
        "asking again cannot help, `warm: {request: false}` does without",
        final=True,
    )


def test_no_answer_and_no_models_are_no_warmth() -> None:
    assert warm_up(Server(), a_warm_up()) == Warmth(False, "the list of models did not answer: connection refused")
    empty = Server(models=Response(200, b'{"data": []}'))
    assert warm_up(empty, a_warm_up()) == Warmth(False, "the list of models names no model")


def test_a_list_of_models_that_was_cut_names_none() -> None:
    server = Server(models=Response(200, b'{"data": [{"id": "small"}]}', cut=True))

    reason = "the list of models answered 200 with more than is read of an answer"
    assert warm_up(server, a_warm_up()) == Warmth(False, reason)


def test_a_warm_up_without_a_list_is_sent_as_it_is() -> None:
    server = Server(generate=Response(204, b""))

    assert warm_up(server, a_warm_up(model_url=None)).ok
    assert [url for _, url, _ in server.sent] == [GENERATE]


def test_an_optional_call_that_is_not_offered_is_no_failure() -> None:
    call = {"method": "POST", "url": GENERATE, "body": None, "optional": True}

    assert offered(Server(generate=Response(404, b"")), call, 1.0) == Warmth(True, "not offered")
    assert offered(Server(generate=Response(405, b"")), call, 1.0) == Warmth(True, "not offered")
    assert not offered(Server(generate=Response(500, b"")), call, 1.0).ok
    assert not offered(Server(generate=Response(404, b"")), call | {"optional": False}, 1.0).ok


def test_what_is_no_model_list_names_none() -> None:
    bodies = [b"", b"{}", b'{"data": {}}', b'{"data": [{"id": 3}]}', b'{"data": [{"id": ""}]}', b"\xff", b"[" * 100_000]

    assert [first_model(body) for body in bodies] == [None] * len(bodies)
