"""The endpoints of vLLM, llama.cpp's server and one unknown server, as clients of the real ones know them.

Must not: change the life of the server, except as an endpoint says.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar, Protocol
from urllib.parse import parse_qs, urlsplit

from .server import Server, say


class Shape(Protocol):
    """Makes the runtime's JSON of generated text; `done` and `finish` come with the last piece."""

    def __call__(self, text: str, done: int | None, finish: str | None) -> dict[str, Any]: ...


class Handler(BaseHTTPRequestHandler):
    """HTTP pieces the runtimes share."""

    protocol_version = "HTTP/1.1"
    lab: ClassVar[Server]
    owner: ClassVar[str]
    checks_model: ClassVar[bool]

    def endpoints(self) -> dict[tuple[str, str], Callable[[], None]]:
        """Return what the runtime answers to: method and path to what does it."""
        raise NotImplementedError

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002, ARG002 -- the base class's names
        say('"%s" %s' % (self.requestline, args[1] if len(args) > 1 else ""))

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        if self.command == "POST":
            super().log_request(code, size)

    def reply(self, code: int, body: Any = None, kind: str = "application/json") -> None:
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self) -> dict[str, Any] | None:
        length = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(length)
        try:
            parsed = json.loads(data or b"{}")
        except ValueError:
            parsed = None
        return parsed if isinstance(parsed, dict) else None

    def do_GET(self) -> None:
        self.route("GET")

    def do_POST(self) -> None:
        self.route("POST")

    def route(self, method: str) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        body = self.body() if method == "POST" else {}
        if body is None:
            self.reply(
                400, {"error": {"message": "the body is not a JSON object", "type": "BadRequestError", "code": 400}}
            )
            return
        self.request_body = body
        if url.path == "/metrics" and self.lab.faults.get("hang-metrics"):
            time.sleep(3600)
        endpoint = self.endpoints().get((method, url.path))
        if not endpoint:
            self.reply(404, {"detail": "Not Found"})
            return
        endpoint()

    def metrics(self, lines: list[str]) -> None:
        if self.lab.faults.get("metrics-missing"):
            self.reply(404, {"detail": "Not Found"})
            return
        self.reply(200, ("\n".join(lines) + "\n").encode(), "text/plain; version=0.0.4; charset=utf-8")

    def generate(self, count: int, shape: Shape, stream: bool) -> None:
        """Run a request of `count` tokens; `shape(text, done)` makes the runtime's JSON."""
        if self.lab.faults.get("fail-completions"):
            self.reply(500, {"error": {"message": "EngineCore encountered an issue", "code": 500}})
            return
        if self.lab.engine.closing:
            self.reply(503, {"error": {"message": "server is shutting down", "code": 503}})
            return
        with self.lab.engine.answer():
            self.send_words(count, shape, stream)

    def send_words(self, count: int, shape: Shape, stream: bool) -> None:
        words = self.lab.engine.tokens(count)
        if not stream:
            made = sum(1 for _word in words)
            self.reply(200, shape("word " * made, done=made, finish="length" if made == count else "abort"))
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        made = 0
        for _word in words:
            made += 1
            self.event(shape("word ", done=None, finish=None))
        self.event(shape("", done=made, finish="length" if made == count else "abort"))
        if self.lab.runtime != "llamacpp":
            self.chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, value: dict[str, Any]) -> None:
        self.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    # The OpenAI endpoints that vLLM and llama.cpp have in common.

    def models(self) -> None:
        item = {"id": self.lab.model_id(), "object": "model", "created": int(self.lab.started), "owned_by": self.owner}
        self.reply(200, {"object": "list", "data": [item]})

    def openai(self, chat: bool) -> None:
        body = self.request_body
        name = body.get("model")
        if self.checks_model and name is not None and name != self.lab.model_id():
            text = "The model `%s` does not exist." % name
            self.reply(404, {"error": {"message": text, "type": "NotFoundError", "param": "model", "code": 404}})
            return
        count = max(1, int(body.get("max_tokens") or body.get("max_completion_tokens") or 16))
        kind = "chat.completion" if chat else "text_completion"

        def shape(text: str, done: int | None, finish: str | None) -> dict[str, Any]:
            if chat:
                key = "delta" if body.get("stream") else "message"
                choice = {"index": 0, key: {"role": "assistant", "content": text}, "finish_reason": finish}
            else:
                choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
            reply: dict[str, Any] = {"id": "cmpl-1", "object": kind, "model": self.lab.model_id(), "choices": [choice]}
            if done is not None:
                reply["usage"] = {"prompt_tokens": 1, "completion_tokens": done, "total_tokens": done + 1}
            return reply

        self.generate(count, shape, bool(body.get("stream")))


class Vllm(Handler):
    """vLLM's OpenAI server, as of 0.11 and later."""

    owner = "vllm"
    checks_model = True

    def endpoints(self) -> dict[tuple[str, str], Callable[[], None]]:
        table: dict[tuple[str, str], Callable[[], None]] = {
            ("GET", "/health"): self.health,
            ("GET", "/ping"): self.health,
            ("GET", "/version"): lambda: self.reply(200, {"version": "0.15.0"}),
            ("GET", "/v1/models"): self.models,
            ("GET", "/metrics"): self.show_metrics,
            ("GET", "/load"): self.load,
            ("POST", "/v1/completions"): lambda: self.openai(chat=False),
            ("POST", "/v1/chat/completions"): lambda: self.openai(chat=True),
        }
        if os.environ.get("VLLM_SERVER_DEV_MODE") == "1":
            engine = self.lab.engine
            table["POST", "/pause"] = self.pause
            table["POST", "/resume"] = self.resume
            table["GET", "/is_paused"] = lambda: self.reply(200, {"is_paused": engine.paused})
            if self.lab.options.enable_sleep_mode:
                table["POST", "/sleep"] = self.sleep
                table["POST", "/wake_up"] = self.wake
                # True while it is only paused as well.
                sleeps = engine.paused or engine.sleeping is not None
                table["GET", "/is_sleeping"] = lambda: self.reply(200, {"is_sleeping": sleeps})
        return table

    def health(self) -> None:
        self.reply(503 if self.lab.faults.get("health-503") else 200, b"")

    def show_metrics(self) -> None:
        running, waiting = self.lab.figures()
        sleeps = self.lab.engine.sleeping
        if self.lab.engine.paused:
            waiting = 0  # the gauges move when the engine steps: what comes in while it is paused is not seen
        if sleeps is not None:
            running, waiting = self.lab.engine.gauges
        label = '{engine="0",model_name="%s"}' % self.lab.model_id()
        self.metrics(
            [
                "# HELP vllm:num_requests_running Number of requests in model execution batches.",
                "# TYPE vllm:num_requests_running gauge",
                "vllm:num_requests_running%s %.1f" % (label, running),
                "# HELP vllm:num_requests_waiting Number of requests waiting to be processed.",
                "# TYPE vllm:num_requests_waiting gauge",
                "vllm:num_requests_waiting%s %.1f" % (label, waiting),
                "# TYPE vllm:engine_sleep_state gauge",
                *(
                    'vllm:engine_sleep_state{engine="0",model_name="%s",sleep_state="%s"} %.1f'
                    % (self.lab.model_id(), state, sleeps is None if state == "awake" else sleeps == state)
                    for state in ("awake", "weights_offloaded", "discard_all")
                ),
            ]
        )

    def load(self) -> None:
        # Tracking is off unless asked for, and then the real server answers 0.
        running, waiting = self.lab.figures() if self.lab.options.enable_server_load_tracking else (0, 0)
        self.reply(200, {"server_load": running + waiting})

    def pause(self) -> None:
        mode = self.query.get("mode", ["abort"])[0]
        if mode not in ("abort", "wait", "keep"):
            self.reply(400, {"error": "Invalid mode: %s" % mode})
            return
        if not self.lab.faults.get("pause-lies"):
            self.lab.engine.pause(mode)
        self.reply(200, {"status": "paused"})

    def resume(self) -> None:
        self.lab.engine.resume()
        self.reply(200, {"status": "resumed"})

    def sleep(self) -> None:
        """Read level and mode from the query, as the real one does; what a body says is not looked at."""
        states = {"0": "", "1": "weights_offloaded", "2": "discard_all"}
        self.lab.engine.sleep(states[self.query.get("level", ["1"])[0]], self.query.get("mode", ["abort"])[0])
        self.reply(200, b"")

    def wake(self) -> None:
        self.lab.engine.wake()
        self.reply(200, b"")


class LlamaCpp(Handler):
    """llama.cpp's llama-server."""

    owner = "llamacpp"
    checks_model = False

    def endpoints(self) -> dict[tuple[str, str], Callable[[], None]]:
        table: dict[tuple[str, str], Callable[[], None]] = {
            ("GET", "/health"): self.health,
            ("GET", "/v1/health"): self.health,
            ("GET", "/v1/models"): self.models,
            ("GET", "/models"): self.models,
            ("GET", "/props"): lambda: self.reply(
                200, {"total_slots": self.lab.engine.width, "model_path": self.lab.model}
            ),
            ("GET", "/slots"): self.slots,
            ("GET", "/metrics"): self.show_metrics,
            ("POST", "/completion"): self.completion,
            ("POST", "/v1/completions"): lambda: self.openai(chat=False),
            ("POST", "/v1/chat/completions"): lambda: self.openai(chat=True),
        }
        if not self.lab.loaded.is_set():
            return dict.fromkeys(table, self.loading)
        return table

    def loading(self) -> None:
        self.reply(503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}})

    def health(self) -> None:
        if self.lab.faults.get("health-503"):
            self.loading()
        else:
            self.reply(200, {"status": "ok"})

    def unsupported(self, what: str, flag: str) -> None:
        text = "This server does not support %s endpoint. Start it with `%s`" % (what, flag)
        self.reply(501, {"error": {"code": 501, "message": text, "type": "not_supported_error"}})

    def slots(self) -> None:
        if self.lab.options.no_slots or self.lab.faults.get("metrics-missing"):
            self.unsupported("slots", "--slots")
            return
        running, _waiting = self.lab.figures()
        width = self.lab.engine.width
        if "fail_on_no_slot" in self.query and running >= width:
            self.reply(503, {"error": {"code": 503, "message": "no slot available", "type": "unavailable_error"}})
            return
        self.reply(
            200,
            [{"id": index, "id_task": -1, "n_ctx": 4096, "is_processing": index < running} for index in range(width)],
        )

    def show_metrics(self) -> None:
        if not self.lab.options.metrics:
            self.unsupported("metrics", "--metrics")
            return
        running, waiting = self.lab.figures()
        self.metrics(
            [
                "# HELP llamacpp:requests_processing Number of requests processing.",
                "# TYPE llamacpp:requests_processing gauge",
                "llamacpp:requests_processing %d" % running,
                "# HELP llamacpp:requests_deferred Number of requests deferred.",
                "# TYPE llamacpp:requests_deferred gauge",
                "llamacpp:requests_deferred %d" % waiting,
            ]
        )

    def completion(self) -> None:
        count = max(1, int(self.request_body.get("n_predict", 16)))

        def shape(text: str, done: int | None, finish: str | None) -> dict[str, Any]:
            return {"content": text, "stop": finish is not None, "tokens_predicted": done or 0, "model": self.lab.model}

        self.generate(count, shape, bool(self.request_body.get("stream")))


class Generic(Handler):
    """A server recon knows nothing about; its YAML says the paths."""

    owner = "generic"
    checks_model = False

    def endpoints(self) -> dict[tuple[str, str], Callable[[], None]]:
        return {
            ("GET", "/healthz"): self.health,
            ("GET", "/queue"): self.queue,
            ("GET", "/metrics"): self.show_metrics,
            ("POST", "/generate"): self.make,
            ("POST", "/pause"): self.pause,
            ("POST", "/resume"): self.resume,
        }

    def health(self) -> None:
        good = self.lab.loaded.is_set() and not self.lab.faults.get("health-503")
        self.reply(200 if good else 503, {"status": "ok" if good else "starting"})

    def queue(self) -> None:
        if self.lab.faults.get("metrics-missing"):
            self.reply(404, {"detail": "Not Found"})
            return
        running, waiting = self.lab.figures()
        self.reply(200, {"queue": {"running": running, "pending": waiting, "remaining": running + waiting}})

    def show_metrics(self) -> None:
        running, waiting = self.lab.figures()
        self.metrics(["app_jobs_running %d" % running, "app_jobs_waiting %d" % waiting])

    def make(self) -> None:
        count = max(1, int(self.request_body.get("max_tokens", 16)))

        def shape(text: str, done: int | None, finish: str | None) -> dict[str, Any]:
            return {"text": text, "count": done, "finish": finish}

        self.generate(count, shape, stream=False)

    def pause(self) -> None:
        threading.Thread(target=self.lab.engine.pause, args=("wait",), daemon=True).start()
        self.reply(200, {"paused": True})

    def resume(self) -> None:
        self.lab.engine.resume()
        self.reply(200, {"paused": False})


HANDLERS: dict[str, type[Handler]] = {"vllm": Vllm, "llamacpp": LlamaCpp, "generic": Generic}
