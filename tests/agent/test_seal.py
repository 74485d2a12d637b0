"""The calls a drain makes, word for word, and what it does with a server that says other than it does, or sleeps."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reconciler.agent.machine import Response
from reconciler.agent.seal import Said, is_paused
from reconciler.sim.deeds import post
from reconciler.sim.faults import set_fault
from reconciler.sim.state import Server
from tests.agent.bench import Bench, a_coven, a_service
from tests.agent.fakehost import FakeHost

PORT = 8001
BASE = f"http://127.0.0.1:{PORT}"
OLD = "recon-reasoning-vllm"
OWN_COMMAND = ("vllm", "serve", f"/srv/models/{PORT}", "--port", str(PORT))
ASLEEP = "asleep (weights_offloaded)"
Call = tuple[str, str, bytes | None]
POLL: list[Call] = [
    ("GET", f"{BASE}/metrics", None),
    ("GET", f"{BASE}/metrics", None),
    ("GET", f"{BASE}/load", None),
]
POLL_ASLEEP: list[Call] = [("GET", f"{BASE}/metrics", None), ("GET", f"{BASE}/load", None)]


class Sealed(Bench):
    """A host on which vLLM in development mode serves, and all that is asked of it is written down."""

    def __init__(self, admission: str = "auto", command: tuple[str, ...] = ()) -> None:
        drain = {"timeout": "30s", "on_timeout": "abort", "admission": admission}
        env = {"VLLM_SERVER_DEV_MODE": "1"}
        service = a_service("vllm", PORT, drain=drain, env=env, command=command, args=("--enable-sleep-mode",))
        old = a_coven("reasoning", vllm=service)
        super().__init__(old, a_coven("vision", llama=a_service("llamacpp", 8003)))
        assert self.run("reasoning").state == "applied"
        self.calls: list[Call] = []
        self.answers: dict[str, Response] = {}
        self.deeds: dict[str, Callable[[], None]] = {}
        ask = self.machine.http

        def written(
            method: str, url: str, timeout_s: float, body: bytes | None = None, limit: int = 1 << 20
        ) -> Response:
            if url.startswith(BASE + "/"):
                self.calls.append((method, url, body))
            path = url.removeprefix(BASE)
            answer = self.answers.get(path) or ask(method, url, timeout_s, body, limit)
            self.deeds.get(path, lambda: None)()
            return answer

        self.machine.http = written  # type: ignore[method-assign]  # to see what is asked

    @property
    def server(self) -> Server:
        return self.machine.podman.servers.matching(f":{PORT}")[0]

    def then(self, path: str, deed: Callable[[], None]) -> None:
        """Let something happen right after a call."""
        self.deeds[path] = deed

    def asked(self) -> list[Call]:
        """Return what was asked during a switch, without the health that observing asks for."""
        return [call for call in self.calls if call[1] != f"{BASE}/health"]

    def switch(self) -> tuple[str, str | None, str]:
        intent = self.intent("vision")
        self.calls.clear()
        outcome = self.execute(intent)
        return outcome.state, outcome.code, outcome.reason

    def notes(self) -> list[str]:
        return [event.text for event in self.events(f"2026-{self.count:04}")]

    def fall_asleep(self, query: str = "?level=1&mode=wait") -> None:
        post(self.machine, f":{PORT}", f"/sleep{query}")


def test_after_a_quiet_drain_vllm_is_paused_and_asked_whether_it_is() -> None:
    bench = Sealed()

    assert bench.switch() == ("applied", None, "generation 2 is committed")
    # The claim looks at the host once more, whose health is asked after by metric too.
    assert bench.asked() == [
        ("GET", f"{BASE}/metrics", None),
        *(POLL * 3),
        ("GET", f"{BASE}/metrics", None),
        ("POST", f"{BASE}/pause?mode=wait", None),
        ("GET", f"{BASE}/is_paused", None),
        *POLL,
    ]


def test_after_an_abort_it_is_resumed_and_asked_whether_it_is() -> None:
    bench = Sealed("pause")
    set_fault(bench.machine.state, "pause-lies", f":{PORT}")

    state, code, reason = bench.switch()

    text = "vllm does not pause, and admission: pause asks for it: it says that it paused, and /is_paused says that"
    assert (state, code, reason) == ("aborted", "REC7134", f"{text} it is not paused")
    assert bench.asked()[-5:] == [
        ("POST", f"{BASE}/pause?mode=wait", None),
        ("GET", f"{BASE}/is_paused", None),
        ("GET", f"{BASE}/metrics", None),
        ("POST", f"{BASE}/resume", None),
        ("GET", f"{BASE}/is_paused", None),
    ]
    assert bench.serving() == [OLD]


def test_a_pause_that_nobody_asked_for_may_fail_and_is_told() -> None:
    bench = Sealed()
    set_fault(bench.machine.state, "pause-lies", f":{PORT}")

    assert bench.switch()[0] == "applied"
    assert (
        "vllm could not be sealed: it says that it paused, and /is_paused says that it is not paused" in bench.notes()
    )


def test_a_pause_that_cannot_be_seen_is_none_where_one_is_asked_for() -> None:
    bench = Sealed("pause")
    bench.answers["/is_paused"] = Response(500, b"oops")

    state, code, reason = bench.switch()

    assert (state, code) == ("aborted", "REC7134")
    assert reason.endswith("it says that it paused, and /is_paused answered 500: oops")
    assert bench.server.paused is False


def test_a_resume_that_did_not_happen_is_told() -> None:
    bench = Sealed("pause")
    bench.answers["/is_paused"] = Response(500, b"oops")
    bench.then("/resume", lambda: bench.answers.update({"/is_paused": Response(200, b'{"is_paused": true}')}))

    assert bench.switch()[1] == "REC7134"
    assert "vllm could not be resumed: it says that it resumed, and /is_paused says that it is paused" in bench.notes()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Response(200, b'{"is_paused": true}'), Said(True, "/is_paused says that it is paused")),
        (Response(200, b'{"is_paused": false}'), Said(False, "/is_paused says that it is not paused")),
        (Response(200, b'{"is_paused": 1}'), Said(None, "/is_paused does not say is_paused")),
        (Response(200, b"[]"), Said(None, "/is_paused does not say is_paused")),
        (Response(200, b"\xff"), Said(None, "/is_paused does not say is_paused")),
        (Response(404, b""), Said(None, "/is_paused answered 404")),
        (
            Response(200, b'{"is_paused": true}', cut=True),
            Said(None, "/is_paused answered 200 with more than is read of an answer"),
        ),
    ],
)
def test_only_true_and_false_say_whether_it_is_paused(answer: Response, said: Said) -> None:
    member = {"paused": {"url": f"{BASE}/is_paused", "field": "is_paused"}}

    assert is_paused(FakeHost(addresses={f"{BASE}/is_paused": answer}), member) == said
    assert is_paused(FakeHost(), {}) == Said(None, "nothing says whether it is paused")


def test_an_idle_engine_that_sleeps_is_stopped_and_neither_paused_nor_woken() -> None:
    bench = Sealed("pause")
    bench.fall_asleep()

    assert bench.switch() == ("applied", None, "generation 2 is committed")
    assert bench.asked() == [
        ("GET", f"{BASE}/metrics", None),
        *(POLL_ASLEEP * 3),
        ("GET", f"{BASE}/metrics", None),
        *POLL_ASLEEP,
    ]
    assert f"vllm is {ASLEEP}: nothing begins there, so it is not paused" in bench.notes()


def test_gauges_that_stood_still_when_it_fell_asleep_do_not_keep_a_drain_waiting() -> None:
    bench = Sealed()
    bench.busy(PORT, 500.0)
    bench.machine.sleep(20.0)
    # The default mode aborts what runs, and the gauges keep what they said.
    bench.fall_asleep("")
    assert (
        b'vllm:num_requests_running{engine="0",model_name="/srv/models/8001"} 1.0'
        in bench.machine.http("GET", f"{BASE}/metrics", 1.0).body
    )

    assert bench.switch()[0] == "applied"


def test_what_waits_in_an_engine_that_sleeps_is_work() -> None:
    bench = Sealed()
    bench.fall_asleep()
    bench.busy(PORT, 500.0)

    state, code, reason = bench.switch()

    text = f"vllm is {ASLEEP} and 1 requests still wait there after 30 s; the old coven stays as it is"
    assert (state, code, reason) == ("aborted", "REC7101", text)
    assert (bench.server.sleeping, bench.machine.state.cut) == ("weights_offloaded", [])


def test_without_an_exact_count_nobody_knows_what_waits_in_an_engine_that_sleeps() -> None:
    bench = Sealed(command=OWN_COMMAND)
    bench.fall_asleep()

    state, code, reason = bench.switch()

    assert (state, code) == ("aborted", "REC7101")
    assert reason == (
        f"vllm cannot be seen to be idle after 30 s: it is {ASLEEP}, so its gauges stand still;"
        " nothing else counts exactly; the old coven stays as it is"
    )


def test_an_engine_that_fell_asleep_under_the_seal_is_not_resumed() -> None:
    bench = Sealed("pause")
    bench.answers["/is_paused"] = Response(500, b"oops")
    bench.then("/pause?mode=wait", lambda: setattr(bench.server, "sleeping", "discard_all"))

    assert bench.switch()[1] == "REC7134"
    assert ("POST", f"{BASE}/resume", None) not in bench.asked()
    text = "vllm could not be resumed: it is asleep (discard_all), and would work without its weights"
    assert text in bench.notes()
    assert bench.serving() == [OLD]


def test_a_new_server_that_sleeps_gets_no_request_until_somebody_wakes_it() -> None:
    bench = Bench(
        a_coven("reasoning", vllm=a_service("vllm", PORT)), a_coven("vision", llama=a_service("llamacpp", 8003))
    )
    intent = bench.intent("reasoning")
    ask, asked = bench.machine.http, []

    def sleepy(method: str, url: str, timeout_s: float, body: bytes | None = None, limit: int = 1 << 20) -> Response:
        server = bench.machine.podman.servers.matching(f":{PORT}")[0]
        if server.phase == "ready":
            asked.append(f"{method} {url.removeprefix(BASE)}")
            server.sleeping = "weights_offloaded" if len(asked) < 20 else None
        return ask(method, url, timeout_s, body, limit)

    bench.machine.http = sleepy  # type: ignore[method-assign]  # another program does it

    outcome = bench.execute(intent)

    assert outcome.state == "applied"
    assert [call for call in asked[:20] if call.startswith("POST")] == []
    # Awake by its own word, then asked for work, and that answer is heard at the next look.
    look = ["GET /health", "GET /metrics"]
    assert asked[-6:] == [*look, "GET /v1/models", "POST /v1/completions", *look]


def test_a_new_server_that_stays_asleep_does_not_come_up() -> None:
    bench = Bench(
        a_coven("reasoning", vllm=a_service("vllm", PORT)), a_coven("vision", llama=a_service("llamacpp", 8003))
    )
    assert bench.run("vision").state == "applied"
    intent = bench.intent("reasoning")
    ask = bench.machine.http

    def sleepy(method: str, url: str, timeout_s: float, body: bytes | None = None, limit: int = 1 << 20) -> Response:
        for server in bench.machine.podman.servers.matching(f":{PORT}"):
            server.sleeping = "weights_offloaded"
        return ask(method, url, timeout_s, body, limit)

    bench.machine.http = sleepy  # type: ignore[method-assign]  # another program does it

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7240")
    assert f"vllm: not up after 120 s, it is {ASLEEP}; whoever put it to sleep must wake it" in outcome.reason
