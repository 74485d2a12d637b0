"""What runs on GPUs without being recon's: containers as podman tells of them, units as systemd does, no secrets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.agent import dispatch, withheld
from reconciler.agent.machine import Completed
from reconciler.agent.wire import RequestError
from reconciler.model.strangers import Port, Stranger, Strangers, Volume
from reconciler.sim.machine import SimMachine
from tests.agent.fakehost import FakeHost

ID = "a" * 64
PS = ("podman", "ps", "--quiet", "--no-trunc")
INSPECT = ("podman", "inspect", "--type", "container", "--", ID)
CREATE = ["podman", "run", "--device", "nvidia.com/gpu=all", "--entrypoint=/serve", "-e", "A=1", "image"]
DOCUMENT = {
    "Id": ID,
    "Name": "chat",
    "ImageName": "docker.io/vllm/vllm-openai:v1",
    "ImageDigest": "sha256:" + "1" * 64,
    "Config": {
        "Env": ["A=1", "PATH=/bin", "HF_TOKEN=abc", "URL=https://u:p@x.example.net", "B=sk-123", "DB_PASSWORD=x"],
        "Cmd": ["--model", "/m"],
        "Labels": {"PODMAN_SYSTEMD_UNIT": "chat.service"},
        "CreateCommand": CREATE,
    },
    "HostConfig": {
        "NetworkMode": "bridge",
        "ShmSize": 1 << 30,
        "RestartPolicy": {"Name": "always"},
        "Privileged": True,
        "PortBindings": {"8000/tcp": [{"HostIp": "", "HostPort": "80"}]},
    },
    "Mounts": [
        {"Type": "bind", "Source": "/srv/m", "Destination": "/m", "RW": False},
        {"Type": "volume", "Name": "cache", "Source": "/var/x", "Destination": "/cache", "RW": True},
    ],
}


def show(unit: str) -> tuple[str, ...]:
    properties = "Id,LoadState,FragmentPath,SourcePath,ActiveState,UnitFileState,MainPID,ExecStart,Description"
    return ("systemctl", "show", f"--property={properties}", "--", unit)


class Host(FakeHost):
    """A dictionary whose GPU cannot be asked."""

    def gpu_facts(self, timeout_s: float) -> dict[str, Any]:
        return {"error": {"code": 9, "text": "no driver"}, "driver": None, "gpus": []}


def asked(host: Any, *names: str) -> Strangers:
    reply = dispatch.handle(host, "strangers", {"names": list(names)}, {"digest": "d", "mode": "streamed"})
    return Strangers.model_validate(reply)


def test_a_container_is_told_whole_and_its_secrets_by_name_alone() -> None:
    host = Host(
        programs={
            PS: Completed(0, f"{ID}\n".encode(), b""),
            INSPECT: Completed(0, json.dumps([DOCUMENT]).encode(), b""),
            show("chat.service"): Completed(
                0, b"SourcePath=/etc/containers/systemd/chat.container\nUnitFileState=generated\n", b""
            ),
        }
    )

    assert asked(host).strangers == (
        Stranger(
            name="chat",
            container=ID,
            unit="chat.service",
            kind="quadlet",
            source="/etc/containers/systemd/chat.container",
            enabled=True,
            gpu=True,
            bytes=None,
            image="docker.io/vllm/vllm-openai:v1",
            digest="sha256:" + "1" * 64,
            entrypoint=("/serve",),
            args=("--model", "/m"),
            env={"A": "1", "PATH": "/bin"},
            secrets=("B", "DB_PASSWORD", "HF_TOKEN", "URL"),
            volumes=(
                Volume(kind="bind", source="/srv/m", target="/m", writable=False),
                Volume(kind="volume", source="cache", target="/cache", writable=True),
            ),
            ports=(Port(host=80, container=8000),),
            network="bridge",
            shm=1 << 30,
            restart="always",
            privileged=True,
            argv=tuple("A" if word == "A=1" else word for word in CREATE),
        ),
    )
    assert asked(host, "chat").strangers == asked(host, "chat.service").strangers == asked(host).strangers
    assert asked(host, "other").missing == ("other",)


def test_a_unit_that_is_named_and_has_no_container_is_told_by_what_it_runs() -> None:
    start = b"ExecStart={ path=/usr/bin/docker ; argv[]=/usr/bin/docker run image ; ignore_errors=no }\n"
    host = Host(
        programs={
            PS: Completed(127, b"", b""),
            show("old.service"): Completed(0, start + b"FragmentPath=/etc/systemd/system/old.service\n", b""),
        }
    )

    (found,) = asked(host, "old.service").strangers

    assert (found.kind, found.image, found.argv) == ("unit", "", ("/usr/bin/docker", "run", "image"))
    assert (found.source, found.enabled) == ("/etc/systemd/system/old.service", False)


def test_a_podman_that_does_not_answer_is_not_taken_for_one_without_containers() -> None:
    host = Host(programs={PS: Completed(125, b"", b"Error: database is locked\n")})

    with pytest.raises(RequestError, match="database is locked"):
        asked(host)


def test_an_inspection_without_an_answer_is_told_and_one_that_lacks_a_container_is_not_lost() -> None:
    gone = Completed(125, json.dumps([DOCUMENT]).encode(), b"Error: no such container\n")
    programs = {PS: Completed(0, f"{ID}\n".encode(), b""), INSPECT: gone}

    assert [found.name for found in asked(Host(programs=programs), "chat").strangers] == ["chat"]
    programs[INSPECT] = Completed(125, b"", b"Error: database is locked\n")
    with pytest.raises(RequestError, match="database is locked"):
        asked(Host(programs=programs))


def test_a_label_is_believed_only_when_its_unit_has_to_do_with_podman() -> None:
    """An image may carry any label: adopting sshd for it would stop sshd."""
    start = b"ExecStart={ path=/usr/sbin/sshd ; argv[]=/usr/sbin/sshd -D ; ignore_errors=no }\n"
    host = Host(
        programs={
            PS: Completed(0, f"{ID}\n".encode(), b""),
            INSPECT: Completed(0, json.dumps([DOCUMENT]).encode(), b""),
            show("chat.service"): Completed(0, start, b""),
        }
    )

    (found,) = asked(host, "chat").strangers

    assert (found.unit, found.kind) == (None, "container")


def test_a_unit_that_is_not_there_or_is_recons_own_is_missing() -> None:
    host = Host(
        programs={
            PS: Completed(127, b"", b""),
            show("typo.service"): Completed(0, b"LoadState=not-found\n", b""),
            show("recon-watchdog.service"): Completed(0, b"LoadState=loaded\n", b""),
        }
    )

    reply = asked(host, "typo.service", "recon-watchdog.service")

    assert (reply.strangers, reply.missing) == ((), ("typo.service", "recon-watchdog.service"))


CANARY = "c4n4ry"


@pytest.mark.parametrize(
    "words",
    [
        ("-e", f"HF_TOKEN=hf_{CANARY}"),
        (f"-eDB_PASS={CANARY}",),
        (f"--env=A={CANARY}",),
        ("--api-key", CANARY),
        (f"--api-key={CANARY}",),
        ("--x", f"sk-{CANARY}"),
        (f"sk-{CANARY}",),
        ("sh", "-c", f"NGC_KEY={CANARY} exec vllm serve m"),
        ("sh", "-c", f"exec vllm serve m --api-key {CANARY}"),
        ("--config", json.dumps({"api_key": CANARY})),
        ("-H", f"Authorization: Bearer {CANARY}"),
        ("--db", f"redis://:{CANARY}@db.example.net"),
    ],
)
def test_a_secret_on_a_command_line_never_leaves_the_host(words: tuple[str, ...]) -> None:
    config = {**DOCUMENT["Config"], "Cmd": ["serve", *words], "CreateCommand": [*CREATE, *words]}  # type: ignore[dict-item]
    start = f"ExecStart={{ path=/x ; argv[]=/usr/bin/docker run {' '.join(words)} ; ignore_errors=no }}\n"
    host = Host(
        programs={
            PS: Completed(0, f"{ID}\n".encode(), b""),
            INSPECT: Completed(0, json.dumps([{**DOCUMENT, "Config": config}]).encode(), b""),
            show("chat.service"): Completed(0, b"", b""),
            show("old.service"): Completed(0, start.encode(), b""),
        }
    )

    reply = dispatch.handle(host, "strangers", {"names": ["chat", "old.service"]}, {"digest": "d", "mode": "streamed"})

    assert CANARY not in json.dumps(reply)
    assert [each["name"] for each in reply["strangers"]] == ["chat", "old.service"]


@pytest.mark.parametrize(
    ("words", "kept", "told"),
    [
        (["--api-key", "x", "--port", "1"], ["--port", "1"], ["--api-key"]),
        (["--hf_token=x", "--rm"], ["--rm"], ["--hf_token"]),
        (["--x", "sk-1", "y"], ["y"], ["--x"]),
        (["serve", "hf_x"], ["serve"], ["argument 2"]),
        (["sh", "-c", "DB_PASS=x run"], ["sh"], ["-c (DB_PASS)"]),
        (["-e", "DB_PASS=x", "-eA=1", "--env=B=2", "i"], ["-e", "DB_PASS", "-eA", "--env=B", "i"], ["DB_PASS"]),
        (["--allow-credentials", "--port", "1"], ["--allow-credentials", "--port", "1"], []),
        (["--max-tokens", "5", "--tokenizer", "t"], ["--max-tokens", "5", "--tokenizer", "t"], []),
    ],
)
def test_what_is_left_out_of_a_command_line_is_told_by_its_flag(
    words: list[str], kept: list[str], told: list[str]
) -> None:
    assert withheld.without_secrets(words) == (kept, told)


def test_where_words_were_joined_a_secret_goes_on_to_the_next_flag() -> None:
    words = ["docker", "run", "-e", "DB_PASS=a", "b", "image", "--api-key", "c", "d", "--port", "1"]

    assert withheld.without_secrets(words, joined=True) == (
        ["docker", "run", "-e", "DB_PASS", "--port", "1"],
        ["--api-key", "DB_PASS"],
    )


@pytest.mark.parametrize(
    "name",
    [
        *("HF_TOKEN", "DB_PASS", "PGPASS", "SMTP_PASS", "MASTER_KEY", "ENCRYPTION_KEY", "NGC_KEY", "DB_PASSWORD"),
        *("--api-key", "--api_key", "--hf-token", "--master-key", "--db-pass", "API_TOKENS", "AWS_ACCESS_KEY_ID"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert withheld.is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        *("--tokenizer", "--tokenizer-mode", "TOKENIZERS_PARALLELISM", "--max-tokens", "--max-num-batched-tokens"),
        *("--keyspace", "--key-value-cache", "--skip-special-tokens", "--return-tokens-as-token-ids", "MONKEY"),
        *("--long-prefill-token-threshold", "BYPASS", "--compass", "--author", "--passthrough", "KEYMAP"),
    ],
)
def test_names_that_only_sound_like_secrets(name: str) -> None:
    assert not withheld.is_secret(name)


@pytest.mark.parametrize("names", [["a b"], ["-x"], ["$(x)"], [1], "x", ["x"] * 65])
def test_odd_names_never_reach_a_program(names: Any) -> None:
    host = Host()
    with pytest.raises(RequestError):
        dispatch.handle(host, "strangers", {"names": names}, {"digest": "d", "mode": "streamed"})

    assert host.ran == []


@pytest.mark.parametrize("output", [b"", b"not json", b'{"a": 1}', b"[" * 100_000])
def test_what_podman_says_oddly_is_no_answer(output: bytes) -> None:
    host = Host(programs={PS: Completed(0, f"{ID}\n".encode(), b""), INSPECT: Completed(0, output, b"")})

    with pytest.raises(RequestError, match="podman inspect"):
        asked(host)


def test_what_is_no_description_of_a_container_is_passed_over() -> None:
    host = Host(programs={PS: Completed(0, f"{ID}\n".encode(), b""), INSPECT: Completed(0, b"[1, null]", b"")})

    assert asked(host).strangers == ()


def test_a_simulated_host_has_none_of_its_own() -> None:
    assert asked(SimMachine.new("h-1")) == Strangers.model_validate(
        {"protocol": 1, "gpus": {"value": 1}, "strangers": [], "missing": []}
    )
