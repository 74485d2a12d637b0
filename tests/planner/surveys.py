"""What a host that is fit says about itself."""

from __future__ import annotations

from typing import Any

from reconciler.model.survey import Survey

GIB = 2**30
GPU = {
    "index": 0,
    "uuid": "GPU-1",
    "name": "NVIDIA H200",
    "bus": "0000:01:00.0",
    "memory": {"value": {"total": 141 * GIB, "reserved": GIB, "used": 0, "free": 140 * GIB}},
    "processes": {"value": []},
    "recovery_action": {"na": "old driver"},
}


def survey_document(**over: Any) -> dict[str, Any]:
    """Return the reply of a host to which nothing is missing."""
    return {
        "protocol": 1,
        "mode": "streamed",
        "python": "3.11.2",
        "wall_time": 1000.0,
        "uid": {"value": 0},
        "user": {"value": "root"},
        "hostname": {"value": "h-1"},
        "machine_id": {"value": "0123456789abcdef"},
        "kernel": {"value": "6.12.0"},
        "systemd": {"value": 257},
        "podman": {"value": "5.4.2"},
        "driver": {"value": "580.95.05"},
        "cdi": {"value": {"devices": ["nvidia.com/gpu=0", "nvidia.com/gpu=all"], "files": ["/etc/cdi/nvidia.yaml"]}},
        "gpus": {"value": [GPU]},
        "memory_class": {"value": "discrete"},
        "meminfo": {"value": {"total": 256 * GIB, "free": 1, "available": 1, "cached": 1, "swap_free": 0}},
        "synchronized": {"value": True},
        "cgroup2": {"value": True},
        "lingers": {"na": "root"},
        "owners": {"value": {}},
        "enrolled": {"value": False},
        "disks": [
            {"path": "/", "free": {"value": 50 * GIB}},
            {"path": "/var/lib/containers", "free": {"value": 500 * GIB}},
        ],
        "notes": [],
        **over,
    }


def survey(**over: Any) -> Survey:
    return Survey.model_validate(survey_document(**over))
