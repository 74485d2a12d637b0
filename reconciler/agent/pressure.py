"""Whether the host is too busy for its rate caps: how much of the GPU is used, and how much of its memory.

Must not: take a figure that is missing for a low one.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from . import memory
from .machine import Machine

GPU_TIMEOUT_S = 10.0


class Pressure(NamedTuple):
    """The highest shares over the GPUs of the spiral, 0 to 1; None is not known, `why` says so."""

    gpu: Optional[float]
    memory: Optional[float]
    why: str = ""

    def is_over(self, spec: Dict[str, Any]) -> Optional[bool]:
        """Say whether a declared threshold is passed: one that is, is enough; None when one cannot be told."""
        pairs = [(seen, spec[name]) for name, seen in (("gpu", self.gpu), ("memory", self.memory))]
        asked = [(seen, limit) for seen, limit in pairs if limit is not None]
        if any(seen is not None and seen >= limit for seen, limit in asked):
            return True
        return None if any(seen is None for seen, _ in asked) else False


def look(machine: Machine, gpus: Sequence[str]) -> Pressure:
    """Ask the GPUs once: those named by UUID or index, or `all`."""
    raw = machine.gpu_facts(GPU_TIMEOUT_S)
    if raw["error"] is not None:
        return Pressure(None, None, f"NVML: {raw['error']['text']}")
    asked = [gpu for gpu in raw["gpus"] if _is_one_of(gpu, gpus)]
    if not asked:
        return Pressure(None, None, "none of its GPUs is there")
    used = [_ok(gpu, "utilization") for gpu in asked]
    full = [_memory(machine, gpu) for gpu in asked]
    return Pressure(_highest(used, 100.0), _highest(full, 1.0))


def _is_one_of(gpu: Dict[str, Any], names: Sequence[str]) -> bool:
    uuid = (gpu.get("uuid") or {}).get("ok")
    return list(names) == ["all"] or str(gpu["index"]) in names or uuid in names


def _ok(gpu: Dict[str, Any], key: str) -> Optional[float]:
    found = (gpu.get(key) or {}).get("ok")
    return None if found is None else float(found)


def _memory(machine: Machine, gpu: Dict[str, Any]) -> Optional[float]:
    if gpu["error"] is not None:
        return None
    told = gpu["memory"].get("ok")
    if told is None:
        # A GPU that uses the host's memory has no figure of its own.
        return _of_host(machine) if gpu["memory"].get("error") == memory.NOT_SUPPORTED else None
    room = told["total"] - told["reserved"]
    return told["used"] / room if room > 0 else None


def _of_host(machine: Machine) -> Optional[float]:
    try:
        figures = memory.meminfo(machine)
    except (OSError, ValueError):
        return None
    return 1 - figures["available"] / figures["total"] if figures["total"] else None


def _highest(figures: List[Optional[float]], whole: float) -> Optional[float]:
    known = [figure for figure in figures if figure is not None]
    return max(known) / whole if known and len(known) == len(figures) else None
