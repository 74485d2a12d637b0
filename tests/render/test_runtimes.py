"""Every server is launched, watched, paused and warmed up as its own documentation says."""

from typing import Any

import pytest

from reconciler.agent import model_parts
from reconciler.model.desired import RuntimeName, Service
from reconciler.model.intent import BusyProbe, Call, PauseProbe, SleepProbe, WarmUp
from reconciler.model.runtimes import RUNTIMES, clashing_args, launch_flags, shortest_stop_s
from reconciler.model.weights import ModelCheck, parts_of
from reconciler.render.runtimes import Probes, launch_argv, launch_env, probes_of
from reconciler.render.units import mounts_of
from reconciler.render.weights import model_check
from tests.render.fleets import a_service

BASE = "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("service", "argv"),
    [
        (
            a_service(runtime="vllm", model={"path": "/srv/m"}, port=8000, args=("-tp", "2")),
            ("--model", "/srv/m", "--port", "8000", "--enable-server-load-tracking", "-tp", "2"),
        ),
        (
            a_service(runtime="vllm", model={"hub": "org/name"}, port=8000),
            ("--model", "org/name", "--port", "8000", "--enable-server-load-tracking"),
        ),
        (
            a_service(runtime="llamacpp", model={"path": "/srv/m.gguf"}, port=8080),
            ("-m", "/srv/m.gguf", "--port", "8080", "--host", "0.0.0.0", "--metrics"),
        ),
        (
            a_service(runtime="llamacpp", model={"hub": "org/name:q4"}, port=8080, args=("--host=192.0.2.1",)),
            ("-hf", "org/name:q4", "--port", "8080", "--metrics", "--host=192.0.2.1"),
        ),
        (
            a_service(runtime="llamacpp", model={"path": "/srv/m.gguf"}, port=8080, args=("--metrics", "-c", "1")),
            ("-m", "/srv/m.gguf", "--port", "8080", "--host", "0.0.0.0", "--metrics", "-c", "1"),
        ),
        (
            a_service(runtime="vllm", model={"path": "/srv/m"}, port=8000, command=("run", "it"), args=("--now",)),
            ("run", "it", "--now"),
        ),
        (
            a_service(runtime="sglang", model={"path": "/srv/m"}, port=30000, args=("--tp", "2")),
            (
                *("python3", "-m", "sglang.launch_server", "--model-path", "/srv/m", "--port", "30000"),
                *("--host", "0.0.0.0", "--enable-metrics", "--tp", "2"),
            ),
        ),
        (
            a_service(runtime="tgi", model={"hub": "org/name"}, port=8080),
            ("--model-id", "org/name", "--port", "8080"),
        ),
        (a_service(runtime="comfyui", port=8188), ("--port", "8188", "--listen", "0.0.0.0")),
        (a_service(runtime="ollama", model={"hub": "library/llama3:70b"}, port=11434), ("serve",)),
        (a_service(runtime="generic", port=8188, args=("--listen",)), ("--listen",)),
        (a_service(runtime="none"), ()),
    ],
)
def test_the_words_after_the_image(service: Service, argv: tuple[str, ...]) -> None:
    assert launch_argv(service) == argv


def test_vllm_is_watched_over_its_own_endpoints() -> None:
    service = a_service(runtime="vllm", model={"path": "/srv/m"}, port=8000, warm={"timeout": "20m"})

    assert probes_of(service) == Probes(
        health=f"{BASE}/health",
        in_flight=(
            BusyProbe(
                url=f"{BASE}/metrics",
                form="prometheus",
                names=("vllm:num_requests_running", "vllm:num_requests_waiting"),
            ),
            BusyProbe(url=f"{BASE}/load", form="json", field="server_load", also=True, exact=True),
        ),
        pause=Call(method="POST", url=f"{BASE}/pause?mode=wait", optional=True),
        resume=Call(method="POST", url=f"{BASE}/resume", optional=True),
        warm=WarmUp(
            call=Call(
                method="POST",
                url=f"{BASE}/v1/completions",
                body='{"model":"{model}","prompt":"Hi","max_tokens":1}',
            ),
            model_url=f"{BASE}/v1/models",
            expect_model="/srv/m",
            timeout_s=300.0,
        ),
        paused=PauseProbe(url=f"{BASE}/is_paused", field="is_paused"),
        asleep=SleepProbe(url=f"{BASE}/metrics", metric="vllm:engine_sleep_state", label="sleep_state", awake="awake"),
    )


@pytest.mark.parametrize(
    ("over", "exact"),
    [
        ({}, True),
        ({"command": ("vllm", "serve", "/srv/m")}, False),
        ({"command": ("vllm", "serve", "/srv/m"), "args": ("--enable_server_load_tracking",)}, True),
        ({"args": ("--api-server-count=4",)}, False),
        ({"args": ("-dp", "2")}, False),
        ({"args": ("--config", "/srv/m.yaml")}, False),
    ],
)
def test_vllms_count_of_requests_is_exact_where_one_process_keeps_it(over: dict[str, Any], exact: bool) -> None:
    service = a_service(runtime="vllm", model={"path": "/srv/m"}, port=8000, **over)

    assert [(probe.url, probe.exact) for probe in probes_of(service).in_flight] == [
        (f"{BASE}/metrics", False),
        (f"{BASE}/load", exact),
    ]


def test_llamacpp_is_asked_for_its_metrics_first_and_for_its_slots_when_it_has_none() -> None:
    service = a_service(runtime="llamacpp", model={"path": "/srv/m.gguf"}, port=8000, warm={"timeout": "90s"})

    assert probes_of(service) == Probes(
        health=f"{BASE}/health",
        in_flight=(
            BusyProbe(
                url=f"{BASE}/metrics",
                form="prometheus",
                names=("llamacpp:requests_processing", "llamacpp:requests_deferred"),
            ),
            BusyProbe(url=f"{BASE}/slots", form="json_true", field="is_processing"),
        ),
        warm=WarmUp(
            call=Call(method="POST", url=f"{BASE}/completion", body='{"prompt":"Hi","n_predict":1}'), timeout_s=90.0
        ),
    )


def test_sglang_is_asked_for_its_loads_first_then_as_older_ones_say_it_and_is_never_paused() -> None:
    service = a_service(runtime="sglang", model={"path": "/srv/m"}, port=8000, warm={"timeout": "90s"})

    assert probes_of(service) == Probes(
        health=f"{BASE}/health",
        in_flight=(
            BusyProbe(
                url=f"{BASE}/v1/loads?include=core",
                form="json_sum",
                field="loads",
                names=("num_running_reqs", "num_waiting_reqs"),
            ),
            BusyProbe(url=f"{BASE}/get_load", form="json_sum", names=("num_reqs", "num_waiting_reqs")),
            BusyProbe(
                url=f"{BASE}/metrics", form="prometheus", names=("sglang:num_running_reqs", "sglang:num_queue_reqs")
            ),
        ),
        warm=WarmUp(
            call=Call(
                method="POST", url=f"{BASE}/generate", body='{"text":"Hi","sampling_params":{"max_new_tokens":1}}'
            ),
            model_url=f"{BASE}/v1/models",
            expect_model="/srv/m",
            timeout_s=90.0,
        ),
    )


def test_ollama_cannot_say_how_busy_it_is_and_is_warmed_up_with_the_model_that_was_named() -> None:
    service = a_service(runtime="ollama", model={"hub": "library/llama3:70b"}, port=8000, warm={"timeout": "90s"})

    assert probes_of(service) == Probes(
        health=f"{BASE}/api/version",
        warm=WarmUp(
            call=Call(
                method="POST",
                url=f"{BASE}/api/generate",
                body='{"model":"library/llama3:70b","prompt":"Hi","stream":false,"options":{"num_predict":1}}',
            ),
            timeout_s=90.0,
        ),
    )
    assert launch_env(service) == {"OLLAMA_HOST": "0.0.0.0:8000"}


def test_comfyui_is_asked_for_its_queue_and_has_nothing_to_warm_it_up() -> None:
    assert probes_of(a_service(runtime="comfyui", port=8000)) == Probes(
        health=f"{BASE}/system_stats",
        in_flight=(
            BusyProbe(url=f"{BASE}/prompt", form="json", field="exec_info.queue_remaining"),
            BusyProbe(url=f"{BASE}/queue", form="json_sum", names=("queue_running", "queue_pending")),
        ),
    )


def test_tgi_is_read_and_nothing_of_it_is_switched() -> None:
    service = a_service(runtime="tgi", model={"path": "/srv/m"}, port=8000, warm={"timeout": "90s"})

    assert probes_of(service) == Probes(
        health=f"{BASE}/health",
        in_flight=(
            BusyProbe(url=f"{BASE}/metrics", form="prometheus", names=("tgi_batch_current_size", "tgi_queue_size")),
        ),
        warm=WarmUp(
            call=Call(method="POST", url=f"{BASE}/generate", body='{"inputs":"Hi","parameters":{"max_new_tokens":1}}'),
            timeout_s=90.0,
        ),
    )


@pytest.mark.parametrize(
    ("runtime", "args", "least"),
    [
        ("vllm", (), 0.0),
        ("vllm", ("--shutdown-timeout", "120"), 130.0),
        ("vllm", ("--shutdown_timeout=120",), 130.0),
        ("sglang", (), 120.0),
        ("tgi", (), 100.0),
        ("tgi", ("--graceful-termination-timeout=30",), 40.0),
        ("llamacpp", (), 0.0),
        ("ollama", (), 0.0),
        ("comfyui", (), 0.0),
        ("none", ("--shutdown-timeout", "120"), 0.0),
    ],
)
def test_a_stop_must_leave_the_time_that_the_server_promises(
    runtime: RuntimeName, args: tuple[str, ...], least: float
) -> None:
    assert shortest_stop_s(runtime, args) == least


def test_a_generic_server_is_watched_as_its_yaml_says() -> None:
    http = {
        "health": "/ok",
        "in_flight": {"path": "/queue", "json_field": "exec.remaining"},
        "pause": {"path": "/stop", "method": "POST"},
        "resume": {"path": "/go", "method": "POST"},
        "warm": {"path": "/one", "body": "{}"},
    }
    service = a_service(runtime="generic", port=8000, http=http)

    assert probes_of(service) == Probes(
        health=f"{BASE}/ok",
        in_flight=(BusyProbe(url=f"{BASE}/queue", form="json", field="exec.remaining"),),
        pause=Call(method="POST", url=f"{BASE}/stop"),
        resume=Call(method="POST", url=f"{BASE}/go"),
        warm=WarmUp(call=Call(method="POST", url=f"{BASE}/one", body="{}"), timeout_s=300.0),
    )


def test_a_generic_server_may_count_in_metrics_or_not_at_all() -> None:
    counting = {"health": "/ok", "in_flight": {"path": "/metrics", "metrics": ("running", "queued")}}
    silent = {"health": "/ok", "in_flight": "none"}

    assert probes_of(a_service(runtime="generic", port=8000, http=counting)).in_flight == (
        BusyProbe(url=f"{BASE}/metrics", form="prometheus", names=("running", "queued")),
    )
    assert probes_of(a_service(runtime="generic", port=8000, http=silent)) == Probes(health=f"{BASE}/ok")


def test_what_has_no_port_or_no_endpoints_is_not_asked() -> None:
    assert probes_of(a_service(runtime="none", port=8000)) == Probes()
    assert probes_of(a_service(runtime="none")) == Probes()


@pytest.mark.parametrize(
    ("over", "name"),
    [
        ({"model": {"path": "/srv/m"}}, "/srv/m"),
        ({"model": {"hub": "org/name"}}, "org/name"),
        ({"model": {"path": "/srv/m"}, "args": ("--served-model-name", "chat", "alias")}, "chat"),
        ({"model": {"path": "/srv/m"}, "args": ("--served_model_name=chat",)}, "chat"),
        ({"model": {"path": "/srv/m"}, "command": ("serve", "/other")}, None),
        ({"model": {"path": "/srv/m"}, "command": ("serve", "/other", "--served-model-name", "chat")}, "chat"),
    ],
)
def test_vllm_must_serve_the_model_that_was_asked_for(over: dict[str, object], name: str | None) -> None:
    warm = probes_of(a_service(runtime="vllm", port=8000, **over)).warm

    assert warm is not None
    assert warm.expect_model == name


def test_no_warm_up_where_it_is_switched_off() -> None:
    off = {"warm": {"request": False}, "port": 8000}
    http = {"health": "/ok", "in_flight": "none", "warm": {"path": "/one"}}

    assert probes_of(a_service(runtime="vllm", **off)).warm is None
    assert probes_of(a_service(runtime="llamacpp", **off)).warm is None
    assert probes_of(a_service(runtime="generic", http=http, **off)).warm is None


@pytest.mark.parametrize(
    ("runtime", "args", "clashing"),
    [
        ("vllm", ("--port", "9", "--model=x", "-tp", "2"), ("--port", "--model=x")),
        ("vllm", ("--served-model-name", "x", "--port-range", "1"), ()),
        ("llamacpp", ("-m", "x", "--hf-repo=y", "--host", "z"), ("-m", "--hf-repo=y")),
        ("sglang", ("--model", "x", "--model-path=y", "--tp", "2"), ("--model", "--model-path=y")),
        ("tgi", ("-p", "9", "--model-id=y"), ("-p", "--model-id=y")),
        ("comfyui", ("--port=9", "--listen", "x"), ("--port=9",)),
        ("generic", ("--port", "9"), ()),
        ("none", ("--model", "x"), ()),
    ],
)
def test_a_flag_that_is_set_from_model_and_port_is_not_set_again(
    runtime: RuntimeName, args: tuple[str, ...], clashing: tuple[str, ...]
) -> None:
    assert clashing_args(runtime, args) == clashing


def test_what_is_launched_is_what_is_called_a_launch_flag() -> None:
    for name, runtime in RUNTIMES.items():
        used = {flag for flag in (runtime.model_flag, runtime.hub_flag, runtime.port_flag) if flag}
        assert used <= launch_flags(name)


def test_a_hub_model_is_looked_for_in_the_cache_of_the_host_and_nowhere_else() -> None:
    service = a_service(runtime="vllm", model={"hub": "org/name", "revision": "v2"}, port=8000)

    assert launch_argv(service)[:4] == ("--model", "org/name", "--revision", "v2")
    assert launch_env(service) == {
        "HF_HUB_CACHE": "/srv/huggingface/hub",
        "HUGGINGFACE_HUB_CACHE": "/srv/huggingface/hub",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }
    assert mounts_of(service) == ("/srv/huggingface/hub:/srv/huggingface/hub:ro",)
    assert model_check(service) == ModelCheck(
        path="/srv/huggingface/hub",
        hub="org/name",
        revision="v2",
        layout="hub",
        memory=service.memory,
        chat=True,
        fetch="hf download org/name --revision v2 --cache-dir /srv/huggingface/hub",
    )


@pytest.mark.parametrize(
    ("path", "volumes", "mounts"),
    [
        ("/srv/m.gguf", (), ("/srv/m.gguf:/srv/m.gguf:ro",)),
        (
            "/srv/best-of-n-00001-of-00003.gguf",
            (),
            tuple(f"{part}:{part}:ro" for part in (f"/srv/best-of-n-0000{n}-of-00003.gguf" for n in (1, 2, 3))),
        ),
        (
            "/srv/m-00002-of-00002.safetensors",
            ("/data/m:/srv/m-00001-of-00002.safetensors:ro",),
            (
                "/srv/m-00002-of-00002.safetensors:/srv/m-00002-of-00002.safetensors:ro",
                "/data/m:/srv/m-00001-of-00002.safetensors:ro",
            ),
        ),
        ("/srv/m-00003-of-00002.gguf", (), ("/srv/m-00003-of-00002.gguf:/srv/m-00003-of-00002.gguf:ro",)),
        ("/srv/m-1-of-2.gguf", (), ("/srv/m-1-of-2.gguf:/srv/m-1-of-2.gguf:ro",)),
    ],
)
def test_a_split_file_is_mounted_with_all_of_its_parts(
    path: str, volumes: tuple[str, ...], mounts: tuple[str, ...]
) -> None:
    service = a_service(runtime="llamacpp", model={"path": path}, port=1, volumes=volumes)

    assert mounts_of(service) == mounts


@pytest.mark.parametrize(
    "name", ["m-00001-of-00005.gguf", "m-00005-of-00005.safetensors", "m-00000-of-00002.gguf", "m-00001-of-09999.gguf"]
)
def test_the_host_takes_the_same_names_for_parts_of_one_model(name: str) -> None:
    assert model_parts.parts_of(f"/srv/best-of-n/{name}") == list(parts_of(f"/srv/best-of-n/{name}"))


@pytest.mark.parametrize(
    ("service", "check"),
    [
        (a_service(runtime="none"), None),
        (a_service(runtime="comfyui", port=8188), None),
        (a_service(runtime="ollama", model={"hub": "library/m"}, port=1), None),
        (
            a_service(runtime="ollama", model={"hub": "library/m"}, port=1, volumes=("/srv/o:/root/.ollama",)),
            ModelCheck(
                path="/srv/o/models",
                hub="library/m",
                layout="ollama",
                memory=2**30,
                fetch="OLLAMA_MODELS=/srv/o/models ollama pull library/m",
            ),
        ),
        (
            a_service(runtime="llamacpp", model={"path": "/srv/m.gguf"}, port=1),
            ModelCheck(path="/srv/m.gguf", memory=2**30),
        ),
        (
            a_service(runtime="llamacpp", model={"path": "/srv/m.gguf"}, port=1, args=("-ngl", "20")),
            ModelCheck(path="/srv/m.gguf"),
        ),
        (a_service(runtime="llamacpp", model={"path": "/srv/m"}, port=1, gpu=False), ModelCheck(path="/srv/m")),
        (
            a_service(runtime="vllm", model={"path": "/srv/m", "chat": False}, port=1),
            ModelCheck(path="/srv/m", memory=2**30),
        ),
        (
            a_service(runtime="vllm", model={"path": "/srv/m"}, port=1, args=("--runner", "pooling", "--dtype=half")),
            ModelCheck(path="/srv/m"),
        ),
        (
            a_service(runtime="vllm", model={"path": "/srv/m"}, port=1, args=("--chat-template", "/srv/m/c.jinja")),
            ModelCheck(path="/srv/m", memory=2**30, chat=True, template="/srv/m/c.jinja"),
        ),
        (
            a_service(
                runtime="sglang",
                model={"path": "/srv/m"},
                port=1,
                volumes=("/srv/templates:/t:ro",),
                args=("--chat-template=/t/c.jinja",),
            ),
            ModelCheck(path="/srv/m", memory=2**30, chat=True, template="/srv/templates/c.jinja"),
        ),
        (
            a_service(
                runtime="llamacpp", model={"path": "/srv/m"}, port=1, volumes=("/data:/data:ro", "/srv/a:/b", "/c:/c")
            ),
            ModelCheck(path="/srv/m", memory=2**30, beside=("/data", "/c")),
        ),
        (
            a_service(runtime="sglang", model={"path": "/srv/m"}, port=1, args=("--chat-template", "chatml")),
            ModelCheck(path="/srv/m", memory=2**30, chat=True, template="-"),
        ),
    ],
)
def test_what_is_looked_at_before_a_service_starts(service: Service, check: ModelCheck | None) -> None:
    assert model_check(service) == check


def test_llama_cpp_fetches_with_its_own_image() -> None:
    service = a_service(runtime="llamacpp", model={"hub": "org/name:q4", "cache": "/data/hub"}, port=1)
    check = model_check(service)

    assert check is not None
    assert check.fetch == (
        "podman run --rm --network=host -e LLAMA_CACHE=/data/hub -e HF_HUB_CACHE=/data/hub -v /data/hub:/data/hub "
        f"{service.image} -hf org/name:q4 --port 0"
    )
    assert launch_env(service) == {"LLAMA_CACHE": "/data/hub", "HF_HUB_CACHE": "/data/hub", "LLAMA_OFFLINE": "1"}
