"""A spiral as the committed manifest of a host has it, for tests of the host's own programs."""

from __future__ import annotations

from typing import Any

from reconciler.agent import places
from reconciler.agent.machine import Machine
from reconciler.agent.record import write_record

HOST = "gpu-1"
ROOT = "/srv/spiral"
CONTROL = f"{ROOT}/control.json"
STATE = f"{ROOT}/state.json"
PRODUCER = "recon-spiral-saturator.service"
WORKER = "recon-spiral-worker.service"


def member(name: str, *, lane: str = "cpu", producer: bool = False) -> dict[str, Any]:
    """Return one loop."""
    return {
        "name": name,
        "unit": f"recon-spiral-{name}.service",
        "lane": lane,
        "producer": producer,
        "guards": False,
        "memory": 0,
        "argv": ["/usr/bin/python3", "-m", f"spiral.{name}"],
        "image": None,
        "container": None,
        "config_hash": "0" * 12,
        "memory_max": 1 << 30,
        "tasks_max": 64,
        "stop_timeout_s": 5.0,
    }


def job(name: str) -> dict[str, Any]:
    """Return one job."""
    return {
        "name": name,
        "unit": f"recon-job-{name}.service",
        "lane": "cpu",
        "argv": ["/usr/bin/python3", "-m", f"spiral.{name}"],
        "config_hash": "0" * 12,
        "timeout_s": 600.0,
        "stop_timeout_s": 5.0,
    }


def spec(**other: Any) -> dict[str, Any]:
    """Return `model.intent_spiral.SpiralSpec` as JSON has it."""
    return {
        "enabled": True,
        "root": ROOT,
        "user": None,
        "slot": None,
        "target": "recon-spiral.target",
        "units": [member("saturator", producer=True), member("worker")],
        "jobs": [job("refill")],
        "caps": {"jobs_per_hour": 12, "queue_depth": 40},
        "control": {
            "file": CONTROL,
            "keys": {"jobs_per_hour": "limits.jobs_per_hour", "queue_depth": "limits.queue_depth"},
        },
        "convergence": {"file": STATE, "key": "converged", "equals": True},
        "backoff": {"gpu": 0.95, "memory": 0.92, "for_s": 600.0, "factor": 0.5, "least": 0.1},
        "reaper": {
            "every_s": 3600.0,
            "paths": [f"{ROOT}/renders"],
            "keep_bytes": None,
            "keep_age_s": None,
            "keep_count": 2,
        },
        "authorities": [],
        **other,
    }


def commit(machine: Machine, spiral: dict[str, Any] | None, *, number: int = 1) -> None:
    """Let a generation with this spiral be the committed one."""
    directory = places.generation(number)
    machine.mkdir(directory)
    body: dict[str, Any] = {"generation": number, "host": HOST, "live": {}, "groups": [], "residents": []}
    if spiral is not None:
        body["spiral"] = spiral
    write_record(machine, f"{directory}/manifest.json", body)
    machine.mkdir(places.STATE)
    machine.mkdir(places.COMMITTED.rpartition("/")[0])
    machine.symlink(directory, places.COMMITTED)
