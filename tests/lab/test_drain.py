"""A drain against a server over real HTTP: its pause is seen to have happened, and one that sleeps is let be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.lab.labs import Lab
from reconciler.lab.machines import Machine
from reconciler.model.desired import Service
from reconciler.render.runtimes import launch_argv, probes_of
from tests.lab.agent_on_host import agent_on, play
from tests.lab.test_lab_model_server import PORT, Server

ASLEEP = "asleep (weights_offloaded)"
DRIVER = """
from agent import health, step_drain
member = json.loads(words[0])
found = {"halt": "", "health": health.probe(machine, member["health"], member)["value"]}
try:
    step_drain.drain(run, [member], None)
except HaltError as halt:
    found["halt"] = f"{halt.code} {halt.reason}"
found["notes"] = [text for status, text in quiet.said if status == "progress" and "still busy" not in text]
found["paused"] = sorted(run.paused)
if len(words) > 1:
    step_drain.resume(run)
"""


@pytest.fixture
def vllm(machine: Machine, lab: Lab) -> Iterator[Server]:
    """vLLM in development mode, with every word that recon would start it with."""
    server = Server(machine, lab.base.image)
    words = [word for word in launch_argv(a_service()) if word not in ("--port", str(PORT))]
    server.start(*words, VLLM_SERVER_DEV_MODE="1")
    server.until("GET", "/health", 200)
    with agent_on(machine):
        yield server
    machine.run(["podman", "rm", "--all", "--force", "--time", "0"])
    server.finish()


def a_service() -> Service:
    values = {"runtime": "vllm", "image": "x", "port": PORT, "memory": "1GiB", "model": {"path": "/usr"}}
    return Service.model_validate({**values, "args": ("--enable-sleep-mode",)})


def drained(vllm: Server, *words: str, **over: Any) -> dict[str, Any]:
    probes = json.loads(json.dumps({key: _plain(value) for key, value in probes_of(a_service())._asdict().items()}))
    member = {
        **probes,
        "service": "vllm",
        # A unit that is up: whose it is, is all the same to a drain.
        "unit": "systemd-journald.service",
        "drain_timeout_s": 3.0,
        "on_timeout": "abort",
        **over,
    }
    found: dict[str, Any] = play(vllm.machine, DRIVER, json.dumps(member), *words)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def test_a_quiet_server_is_paused_and_serves_again_when_it_is_let_go(vllm: Server) -> None:
    found = drained(vllm)
    paused = vllm.ask("GET", "/is_paused")[1]
    drained(vllm, "resume")

    assert (found["halt"], found["notes"], found["paused"]) == ("", [], ["systemd-journald.service"])
    assert (paused, vllm.ask("GET", "/is_paused")[1]) == ('{"is_paused": true}', '{"is_paused": false}')


def test_a_pause_that_did_not_happen_is_seen(vllm: Server) -> None:
    vllm.machine.fault(PORT, {"pause-lies": True})

    told = drained(vllm)
    asked_for = drained(vllm, must_pause=True)

    text = "it says that it paused, and /is_paused says that it is not paused"
    assert (told["halt"], told["notes"]) == ("", [f"vllm could not be sealed: {text}"])
    assert asked_for["halt"] == f"REC7134 vllm does not pause, and admission: pause asks for it: {text}"


def test_an_engine_that_sleeps_is_not_healthy_and_is_stopped_as_it_is(vllm: Server) -> None:
    vllm.ask("POST", "/sleep?level=1&mode=wait")

    found = drained(vllm, must_pause=True)

    assert found == {
        "halt": "",
        "health": {"ok": False, "status": 200, "detail": ASLEEP, "asleep": True},
        "notes": [f"vllm is {ASLEEP}: nothing begins there, so it is not paused"],
        "paused": [],
    }


def test_what_waits_in_an_engine_that_sleeps_ends_the_drain_at_its_deadline(vllm: Server) -> None:
    vllm.ask("POST", "/sleep?level=1&mode=wait")
    waits = vllm.in_background("/v1/completions", {"prompt": "x", "max_tokens": 1})
    vllm.loaded(1)

    found = drained(vllm)
    vllm.ask("POST", "/wake_up")
    vllm.finish()

    text = f"REC7101 vllm is {ASLEEP} and 1 requests still wait there after 3 s; the old coven stays as it is"
    assert found["halt"] == text
    assert [answer[0] for answer in waits if isinstance(answer, tuple)] == [200]
