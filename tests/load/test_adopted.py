"""A coven made of what runs: what is carried over word for word, and what is left out and said."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.load.adopted import Adopted, adopt, runtime_of
from reconciler.model.desired import Policy
from reconciler.model.strangers import Stranger

DIGEST = "sha256:" + "1" * 64
SCHEMA = "../../schema/coven.schema.json"


def stranger(**over: Any) -> Stranger:
    return Stranger.model_validate(
        {
            "name": "chat",
            "container": "a" * 64,
            "unit": "chat.service",
            "kind": "quadlet",
            "source": "/etc/containers/systemd/chat.container",
            "enabled": True,
            "gpu": True,
            "bytes": 90 * 2**30 + 1,
            "image": "docker.io/vllm/vllm-openai:v1",
            "digest": DIGEST,
            "entrypoint": (),
            "args": ("--model", "/m/llama", "--port=8000", "--max-model-len", "32768"),
            "env": {"A": "yes", "PATH": "/bin"},
            "secrets": (),
            "volumes": ({"kind": "bind", "source": "/srv/models", "target": "/m", "writable": False},),
            "ports": (),
            "network": "host",
            "shm": 65536000,
            "restart": "no",
            "privileged": False,
            "argv": ("podman", "run", "--rm", "--env", "A=yes", "image"),
            **over,
        }
    )


def adopted(*strangers: Stranger) -> Adopted:
    return adopt("chat", strangers, Policy(), SCHEMA)


def test_a_vllm_server_becomes_a_coven_that_is_valid_as_it_stands() -> None:
    made = adopted(stranger())

    assert made.left_out == ()
    assert made.problems == ()
    assert made.text == (
        f"# yaml-language-server: $schema={SCHEMA}\n"
        "# Written by recon adopt from what ran; read it, correct it, then: recon validate\n"
        'description: "Taken over from chat.service"\n'
        "services:\n"
        "  chat:\n"
        "    runtime: vllm\n"
        f'    image: "docker.io/vllm/vllm-openai@{DIGEST}"\n'
        '    model: {"path": "/srv/models/llama"}\n'
        "    port: 8000\n"
        "    memory: 91GiB\n"
        '    args: ["--max-model-len", "32768"]\n'
        '    env: {"A": "yes"}\n'
        '    volumes: ["/srv/models:/m:ro"]\n'
        '    container_name: "chat"\n'
        '    adopts: "chat.service"\n'
    )


def test_a_model_that_stands_alone_after_serve_is_the_model() -> None:
    made = adopted(stranger(args=("serve", "org/model", "--port", "8000"), volumes=()))

    assert '    model: {"hub": "org/model"}\n    port: 8000\n' in made.text
    assert "args" not in made.text


@pytest.mark.parametrize(
    ("image", "runtime"),
    [
        ("ghcr.io/ggml-org/llama.cpp:server", "llamacpp"),
        ("docker.io/lmsysorg/sglang:latest", "sglang"),
        ("docker.io/ollama/ollama", "ollama"),
        ("ghcr.io/huggingface/text-generation-inference:3", "tgi"),
        ("registry.example.net/mine@sha256:" + "2" * 64, "none"),
    ],
)
def test_a_server_is_recognised_by_its_image_alone(image: str, runtime: str) -> None:
    assert runtime_of(stranger(image=image)) == runtime


@pytest.mark.parametrize(
    ("over", "words"),
    [
        (
            {"secrets": ("--api-key",)},
            "--api-key looks like a secret: its value stayed on the host; put it in a file that it mounts",
        ),
        ({"bytes": None}, "its GPU memory is not known: 1GiB stands there for you to correct"),
        ({"network": "bridge"}, "network bridge: services of recon use the host's network"),
        (
            {"ports": ({"host": 80, "container": 8000},)},
            "port 8000 was published as 80: let the server itself listen on 80",
        ),
        (
            {"restart": "always"},
            "podman's own restart policy (always): systemd and the watchdog restart it from now on",
        ),
        ({"privileged": True}, "--privileged: services get their GPUs and nothing else"),
        ({"argv": ("podman", "run", "--env-file=/x")}, "--env-file: write the variables that it needs under env:"),
        (
            {"volumes": ({"kind": "volume", "source": "cache", "target": "/c", "writable": True},)},
            "volume cache at /c: only directories of the host can be mounted",
        ),
    ],
)
def test_what_has_no_place_in_a_coven_is_said(over: dict[str, Any], words: str) -> None:
    assert ("chat", words) in adopted(stranger(**over)).left_out


def test_a_unit_without_a_container_is_written_with_what_is_missing() -> None:
    made = adopted(stranger(image="", digest="", args=()))

    assert [problem.code for problem in made.problems] == ["REC2015"]
    assert made.left_out[0][1].startswith("podman shows this login no container of it")


def test_an_image_without_digest_keeps_its_tag_and_is_refused_by_validate() -> None:
    made = adopted(stranger(digest=""))

    assert [problem.code for problem in made.problems] == ["REC2014"]


def test_a_container_without_a_unit_is_adopted_by_its_name() -> None:
    assert adopted(stranger(unit=None, kind="container")).text.endswith('    adopts: "chat"\n')


def test_the_name_of_a_quadlets_container_is_kept_and_of_one_that_stays_it_is_said() -> None:
    kept = adopted(stranger(argv=("podman", "run", "--name", "chat", "--rm", "image")))
    stays = adopted(stranger(unit=None, kind="container"))

    assert '    container_name: "chat"\n' in kept.text
    assert kept.left_out == ()
    assert "container_name" not in stays.text
    words = (
        "the name of its container, which may stay when it stops: container_name: chat can be written once it is gone"
    )
    assert stays.left_out == (("chat", f"{words} (podman rm chat)"),)


def test_a_unit_that_recon_may_not_stop_is_left_to_a_person() -> None:
    made = adopted(stranger(unit="system/chat.service"))

    assert "adopts" not in made.text
    assert ("chat", "system/chat.service is none that recon may stop here: stop it before recon apply") in made.left_out


def test_what_has_no_command_line_is_written_without_variables() -> None:
    made = adopted(stranger(unit="user@1000.service/x.service", container=None, argv=()))

    assert "env:" not in made.text
    assert made.left_out == (
        ("chat", "user@1000.service/x.service is none that recon may stop here: stop it before recon apply"),
    )


def test_names_become_names_of_services_and_never_the_same_one() -> None:
    made = adopted(stranger(name="My_Chat.1"), stranger(name="my-chat-1"), stranger(name="1x"))

    services = [line.strip(" :") for line in made.text.splitlines() if line.startswith("  ") and line[2] != " "]
    assert services == ["my-chat-1", "my-chat-1-2", "s-1x"]


def test_hostile_text_of_a_host_stays_a_value() -> None:
    args = ("--a", "x: y\n  z: 1", "#", "'", '"', "{{ x }}", "*alias", "!!tag", "\\")
    made = adopted(stranger(args=("--model", "/m/x", "--port", "1", *args), unit="a: b # {x}", image="vllm\ny: 1"))

    assert made.text.count("\n") == len(made.text.splitlines())
    assert "  y: 1" not in made.text
    assert 'description: "Taken over from a: b # {x}"' in made.text
