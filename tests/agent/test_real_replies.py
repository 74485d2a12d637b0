"""What real servers answered is understood; `replies/README.md` says which servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconciler.agent import health
from reconciler.agent.busy import Busy, busy_of
from reconciler.agent.machine import Response
from reconciler.agent.warm import Warmth, first_model, warm_up
from reconciler.model.desired import RuntimeName
from reconciler.render.runtimes import Probes, probes_of
from tests.agent.fakehost import FakeHost
from tests.render.fleets import a_service

BASE = "http://127.0.0.1:8000"
REPLIES = Path(__file__).with_name("replies")
LOADING = '{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'
NO_KEY = '{"error":{"message":"Invalid API Key","type":"authentication_error","code":401}}'


def probes(runtime: RuntimeName) -> Probes:
    return probes_of(a_service(runtime=runtime, port=8000, model={"path": "/srv/models/tiny"}))


def a_host(server: str, **replies: tuple[int, str]) -> FakeHost:
    """A host whose server answers on `/<name>` what the real one did."""
    answers = {
        name: Response(status, (REPLIES / server / file).read_bytes()) for name, (status, file) in replies.items()
    }
    return FakeHost(addresses={f"{BASE}/{name}": answer for name, answer in answers.items()})


def busy(runtime: RuntimeName, host: FakeHost) -> Busy:
    return busy_of(host, [probe.model_dump() for probe in probes(runtime).in_flight])


@pytest.mark.parametrize(
    ("replies", "figure"),
    [
        ({"metrics": (200, "metrics_busy"), "slots": (200, "slots_busy")}, Busy(3)),
        ({"metrics": (200, "metrics_idle"), "slots": (200, "slots_idle")}, Busy(0)),
        ({"slots": (200, "slots_busy")}, Busy(2)),
        ({"slots": (200, "slots_idle")}, Busy(0)),
        (
            {"metrics": (503, "loading"), "slots": (503, "loading")},
            Busy(None, f"/metrics answered 503: {LOADING}; /slots answered 503: {LOADING}"),
        ),
        (
            {"metrics": (401, "metrics_without_key"), "slots": (401, "metrics_without_key")},
            Busy(None, f"/metrics answered 401: {NO_KEY}; /slots answered 401: {NO_KEY}"),
        ),
    ],
)
def test_llama_server_says_how_busy_it_is(replies: dict[str, tuple[int, str]], figure: Busy) -> None:
    assert busy("llamacpp", a_host("llama-server", **replies)) == figure


@pytest.mark.parametrize(
    ("replies", "figure"),
    [
        ({"metrics": (200, "metrics_busy"), "load": (200, "load_busy")}, 1),
        ({"metrics": (200, "metrics_idle"), "load": (200, "load_idle")}, 0),
        # The first step of a long prompt, and all that waits while the server is paused.
        ({"metrics": (200, "metrics_prefill"), "load": (200, "load_busy")}, 1),
        # A server that does not count its load says 0, one from before /load says nothing.
        ({"metrics": (200, "metrics_busy"), "load": (200, "load_idle")}, 1),
        ({"metrics": (200, "metrics_busy")}, 1),
        ({"metrics": (200, "metrics_idle")}, 0),
        ({"load": (200, "load_idle")}, None),
    ],
)
def test_vllm_says_how_busy_it_is(replies: dict[str, tuple[int, str]], figure: int | None) -> None:
    assert busy("vllm", a_host("vllm", **replies)).figure == figure


def test_a_llama_server_that_loads_is_not_healthy_and_one_that_has_loaded_is() -> None:
    url = probes("llamacpp").health

    assert health.probe(a_host("llama-server", health=(503, "loading")), url) == {
        "value": {"ok": False, "status": 503, "detail": LOADING},
    }
    assert health.probe(a_host("llama-server", health=(200, "health")), url)["value"]["ok"]


@pytest.mark.parametrize(("server", "model"), [("llama-server", "/srv/models/tiny.gguf"), ("vllm", "/srv/models/tiny")])
def test_the_model_that_is_served_is_read_from_the_list(server: str, model: str) -> None:
    assert first_model((REPLIES / server / "models").read_bytes()) == model


def test_a_server_that_wants_a_key_is_not_asked_until_the_deadline() -> None:
    warm = probes("llamacpp").warm
    assert warm is not None
    request: dict[str, Any] = warm.model_dump()

    assert warm_up(a_host("llama-server", completion=(401, "metrics_without_key")), request) == Warmth(
        False,
        f"POST {BASE}/completion answered 401: {NO_KEY}; "
        "asking again cannot help, `warm: {request: false}` does without",
        final=True,
    )
