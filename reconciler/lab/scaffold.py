"""A state repository for a lab: desired/ that reaches its hosts, with keys pinned, in git.

Must not: boot or reach a host; overwrite what a person changed beyond the lines that name this very lab.
"""

from __future__ import annotations

import re
from pathlib import Path

from reconciler.lab.gpus import PROFILES
from reconciler.lab.labs import Lab
from reconciler.lab.tools import run_tool
from reconciler.load.schema import schema_files
from reconciler.model.base import format_size

COVENS = ("reasoning", "vision", "embeddings")
_OURS = (".gitignore", "desired", "schema")
_GIB = 1 << 30

_FLEET = """\
# yaml-language-server: $schema=../schema/fleet.schema.json
version: 1
name: lab
transport: ssh
defaults:
  ssh: {user: recon, key: .recon/lab_key}
  drain: {timeout: 30s, on_timeout: abort}
policy:
  concurrent_transitions: 1
  require_digest: true
"""

_HOST = """\
# yaml-language-server: $schema=../../schema/host.schema.json
address: {address}
host_key: {host_key}
reserve: {reserve}
coven: reasoning
may_run: [reasoning, vision, embeddings]
"""

# Each coven takes more than half of the GPU: two at once and the second one's server dies of it.
_REASONING = """\
# yaml-language-server: $schema=../../schema/coven.schema.json
description: a large language model behind vLLM's API
services:
  vllm:
    runtime: vllm
    image: {image}
    model: {{path: /srv/models/reasoning}}
    port: 8001
    memory: {memory}
    args: [--runtime, vllm, --max-model-len, "32768"]
    env: {{LAB_GPU_BYTES: "{bytes}", LAB_LOAD_S: "0.3"}}
    warm: {{timeout: 60s}}
    stop: {{timeout: 10s}}
"""

_VISION = """\
# yaml-language-server: $schema=../../schema/coven.schema.json
description: a vision model behind llama.cpp's server
services:
  llama:
    runtime: llamacpp
    image: {image}
    model: {{path: /srv/models/vision}}
    port: 8002
    memory: {memory}
    args: [--runtime, llamacpp, --metrics]
    env: {{LAB_GPU_BYTES: "{bytes}", LAB_LOAD_S: "0.3"}}
    warm: {{timeout: 60s}}
    stop: {{timeout: 10s}}
"""

_EMBEDDINGS = """\
# yaml-language-server: $schema=../../schema/coven.schema.json
description: an embedder with an HTTP API of its own
services:
  embed:
    runtime: generic
    image: {image}
    model: {{path: /srv/models/embeddings}}
    port: 8003
    memory: {memory}
    args: [--runtime, generic, --port, "8003"]
    env: {{LAB_GPU_BYTES: "{bytes}", LAB_LOAD_S: "0.3"}}
    http:
      health: /healthz
      in_flight: {{path: /queue, json_field: queue.remaining}}
      pause: {{path: /pause}}
      resume: {{path: /resume}}
      warm: {{path: /generate, body: '{{"max_tokens": 1}}'}}
    warm: {{timeout: 60s}}
    stop: {{timeout: 10s}}
"""


def write(lab: Lab) -> None:
    """Write and commit the state repository of a lab, or point an existing one at the hosts that run now."""
    if (lab.directory / "desired" / "fleet.yaml").exists():
        message = "lab: new hosts, same desired state"
        _repoint(lab)
    else:
        message = "lab: first desired state"
        for name, text in _files(lab).items():
            path = lab.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    _commit(lab.directory, message)


def _files(lab: Lab) -> dict[str, str]:
    profile = PROFILES[lab.record.gpu]
    memory = profile.coven_memory * lab.record.gpus_per_host
    values = {"image": lab.base.image, "memory": format_size(memory), "bytes": str(memory - 2 * _GIB)}
    reserve = format_size(14 * _GIB if profile.memory == "unified" else 2 * _GIB)
    files = {".gitignore": ".recon/\n", "desired/fleet.yaml": _FLEET}
    files |= {f"schema/{name}": text for name, text in schema_files().items()}
    for coven, template in zip(COVENS, (_REASONING, _VISION, _EMBEDDINGS), strict=True):
        files[f"desired/covens/{coven}.yaml"] = template.format_map(values)
    for machine in lab.machines:
        text = _HOST.format(address=machine.record.address, host_key=machine.host_key, reserve=reserve)
        files[f"desired/hosts/{machine.record.name}.yaml"] = text
    return files


def _repoint(lab: Lab) -> None:
    """Change addresses, host keys and the image digest; a line that a person edited otherwise stays."""
    fresh = _files(lab)
    for machine in lab.machines:
        name = f"desired/hosts/{machine.record.name}.yaml"
        path = lab.directory / name
        text = path.read_text(encoding="utf-8") if path.exists() else fresh[name]
        text = re.sub(r"(?m)^address:.*$", f"address: {machine.record.address}", text)
        text = re.sub(r"(?m)^host_key:.*$", f"host_key: {machine.host_key}", text)
        path.write_text(text, encoding="utf-8")
    reference = re.compile(re.escape(lab.base.image.partition("@")[0]) + r"@sha256:[0-9a-f]{64}")
    for path in (lab.directory / "desired/covens").glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        path.write_text(reference.sub(lab.base.image, text), encoding="utf-8")


def _commit(directory: Path, message: str) -> None:
    git = ["git", "-C", str(directory), "-c", "user.name=recon lab", "-c", "user.email=lab@example.net"]
    git += ["-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null"]
    if not (directory / ".git").exists():
        run_tool(["git", "init", "--quiet", "--initial-branch=main", str(directory)], what="git init")
    run_tool([*git, "add", *_OURS], what="git add")
    if run_tool([*git, "status", "--porcelain", "--", *_OURS], what="git status"):
        run_tool([*git, "commit", "--quiet", "--message", message], what="git commit")
