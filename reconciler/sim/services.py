"""The model servers inside containers: they load, take memory, answer HTTP, and die in the ways real ones do.

Endpoints, status codes and metric names are the runtimes' own. Two deeds make tests fail by themselves: a server that
does not get its memory dies, and a request that is in flight when its server ends is written down as cut.

Must not: know a unit's state, or start and stop itself; the container does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase

from reconciler.agent.machine import Response
from reconciler.sim.clock import Clock
from reconciler.sim.faults import fault_of
from reconciler.sim.gpu import GpuMemory
from reconciler.sim.runtimes import ANSWERS, Asked, grace_s, option
from reconciler.sim.state import Container, GiB, Request, Server, ServiceFacts, SimState
from reconciler.sim.vllm import Vllm

BYTES_PER_S = 2.2 * GiB
"""How fast weights get into GPU memory: 88 GiB in 40 s."""

SHORTEST_LOAD_S = 2.0
FAILS_AFTER_S = 1.0
TOKEN_S = 0.2
FIRST_STEP_S = 5.0
_REFUSED = Response(0, b"connection refused")

Exit = Callable[[str, int], None]


class Servers:
    """All model servers of one host."""

    def __init__(self, state: SimState, clock: Clock, gpu: GpuMemory, on_exit: Exit, on_ready: Exit) -> None:
        self._state = state
        self._clock = clock
        self._gpu = gpu
        self._exit = on_exit
        self._on_ready = on_ready
        clock.on("server.loaded", lambda args: self._loaded(str(args["container"])))
        clock.on("server.dies", lambda args: self._dies(str(args["container"]), int(args["code"]), str(args["why"])))

    def begin(self, container: Container) -> None:
        """Let the program in a container begin."""
        facts = self._state.facts.get(container.unit)
        server = server_of(container, facts)
        server.started = self._clock.now
        container.server = server
        unit = container.unit or container.name
        crash = fault_of(self._state, "crash-at-start", unit, server.port)
        if crash is not None:
            why = crash.text or "RuntimeError: cannot load the configuration"
            self._die_later(container, FAILS_AFTER_S, int(crash.value) or 1, why)
        elif self._port_taken(container):
            self._die_later(container, FAILS_AFTER_S, 1, f"OSError: [Errno 98] address already in use: {server.port}")
        elif not self._gpu.take(container.pid, unit, self._gpu.select(container.devices), server.memory):
            self._die_later(container, FAILS_AFTER_S, 1, "torch.OutOfMemoryError: CUDA out of memory")
        elif fault_of(self._state, "never-healthy", unit, server.port) is not None:
            server.phase = "stuck"
            self._clock.log(unit, "INFO loading weights")
        else:
            slow = fault_of(self._state, "slow-load", unit, server.port)
            duration = slow.value if slow else max(SHORTEST_LOAD_S, server.memory / BYTES_PER_S)
            server.ready_at = self._clock.now + duration
            self._clock.schedule(duration, "server.loaded", container=container.id)
            self._clock.log(unit, "INFO loading weights")

    def end(self, container: Container) -> None:
        """Let go of everything: the process is gone. What was in flight is cut."""
        server = container.server
        if server is None:
            return
        self._refuse(server)
        for request in server.requests:
            if request.start <= self._clock.now < request.end:
                self._state.cut.append(f"{container.unit or container.name} at {self._clock.now:.3f}")
                self._clock.note(f"cut a request of {container.name}")
        server.requests.clear()
        if fault_of(self._state, "unkillable", container.unit) is None:
            self._gpu.release(container.pid)

    def in_flight(self, server: Server) -> int:
        """Return how many requests a server is working on."""
        self._refuse(server)
        now = self._clock.now
        server.requests[:] = [request for request in server.requests if request.end > now]
        return sum(request.start <= now for request in server.requests)

    def opened(self, port: int, since: float) -> None:
        """Take note that a port is open again: what began while it was closed never got in."""
        for server in self.matching(f":{port}"):
            self._refuse(server, since)

    def _refuse(self, server: Server, since: float | None = None) -> None:
        """Take away what began while the port was closed to it, and write it down."""
        closed = self._state.closed.get(server.port or 0)
        begin = closed.since if closed is not None else since
        if begin is None:
            return
        late = [request for request in server.requests if begin < request.start <= self._clock.now]
        self._state.refused += [f":{server.port} at {request.start:.3f}" for request in late]
        server.requests[:] = [request for request in server.requests if request not in late]

    def _stepped(self, server: Server) -> int:
        """Return what vLLM's gauges show: a request after its first step, and none while no steps are made."""
        old = self._clock.now - FIRST_STEP_S
        return 0 if server.paused else sum(request.start <= old for request in server.requests)

    def finishing_s(self, container: Container) -> float:
        """Return how long a server goes on after SIGTERM to finish what is in flight, as far as it does that."""
        server = container.server
        if server is None or not self.in_flight(server):
            return 0.0
        longest = max(request.end for request in server.requests if request.start <= self._clock.now)
        return min(grace_s(container), longest - self._clock.now)

    def matching(self, pattern: str) -> list[Server]:
        """Return the servers of units that match a pattern, or on a `:port`."""
        return [
            container.server
            for container in self._state.containers.values()
            if container.server is not None
            and (fnmatchcase(container.unit, pattern) or pattern == f":{container.server.port}")
        ]

    def http(self, method: str, port: int, path: str, body: bytes | None, timeout_s: float) -> Response:
        """Answer one HTTP call to a port of this host."""
        container = self._on_port(port)
        if container is None or container.server is None:
            return self._of_others(port)
        server = container.server
        path, _, query = path.partition("?")
        if server.phase == "ready" and fault_of(self._state, "hangs", container.unit, port) is not None:
            return self._late(container, server, path, timeout_s)
        if "health" in path and fault_of(self._state, "unhealthy", container.unit, port) is not None:
            return Response(500, b"engine is dead")
        if server.phase != "ready" and server.runtime == "vllm":
            return _REFUSED  # its HTTP server begins when the engine is loaded
        if path == "/metrics" and fault_of(self._state, "no-metrics", container.unit, port) is not None:
            return Response(500, b"Internal Server Error")
        if server.runtime == "vllm":
            return self._vllm(container, server).answer(method, path, query, timeout_s)
        return self._answer(container, server, method, path, query, body)

    def _answer(
        self, container: Container, server: Server, method: str, path: str, query: str, body: bytes | None
    ) -> Response:
        if server.runtime in ANSWERS:
            return self._other(container, server, method, path, query, body)
        if server.runtime == "llamacpp":
            return self._llamacpp(container, server, method, path)
        return self._generic(container, server, method, path, body)

    def _other(
        self, container: Container, server: Server, method: str, path: str, query: str, body: bytes | None
    ) -> Response:
        asked = Asked(
            method=method,
            path=path,
            query=query,
            body=body,
            command=container.command,
            server=server,
            busy=self.in_flight(server),
            model=self._model(container, server),
            generate=lambda reply: self._generate(server, reply),
        )
        return ANSWERS[server.runtime](asked)

    def _late(self, container: Container, server: Server, path: str, timeout_s: float) -> Response:
        """Answer as a server that is stuck, or one whose event loop has no time: its figures may still come."""
        busy = self.in_flight(server)
        if path == "/metrics" and server.runtime == "vllm" and busy:
            return Response(200, replace(self._vllm(container, server), stepped=busy).metrics())
        return Response(0, f"no answer within {timeout_s:g} s".encode())

    def _vllm(self, container: Container, server: Server) -> Vllm:
        return Vllm(
            clock=self._clock,
            server=server,
            command=container.command,
            env=container.env,
            model=self._model(container, server),
            busy=self.in_flight(server),
            stepped=self._stepped(server),
            lies=fault_of(self._state, "pause-lies", container.unit, server.port) is not None,
            generate=lambda reply: self._generate(server, reply),
            cut=server.requests.clear,
            dies=lambda why: self._die_later(container, 0.1, 1, why),
        )

    def _llamacpp(self, container: Container, server: Server, method: str, path: str) -> Response:
        if server.phase != "ready":
            return _json({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, 503)
        busy = self.in_flight(server)
        if (method, path) == ("GET", "/health"):
            return _json({"status": "ok"})
        if (method, path) == ("GET", "/slots"):
            return _json([{"id": index, "is_processing": index < busy} for index in range(max(4, busy))])
        if (method, path) == ("GET", "/metrics"):
            if "--metrics" not in container.command:
                return _json({"error": {"code": 501, "message": "This server does not support metrics endpoint."}}, 501)
            return Response(200, f"llamacpp:requests_processing {busy}\nllamacpp:requests_deferred 0\n".encode())
        if (method, path) == ("GET", "/v1/models"):
            return _json({"object": "list", "data": [{"id": self._model(container, server), "object": "model"}]})
        if method == "POST" and path in ("/completion", "/v1/completions", "/v1/chat/completions"):
            return self._generate(server, {"content": "!", "tokens_predicted": 1})
        return _json({"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}, 404)

    def _generic(self, container: Container, server: Server, method: str, path: str, body: bytes | None) -> Response:
        if server.phase != "ready":
            return Response(503, b"loading")
        facts = self._state.facts.get(container.unit)
        for probe in facts.in_flight if facts else ():
            if method == "GET" and str(probe["path"]) == path:
                return _figure(probe, self.in_flight(server))
        if method == "POST" and body is not None:
            return self._generate(server, {"ok": True})
        return _json({"status": "ok"})

    def _generate(self, server: Server, reply: dict[str, object]) -> Response:
        self._clock.advance(TOKEN_S)
        server.served += 1
        return _json(reply)

    def _model(self, container: Container, server: Server) -> str:
        wrong = fault_of(self._state, "wrong-model", container.unit, server.port)
        return (wrong.text or "another-model") if wrong else server.model

    def _loaded(self, ident: str) -> None:
        container = self._state.containers.get(ident)
        if container is None or container.server is None or container.status != "running":
            return
        container.server.phase = "ready"
        self._clock.note(f"server {container.name} ready")
        self._clock.log(container.unit or container.name, "INFO Application startup complete.")
        later = fault_of(self._state, "crash-after-ready", container.unit, container.server.port)
        if later is not None:
            self._die_later(container, later.value, 1, later.text or "RuntimeError: engine core died")
        self._on_ready(ident, 0)

    def _die_later(self, container: Container, delay: float, code: int, why: str) -> None:
        self._clock.schedule(delay, "server.dies", container=container.id, code=code, why=why)

    def _dies(self, ident: str, code: int, why: str) -> None:
        container = self._state.containers.get(ident)
        if container is not None and container.status == "running":
            self._clock.log(container.unit or container.name, f"ERROR {why}")
            self._exit(ident, code)

    def _of_others(self, port: int) -> Response:
        """Answer for a shared service: well while its unit runs."""
        units = [unit for unit, theirs in self._state.shared_ports.items() if theirs == port]
        if any(self._state.runs[unit].active == "active" for unit in units if unit in self._state.runs):
            return Response(200, b"ok")
        return _REFUSED

    def _on_port(self, port: int) -> Container | None:
        for container in self._state.containers.values():
            if container.status == "running" and container.server is not None and container.server.port == port:
                return container
        return None

    def _port_taken(self, container: Container) -> bool:
        port = container.server.port if container.server else None
        return port is not None and any(
            other.id != container.id and other.status == "running" and other.server and other.server.port == port
            for other in self._state.containers.values()
        )


def server_of(container: Container, facts: ServiceFacts | None) -> Server:
    """Learn from a container what runs in it: program, port, model, and how much memory it takes."""
    words = container.command
    program = f"{container.image} {' '.join(words[:2])}".lower()
    labelled = container.labels.get("io.recon.memory", "")
    port_word = option(words, "--port") or container.env.get("PORT", "")
    port = int(port_word) if port_word.isdigit() else (facts.port if facts else None)
    memory = int(labelled) if labelled.isdigit() else (facts.memory if facts else 0)
    if "vllm" in program:
        model = option(words, "--served-model-name", "--model")
        if not model and "serve" in words:
            model = next(iter(words[words.index("serve") + 1 :]), "")
        return Server(runtime="vllm", port=port or 8000, model=model, memory=memory)
    if "sglang" in program:
        model = option(words, "--served-model-name", "--model-path", "--model")
        return Server(runtime="sglang", port=port or 30000, model=model, memory=memory)
    if "ollama" in program:
        told = container.env.get("OLLAMA_HOST", "").rpartition(":")[2]
        return Server(runtime="ollama", port=int(told) if told.isdigit() else 11434, model="", memory=memory)
    if "comfyui" in program:
        return Server(runtime="comfyui", port=port or 8188, model="", memory=memory)
    if "text-generation" in program:
        return Server(runtime="tgi", port=port or 80, model=option(words, "--model-id"), memory=memory)
    if "llama" in program:
        model = option(words, "--alias", "-m", "-hf", "--model")
        return Server(runtime="llamacpp", port=port or 8080, model=model, memory=memory)
    return Server(runtime="generic" if port else "none", port=port, model="", memory=memory)


def _json(body: object, status: int = 200) -> Response:
    return Response(status, json.dumps(body).encode())


def _figure(probe: dict[str, str | list[str]], busy: int) -> Response:
    names = probe.get("names") or []
    if probe["form"] == "prometheus":
        lines = [f"{name} {busy if index == 0 else 0}" for index, name in enumerate(names)]
        return Response(200, ("\n".join(lines) + "\n").encode())
    field = str(probe.get("field", ""))
    if probe["form"] == "json_true":
        return _json([{field: True} for _ in range(busy)])
    body: object = busy
    for part in reversed(field.split(".") if field else []):
        body = {part: body}
    return _json(body)


def add_requests(server: Server, now: float, duration: float, count: int, start_in: float = 0.0) -> None:
    """Put requests on a server that take so long."""
    request = Request(start=now + start_in, end=now + start_in + duration)
    server.requests += [replace(request) for _ in range(count)]
