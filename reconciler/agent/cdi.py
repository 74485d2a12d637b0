"""Which GPUs containers can be given: the container device interface's specs, read for kind and device names alone.

A spec is JSON or YAML. For YAML this reads just the block style that `nvidia-ctk` writes; a spec in another style makes
the answer unknown rather than wrong.

Must not: judge whether a spec works.
"""

import json
import re
from typing import Any, Dict, List, Set, Tuple

from .machine import Machine
from .plain import clean

DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
_LIMIT = 4 << 20
_KIND = re.compile(r"^kind:\s*[\"']?([A-Za-z0-9._/-]+)[\"']?\s*$")
_NAME = re.compile(r"^name:\s*[\"']?([A-Za-z0-9._:-]+)[\"']?\s*$")


def read(machine: Machine) -> Dict[str, Any]:
    """Return `model.observed.Cdi`; OSError or ValueError when a spec cannot be read or understood."""
    files: List[str] = []
    devices: Set[str] = set()
    for directory in DIRECTORIES:
        for name in _names(machine, directory):
            if not name.endswith((".json", ".yaml", ".yml")):
                continue
            path = f"{directory}/{name}"
            kind, names = parse(machine.read(path, _LIMIT).decode("utf-8", "backslashreplace"), path)
            files.append(clean(path))
            devices.update(clean(f"{kind}={device}") for device in names)
    return {"devices": sorted(devices), "files": files}


def _names(machine: Machine, directory: str) -> List[str]:
    try:
        return machine.listdir(directory)
    except FileNotFoundError:
        return []


def parse(text: str, path: str) -> Tuple[str, List[str]]:
    """Return kind and device names of one spec; ValueError naming the file when it is not understood."""
    try:
        kind, names = _from_json(text) if text.lstrip().startswith("{") else _from_yaml(text)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not understood") from error
    if not names:
        raise ValueError(f"{path} is not understood: no devices found in it")
    return kind, names


def _from_json(text: str) -> Tuple[str, List[str]]:
    document = json.loads(text)
    return str(document["kind"]), [str(device["name"]) for device in document["devices"]]


def _from_yaml(text: str) -> Tuple[str, List[str]]:
    """Read `kind` at the left edge and, below `devices:`, the `name` of each item at the item's own depth."""
    kind = ""
    names: List[str] = []
    in_devices = False
    depth = -1
    items = 0
    for line in text.splitlines():
        bare = line.strip()
        if not bare or bare.startswith("#") or bare == "---":
            continue
        indent = len(line) - len(line.lstrip())
        is_item = bare.startswith("- ")
        if indent == 0 and not is_item:
            in_devices = bare == "devices:"
            match = _KIND.match(bare)
            kind = match[1] if match else kind
            continue
        if not in_devices:
            continue
        if is_item and (depth < 0 or indent == depth):
            depth = indent
            items += 1
        if is_item:
            bare = bare[2:].lstrip()
            indent = len(line) - len(bare) if line.endswith(bare) else indent + 2
        match = _NAME.match(bare)
        if match and indent == depth + 2:
            names.append(match[1])
    if not kind or items != len(names):
        raise ValueError("not in the style that is known")
    return kind, names
