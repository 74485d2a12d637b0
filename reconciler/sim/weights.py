"""The models that a simulated host takes for granted: small files where the agent would look for large ones.

Must not: put anything where something is, or what a test says is missing (`paths_missing`).
"""

from __future__ import annotations

from typing import Any

from reconciler.model.weights import parts_of
from reconciler.sim.machine import SimMachine
from reconciler.sim.state import Node

_COMMIT = "c0ffee" + "0" * 34
_DATA = b"weights"


def provide_model(machine: SimMachine, check: dict[str, Any]) -> None:
    """Let a host have what `model.weights.ModelCheck` asks for."""
    missing, path, hub = machine.state.paths_missing, check["path"], check.get("hub", "")
    if path in missing or hub in missing:
        return
    if check["layout"] == "ollama":
        name, _, tag = hub.partition(":")
        _put(machine, f"{path}/manifests/registry.ollama.ai/{name}/{tag or 'latest'}", b'{"layers": []}')
    elif hub:
        home = f"{path}/models--{hub.partition(':')[0].replace('/', '--')}"
        commit = check.get("revision") or _COMMIT
        _put(machine, f"{home}/refs/main", _COMMIT.encode())
        _put(machine, f"{home}/snapshots/{commit}/model.safetensors", _DATA)
    elif len(parts := parts_of(path)) > 1:
        for part in sorted(set(parts) - set(missing)):
            _put(machine, part, _DATA)
    elif _is_bare(machine, path):
        machine.files.make_dirs(path)
        _put(machine, f"{path}/model.safetensors", _DATA)


def _is_bare(machine: SimMachine, path: str) -> bool:
    found = machine.files.stat(path)
    return found is None or (found.kind == "dir" and not machine.files.listdir(path))


def _put(machine: SimMachine, path: str, data: bytes) -> None:
    if machine.files.stat(path) is None:
        machine.files.make_dirs(path.rpartition("/")[0])
        machine.files.put(path, Node.of(data))
