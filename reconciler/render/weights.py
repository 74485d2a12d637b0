"""From a service to the files of its model: where they lie on the host, what is mounted, what is looked at first.

Pure. Must not: know whether anything of it is there.
"""

from __future__ import annotations

import posixpath
import shlex

from reconciler.model.desired import ModelRef, Service
from reconciler.model.runtimes import DEFAULT_CACHE, RUNTIMES, flag_value, sets_flag
from reconciler.model.weights import ModelCheck, parts_of

_STORE = "/root/.ollama"
_STORE_ENV = "OLLAMA_MODELS"


def cache_of(service: Service) -> str | None:
    """Return the cache on the host in which the service finds its hub model; None when it is given no cache."""
    model, runtime = service.model, RUNTIMES[service.runtime]
    if model is None or model.hub is None or not runtime.hub_env:
        return None
    return model.cache or DEFAULT_CACHE


def hub_env(service: Service) -> dict[str, str]:
    """Return the variables by which the server looks into that cache and downloads nothing."""
    cache = cache_of(service)
    if cache is None:
        return {}
    return {name: text.replace("{cache}", cache) for name, text in RUNTIMES[service.runtime].hub_env}


def revision_words(service: Service) -> tuple[str, ...]:
    """Return the words that name the revision of a hub model, none when it is the newest one in the cache."""
    flag, model = RUNTIMES[service.runtime].revision_flag, service.model
    return (flag, model.revision) if flag and model and model.hub and model.revision else ()


def weights_mounts(service: Service) -> tuple[str, ...]:
    """Return what is mounted for the model: its path, all parts of a split file, or the cache; read-only, in place."""
    inside = {volume.split(":")[1] for volume in service.volumes if ":" in volume}
    path, cache = service.model.path if service.model else None, cache_of(service)
    # The name of one part tells the others, so nobody has to look at the host.
    wanted = parts_of(path) if path else (cache,) if cache else ()
    return tuple(f"{each}:{each}:ro" for each in wanted if each not in inside)


def model_check(service: Service) -> ModelCheck | None:
    """Return what the host has to look at before this service may start; None when there is nothing."""
    model = service.model
    if model is None:
        return None
    runtime = RUNTIMES[service.runtime]
    words = (*service.command, *service.args)
    path = model.path or cache_of(service) or _ollama_store(service)
    if path is None:
        return None  # a model inside the image
    resized = not service.gpu or any(sets_flag(word, flag) for flag in runtime.resizes for word in words)
    chats = model.chat and runtime.needs_template and not any(sets_flag(w, f) for f in runtime.no_chat for w in words)
    return ModelCheck(
        path=path,
        hub=model.hub or "",
        revision=model.revision or "",
        layout=(runtime.hub_layout or "files") if model.hub else "files",
        memory=0 if resized else service.memory,
        chat=chats,
        template=_template(service, words) if chats else "",
        fetch=_fetch(service, model, path),
        beside=_in_place(service) if model.path else (),
    )


def _in_place(service: Service) -> tuple[str, ...]:
    """Return the volumes that are at the same path in the container as on the host."""
    pairs = [volume.split(":")[:2] for volume in service.volumes]
    return tuple(posixpath.normpath(pair[0]) for pair in pairs if len(pair) == 2 and pair[0] == pair[1])


def _template(service: Service, words: tuple[str, ...]) -> str:
    """Return where on the host the template lies that the server is given; `-` when that is not on the host."""
    flag = RUNTIMES[service.runtime].template_flag
    given = flag_value(flag, words) if flag else None
    if given is None:
        return ""
    for mount in (*weights_mounts(service), *service.volumes):
        source, _, rest = mount.partition(":")
        target = rest.partition(":")[0].rstrip("/")
        if target and (given == target or given.startswith(target + "/")):
            return posixpath.normpath(source + given[len(target) :])
    return "-"


def _ollama_store(service: Service) -> str | None:
    """Return where on the host the models of an ollama lie, as far as a volume says so."""
    if service.runtime != "ollama":
        return None
    wanted = service.env.get(_STORE_ENV, f"{_STORE}/models")
    for volume in service.volumes:
        source, _, rest = volume.partition(":")
        target = rest.partition(":")[0].rstrip("/")
        if wanted == target or wanted.startswith(target + "/"):
            return source.rstrip("/") + wanted[len(target) :]
    return None


def _fetch(service: Service, model: ModelRef, cache: str) -> str:
    """Return the command, to be typed on the host, that gets a hub model into the cache."""
    if model.hub is None:
        return ""
    layout = RUNTIMES[service.runtime].hub_layout
    if layout == "hub":
        revision = ["--revision", model.revision] if model.revision else []
        return shlex.join(["hf", "download", model.hub, *revision, "--cache-dir", cache])
    if layout == "llama":
        # Its own program knows its own cache; it serves when it has the model, and Ctrl-C ends it.
        env = [word for name in ("LLAMA_CACHE", "HF_HUB_CACHE") for word in ("-e", f"{name}={cache}")]
        run = ["podman", "run", "--rm", "--network=host", *env, "-v", f"{cache}:{cache}", service.image]
        return shlex.join([*run, "-hf", model.hub, "--port", "0"])
    return f"{_STORE_ENV}={shlex.quote(cache)} {shlex.join(['ollama', 'pull', model.hub])}"
