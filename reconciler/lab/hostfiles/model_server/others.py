"""The endpoints of SGLang, Ollama, ComfyUI and TGI, as clients of the real ones know them.

Must not: change the life of the server, except as an endpoint says.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from .handlers import HANDLERS, Handler

Endpoints = dict[tuple[str, str], Callable[[], None]]


class Sglang(Handler):
    """SGLang's HTTP server, early 2026: the loads of every rank, and metrics when asked for."""

    owner = "sglang"
    checks_model = False

    def endpoints(self) -> Endpoints:
        table: Endpoints = {
            ("GET", "/health"): lambda: self.reply(503 if self.lab.faults.get("health-503") else 200, b""),
            ("GET", "/health_generate"): lambda: self.make("text", 1),
            ("GET", "/v1/models"): self.models,
            ("GET", "/v1/loads"): self.loads,
            ("POST", "/generate"): self.native,
            ("POST", "/v1/completions"): lambda: self.openai(chat=False),
            ("POST", "/v1/chat/completions"): lambda: self.openai(chat=True),
        }
        if self.lab.options.enable_metrics:
            table["GET", "/metrics"] = self.show_metrics
        if not self.lab.loaded.is_set() or self.lab.engine.closing:
            return dict.fromkeys(table, lambda: self.reply(503, b""))
        return table

    def loads(self) -> None:
        if self.lab.faults.get("metrics-missing"):
            self.reply(404, {"detail": "Not Found"})
            return
        running, waiting = self.lab.figures()
        rank = {"dp_rank": 0, "num_running_reqs": running, "num_waiting_reqs": waiting, "num_total_tokens": 0}
        self.reply(200, {"version": "0.5.9", "dp_rank_count": 1, "loads": [rank]})

    def show_metrics(self) -> None:
        running, waiting = self.lab.figures()
        label = '{engine_type="unified",model_name="%s",tp_rank="0"}' % self.lab.model_id()
        self.metrics(
            [
                "# TYPE sglang:num_running_reqs gauge",
                "sglang:num_running_reqs%s %.1f" % (label, running),
                "# TYPE sglang:num_queue_reqs gauge",
                "sglang:num_queue_reqs%s %.1f" % (label, waiting),
            ]
        )

    def native(self) -> None:
        params = self.request_body.get("sampling_params") or {}
        self.make("text", int(params.get("max_new_tokens", 16)))

    def make(self, key: str, count: int) -> None:
        def shape(text: str, done: int | None, finish: str | None) -> dict[str, Any]:
            return {key: text, "meta_info": {"completion_tokens": done, "finish_reason": {"type": finish}}}

        self.generate(count, shape, bool(self.request_body.get("stream")))


class Ollama(Handler):
    """Ollama: loads a model when it is first asked for one; nothing tells how many requests it works on."""

    owner = "library"
    checks_model = False

    def endpoints(self) -> Endpoints:
        return {
            ("GET", "/"): lambda: self.reply(200, b"Ollama is running", "text/plain"),
            ("GET", "/api/version"): lambda: self.reply(200, {"version": "0.33.0"}),
            ("GET", "/api/ps"): lambda: self.reply(200, {"models": [{"name": "model", "size_vram": 0}]}),
            ("GET", "/v1/models"): self.models,
            ("POST", "/api/generate"): self.native,
            ("POST", "/v1/completions"): lambda: self.openai(chat=False),
        }

    def native(self) -> None:
        name = self.request_body.get("model")
        if not name:
            self.reply(400, {"error": "model is required"})
            return
        self.lab.loaded.wait()

        def shape(text: str, done: int | None, finish: str | None) -> dict[str, Any]:
            return {
                "model": name,
                "response": text,
                "done": finish is not None,
                "done_reason": finish,
                "eval_count": done,
            }

        count = int((self.request_body.get("options") or {}).get("num_predict", 16))
        self.generate(count, shape, stream=False)


class ComfyUi(Handler):
    """ComfyUI: workflows wait in a queue and run one at a time."""

    owner = "comfyui"
    checks_model = False

    def endpoints(self) -> Endpoints:
        return {
            ("GET", "/system_stats"): self.stats,
            ("GET", "/prompt"): self.remaining,
            ("GET", "/queue"): self.queue,
            ("POST", "/prompt"): self.submit,
        }

    def stats(self) -> None:
        good = self.lab.loaded.is_set() and not self.lab.faults.get("health-503")
        self.reply(200 if good else 500, {"system": {"os": "posix"}, "devices": [{"name": "cuda:0", "index": 0}]})

    def remaining(self) -> None:
        if self.lab.faults.get("metrics-missing"):
            self.reply(404, b"404: Not Found", "text/plain")
            return
        self.reply(200, {"exec_info": {"queue_remaining": sum(self.lab.figures())}})

    def queue(self) -> None:
        running, waiting = self.lab.figures()
        self.reply(200, {"queue_running": [[0, "id"]] * running, "queue_pending": [[0, "id"]] * waiting})

    def submit(self) -> None:
        count = int(self.request_body.get("steps", 20))

        def work() -> None:
            with self.lab.engine.answer():
                for _step in self.lab.engine.tokens(count):
                    pass

        threading.Thread(target=work, daemon=True).start()
        self.reply(200, {"prompt_id": "id", "number": 1, "node_errors": {}})


class Tgi(Handler):
    """Text Generation Inference."""

    owner = "tgi"
    checks_model = False

    def endpoints(self) -> Endpoints:
        return {
            ("GET", "/health"): self.health,
            ("GET", "/ping"): self.health,
            ("GET", "/info"): lambda: self.reply(200, {"model_id": self.lab.model, "version": "3.3.6"}),
            ("GET", "/metrics"): self.show_metrics,
            ("POST", "/generate"): self.native,
            ("POST", "/v1/completions"): lambda: self.openai(chat=False),
        }

    def health(self) -> None:
        good = self.lab.loaded.is_set() and not self.lab.faults.get("health-503")
        self.reply(200 if good else 503, b"")

    def show_metrics(self) -> None:
        running, waiting = self.lab.figures()
        self.metrics(["tgi_batch_current_size %d" % running, "tgi_queue_size %d" % waiting])

    def native(self) -> None:
        count = int((self.request_body.get("parameters") or {}).get("max_new_tokens", 16))
        self.generate(count, lambda text, done, finish: {"generated_text": text, "count": done, "why": finish}, False)


EVERY: dict[str, type[Handler]] = {**HANDLERS, "sglang": Sglang, "ollama": Ollama, "comfyui": ComfyUi, "tgi": Tgi}
