"""What kinds of GPUs a lab host can have, and the files that make podman and NVML show them.

Pure: text and JSON from a kind and a count. Must not: touch a host.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

GpuKind = Literal["h200", "gb10", "gh200"]
GPU_KINDS: tuple[GpuKind, ...] = ("h200", "gb10", "gh200")

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of host: how its GPUs count memory and what NVML says about them."""

    memory: Literal["discrete", "unified", "gh200"]
    total: int
    reserved: int
    system_used: int
    driver: str
    facts: tuple[tuple[str, str], ...]

    @property
    def coven_memory(self) -> int:
        """Return memory for a coven such that one fits easily and two never do."""
        return int(self.total * 0.6) // _GIB * _GIB


PROFILES: dict[GpuKind, Profile] = {
    "h200": Profile(
        "discrete",
        total=150754820096,
        reserved=618659840,
        system_used=0,
        driver="580.159.04",
        facts=(
            ("name", "NVIDIA H200"),
            ("cc", "9.0"),
            ("mig", "0"),
            ("ecc", "1"),
            ("addressing", "1"),
            ("field.230", "0"),
        ),
    ),
    # GB10 has no memory counter of its own: NVML answers NOT_SUPPORTED, and /proc/meminfo is all there is.
    "gb10": Profile(
        "unified",
        total=128_526_344_192,
        reserved=0,
        system_used=6 * _GIB,
        driver="580.142",
        facts=(("name", "NVIDIA GB10"), ("cc", "12.1"), ("addressing", "2")),
    ),
    # GH200's HBM is a NUMA node too: page cache in it counts as used.
    "gh200": Profile(
        "gh200",
        total=102625181696,
        reserved=666894336,
        system_used=0,
        driver="580.105.08",
        facts=(
            ("name", "NVIDIA GH200 480GB"),
            ("cc", "9.0"),
            ("mig", "0"),
            ("ecc", "1"),
            ("addressing", "2"),
            ("numa", "1"),
        ),
    ),
}


def gpu_uuid(host_index: int, gpu: int) -> str:
    """Return the UUID of a GPU: the same for the same host of every lab, different between hosts."""
    return f"GPU-1ab00000-{host_index:04x}-4000-8000-{gpu:012x}"


def daemon_config(kind: GpuKind, *, host_index: int, count: int) -> bytes:
    """Return /etc/lab-gpu.json for the GPU daemon."""
    profile = PROFILES[kind]
    gpus = []
    for gpu in range(count):
        facts = dict(profile.facts)
        facts |= {"uuid": gpu_uuid(host_index, gpu), "pci": f"00000000:{0x18 + gpu:02X}:00.0", "minor": str(gpu)}
        facts |= {"util": "0 0", "temp": "36", "power_mw": "71000", "persistence": "1", "pstate": "8"}
        facts |= {"clock_reasons": "1", "ecc.uncorr.vol": "0"}
        gpus.append({"total": profile.total, "reserved": profile.reserved, "facts": facts})
    config = {
        "kind": profile.memory,
        "gpus": gpus,
        "system": {"driver": profile.driver, "nvml": f"13.{profile.driver}", "cuda": "13000"},
        "system_used": profile.system_used,
        "release_s": 0.2,
    }
    return json.dumps(config, indent=1).encode()


def cdi_spec(*, host_index: int, count: int) -> bytes:
    """Return /etc/cdi/nvidia.yaml: each GPU by index, by UUID, and `all`; JSON is YAML too.

    A device is a harmless node; what a program really gets is the socket of the GPU daemon.
    """
    every = [_edits(gpu) for gpu in range(count)]
    devices = [{"name": str(gpu), "containerEdits": every[gpu]} for gpu in range(count)]
    devices += [{"name": gpu_uuid(host_index, gpu), "containerEdits": every[gpu]} for gpu in range(count)]
    merged = {key: [item for edits in every for item in edits[key]] for key in ("deviceNodes", "env")}
    devices.append({"name": "all", "containerEdits": merged})
    mount = {"hostPath": "/run/lab-gpu", "containerPath": "/run/lab-gpu", "options": ["ro", "nosuid", "nodev", "bind"]}
    spec = {
        "cdiVersion": "0.6.0",
        "kind": "nvidia.com/gpu",
        "devices": devices,
        "containerEdits": {"env": ["NVIDIA_VISIBLE_DEVICES=void"], "mounts": [mount]},
    }
    return json.dumps(spec, indent=1).encode()


def _edits(gpu: int) -> dict[str, list[object]]:
    node = {"path": f"/dev/nvidia{gpu}", "hostPath": "/dev/null"}
    return {"deviceNodes": [node], "env": [f"LAB_GPU_{gpu}=1"]}
