"""The model servers: what they answer, what they take, and how they die."""

from __future__ import annotations

import json

import pytest

from reconciler.agent.busy import Busy, busy_of
from reconciler.agent.machine import Response
from reconciler.agent.warm import warm_up
from reconciler.model.desired import Service
from reconciler.render.runtimes import launch_argv, launch_env, probes_of
from reconciler.sim.deeds import requests, stray
from reconciler.sim.faults import set_fault
from reconciler.sim.machine import SimMachine
from reconciler.sim.state import GiB, Kind, ServiceFacts
from tests.sim.covens import active, container_text, gate, install, member, put, systemctl, target

BASE = "http://127.0.0.1:8000"
DIGEST = "@sha256:" + "a" * 64


def running(text: str, kind: Kind = "h200") -> SimMachine:
    """Return a machine whose coven `a` has this container."""
    machine = SimMachine.new("gpu-1", kind)
    install(machine, ("a",))
    put(machine, "/etc/recon/generations/1/recon-a-m.container", text)
    systemctl(machine, "daemon-reload")
    systemctl(machine, "start", target("a"))
    return machine


def get(machine: SimMachine, path: str, method: str = "GET") -> Response:
    return machine.http(method, BASE + path, 3.0)


def used(machine: SimMachine) -> int:
    figures = machine.gpu_facts(5.0)["gpus"][0]["memory"]["ok"]
    return int(figures["used"])


def test_loading_takes_virtual_time_by_size_and_memory_at_once() -> None:
    machine = running(container_text("a", memory=88 * GiB))
    assert get(machine, "/health") == Response(0, b"connection refused")
    assert used(machine) == 88 * GiB
    machine.sleep(39.0)
    assert get(machine, "/health").status == 0
    machine.sleep(1.5)

    assert get(machine, "/health") == Response(200, b"")


def test_memory_comes_back_half_a_second_after_the_process_is_gone() -> None:
    machine = running(container_text("a", memory=10 * GiB))
    systemctl(machine, "stop", gate("a"))
    gone = (used(machine), machine.gpu_facts(5.0)["gpus"][0]["processes"])
    machine.sleep(0.6)

    assert gone == (10 * GiB, {"ok": []})
    assert used(machine) == 0


@pytest.mark.parametrize("kind", ["gb10", "gh200", "h200"])
def test_a_server_that_does_not_fit_dies_of_it(kind: Kind) -> None:
    machine = SimMachine.new("gpu-1", kind)
    stray(machine, 60 * GiB)
    install(machine, ("a",), memory=90 * GiB)
    systemctl(machine, "start", target("a"))
    machine.sleep(5.0)

    assert active(machine, member("a")) == ["failed"]
    log = machine.run(["journalctl", "-u", member("a"), "-n", "3", "-o", "cat", "--no-pager"], 5.0)
    assert log.out.decode().splitlines() == [
        "ERROR torch.OutOfMemoryError: CUDA out of memory",
        f"{member('a')}: Main process exited, code=exited, status=1/FAILURE",
        f"{member('a')}: Failed with result 'exit-code'.",
    ]


def test_two_servers_on_one_port_end_with_address_in_use() -> None:
    machine = SimMachine.new("gpu-1")
    stray(machine, GiB, port=8000)
    install(machine, ("a",))
    systemctl(machine, "start", target("a"))
    machine.sleep(3.0)

    assert active(machine, member("a")) == ["failed"]
    assert "ERROR OSError: [Errno 98] address already in use: 8000" in machine.state.logs[member("a")]


def service(runtime: str, **more: object) -> Service:
    values = {"runtime": runtime, "image": "x", "port": 8000, "memory": "1GiB", "model": {"path": "/srv/models/m"}}
    return Service.model_validate_json(json.dumps({**values, **more}))


@pytest.mark.parametrize(
    ("runtime", "image"), [("vllm", "docker.io/vllm/vllm-openai"), ("llamacpp", "ghcr.io/ggml-org/llama.cpp")]
)
def test_a_server_launched_as_recon_renders_it_answers_what_recon_asks(runtime: str, image: str) -> None:
    desired = service(runtime)
    words = " ".join(launch_argv(desired))
    text = container_text("a").replace("docker.io/vllm/vllm-openai", image)
    text = text.replace("Exec=--model /srv/models/a --port 8000", f"Exec={words}")
    machine = running(text)
    machine.sleep(10.0)
    probes = probes_of(desired)
    assert probes.health is not None
    assert probes.warm is not None
    in_flight = [probe.model_dump() for probe in probes.in_flight]

    assert machine.http("GET", probes.health, 3.0).status == 200
    assert busy_of(machine, in_flight) == Busy(0)
    requests(machine, "a", 30.0, 3)
    assert busy_of(machine, in_flight) == Busy(3)
    machine.sleep(10.0)
    assert [busy_of(machine, [{**probe, "also": False}]) for probe in in_flight] == [Busy(3)] * len(in_flight)
    machine.sleep(21.0)
    assert busy_of(machine, in_flight) == Busy(0)
    assert machine.http("POST", probes.warm.call.url, 3.0, b"{}").status == 200


def test_vllm_answers_as_itself() -> None:
    machine = running(container_text("a"))
    machine.sleep(3.0)

    assert json.loads(get(machine, "/v1/models").body)["data"][0]["id"] == "/srv/models/a"
    assert get(machine, "/pause?mode=wait", "POST").status == 404
    requests(machine, "a", 30.0)
    assert json.loads(get(machine, "/load").body) == {"server_load": 0}
    assert get(machine, "/nothing").status == 404


def test_vllm_in_development_mode_pauses_when_what_is_in_flight_is_done() -> None:
    text = container_text("a").replace("Pull=never", "Pull=never\nEnvironment=VLLM_SERVER_DEV_MODE=1")
    machine = running(text.replace("--port 8000", "--port 8000 --enable-server-load-tracking"))
    machine.sleep(3.0)
    requests(machine, ":8000", 2.0)
    assert json.loads(get(machine, "/load").body) == {"server_load": 1}
    before = machine.monotonic()

    assert get(machine, "/pause?mode=wait", "POST").status == 200
    assert machine.monotonic() - before == pytest.approx(2.0, abs=0.1)
    assert json.loads(get(machine, "/is_paused").body) == {"is_paused": True}
    assert get(machine, "/resume", "POST").status == 200
    requests(machine, ":8000", 60.0)
    assert get(machine, "/pause?mode=wait", "POST").status == 0


def test_llamacpp_says_503_while_it_loads_and_has_metrics_only_when_asked_for() -> None:
    text = container_text("a", memory=44 * GiB).replace("docker.io/vllm/vllm-openai", "ghcr.io/ggml-org/llama.cpp")
    machine = running(text.replace("--model", "-m"))
    loading = get(machine, "/health")
    machine.sleep(30.0)

    assert (loading.status, json.loads(loading.body)["error"]["message"]) == (503, "Loading model")
    assert get(machine, "/health").status == 200
    assert get(machine, "/metrics").status == 501
    assert len(json.loads(get(machine, "/slots").body)) == 4


@pytest.mark.parametrize(
    ("probe", "busy"),
    [
        ({"form": "prometheus", "names": ["a_busy", "a_waiting"], "field": ""}, 2),
        ({"form": "json", "names": [], "field": "queue.length"}, 2),
        ({"form": "json_true", "names": [], "field": "is_busy"}, 2),
    ],
)
def test_a_generic_server_tells_how_busy_it_is_in_the_form_that_was_declared(
    probe: dict[str, str | list[str]], busy: int
) -> None:
    machine = SimMachine.new("gpu-1")
    facts = ServiceFacts(memory=GiB, port=8000, health="/healthz", in_flight=[{**probe, "path": "/busy"}])
    machine.state.facts[member("a")] = facts
    install(machine, ("a",))
    text = container_text("a").replace("docker.io/vllm/vllm-openai", "registry.example.net/own").replace("Exec=", "#")
    put(machine, "/etc/recon/generations/1/recon-a-m.container", text)
    systemctl(machine, "daemon-reload")
    systemctl(machine, "start", target("a"))
    assert get(machine, "/healthz").status == 503
    machine.sleep(3.0)
    requests(machine, "a", 10.0, 2)

    assert get(machine, "/healthz").status == 200
    assert busy_of(machine, [{**probe, "url": f"{BASE}/busy"}]) == Busy(busy)


def test_a_request_that_is_in_flight_at_the_end_is_written_down_as_cut() -> None:
    machine = running(container_text("a"))
    machine.sleep(3.0)
    requests(machine, "a", 5.0)
    requests(machine, "a", 50.0)
    requests(machine, "a", 50.0, start_in=500.0)
    machine.sleep(6.0)
    systemctl(machine, "stop", gate("a"))

    assert [line.split(" at ")[0] for line in machine.state.cut] == ["recon-a-m.service"]


def test_faults_do_what_they_say() -> None:
    machine = running(container_text("a"))
    machine.sleep(3.0)
    set_fault(machine.state, "wrong-model", member("a"), text="other")
    set_fault(machine.state, "no-metrics", ":8000")
    assert json.loads(get(machine, "/v1/models").body)["data"][0]["id"] == "other"
    assert get(machine, "/metrics").status == 500

    set_fault(machine.state, "nvml", value=999, text="Unknown Error")
    assert machine.gpu_facts(5.0) == {
        "error": {"code": 999, "text": "Unknown Error"},
        "driver": None,
        "library": None,
        "gpus": [],
    }
    with pytest.raises(ValueError, match="no such fault"):
        set_fault(machine.state, "gremlins")


def test_slow_load_never_healthy_and_slow_release() -> None:
    machine = SimMachine.new("gpu-1")
    install(machine, memory=GiB)
    set_fault(machine.state, "slow-load", member("a"), 100.0)
    set_fault(machine.state, "never-healthy", member("b"))
    set_fault(machine.state, "slow-release", member("a"), 30.0)
    systemctl(machine, "start", target("a"))
    machine.sleep(99.0)
    assert get(machine, "/health").status == 0
    machine.sleep(2.0)
    assert get(machine, "/health").status == 200

    systemctl(machine, "start", target("b"))
    assert used(machine) == 2 * GiB
    machine.sleep(3600.0)
    assert (used(machine), get(machine, "/health").status) == (GiB, 0)


def test_an_address_that_is_not_this_host_has_no_route() -> None:
    machine = SimMachine.new("gpu-1")

    assert machine.http("GET", "http://192.0.2.9:8000/health", 3.0) == Response(0, b"no route to host")
    assert machine.http("GET", BASE + "/health", 3.0) == Response(0, b"connection refused")


RUNTIMES = {
    "sglang": ("docker.io/lmsysorg/sglang", {"model": {"path": "/srv/models/a"}}),
    "ollama": ("docker.io/ollama/ollama", {"model": {"hub": "library/llama3:70b"}}),
    "comfyui": ("registry.example.net/comfyui", {}),
    "tgi": ("ghcr.io/huggingface/text-generation-inference", {"model": {"path": "/srv/models/a"}}),
}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_each_runtime_answers_what_the_agent_asks_of_it(runtime: str) -> None:
    image, over = RUNTIMES[runtime]
    service = Service.model_validate(
        {"runtime": runtime, "image": image + DIGEST, "port": 8000, "memory": "1GiB", **over}
    )
    env = "".join(f"\nEnvironment={key}={value}" for key, value in launch_env(service).items())
    text = container_text("a").replace(
        "Exec=--model /srv/models/a --port 8000", f"Exec={' '.join(launch_argv(service))}{env}"
    )
    machine = running(text.replace("docker.io/vllm/vllm-openai", image))
    machine.sleep(10.0)
    probes = probes_of(service)
    asked = [probe.model_dump() for probe in probes.in_flight]

    idle = busy_of(machine, asked).figure
    requests(machine, ":8000", 30.0, 2)
    busy = busy_of(machine, asked).figure

    assert probes.health is not None
    assert machine.http("GET", probes.health, 3.0).status == 200
    assert (idle, busy) == ((0, 2) if asked else (None, None))
    if probes.warm is not None:
        assert warm_up(machine, probes.warm.model_dump()).ok


def test_a_runtime_that_drains_on_sigterm_ends_when_its_last_request_has() -> None:
    image = RUNTIMES["sglang"][0]
    text = container_text("a").replace("docker.io/vllm/vllm-openai", image)
    machine = running(text.replace("Exec=", "Exec=python3 -m sglang.launch_server "))
    machine.sleep(10.0)
    requests(machine, ":8000", 8.0)
    began = machine.monotonic()
    systemctl(machine, "stop", gate("a"))

    assert machine.state.cut == []
    assert machine.monotonic() - began >= 8.0
