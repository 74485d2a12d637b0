"""Bots, health addresses and the sources of models: what is wrong with them, where, and what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.load.states import FLEET, HOST, SERVICE, lines, problems, service, write
from tests.load.test_bad_meaning import BOX, TOP, WRITING


def vllm(extra: str, *, runtime: str = "vllm") -> str:
    """Return a coven of one server with a model; the extra keys begin on line 6."""
    return service(f"{extra}\nport: 80", runtime=runtime)


# name, files put in place, code, place, words that the message must hold
ROWS: list[tuple[str, dict[str, str], str, str, str]] = [
    (
        "bot with a port",
        {WRITING: service("port: 80", runtime="bot")},
        "REC2050",
        f"{WRITING}:6:5",
        "its health is its container's",
    ),
    (
        "bot with a request",
        {WRITING: service("warm: {request: true}", runtime="bot")},
        "REC2050",
        f"{WRITING}:6:21",
        "sent no request",
    ),
    (
        "bot with http",
        {WRITING: service("http: {health: /h, in_flight: none}", runtime="bot")},
        "REC2026",
        f"{WRITING}:6:5",
        "bot is not asked over HTTP",
    ),
    (
        "bot with a model",
        {WRITING: service("model: {path: /srv/m}", runtime="bot")},
        "REC2040",
        f"{WRITING}:6:5",
        "mount them under 'volumes'",
    ),
    (
        "bot that a firewall drains",
        {WRITING: service("drain: {timeout: 1s, admission: firewall}", runtime="bot")},
        "REC2043",
        f"{WRITING}:6:37",
        "works on a port",
    ),
    (
        "health on localhost",
        {BOX: HOST + 'shared: [{unit: q.service, memory: 0B, health: "http://localhost:6333/healthz"}]\n'},
        "REC2051",
        f"{BOX}:3:48",
        "http://127.0.0.1:6333/healthz",
    ),
    (
        "health on a name",
        {BOX: HOST + 'shared: [{unit: q.service, memory: 0B, health: "http://qdrant.example.net/healthz"}]\n'},
        "REC2051",
        f"{BOX}:3:48",
        "may resolve to two machines",
    ),
    (
        "name of a container that podman does not take",
        {WRITING: service("container_name: -a/b")},
        "REC2124",
        f"{WRITING}:6:21",
        "not written as expected",
    ),
    (
        "name of a container of recon's own",
        {WRITING: service("container_name: recon-writing-one")},
        "REC2124",
        f"{WRITING}:6:21",
        "gives by itself",
    ),
    (
        "two containers of a coven with one name",
        {WRITING: service("container_name: chat") + f"  two:\n    {SERVICE}    container_name: chat\n"},
        "REC2125",
        f"{WRITING}:11:21",
        "at the same time",
    ),
    (
        "a coven and a resident with one name of a container",
        {
            WRITING: service("container_name: chat"),
            BOX: HOST + f"residents:\n  one:\n    {SERVICE}    container_name: chat\n",
        },
        "REC2125",
        f"{BOX}:2:8",
        "resident 'one'",
    ),
    (
        "takes over what is recon's",
        {WRITING: service("adopts: recon-a-b.service")},
        "REC2120",
        f"{WRITING}:6:5",
        "a name of recon's own",
    ),
    (
        "takes over by a path",
        {WRITING: service("adopts: /etc/systemd/system/llama.service")},
        "REC2034",
        f"{WRITING}:6:5",
        "not written as expected",
    ),
    (
        "takes over by a pattern",
        {WRITING: service('adopts: [a.service, "*.service"]')},
        "REC2034",
        f"{WRITING}:6:25",
        "not written as expected",
    ),
    (
        "takes over a template",
        {WRITING: service("adopts: llama@.service")},
        "REC2120",
        f"{WRITING}:6:5",
        "only an instance of it runs",
    ),
    (
        "takes over what starts a service",
        {WRITING: service("adopts: [a.service, llama.timer]")},
        "REC2120",
        f"{WRITING}:6:25",
        "holds no GPU by itself",
    ),
    (
        "takes the same over twice",
        {WRITING: service("adopts: [llama.service, llama.service]")},
        "REC2031",
        f"{WRITING}:6:5",
        "only one service takes its place",
    ),
    (
        "resident that takes over",
        {BOX: HOST + f"residents:\n  one:\n    {SERVICE}    adopts: llama\n"},
        "REC2120",
        f"{BOX}:8:5",
        "no part of a transition",
    ),
    (
        "takes over what is shared",
        {
            BOX: HOST + "shared: [{unit: llama.service, memory: 1GiB}]\n",
            WRITING: service("adopts: llama.service"),
        },
        "REC2121",
        f"{BOX}:3:17",
        "it is shared here",
    ),
    (
        "revision of a path",
        {WRITING: vllm("model: {path: /srv/m, revision: main}")},
        "REC2052",
        f"{WRITING}:6:27",
        "belongs to a hub model",
    ),
    (
        "cache of a path",
        {WRITING: vllm("model: {path: /srv/m, cache: /srv/hub}")},
        "REC2052",
        f"{WRITING}:6:27",
        "belongs to a hub model",
    ),
    (
        "revision for llamacpp",
        {WRITING: vllm("model: {hub: a/b, revision: main}", runtime="llamacpp")},
        "REC2052",
        f"{WRITING}:6:23",
        "hub: org/name:tag",
    ),
    (
        "cache for ollama",
        {WRITING: vllm("model: {hub: a/b, cache: /srv/hub}", runtime="ollama")},
        "REC2052",
        f"{WRITING}:6:23",
        "under 'volumes'",
    ),
    (
        "revision that climbs",
        {WRITING: vllm('model: {hub: a/b, revision: "../../etc"}')},
        "REC2053",
        f"{WRITING}:6:33",
        "40 digits",
    ),
    (
        "revision with a space",
        {WRITING: vllm('model: {hub: a/b, revision: "a b"}')},
        "REC2053",
        f"{WRITING}:6:33",
        "'a b'",
    ),
    (
        "cache in a system folder",
        {WRITING: vllm("model: {hub: a/b, cache: /root/.cache/huggingface/hub}")},
        "REC2017",
        f"{WRITING}:6:30",
        "of the host",
    ),
    (
        "cache that is not absolute",
        {WRITING: vllm("model: {hub: a/b, cache: hub}")},
        "REC3004",
        f"{WRITING}:6:30",
        "not absolute",
    ),
    (
        "default cache that policy forbids",
        {WRITING: vllm("model: {hub: a/b}"), TOP: FLEET + "policy: {allow_mounts: [/data]}\n"},
        "REC2017",
        f"{WRITING}:6:18",
        "/srv/huggingface/hub",
    ),
    (
        "variable of the cache",
        {WRITING: vllm('model: {hub: a/b}\nenv: {HF_HUB_OFFLINE: "0"}')},
        "REC2027",
        f"{WRITING}:7:11",
        "download nothing",
    ),
    (
        "chat that is no boolean",
        {WRITING: vllm("model: {path: /srv/m, chat: 3}")},
        "REC2003",
        f"{WRITING}:6:33",
        "true or false",
    ),
]


@pytest.mark.parametrize(("files", "code", "place", "words"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_is_wrong_has_its_code_and_place(
    files: dict[str, str], code: str, place: str, words: str, tmp_path: Path
) -> None:
    write(tmp_path, files)

    found = problems(tmp_path)

    assert lines(tmp_path) == [f"{code} {place}"]
    assert words in f"{found[0].detail} {found[0].fix}"


@pytest.mark.parametrize("base", ["services", "residents"])
def test_a_bot_may_be_a_member_and_a_resident(base: str, tmp_path: Path) -> None:
    bot = service("warm: {timeout: 30s}", runtime="bot")
    files = {WRITING: bot} if base == "services" else {BOX: HOST + bot.replace("services:", "residents:")}
    write(tmp_path, files)

    assert problems(tmp_path) == ()
