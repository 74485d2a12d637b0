"""The agent as one document: every source file of `reconciler/agent` and the NVML binding, named by content.

The digest names a version of the agent exactly: hosts keep an installed copy under it and prove it by the same sum.
The agent is data here; nothing of it is imported.

Must not: talk to a host, or write anything.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import zlib
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import Problem, ReconError

PACKAGE = "recon_agent"
NVML = "pynvml.py"


@dataclass(frozen=True, slots=True)
class Bundle:
    """The agent's files by name (`recon_agent/…py`, `pynvml.py`), the digest, and the bytes as they travel."""

    files: dict[str, str]
    digest: str
    packed: bytes


def pack(files: dict[str, str]) -> Bundle:
    """Make the bundle of some files; the same files always give the same digest, names and lengths included."""
    digest = hashlib.sha256()
    for name in sorted(files):
        data = files[name].encode()
        digest.update(b"%b %d\n%b" % (name.encode(), len(data), data))
    raw = json.dumps(files, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return Bundle(files=files, digest=digest.hexdigest(), packed=zlib.compress(raw, 6))


@functools.cache
def agent_bundle() -> Bundle:
    """Return the bundle of this installation; read once in a process, for its files do not change under it."""
    agent = Path(__file__).parent.parent / "agent"
    files = {
        f"{PACKAGE}/{path.relative_to(agent).as_posix()}": path.read_text(encoding="utf-8")
        for path in sorted(agent.rglob("*.py"))
    }
    files[NVML] = _nvml_source()
    return pack(files)


def _nvml_source() -> str:
    # find_spec looks the file up without running it: importing pynvml takes longer than reading it.
    spec = importlib.util.find_spec("pynvml")
    if spec is None or spec.origin is None:
        raise ReconError(
            Problem(
                "REC7030",
                "this installation is not complete",
                "the module pynvml of the package nvidia-ml-py is missing; hosts read their GPUs with it",
                "pip install nvidia-ml-py",
            )
        )
    return Path(spec.origin).read_text(encoding="utf-8")
