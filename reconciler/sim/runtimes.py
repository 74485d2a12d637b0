"""What SGLang, Ollama, ComfyUI and TGI answer on a simulated host, and how long each lets requests finish on SIGTERM.

Endpoints, status codes and names are the runtimes' own; what one does not have answers 404, as the real one does.

Must not: keep anything; servers are `services`'.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reconciler.agent.machine import Response
from reconciler.sim.state import Container, Server


@dataclass(frozen=True)
class Asked:
    """One HTTP call to a server: `busy` requests are in flight, `generate` makes one token and takes its time."""

    method: str
    path: str
    query: str
    body: bytes | None
    command: Sequence[str]
    server: Server
    busy: int
    model: str
    generate: Callable[[dict[str, object]], Response]


def sglang(asked: Asked) -> Response:
    """SGLang: 503 while it starts, and figures in three places depending on its age and flags."""
    if asked.server.phase != "ready":
        return Response(503, b"")
    match (asked.method, asked.path):
        case ("GET", "/health"):
            return Response(200, b"")
        case ("GET", "/health_generate"):
            return asked.generate({})
        case ("GET", "/v1/models"):
            return _json({"object": "list", "data": [{"id": asked.model, "object": "model"}]})
        case ("GET", "/v1/loads"):
            figures = {"dp_rank": 0, "num_running_reqs": asked.busy, "num_waiting_reqs": 0}
            return _json({"version": "0.5.9", "dp_rank_count": 1, "loads": [figures]})
        case ("GET", "/metrics") if "--enable-metrics" in asked.command:
            labels = f'{{engine_type="unified",model_name="{asked.model}",tp_rank="0"}}'
            text = f"sglang:num_running_reqs{labels} {float(asked.busy)}\nsglang:num_queue_reqs{labels} 0.0\n"
            return Response(200, text.encode())
        case ("POST", "/generate" | "/v1/completions" | "/v1/chat/completions"):
            return asked.generate({"text": "!", "meta_info": {"completion_tokens": 1}})
    return _json({"detail": "Not Found"}, 404)


def ollama(asked: Asked) -> Response:
    """Ollama: alive at once, loads a model on the first request, and never says how busy it is."""
    match (asked.method, asked.path):
        case ("GET", "/"):
            return Response(200, b"Ollama is running")
        case ("GET", "/api/version"):
            return _json({"version": "0.33.0"})
        case ("GET", "/api/ps"):
            return _json({"models": [{"name": asked.model, "size_vram": asked.server.memory}]})
        case ("POST", "/api/generate"):
            name = _member(asked.body, "model")
            if not name:
                return _json({"error": "model is required"}, 400)
            if asked.server.phase != "ready":
                return Response(0, b"timed out")
            return asked.generate({"model": name, "response": "!", "done": True, "done_reason": "length"})
    return Response(404, b"404 page not found")


def comfyui(asked: Asked) -> Response:
    """ComfyUI: a queue of workflows, and no pause."""
    if asked.server.phase != "ready":
        return Response(0, b"connection refused")
    match (asked.method, asked.path):
        case ("GET", "/system_stats"):
            return _json({"system": {"os": "posix"}, "devices": [{"name": "cuda:0", "vram_free": 0}]})
        case ("GET", "/prompt"):
            return _json({"exec_info": {"queue_remaining": asked.busy}})
        case ("GET", "/queue"):
            return _json({"queue_running": [[0]] * min(1, asked.busy), "queue_pending": [[0]] * max(0, asked.busy - 1)})
    return Response(404, b"404: Not Found")


def tgi(asked: Asked) -> Response:
    """TGI: health that asks its shards, two gauges, graceful on SIGTERM."""
    if asked.server.phase != "ready":
        return Response(0, b"connection refused")
    match (asked.method, asked.path):
        case ("GET", "/health" | "/ping"):
            return Response(200, b"")
        case ("GET", "/info"):
            return _json({"model_id": asked.model, "version": "3.3.6"})
        case ("GET", "/metrics"):
            text = f"tgi_batch_current_size {float(asked.busy)}\ntgi_queue_size 0.0\n"
            return Response(200, text.encode())
        case ("POST", "/generate" | "/v1/completions" | "/v1/chat/completions"):
            return asked.generate({"generated_text": "!"})
    return Response(404, b"")


ANSWERS: dict[str, Callable[[Asked], Response]] = {"sglang": sglang, "ollama": ollama, "comfyui": comfyui, "tgi": tgi}


def grace_s(container: Container) -> float:
    """Return how long a server lets requests in flight finish when it is told to end."""
    server = container.server
    if server is None:
        return 0.0
    if server.runtime == "sglang":
        return float("inf")
    if server.runtime == "tgi":
        return float(option(container.command, "--graceful-termination-timeout") or 90)
    if server.runtime == "vllm":
        return float(option(container.command, "--shutdown-timeout") or 0)
    return 0.0


def option(words: Sequence[str], *names: str) -> str:
    """Return the value that words give to the first of these flags they set, else nothing."""
    for name in names:
        for index, word in enumerate(words):
            if word == name and index + 1 < len(words):
                return words[index + 1]
            if word.startswith(name + "="):
                return word[len(name) + 1 :]
    return ""


def _member(body: bytes | None, name: str) -> str:
    try:
        return str(json.loads(body or b"{}").get(name, ""))
    except (ValueError, AttributeError):
        return ""


def _json(body: object, status: int = 200) -> Response:
    return Response(status, json.dumps(body).encode())
