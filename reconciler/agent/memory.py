"""How a host counts the memory its models need: its own meminfo, and which of three kinds of GPU it has.

`discrete`: the GPU has its own memory and counts it. `unified`: it uses the host's, and NVML gives no figure, for ever;
what counts is MemAvailable. `gh200`: the GPU's memory is also a NUMA node of the host, so page cache in it counts as
used.

Must not: guess. A GPU without a figure that is not known to be unified is unknown, and that refuses a swap.
"""

import re
from typing import Any, Dict, List, Optional, Set

from . import fact
from .machine import Machine

_KEYS = {
    "total": b"MemTotal",
    "free": b"MemFree",
    "available": b"MemAvailable",
    "cached": b"Cached",
    "swap_free": b"SwapFree",
}
_UNIFIED_NAMES = re.compile(r"\b(GB10|Thor|Orin)\b")
_ATS = 2
NOT_SUPPORTED = "not_supported"


def meminfo(machine: Machine) -> Dict[str, int]:
    """Return the figures of /proc/meminfo in bytes; ValueError when one is missing."""
    lines = _kilobytes(machine.read("/proc/meminfo"))
    missing = [key.decode() for key in _KEYS.values() if key not in lines]
    if missing:
        raise ValueError(f"/proc/meminfo has no {', '.join(missing)}")
    return {name: lines[key] * 1024 for name, key in _KEYS.items()}


def reclaimable(machine: Machine, node: int) -> int:
    """Return the page cache on a GPU's NUMA node: counted as used, and gone as soon as somebody needs it."""
    lines = _kilobytes(machine.read(f"/sys/devices/system/node/node{node}/meminfo"))
    return (lines[b"Active(file)"] + lines[b"Inactive(file)"]) * 1024


def _kilobytes(data: bytes) -> Dict[bytes, int]:
    """Return `key: number kB` lines; the lines of a node have `Node 1` before the key."""
    found: Dict[bytes, int] = {}
    for line in data.split(b"\n"):
        words = line.split(b":")
        number = words[-1].split()
        if len(words) == 2 and words[0].split() and number and number[0].isdigit():
            found[words[0].split()[-1]] = int(number[0])
    return found


def is_driver_managed(machine: Machine) -> bool:
    """Say whether a coherent GPU keeps its memory to itself (then it is like a discrete one, NUMA node or not)."""
    try:
        params = machine.read("/proc/driver/nvidia/params")
    except OSError:
        return False
    return b'CoherentGPUMemoryMode: "driver"' in params


def kind_of(gpu: Dict[str, Any], configured: str, *, driver_managed: bool) -> Optional[str]:
    """Return the kind of one GPU as NVML described it (see `gpu_child`), None when it cannot be told."""
    if configured != "auto":
        return configured
    # These chips have no memory of their own, so a figure for one is a replaced library's invention.
    if _UNIFIED_NAMES.search(gpu["name"].get("ok") or ""):
        return "unified"
    has_node = "ok" in gpu["numa_node"]
    if "ok" in gpu["memory"]:
        return "gh200" if has_node and not driver_managed else "discrete"
    if gpu["memory"].get("error") != NOT_SUPPORTED:
        return None
    shares_addresses = gpu["addressing"].get("ok") == _ATS
    has_no_memory = gpu["bar1"].get("error") == NOT_SUPPORTED and gpu["numa_node"].get("error") == NOT_SUPPORTED
    return "unified" if shares_addresses and has_no_memory and gpu.get("mig") is None else None


def kind_of_host(kinds: List[Optional[str]], configured: str) -> fact.Fact:
    """Return the one kind of a host from those of its GPUs that answered."""
    if configured != "auto":
        return fact.value(configured)
    if not kinds:
        return fact.not_applicable("no GPU")
    found: Set[Optional[str]] = set(kinds)
    if None in found:
        return fact.unknown("NVML gives no memory figure, and the GPU is not known to share the host's memory")
    if len(found) > 1:
        return fact.unknown(f"GPUs of several kinds: {', '.join(sorted(str(kind) for kind in found))}")
    return fact.value(found.pop())
