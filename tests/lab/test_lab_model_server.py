"""The lab's model server: it answers as the runtimes it plays do, and misbehaves when told to."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from reconciler.agent.asleep import sleep_in
from reconciler.agent.busy import figure_in
from reconciler.lab.labs import Lab
from reconciler.lab.machines import Machine
from reconciler.model.desired import RuntimeName, Service
from reconciler.model.runtimes import RUNTIMES
from reconciler.render.runtimes import launch_argv, launch_env, probes_of

PORT = 8001


@dataclass
class Server:
    """A model server in a container on a lab host, and a client of it."""

    machine: Machine
    image: str
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self, *flags: str, **env: str) -> None:
        argv = ["podman", "run", "--detach", "--name=server", "--pull=never", "--network=host"]
        argv += ["--device=nvidia.com/gpu=all", *(f"--env={key}={value}" for key, value in env.items())]
        self.machine.run([*argv, self.image, f"--port={PORT}", *flags])

    def ask(self, method: str, path: str, body: object = None, timeout: float = 30) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.machine.record.address, PORT, timeout=timeout)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    def until(self, method: str, path: str, wanted: int) -> None:
        pause = threading.Event()
        for _attempt in range(200):
            try:
                if self.ask(method, path)[0] == wanted:
                    return
            except OSError:
                pass
            pause.wait(0.05)
        raise AssertionError(f"{path} never answered {wanted}")

    def in_background(self, path: str, body: object) -> list[tuple[int, str] | Exception]:
        """Send a slow request in a thread; its answer, or what broke it, lands in the list."""
        answers: list[tuple[int, str] | Exception] = []

        def send() -> None:
            try:
                answers.append(self.ask("POST", path, body))
            except (OSError, http.client.HTTPException) as problem:
                answers.append(problem)

        self.threads.append(threading.Thread(target=send))
        self.threads[-1].start()
        return answers

    def sleep_state(self) -> str:
        """Return what recon would say of it."""
        service = Service.model_validate({"runtime": "vllm", "image": "x", "port": PORT, "memory": "1GiB"})
        probe = probes_of(service).asleep
        assert probe is not None
        return sleep_in(probe.model_dump(), self.ask("GET", "/metrics")[1].encode())

    def finish(self) -> None:
        for thread in self.threads:
            thread.join(30)

    def samples(self) -> dict[str, float]:
        """Return the request gauges of /metrics by name."""
        lines = self.ask("GET", "/metrics")[1].splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if line and not line.startswith("#") and "requests" in line]
        return {name.split("{")[0]: float(value) for name, value in pairs}

    def busy(self, running: float, waiting: float = 0.0) -> None:
        pause = threading.Event()
        for _attempt in range(200):
            if list(self.samples().values()) == [running, waiting]:
                return
            pause.wait(0.02)
        raise AssertionError(f"never {running} running and {waiting} waiting: {self.samples()}")

    def loaded(self, figure: int) -> None:
        pause = threading.Event()
        for _attempt in range(200):
            if json.loads(self.ask("GET", "/load")[1]) == {"server_load": figure}:
                return
            pause.wait(0.02)
        raise AssertionError(f"/load never said {figure}")

    def exit_code(self) -> int:
        return int(self.machine.run(["podman", "wait", "server"]).stdout)


@pytest.fixture
def server(machine: Machine, lab: Lab) -> Iterator[Server]:
    item = Server(machine, lab.base.image)
    yield item
    machine.run(["podman", "rm", "--all", "--force", "--time", "0"])
    item.finish()


def test_vllm_shows_its_model_and_counts_what_runs_and_what_waits(server: Server) -> None:
    server.start("--model", "org/m", "--served-model-name", "big", "--max-num-seqs", "1")
    server.until("GET", "/health", 200)
    idle = server.samples()
    first = server.in_background("/v1/completions", {"model": "big", "prompt": "x", "max_tokens": 60})
    server.busy(1)
    second = server.in_background("/v1/completions", {"model": "big", "prompt": "x", "max_tokens": 1})
    server.busy(1, 1)
    server.finish()

    assert idle == {"vllm:num_requests_running": 0.0, "vllm:num_requests_waiting": 0.0}
    assert [item["id"] for item in json.loads(server.ask("GET", "/v1/models")[1])["data"]] == ["big"]
    answers = [json.loads(answer[1]) for answer in (*first, *second) if isinstance(answer, tuple)]
    assert [item["usage"]["completion_tokens"] for item in answers] == [60, 1]
    assert [item["choices"][0]["finish_reason"] for item in answers] == ["length", "length"]


def test_vllm_streams_a_completion_piece_by_piece(server: Server) -> None:
    server.start(LAB_TOKEN_MS="1")
    server.until("GET", "/health", 200)

    status, body = server.ask("POST", "/v1/completions", {"prompt": "x", "max_tokens": 3, "stream": True})

    events = [line.removeprefix("data: ") for line in body.splitlines() if line]
    pieces = [json.loads(event)["choices"][0] for event in events[:-1]]
    assert status == 200
    assert events[-1] == "[DONE]"
    assert [(item["text"], item["finish_reason"]) for item in pieces] == [("word ", None)] * 3 + [("", "length")]


def test_vllm_pauses_only_in_development_mode(server: Server) -> None:
    server.start()
    server.until("GET", "/health", 200)

    assert server.ask("POST", "/pause?mode=wait")[0] == 404
    assert server.ask("GET", "/is_paused")[0] == 404


def test_vllm_pause_waits_for_what_runs_and_queues_what_comes(server: Server) -> None:
    server.start("--enable-server-load-tracking", VLLM_SERVER_DEV_MODE="1")
    server.until("GET", "/health", 200)
    running = server.in_background("/v1/completions", {"prompt": "x", "max_tokens": 30})
    server.busy(1)
    paused = server.ask("POST", "/pause?mode=wait")
    queued = server.in_background("/v1/completions", {"prompt": "x", "max_tokens": 1})
    server.loaded(1)
    shown = server.samples()
    state = json.loads(server.ask("GET", "/is_paused")[1])
    resumed = server.ask("POST", "/resume")
    server.finish()

    assert (paused[0], state, resumed[0]) == (200, {"is_paused": True}, 200)
    assert shown == {"vllm:num_requests_running": 0.0, "vllm:num_requests_waiting": 0.0}
    answers = [json.loads(answer[1]) for answer in (*running, *queued) if isinstance(answer, tuple)]
    assert [item["usage"]["completion_tokens"] for item in answers] == [30, 1]


def test_vllm_sleeps_as_its_query_says_and_its_gauges_stand_still(server: Server) -> None:
    server.start("--enable-server-load-tracking", "--enable-sleep-mode", VLLM_SERVER_DEV_MODE="1")
    server.until("GET", "/health", 200)
    awake = server.sleep_state()
    cut = server.in_background("/v1/completions", {"prompt": "x", "max_tokens": 5000})
    server.busy(1)
    slept = server.ask("POST", "/sleep?level=2", {"level": 1, "mode": "wait"})
    waits = server.in_background("/v1/completions", {"prompt": "x", "max_tokens": 1})
    server.loaded(1)
    seen = server.sleep_state(), server.ask("GET", "/health")[0], server.samples()
    woken = server.ask("POST", "/wake_up")
    server.finish()

    assert awake == ""
    assert (slept[0], woken[0]) == (200, 200)
    gauges = {"vllm:num_requests_running": 1.0, "vllm:num_requests_waiting": 0.0}
    assert seen == ("asleep (discard_all)", 200, gauges)
    assert server.sleep_state() == ""
    ends = [
        json.loads(answer[1])["choices"][0]["finish_reason"] for answer in (*cut, *waits) if isinstance(answer, tuple)
    ]
    assert ends == ["abort", "length"]


def test_vllm_cuts_what_runs_on_sigterm_unless_it_was_given_time(server: Server) -> None:
    server.start()
    server.until("GET", "/health", 200)
    cut = server.in_background("/v1/completions", {"prompt": "x", "max_tokens": 5000})
    server.busy(1)
    server.machine.run(["podman", "stop", "--time", "20", "server"])
    server.finish()

    assert server.exit_code() == 0
    assert [type(answer) for answer in cut if isinstance(answer, Exception)] != []


def test_vllm_with_a_shutdown_timeout_finishes_what_runs(server: Server) -> None:
    server.start("--shutdown-timeout", "20")
    server.until("GET", "/health", 200)
    whole = server.in_background("/v1/completions", {"prompt": "x", "max_tokens": 60})
    server.busy(1)
    server.machine.run(["podman", "stop", "--time", "20", "server"])
    server.finish()

    answers = [json.loads(answer[1]) for answer in whole if isinstance(answer, tuple)]
    assert [item["usage"]["completion_tokens"] for item in answers] == [60]


def test_vllm_does_not_listen_before_it_is_loaded_and_llamacpp_answers_503(server: Server) -> None:
    server.start("--runtime", "llamacpp", LAB_FAULT="never-healthy")
    server.until("GET", "/health", 503)
    loading = json.loads(server.ask("GET", "/health")[1])
    server.machine.run(["podman", "rm", "--force", "--time", "0", "server"])
    server.start("--runtime", "vllm", LAB_FAULT="never-healthy")
    server.machine.run(["sleep", "1"])

    assert loading == {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
    with pytest.raises(ConnectionRefusedError):
        server.ask("GET", "/health")


def test_llamacpp_shows_its_slots_and_its_metrics_only_when_asked_for(server: Server) -> None:
    server.start("--runtime", "llamacpp", "-m", "m.gguf", "--parallel", "2")
    server.until("GET", "/health", 200)
    answer = server.in_background("/completion", {"prompt": "x", "n_predict": 60})
    pause = threading.Event()
    busy: list[bool] = []
    for _attempt in range(100):
        busy = [slot["is_processing"] for slot in json.loads(server.ask("GET", "/slots")[1])]
        if any(busy):
            break
        pause.wait(0.02)
    without = server.ask("GET", "/metrics")[0]
    server.finish()

    assert (sorted(busy), without) == ([False, True], 501)
    assert [json.loads(item[1])["tokens_predicted"] for item in answer if isinstance(item, tuple)] == [60]


def test_llamacpp_counts_requests_processing_and_deferred(server: Server) -> None:
    server.start("--runtime", "llamacpp", "--parallel", "1", "--metrics")
    server.until("GET", "/health", 200)
    for _number in range(2):
        server.in_background("/completion", {"prompt": "x", "n_predict": 100})
    server.busy(1, 1)

    assert server.samples() == {"llamacpp:requests_processing": 1.0, "llamacpp:requests_deferred": 1.0}


def test_a_generic_server_says_how_long_its_queue_is(server: Server) -> None:
    server.start("--runtime", "generic")
    server.until("GET", "/healthz", 200)
    idle = json.loads(server.ask("GET", "/queue")[1])
    made = json.loads(server.ask("POST", "/generate", {"max_tokens": 2})[1])

    assert idle == {"queue": {"running": 0, "pending": 0, "remaining": 0}}
    assert made == {"text": "word word ", "count": 2, "finish": "length"}


@pytest.mark.parametrize(
    ("fault", "path", "status"), [("health-503", "/health", 503), ("metrics-missing", "/metrics", 404)]
)
def test_a_live_server_takes_up_a_fault_and_loses_it_again(server: Server, fault: str, path: str, status: int) -> None:
    server.start()
    server.until("GET", "/health", 200)
    server.machine.fault(PORT, {fault: True})
    during = server.ask("GET", path)[0]
    server.machine.fault(PORT, {})

    assert (during, server.ask("GET", path)[0]) == (status, 200)


def test_metrics_can_hang(server: Server) -> None:
    server.start(LAB_FAULT="hang-metrics")
    server.until("GET", "/health", 200)

    with pytest.raises(TimeoutError):
        server.ask("GET", "/metrics", timeout=0.5)


@pytest.mark.parametrize("fault", ["crash-at-start", "crash-after:0.5", "crash-after-ready:0.5"])
def test_a_server_can_be_told_to_crash(server: Server, fault: str) -> None:
    server.start(LAB_FAULT=fault)

    assert server.exit_code() == 1


def test_a_server_deaf_to_sigterm_has_to_be_killed(server: Server) -> None:
    server.start(LAB_FAULT="sigterm-ignore")
    server.until("GET", "/health", 200)
    server.machine.run(["podman", "stop", "--time", "1", "server"])

    assert server.exit_code() == 137


def test_a_server_with_another_model_says_so_and_refuses_the_expected_one(server: Server) -> None:
    server.start("--model", "org/m", LAB_FAULT="wrong-model", LAB_TOKEN_MS="1")
    server.until("GET", "/health", 200)

    assert [item["id"] for item in json.loads(server.ask("GET", "/v1/models")[1])["data"]] == ["another-model"]
    assert server.ask("POST", "/v1/completions", {"model": "org/m", "prompt": "x"})[0] == 404


@pytest.mark.parametrize("name", ["sglang", "ollama", "comfyui", "tgi"])
def test_the_other_runtimes_answer_what_recon_asks_of_them(server: Server, name: RuntimeName) -> None:
    model = {"ollama": {"hub": "library/m:1b"}, "comfyui": None}.get(name, {"path": "/usr"})
    values = {"runtime": name, "image": "x", "port": PORT, "memory": "1GiB", "model": model}
    service = Service.model_validate(values)
    program = RUNTIMES[name].program if name == "sglang" else ()
    argv = [word for word in launch_argv(service)[len(program) :] if word not in ("--port", str(PORT))]
    probes = probes_of(service)
    server.start("--runtime", name, *argv, **launch_env(service))

    assert probes.health is not None
    server.until("GET", probes.health.partition(str(PORT))[2], 200)
    if probes.warm is not None:
        path = probes.warm.call.url.partition(str(PORT))[2]
        assert server.ask("POST", path, json.loads(probes.warm.call.body or ""))[0] == 200
    for probe in probes.in_flight:
        status, text = server.ask("GET", probe.url.partition(str(PORT))[2])
        old = probe.url.endswith("/get_load")
        assert (status, None if old else figure_in(probe.model_dump(), text.encode())) == (
            (404, None) if old else (200, 0)
        )


def test_sglang_finishes_what_is_in_flight_on_sigterm_and_takes_nothing_new(server: Server) -> None:
    server.start("--model", "/usr", "--runtime", "sglang", "--enable-metrics")
    server.until("GET", "/health", 200)
    answers = server.in_background("/v1/completions", {"prompt": "x", "max_tokens": 150})
    pause = threading.Event()
    while '"num_running_reqs": 1' not in server.ask("GET", "/v1/loads")[1]:
        pause.wait(0.05)
    server.machine.run(["podman", "kill", "--signal=TERM", "server"])
    server.until("GET", "/health", 503)
    server.finish()

    answer = answers[0]
    assert isinstance(answer, tuple)
    assert json.loads(answer[1])["usage"]["completion_tokens"] == 150
    assert server.exit_code() == 0
