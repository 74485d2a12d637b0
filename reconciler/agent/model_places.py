"""Where the files of a model lie on a host, for each layout of a place that holds models.

    files   a file, one of several parts, or a directory
    hub     models--org--name/refs/<name> names a commit, snapshots/<commit>/ holds links to blobs
    llama   the same, or llama.cpp's own: org_name_*.gguf and a manifest for each tag
    ollama  manifests/registry.ollama.ai/org/name/tag names blobs by their digests

Must not: judge what is in the files.
"""

from __future__ import annotations

import json
import posixpath
from typing import Any, Dict, List, NamedTuple, Optional, Union

from .machine import Machine
from .model_links import way_out
from .model_parts import parts_of
from .plain import clean

WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")
_JSON_LIMIT = 16 << 20
_LINKS = 8
_MOST_FILES = 10_000
_MOST_NAMED = 5


class Fault(NamedTuple):
    """What is wrong with a model, for people."""

    code: str
    reason: str
    fix: str


class Files(NamedTuple):
    """The files of one model that are not empty: each by its name below `place`, with its size.

    A model that is one file has the name of nothing.
    """

    place: str
    sizes: Dict[str, int]


def find(machine: Machine, check: Dict[str, Any]) -> Union[Files, Fault]:
    """Return the files of a model, or how they are not there; OSError when that cannot be seen."""
    layout = check["layout"]
    if layout == "files":
        return _in_path(machine, check["path"], check.get("beside") or [])
    if layout == "ollama":
        return _in_ollama(machine, check)
    found = _in_hub(machine, check)
    if layout == "llama" and isinstance(found, Fault):
        return _in_llama(machine, check) or found
    return found


def real(machine: Machine, path: str) -> Optional[str]:
    """Follow a link at the end of a path; None when it leads nowhere or round in a ring."""
    for _ in range(_LINKS):
        found = machine.stat(path)
        if found is None or found.kind != "link":
            return path if found is not None else None
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), machine.read_link(path)))
    return None


def small_json(machine: Machine, path: str) -> Dict[str, Any]:
    """Return a JSON object; an empty one when it is none, for the server is who judges its configuration."""
    try:
        document = json.loads(machine.read(path, _JSON_LIMIT).decode("utf-8"))
    except (ValueError, RecursionError, FileNotFoundError):
        return {}
    return document if isinstance(document, dict) else {}


def _in_path(machine: Machine, path: str, beside: List[str]) -> Union[Files, Fault]:
    there = real(machine, path)
    found = machine.stat(there) if there else None
    if there is None or found is None:
        # The words of every other mount that is not there.
        return Fault("REC7122", f"not on the host: {clean(path)}", "put the files there, or change desired/")
    if found.kind == "file":
        return _in_file(machine, path, Files(there, {"": found.size})) if found.size else _empty(path)
    sizes = {name: size for name, size in _sizes(machine, there).items() if size}
    return (_leads_out(machine, path, sorted(sizes), beside) or Files(there, sizes)) if sizes else _empty(path)


def _leads_out(machine: Machine, path: str, names: List[str], beside: List[str]) -> Optional[Fault]:
    """Say which file of a directory is a link that its container could not follow."""
    for name in names:
        found = machine.stat(f"{path}/{name}")
        out = way_out(machine, f"{path}/{name}", [path, *beside]) if found and found.kind == "link" else None
        if out is not None:
            text = f"{clean(path)}/{clean(name)} is a link that leads out of what is mounted, to {clean(out)}"
            fix = f"give a model of a hub's cache as 'hub:', or copy the files themselves: cp -rL {clean(path)} NEW"
            return Fault("REC7406", text, fix)
    return None


def _empty(path: str) -> Fault:
    return Fault("REC7406", f"{clean(path)} is empty", f"copy the files of the model there: {clean(path)}")


def lost_parts(name: str, lost: List[str], fix: str) -> Fault:
    """Say which files of a model are not there, by their names as far as a line holds them."""
    names = ", ".join(lost[:_MOST_NAMED]) + (", …" if len(lost) > _MOST_NAMED else "")
    return Fault("REC7406", clean(f"{name} is not whole: missing or empty: {names} ({len(lost)} in all)"), fix)


def _in_file(machine: Machine, path: str, alone: Files) -> Union[Files, Fault]:
    """Return a model that is one file, or every part of one that was split, each beside the other as it is mounted."""
    directory, _, name = path.rpartition("/")
    names = parts_of(name)
    if len(names) == 1:
        return alone
    sizes = {each: _size(machine, f"{directory}/{each}") for each in names}
    lost = [each for each, size in sizes.items() if not size]
    if lost:
        return lost_parts(clean(path), lost, f"copy the missing parts to {clean(directory)}")
    return Files(directory, {each: size for each, size in sizes.items() if size})


def _in_hub(machine: Machine, check: Dict[str, Any]) -> Union[Files, Fault]:
    hub, revision = check["hub"].partition(":")[0], check.get("revision") or "main"
    home = f"{check['path']}/models--{hub.replace('/', '--')}"
    missing = f"{clean(check['hub'])} is not in the cache {clean(check['path'])} of the host"
    commit = _text(machine, f"{home}/refs/{revision}") or revision
    place = f"{home}/snapshots/{commit}"
    if "/" in commit or machine.stat(place) is None:
        which = f": revision {clean(revision)} is not" if machine.stat(home) is not None else ""
        return Fault("REC7410", missing + which, check["fetch"])
    sizes = _sizes(machine, place)
    lost = sorted(name for name, size in sizes.items() if size is None)
    if lost:
        return Fault("REC7410", f"{missing} whole: {clean(lost[0])} leads nowhere", check["fetch"])
    kept = {name: size for name, size in sizes.items() if size}
    if not any(name.endswith(WEIGHTS) for name in kept):
        return Fault("REC7410", f"{missing} whole: there are no weights", check["fetch"])
    return Files(place, kept)


def _in_llama(machine: Machine, check: Dict[str, Any]) -> Optional[Files]:
    hub, _, tag = check["hub"].partition(":")
    cache, names = check["path"], _names(machine, check["path"])
    own = [name for name in names if name.startswith(hub.replace("/", "_") + "_") and name.endswith(".gguf")]
    sizes = {name: size for name in own if (size := _size(machine, f"{cache}/{name}"))}
    manifest = f"manifest={hub.replace('/', '=')}={tag or 'latest'}.json"
    return Files(cache, sizes) if manifest in names and sizes else None


def _in_ollama(machine: Machine, check: Dict[str, Any]) -> Union[Files, Fault]:
    hub, _, tag = check["hub"].partition(":")
    missing = f"{clean(check['hub'])} is not in the store {clean(check['path'])} of the host"
    manifest = f"{check['path']}/manifests/registry.ollama.ai/{hub}/{tag or 'latest'}"
    try:
        layers = json.loads(machine.read(manifest, _JSON_LIMIT))["layers"]
        blobs = {f"blobs/{str(layer['digest']).replace(':', '-')}": int(layer["size"]) for layer in layers}
    except (FileNotFoundError, NotADirectoryError):
        return Fault("REC7410", missing, check["fetch"])
    except (ValueError, LookupError, TypeError):
        return Fault("REC7410", f"{missing} whole: its manifest is damaged", check["fetch"])
    for name, size in blobs.items():
        if ".." in name or _size(machine, f"{check['path']}/{name}") != size:
            return Fault("REC7410", f"{missing} whole: {clean(name)} is not there, or not whole", check["fetch"])
    return Files(check["path"], blobs)


def _sizes(machine: Machine, directory: str) -> Dict[str, Optional[int]]:
    """Return what is in a directory by name, links followed; None for a link that leads nowhere."""
    return {name: _size(machine, f"{directory}/{name}") for name in _names(machine, directory)[:_MOST_FILES]}


def _size(machine: Machine, path: str) -> Optional[int]:
    """Return the size of a file; 1 for a directory with something in it."""
    there = real(machine, path)
    found = machine.stat(there) if there else None
    if there is None or found is None:
        return None
    return found.size if found.kind == "file" else int(found.kind == "dir" and bool(machine.listdir(there)))


def _names(machine: Machine, directory: str) -> List[str]:
    try:
        return [name for name in machine.listdir(directory) if not name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _text(machine: Machine, path: str) -> str:
    try:
        return clean(machine.read(path, 200))
    except (FileNotFoundError, NotADirectoryError):
        return ""
