"""What vLLM answers on a simulated host: its figures, its pause, and its sleep.

The gauges move when the engine makes a step: they are late, and stand still while it is paused or asleep. A request to
an engine that sleeps is the end of it, as it was in older builds, so that whoever sends one fails by itself.

Must not: keep anything; servers are `services`'.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from reconciler.agent.machine import Response
from reconciler.sim.clock import Clock
from reconciler.sim.state import Server

_DEV_MODE = "VLLM_SERVER_DEV_MODE"
_LEVELS = {"0": "", "1": "weights_offloaded", "2": "discard_all"}


@dataclass(frozen=True)
class Vllm:
    """One vLLM server: `busy` requests are in flight, `stepped` of them had a step; `lies`: it takes a pause for done.

    `cut` ends what is in flight, `dies` ends the server.
    """

    clock: Clock
    server: Server
    command: Sequence[str]
    env: dict[str, str]
    model: str
    busy: int
    stepped: int
    lies: bool
    generate: Callable[[dict[str, object]], Response]
    cut: Callable[[], None]
    dies: Callable[[str], None]

    def answer(self, method: str, path: str, query: str, timeout_s: float) -> Response:
        """Answer one call; what it does not have is 404."""
        match (method, path):
            case ("GET", "/health" | "/ping"):
                return Response(200, b"")
            case ("GET", "/v1/models"):
                return _json({"object": "list", "data": [{"id": self.model, "object": "model"}]})
            case ("GET", "/metrics"):
                return Response(200, self.metrics())
            case ("GET", "/load"):
                return _json({"server_load": self.busy if "--enable-server-load-tracking" in self.command else 0})
            case ("POST", "/v1/completions" | "/v1/chat/completions"):
                if self.server.sleeping is not None:
                    return self._illegal("a request")
                return self.generate({"object": "text_completion", "choices": [{"index": 0, "text": "!"}]})
        if self.env.get(_DEV_MODE) == "1":
            return self._dev(method, path, parse_qs(query), timeout_s)
        return _json({"detail": "Not Found"}, 404)

    def _dev(self, method: str, path: str, query: dict[str, list[str]], timeout_s: float) -> Response:
        mode = query.get("mode", ["abort"])[0]
        match (method, path):
            case ("POST", "/pause"):
                if mode == "wait" and not self._waited(timeout_s):
                    return Response(0, b"timed out")
                self.server.paused = not self.lies
                return _json({"status": "paused"})
            case ("POST", "/resume"):
                if self.server.sleeping is not None:
                    return self._illegal("a resume")
                self.server.paused = False
                return _json({"status": "resumed"})
            case ("GET", "/is_paused"):
                return _json({"is_paused": self.server.paused or self.server.sleeping is not None})
            case ("GET", "/is_sleeping"):
                return _json({"is_sleeping": self.server.paused or self.server.sleeping is not None})
        return self._sleep(method, path, query, mode, timeout_s)

    def _sleep(self, method: str, path: str, query: dict[str, list[str]], mode: str, timeout_s: float) -> Response:
        if "--enable-sleep-mode" not in self.command:
            return _json({"detail": "Not Found"}, 404)
        if (method, path) == ("POST", "/sleep"):
            if mode == "wait" and not self._waited(timeout_s):
                return Response(0, b"timed out")
            self.server.gauge = self.stepped
            if mode == "abort":
                self.cut()
            self.server.sleeping = _LEVELS.get(query.get("level", ["1"])[0], "")
            return Response(200, b"")
        if (method, path) == ("POST", "/wake_up"):
            self.server.sleeping = None
            return Response(200, b"")
        return _json({"detail": "Not Found"}, 404)

    def metrics(self) -> bytes:
        """Return the gauges that recon reads."""
        sleeps = self.server.sleeping
        running = self.stepped if sleeps is None else self.server.gauge
        labels = f'engine="0",model_name="{self.model}"'
        states = {"awake": sleeps is None, **{state: sleeps == state for state in ("weights_offloaded", "discard_all")}}
        lines = [
            "# HELP vllm:num_requests_running Number of requests in model execution batches.",
            "# TYPE vllm:num_requests_running gauge",
            f"vllm:num_requests_running{{{labels}}} {float(running)}",
            f"vllm:num_requests_waiting{{{labels}}} 0.0",
            *(
                f'vllm:engine_sleep_state{{{labels},sleep_state="{state}"}} {float(is_so)}'
                for state, is_so in states.items()
            ),
        ]
        return ("\n".join(lines) + "\n").encode()

    def _waited(self, timeout_s: float) -> bool:
        """Wait for what runs, as far as the caller waits for the answer."""
        wait = max((request.end - self.clock.now for request in self.server.requests), default=0.0)
        self.clock.advance(min(max(0.0, wait), timeout_s))
        return wait <= timeout_s

    def _illegal(self, what: str) -> Response:
        self.clock.note(f"{what} to an engine that sleeps")
        self.dies("RuntimeError: CUDA error: an illegal memory access was encountered")
        return Response(0, b"connection reset")


def _json(body: object, status: int = 200) -> Response:
    return Response(status, json.dumps(body).encode())
