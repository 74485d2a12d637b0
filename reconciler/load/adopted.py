"""Writes a coven from what runs on a host already: what can be carried over as YAML, what cannot in words.

Nothing is guessed: a server that is not recognised by its image is `runtime: none`, a memory that nobody told is said
to be missing, and values that look secret never came here.

Must not: look at a host, overwrite a file, or say that a file is right (`recon validate` does).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from reconciler.errors import Problem
from reconciler.load.document import parse
from reconciler.load.meaning import Known, check_coven, check_name
from reconciler.load.report import Report
from reconciler.model.base import format_size
from reconciler.model.desired import FOREIGN_PATTERN, CovenFile, Policy, RuntimeName, Watchdog
from reconciler.model.runtimes import RUNTIMES
from reconciler.model.strangers import Stranger

GIB = 2**30
_USUAL_SHM = 65536000
_ENV_FLAGS = ("--env", "-e")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_ADOPTABLE = re.compile(FOREIGN_PATTERN)
_BY_IMAGE: tuple[tuple[str, RuntimeName], ...] = (
    ("vllm", "vllm"),
    ("sglang", "sglang"),
    ("llama.cpp", "llamacpp"),
    ("llamacpp", "llamacpp"),
    ("ollama", "ollama"),
    ("comfyui", "comfyui"),
    ("text-generation-inference", "tgi"),
)


@dataclass(frozen=True, slots=True)
class Adopted:
    """A coven's file, what it leaves out (service and words), and what is wrong with it as a coven."""

    name: str
    text: str
    left_out: tuple[tuple[str, str], ...]
    problems: tuple[Problem, ...]


def adopt(name: str, strangers: Iterable[Stranger], policy: Policy, schema: str) -> Adopted:
    """Make one coven of strangers, each of them a service."""
    found = tuple(strangers)
    left_out: list[tuple[str, str]] = []
    services: dict[str, dict[str, Any]] = {}
    for stranger in found:
        service = _free_name(stranger, services)
        left_out += [(service, words) for words in _left_out(stranger)]
        services[service] = _service(stranger, service, left_out)
        words = _keep_name(stranger, services[service])
        left_out += [(service, words)] if words else []
        _take_over(stranger, service, services, left_out)
    text = "".join(f"{line}\n" for line in _lines(found, services, schema))
    return Adopted(name, text, tuple(left_out), _judged(name, text, policy))


def _keep_name(stranger: Stranger, service: dict[str, Any]) -> str:
    """Keep the name of its container where that is free once it has stopped; say why not where it is not.

    Whoever has the name of what Quadlet starts is removed, and a container that stays is the way back.
    """
    if not stranger.container or stranger.name.startswith(("recon-", "systemd-")):
        return ""
    # That of a Quadlet says whose it is and goes when it stops; of others one of both cannot be told.
    if stranger.kind == "quadlet" and "--rm" in stranger.argv and _CONTAINER.fullmatch(stranger.name):
        service["container_name"] = stranger.name
        return ""
    free = f"container_name: {stranger.name} can be written once it is gone (podman rm {stranger.name})"
    return f"the name of its container, which may stay when it stops: {free}"


def _take_over(
    stranger: Stranger, service: str, services: dict[str, dict[str, Any]], left_out: list[tuple[str, str]]
) -> None:
    """Let the service adopt what runs now, by its unit or else its container; a name that cannot be one is told."""
    name = stranger.unit or stranger.name
    if any(each.get("adopts") == name for each in services.values()):
        return
    if _ADOPTABLE.fullmatch(name) and not name.startswith("recon-"):
        services[service]["adopts"] = name
    else:
        left_out.append((service, f"{name} is none that recon may stop here: stop it before recon apply"))


def _judged(name: str, text: str, policy: Policy) -> tuple[Problem, ...]:
    """Read the text back as the repository will be read, and return all that is wrong with it."""
    problems: list[Problem] = []
    document = parse(text, f"desired/covens/{name}.yaml", problems)
    if document is not None and not problems:
        known = Known(policy=policy, names=frozenset({name}), watchdog=Watchdog())
        check_coven(name, CovenFile.model_validate(document.value), known, Report(document, problems))
    return tuple(problems)


def _free_name(stranger: Stranger, taken: dict[str, Any]) -> str:
    bare = (stranger.name or stranger.unit or "service").removesuffix(".service").lower()
    bare = re.sub(r"[^a-z0-9]+", "-", bare).strip("-")[:24] or "service"
    if check_name(bare, is_coven=False):
        bare = f"s-{bare}"[:24]
    names = [bare, *(f"{bare}-{number}" for number in range(2, 100))]
    return next(name for name in names if name not in taken)


def runtime_of(stranger: Stranger) -> RuntimeName:
    """Return the kind of server, by the name of its image alone."""
    image = stranger.image.partition("@")[0].lower()
    return next((runtime for word, runtime in _BY_IMAGE if word in image), "none")


def _service(stranger: Stranger, name: str, left_out: list[tuple[str, str]]) -> dict[str, Any]:
    runtime = runtime_of(stranger)
    args, taken = _without_owned(stranger.args, RUNTIMES[runtime].owned)
    model = _model(runtime, args, taken, stranger)
    port = _port(taken, stranger)
    service: dict[str, Any] = {"runtime": runtime, "image": _image(stranger)}
    if model:
        service["model"] = model
    if port is not None and runtime != "none":
        service["port"] = port
    service["memory"] = _memory(stranger, name, left_out)
    if stranger.entrypoint:
        service["command"] = list(stranger.entrypoint)
    if args:
        service["args"] = args
    env = _own_env(stranger)
    if env:
        service["env"] = env
    path = model.get("path") if model else None
    volumes = [
        f"{volume.source}:{volume.target}{'' if volume.writable else ':ro'}"
        for volume in stranger.volumes
        if volume.kind == "bind" and not (path and volume.source == volume.target and _is_below(path, volume.source))
    ]
    if volumes:
        service["volumes"] = volumes
    if stranger.shm and stranger.shm != _USUAL_SHM:
        service["shm"] = format_size(stranger.shm)
    return service


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _without_owned(args: Iterable[str], owned: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Return the arguments without those that recon gives itself, and the values of those."""
    rest: list[str] = []
    taken: dict[str, str] = {}
    waiting: str | None = None
    flags = frozenset(owned)
    for word in args:
        flag, equals, value = word.partition("=")
        if waiting is not None:
            taken[waiting], waiting = word, None
        elif flag in flags and equals:
            taken[flag] = value
        elif word in flags:
            waiting = word
        else:
            rest.append(word)
    return rest, taken


def _model(runtime: RuntimeName, args: list[str], taken: dict[str, str], stranger: Stranger) -> dict[str, str] | None:
    """Return the model, and take a vLLM model that stands alone out of the arguments."""
    flags = [flag for flag in taken if flag not in ("--port", "-p")]
    word = taken[flags[0]] if flags else None
    if word is None and runtime == "vllm" and args and not args[0].startswith("-"):
        if args[0] == "serve":
            args.pop(0)
        word = args.pop(0) if args and not args[0].startswith("-") else None
    if not word:
        return None
    if not word.startswith("/"):
        return {"hub": word}
    for volume in stranger.volumes:
        # recon mounts a model where it lies on the host, under the same path.
        if volume.kind == "bind" and _is_below(word, volume.target):
            return {"path": volume.source.rstrip("/") + word[len(volume.target.rstrip("/")) :]}
    return {"path": word}


def _port(taken: dict[str, str], stranger: Stranger) -> int | None:
    told = taken.get("--port") or taken.get("-p")
    if told and told.isdecimal():
        inside = int(told)
        return next((port.host for port in stranger.ports if port.container == inside), inside)
    return stranger.ports[0].host if stranger.ports else None


def _image(stranger: Stranger) -> str:
    """Return the image by digest; without one it stays by tag, and validate says what to do."""
    repository = stranger.image.partition("@")[0]
    head, slash, last = repository.rpartition("/")
    bare = head + slash + last.partition(":")[0]
    return f"{bare}@{stranger.digest}" if _DIGEST.match(stranger.digest) and bare else stranger.image


def _memory(stranger: Stranger, name: str, left_out: list[tuple[str, str]]) -> str:
    if not stranger.bytes:
        left_out.append((name, "its GPU memory is not known: 1GiB stands there for you to correct"))
        return "1GiB"
    return format_size(-(-stranger.bytes // GIB) * GIB)


def _own_env(stranger: Stranger) -> dict[str, str]:
    """Return the variables that whoever started it gave it; those of the image come with the image."""
    given: set[str] = set()
    for word, after in zip(stranger.argv, (*stranger.argv[1:], ""), strict=False):
        pair = after if word in _ENV_FLAGS else word[len("--env=") :] if word.startswith("--env=") else ""
        if pair:
            given.add(pair.partition("=")[0])
    return {name: value for name, value in sorted(stranger.env.items()) if name in given}


def _left_out(stranger: Stranger) -> Iterator[str]:
    """Yield what has no place in a coven, each with what to do about it."""
    if not stranger.image:
        yield "podman shows this login no container of it: look as root, or declare it under shared: if it is none"
    for name in stranger.secrets:
        yield f"{name} looks like a secret: its value stayed on the host; put it in a file that it mounts"
    for volume in stranger.volumes:
        if volume.kind != "bind":
            yield f"{volume.kind} {volume.source[:40]} at {volume.target}: only directories of the host can be mounted"
    for port in stranger.ports:
        if port.host != port.container:
            yield f"port {port.container} was published as {port.host}: let the server itself listen on {port.host}"
    if stranger.network and stranger.network not in ("host", "none"):
        yield f"network {stranger.network}: services of recon use the host's network"
    if stranger.restart not in ("", "no"):
        yield f"podman's own restart policy ({stranger.restart}): systemd and the watchdog restart it from now on"
    if stranger.privileged:
        yield "--privileged: services get their GPUs and nothing else"
    if any(word.startswith("--env-file") for word in stranger.argv):
        yield "--env-file: write the variables that it needs under env:"
    if stranger.image and not _DIGEST.match(stranger.digest):
        yield "the digest of its image is not known: podman image inspect --format '{{.Digest}}' IMAGE"


def _lines(found: Iterable[Stranger], services: dict[str, dict[str, Any]], schema: str) -> Iterator[str]:
    yield f"# yaml-language-server: $schema={schema}"
    yield "# Written by recon adopt from what ran; read it, correct it, then: recon validate"
    names = ", ".join(stranger.unit or stranger.name for stranger in found)
    yield f"description: {json.dumps(f'Taken over from {names}')}"
    yield "services:"
    for name, service in services.items():
        yield f"  {name}:"
        for key, value in service.items():
            yield f"    {key}: {value if key == 'runtime' else _flow(value)}"


def _flow(value: Any) -> str:
    """Write a value on one line so that it is read back as it is."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(each) for each in value) + "]"
    if isinstance(value, int):
        return str(value)
    text = str(value)
    # Everything else in quotes: bare words such as yes, no and 1e3 are no text for other readers of YAML.
    return text if re.fullmatch(r"[0-9.]+([KMGT]i)?B", text) else json.dumps(text)
