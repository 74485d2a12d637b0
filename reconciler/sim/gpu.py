"""The GPUs of a simulated host: who holds how much, what NVML says of it, and what that does to /proc/meminfo.

Three kinds: `h200` is discrete, `gh200` has its memory as a NUMA node, `gb10` has no memory counter at all and its GPU
uses the host's memory. Memory of a process that ended is given back a little later.

Must not: know services or units beyond the name of who holds memory.
"""

from __future__ import annotations

from typing import Any

from reconciler.sim.clock import Clock
from reconciler.sim.faults import fault_of
from reconciler.sim.state import GiB, Gpu, Holding, Kind, MiB, SimState

RELEASE_S = 0.5

_MEM_TOTAL = {"gb10": 127_600_748 * 1024, "gh200": 480 * GiB, "h200": 1024 * GiB}
_MEM_BASE = {"gb10": 6 * GiB, "gh200": 12 * GiB, "h200": 20 * GiB}
_NOT_SUPPORTED = {"error": "not_supported", "code": 3}


def gpus_of(kind: Kind, host: str, count: int = 1) -> list[Gpu]:
    """Return the GPUs that a host of a kind has."""
    name, total, reserved, bus = {
        "gb10": ("NVIDIA GB10", 0, 0, "0000000F:01:00.0"),
        "gh200": ("NVIDIA GH200 480GB", 97_871 * MiB, 550 * MiB, "00000009:01:00.0"),
        "h200": ("NVIDIA H200", 143_771 * MiB, 650 * MiB, "00000000:1B:00.0"),
    }[kind]
    tail = "".join(f"{ord(char) & 0xFF:02x}" for char in host)[:8].ljust(8, "0")
    return [
        Gpu(
            index=index,
            uuid=f"GPU-{tail}-5d1a-4c0e-9f00-{index:012d}",
            name=name,
            bus=bus if index == 0 else f"00000000:{0x1B + 0x10 * index:02X}:00.0",
            total=total,
            reserved=reserved,
        )
        for index in range(count)
    ]


class GpuMemory:
    """The memory of all GPUs of one host."""

    def __init__(self, state: SimState, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        clock.on("gpu.released", lambda args: self._released(str(args["gpu"]), int(args["bytes"]), str(args["owner"])))

    def select(self, devices: list[str]) -> list[str]:
        """Return the UUIDs of the GPUs that CDI names stand for."""
        found: list[str] = []
        for device in devices:
            if not device.startswith("nvidia.com/gpu="):
                continue
            word = device.removeprefix("nvidia.com/gpu=")
            found += [gpu.uuid for gpu in self._state.gpus if word in ("all", gpu.uuid, str(gpu.index))]
        return sorted(set(found))

    def take(self, pid: int, owner: str, uuids: list[str], size: int) -> bool:
        """Take memory, spread evenly over GPUs; False and nothing taken when it does not fit."""
        if not uuids or not size:
            return True
        share = size // len(uuids)
        if self._state.kind == "gb10":
            if self.meminfo()["MemAvailable"] < size:
                return False
        elif any(self._free(gpu) < share for gpu in self._state.gpus if gpu.uuid in uuids):
            return False
        self._state.holdings += [Holding(gpu=uuid, bytes=share, pid=pid, owner=owner) for uuid in uuids]
        return True

    def release(self, pid: int) -> None:
        """Take note that a process ended: it leaves NVML's list now, its memory comes back later."""
        for holding in self._state.holdings:
            if holding.pid == pid:
                holding.pid = 0
                delay = fault_of(self._state, "slow-release", holding.owner)
                self._clock.schedule(
                    delay.value if delay else RELEASE_S,
                    "gpu.released",
                    gpu=holding.gpu,
                    bytes=holding.bytes,
                    owner=holding.owner,
                )

    def clear(self) -> None:
        """Give everything back: the machine was switched off."""
        self._state.holdings.clear()
        self._clock.drop("gpu.")

    def meminfo(self) -> dict[str, int]:
        """Return the figures of /proc/meminfo in bytes; on unified machines the GPU's use is in them."""
        total = _MEM_TOTAL[self._state.kind]
        used = _MEM_BASE[self._state.kind] + self._state.host_memory_used + self._state.tmpfs
        if self._state.kind == "gb10":
            used += sum(holding.bytes for holding in self._state.holdings)
        available = max(0, total - used)
        kept = 8 * GiB if self._state.page_cache is None else self._state.page_cache
        cached = min(kept, available)
        return {
            "MemTotal": total,
            "MemFree": available - cached,
            "MemAvailable": available,
            "Buffers": 64 * MiB,
            "Cached": cached + self._state.tmpfs,
            "SwapTotal": 0,
            "SwapFree": 0,
            "HugePages_Total": 0,
        }

    def facts(self) -> dict[str, Any]:
        """Return what the agent's NVML child would answer; see `agent/gpu_child.py` for the shape."""
        broken = fault_of(self._state, "nvml", "*")
        if broken is not None:
            code = int(broken.value)
            return {"error": {"code": code, "text": broken.text}, "driver": None, "library": None, "gpus": []}
        return {
            "error": None,
            "driver": self._state.driver,
            "library": "libnvidia-ml.so.1",
            "gpus": [self._gpu_facts(gpu) for gpu in self._state.gpus],
        }

    def _gpu_facts(self, gpu: Gpu) -> dict[str, Any]:
        lost = fault_of(self._state, "gpu-lost", gpu.uuid)
        if lost is not None:
            return {"index": gpu.index, "error": {"code": 15, "text": "GPU is lost"}}
        unified, numa = self._state.kind == "gb10", self._state.kind == "gh200"
        free = self._free(gpu)
        memory = {"total": gpu.total, "reserved": gpu.reserved, "used": gpu.total - gpu.reserved - free, "free": free}
        return {
            "index": gpu.index,
            "error": None,
            "uuid": {"ok": gpu.uuid},
            "name": {"ok": gpu.name},
            "bus": {"ok": gpu.bus},
            "memory": dict(_NOT_SUPPORTED) if unified else {"ok": memory},
            "bar1": dict(_NOT_SUPPORTED) if unified else {"ok": 128 * GiB},
            "numa_node": {"ok": 1} if numa else dict(_NOT_SUPPORTED),
            "addressing": {"ok": 2 if unified or numa else 0},
            "recovery_action": dict(_NOT_SUPPORTED) if unified else {"ok": 0},
            "utilization": {"ok": gpu.utilization},
            "mig": None,
            "processes": {"ok": self._processes(gpu.uuid)},
            "suspect": False,
        }

    def _processes(self, uuid: str) -> list[dict[str, Any]]:
        sizes: dict[int, int] = {}
        for holding in self._state.holdings:
            if holding.gpu == uuid and holding.pid:
                sizes[holding.pid] = sizes.get(holding.pid, 0) + holding.bytes
        return [{"pid": pid, "bytes": size, "kind": "C"} for pid, size in sorted(sizes.items())]

    def _free(self, gpu: Gpu) -> int:
        used = sum(holding.bytes for holding in self._state.holdings if holding.gpu == gpu.uuid)
        return gpu.total - gpu.reserved - used - (self._state.hbm_cache if self._state.kind == "gh200" else 0)

    def _released(self, uuid: str, size: int, owner: str) -> None:
        for holding in self._state.holdings:
            if (holding.gpu, holding.bytes, holding.pid, holding.owner) == (uuid, size, 0, owner):
                self._state.holdings.remove(holding)
                self._clock.note(f"gpu {uuid} got {size} bytes back from {owner}")
                return
