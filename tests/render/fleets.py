"""A small fleet for the render tests: two covens, a resident, one or several slots."""

from typing import Any

from reconciler.model.desired import (
    ALL_GPUS,
    Coven,
    Drain,
    Fleet,
    Host,
    MemorySpec,
    Platform,
    Policy,
    Service,
    Slot,
    Spiral,
    Ssh,
)

DIGEST = "sha256:" + "0123456789abcdef" * 4
VLLM = f"docker.io/vllm/vllm-openai@{DIGEST}"
LLAMACPP = f"ghcr.io/ggml-org/llama.cpp@{DIGEST}"
ONE_SLOT = (Slot(name=ALL_GPUS, gpus="all", coven="reasoning"),)
TWO_SLOTS = (
    Slot(name="left", gpus=("GPU-11111111-0000-0000-0000-000000000000", "1"), coven="reasoning"),
    Slot(name="right", gpus=("2",), coven="vision"),
)


def a_service(**over: Any) -> Service:
    return Service.model_validate({"runtime": "none", "image": VLLM, "memory": "1GiB", **over})


REASONING = Coven(
    name="reasoning",
    description="100% of a 70B server",
    services={
        "reranker": a_service(
            runtime="llamacpp",
            image=LLAMACPP,
            model={"path": "/srv/models/reranker.gguf"},
            port=8001,
            memory="4GiB",
            args=("--reranking",),
            warm={"request": False},
            after=("vllm",),
            drain={"timeout": "10s", "on_timeout": "force"},
        ),
        "vllm": a_service(
            runtime="vllm",
            model={"path": "/srv/models/llama-70b"},
            port=8000,
            memory="96GiB",
            args=("--max-model-len", "32768", '{"image": 4}', "", ";", "$HOME"),
            env={"VLLM_LOGGING_LEVEL": "INFO", "ODD": 'a "b" 50% \\'},
            volumes=("/srv/cache/50%:/root/.cache",),
            shm="16GiB",
            limits={"memory": "100GiB", "tasks": 16384, "cpus": 16.0},
            warm={"timeout": "20m"},
            stop={"timeout": "90s"},
        ),
    },
    drain=Drain(),
)
VISION = Coven(
    name="vision",
    description=None,
    services={
        "flux": a_service(runtime="generic", port=8188, memory="60GiB", http={"health": "/ok", "in_flight": "none"})
    },
    drain=Drain(),
)
SPEECH = Coven(name="speech", description=None, services={"whisper": a_service(memory="3GiB")}, drain=Drain())
PARSER = a_service(image=LLAMACPP, gpu=False, limits={"memory": "2GiB"})


def a_host(name: str = "spark-1", **over: Any) -> Host:
    values: dict[str, Any] = {
        "name": name,
        "address": "192.0.2.11",
        "host_key": None,
        "ssh": Ssh(),
        "reserve": None,
        "memory": MemorySpec(),
        "platform": Platform(),
        "slots": ONE_SLOT,
        "may_run": ("reasoning", "vision", "speech"),
        "shared": (),
        "residents": {"parser": PARSER},
        "spiral": Spiral(),
        "schedule": (),
    }
    return Host.model_validate(values | over)


def a_fleet(*hosts: Host, covens: tuple[Coven, ...] = (REASONING, VISION, SPEECH)) -> Fleet:
    return Fleet(
        name="studio",
        transport="ssh",
        policy=Policy(),
        covens={coven.name: coven for coven in covens},
        hosts={host.name: host for host in hosts or (a_host(),)},
    )
