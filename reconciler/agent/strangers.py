"""What runs on the GPUs of a host without being recon's: units and containers as somebody else started them.

For a person who wants to declare them: the image, the words, the ports, the mounts, the memory they hold now. Values
of variables and arguments that look like secrets never leave the host.

Must not: change anything, or guess what a container is from its name.
"""

import json
import re
from typing import Any, Dict, List, Optional, Set

from . import fact, gpu
from .machine import Completed, Machine
from .plain import clean
from .wire import RequestError
from .withheld import given_away, is_secret, without_secrets

PROTOCOL = 1
_GPU_TIMEOUT_S = 10.0
_TIMEOUT_S = 20.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@:_.\\-]{0,199}\Z")
_ID = re.compile(r"[0-9a-f]{64}\Z")
_MOST = 64
_NO_PODMAN = 127
_PROPERTIES = "Id,LoadState,FragmentPath,SourcePath,ActiveState,UnitFileState,MainPID,ExecStart,Description"


def strangers(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Return `model.strangers.Strangers`.

    Args:
        machine: the host.
        args: `names` of units or containers to describe; without any, all that hold a GPU and are not recon's.
    """
    names = args.get("names") or []
    if (
        not isinstance(names, list)
        or len(names) > _MOST
        or not all(isinstance(n, str) and _NAME.match(n) for n in names)
    ):
        raise RequestError(
            "REC5016", "the agent does not know this request", "strangers with odd names", "update recon"
        )
    seen = gpu.describe(machine, machine.gpu_facts(_GPU_TIMEOUT_S), "auto", _GPU_TIMEOUT_S)
    held = _held(seen.gpus.get("value") or [])
    containers = _containers(machine)
    found: List[Dict[str, Any]] = []
    for container in containers:
        stranger = _of_container(machine, container, held)
        if not stranger["name"].startswith("recon-") and (
            _is_named(stranger, names) or (not names and stranger["gpu"])
        ):
            found.append(_with_unit(machine, stranger))
    told = {stranger["unit"] for stranger in found} | {stranger["container"] for stranger in found}
    found += [_of_unit(machine, row) for row in _units_alone(held, names, told)]
    wanted = [name for name in names if not any(_is_named(stranger, [name]) for stranger in found)]
    units = [name for name in wanted if name.endswith(".service") and _is_there(machine, name)]
    found += [_of_unit(machine, {"unit": name, "bytes": None}) for name in units]
    return {
        "protocol": PROTOCOL,
        "gpus": fact.value(len(seen.gpus["value"])) if "value" in seen.gpus else seen.gpus,
        "strangers": sorted(found, key=lambda stranger: str(stranger["name"])),
        "missing": [name for name in wanted if name not in units],
    }


def _is_there(machine: Machine, unit: str) -> bool:
    """Say whether a unit is there to be adopted: recon's own never is."""
    return not unit.startswith("recon-") and _shown(machine, unit).get("LoadState") != "not-found"


def _held(gpus: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Return who holds GPU memory, by container or else unit, with the sum over all GPUs."""
    sums: Dict[Any, Dict[str, Any]] = {}
    for each in gpus:
        for process in each["processes"].get("value") or []:
            key = process["container"] or process["unit"]
            if key is None or str(process["unit"]).startswith("recon-"):
                continue
            row = sums.setdefault(key, {"unit": process["unit"], "container": process["container"], "bytes": 0})
            row["bytes"] += process["bytes"].get("value") or 0
    return list(sums.values())


def _containers(machine: Machine) -> List[Dict[str, Any]]:
    """Return every running container as podman inspects it; none where there is no podman."""
    listed = machine.run(["podman", "ps", "--quiet", "--no-trunc"], _TIMEOUT_S)
    if listed.rc == _NO_PODMAN:
        return []
    if listed.rc != 0:
        raise _unanswered("podman ps", listed)
    ids = [word for word in listed.out.decode("ascii", "replace").split() if _ID.match(word)]
    if not ids:
        return []
    shown = machine.run(["podman", "inspect", "--type", "container", "--", *ids[:_MOST]], _TIMEOUT_S)
    # Its exit status is no answer: one that went away meanwhile makes it a failure, with the others shown all the same.
    try:
        documents = json.loads(shown.out.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise _unanswered("podman inspect", shown) from error
    if not isinstance(documents, list):
        raise _unanswered("podman inspect", shown)
    return [document for document in documents if isinstance(document, dict)]


def _unanswered(what: str, done: Completed) -> RequestError:
    detail = f"{what}: {clean(done.err, 300) or f'exit status {done.rc}'}"
    return RequestError("REC7109", "a command on the host failed", detail, f"on the host: {what}")


def _is_named(stranger: Dict[str, Any], names: List[str]) -> bool:
    own = (stranger["name"], stranger["unit"], stranger["container"], (stranger["container"] or "")[:12])
    return any(name and (name in own or f"{name}.service" == stranger["unit"]) for name in names)


def _of_container(machine: Machine, document: Dict[str, Any], held: List[Dict[str, Any]]) -> Dict[str, Any]:
    config = document.get("Config") or {}
    host = document.get("HostConfig") or {}
    labels = config.get("Labels") or {}
    own = str(document.get("Id", ""))
    rows = [row for row in held if row["container"] == own]
    unit = rows[0]["unit"] if rows and rows[0]["unit"] else _labelled(machine, labels.get("PODMAN_SYSTEMD_UNIT"))
    environment, secrets = _environment(config.get("Env") or [])
    devices = [str(d.get("PathOnHost", "")) for d in host.get("Devices") or [] if isinstance(d, dict)]
    words = [str(word) for word in config.get("CreateCommand") or []]
    args, of_args = without_secrets(str(word) for word in config.get("Cmd") or [])
    entrypoint, of_entrypoint = _own_entrypoint(words)
    has_gpu = bool(rows) or any("nvidia" in text for text in [*devices, *words])
    return {
        "name": clean(str(document.get("Name", "")).lstrip("/"), 200),
        "container": own or None,
        "unit": clean(unit, 200) if unit else None,
        "kind": "container",
        "source": "",
        "enabled": False,
        "gpu": has_gpu,
        "bytes": sum(row["bytes"] for row in rows) if rows else None,
        "image": clean(str(document.get("ImageName") or config.get("Image") or ""), 300),
        "digest": clean(str(document.get("ImageDigest") or ""), 80),
        "entrypoint": entrypoint,
        "args": [clean(word, 2000) for word in args],
        "env": environment,
        "secrets": sorted(clean(name, 200) for name in {*secrets, *of_args, *of_entrypoint}),
        "volumes": _volumes(document.get("Mounts") or []),
        "ports": _ports(host),
        "network": clean(str(host.get("NetworkMode") or ""), 60),
        "shm": int(host["ShmSize"]) if isinstance(host.get("ShmSize"), int) else None,
        "restart": clean(str((host.get("RestartPolicy") or {}).get("Name") or ""), 40),
        "privileged": host.get("Privileged") is True,
        "argv": [clean(word, 2000) for word in without_secrets(words)[0]],
    }


def _labelled(machine: Machine, unit: Any) -> Optional[str]:
    """Return the unit that a container's label names, if it has to do with podman: an image may carry any label."""
    if not isinstance(unit, str) or not _NAME.match(unit):
        return None
    shown = _shown(machine, unit)
    is_quadlet = shown.get("SourcePath", "").endswith(".container")
    return unit if is_quadlet or "podman" in shown.get("ExecStart", "") else None


def _own_entrypoint(words: List[str]) -> "tuple[List[str], List[str]]":
    """Return the entry point that was given on the command line, and what of it stays here as a secret.

    That of the image is no choice of anybody.
    """
    for index, word in enumerate(words):
        if word.startswith("--entrypoint=") or (word == "--entrypoint" and index + 1 < len(words)):
            given = word[len("--entrypoint=") :] if "=" in word else words[index + 1]
            kept, secrets = without_secrets(["--entrypoint", given])
            return [clean(each, 2000) for each in kept[1:]], secrets
    return [], []


def _environment(pairs: List[Any]) -> "tuple[Dict[str, str], List[str]]":
    """Return variables, and the names of those whose value looks like a secret and stays here."""
    kept: Dict[str, str] = {}
    secrets: Set[str] = set()
    for pair in pairs:
        name, _, value = str(pair).partition("=")
        if is_secret(name) or given_away(value) is not None:
            secrets.add(clean(name, 200))
        else:
            kept[clean(name, 200)] = clean(value, 2000)
    return kept, sorted(secrets)


def _volumes(mounts: List[Any]) -> List[Dict[str, Any]]:
    return [
        {
            "kind": clean(str(mount.get("Type", "")), 20),
            "source": clean(str(mount.get("Name") or mount.get("Source") or ""), 1000),
            "target": clean(str(mount.get("Destination", "")), 1000),
            "writable": mount.get("RW") is not False,
        }
        for mount in mounts
        if isinstance(mount, dict)
    ]


def _ports(host: Dict[str, Any]) -> List[Dict[str, int]]:
    ports: List[Dict[str, int]] = []
    for inside, places in sorted((host.get("PortBindings") or {}).items()):
        number = str(inside).partition("/")[0]
        for place in places or []:
            outside = str(place.get("HostPort") or "")
            if number.isdigit() and outside.isdigit():
                ports.append({"host": int(outside), "container": int(number)})
    return ports


def _units_alone(held: List[Dict[str, Any]], names: List[str], told: Set[Optional[str]]) -> List[Dict[str, Any]]:
    """Return holders that are units without a container."""
    # A container that podman did not show (another user's, docker's) is still the unit it runs in.
    alone = [row for row in held if row["container"] not in told - {None} and row["unit"] and row["unit"] not in told]
    return [row for row in alone if not names or row["unit"] in names or row["unit"][: -len(".service")] in names]


def _of_unit(machine: Machine, row: Dict[str, Any]) -> Dict[str, Any]:
    empty: Dict[str, Any] = {
        "name": clean(str(row["unit"]), 200),
        "container": None,
        "unit": clean(str(row["unit"]), 200),
        "kind": "unit",
        "source": "",
        "enabled": False,
        "gpu": row["bytes"] is not None,
        "bytes": row["bytes"],
        "image": "",
        "digest": "",
        "entrypoint": [],
        "args": [],
        "env": {},
        "secrets": [],
        "volumes": [],
        "ports": [],
        "network": "",
        "shm": None,
        "restart": "",
        "privileged": False,
        "argv": [],
    }
    return _with_unit(machine, empty)


def _with_unit(machine: Machine, stranger: Dict[str, Any]) -> Dict[str, Any]:
    """Add what systemd knows: where the unit comes from, whether it starts with the host, what it runs."""
    unit = stranger["unit"]
    if not unit or "/" in unit:
        return stranger
    shown = _shown(machine, unit)
    source = shown.get("SourcePath") or shown.get("FragmentPath") or ""
    kind = (
        "quadlet" if source.endswith(".container") else "unit" if stranger["kind"] == "unit" else "unit with podman run"
    )
    # A Quadlet's unit is generated; what makes it start with the host is its own [Install] section.
    enabled = shown.get("UnitFileState") in ("enabled", "enabled-runtime", "generated")
    found = {**stranger, "kind": kind, "source": clean(source, 1000), "enabled": enabled}
    if found["argv"]:
        return found
    argv, secrets = _argv(shown.get("ExecStart", ""))
    return {**found, "argv": argv, "secrets": sorted({*found["secrets"], *secrets})}


def _shown(machine: Machine, unit: str) -> Dict[str, str]:
    done = machine.run(["systemctl", "show", f"--property={_PROPERTIES}", "--", unit], _TIMEOUT_S)
    return dict(line.split("=", 1) for line in done.out.decode("utf-8", "backslashreplace").split("\n") if "=" in line)


def _argv(text: str) -> "tuple[List[str], List[str]]":
    """Return the words of `ExecStart` as systemd shows them, joined by spaces, and what of them stays here."""
    match = re.search(r"argv\[\]=(.*?) ;", text)
    words, secrets = without_secrets(match[1].split() if match else (), joined=True)
    return [clean(word, 2000) for word in words], [clean(name, 200) for name in secrets]
