"""What the kernel shows of a simulated host: /proc and /sys, made when they are read.

Must not: change anything.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import re
from collections.abc import Callable

from reconciler.sim.files import error
from reconciler.sim.gpu import GpuMemory
from reconciler.sim.state import Process, SimState

_PID = re.compile(r"^/proc/(\d+)(?:/(\w+))?$")
_CGROUPS = "/sys/fs/cgroup"
_TICKS = 100
_GROUP_FILES = ("cgroup.procs", "cgroup.events")


def boot_id(state: SimState) -> str:
    """Return the id of the current boot."""
    return _boot_id(f"{state.seed}:{state.host}:boot:{state.boots}")


@functools.lru_cache(maxsize=64)
def _boot_id(which: str) -> str:
    text = hashlib.sha256(which.encode()).hexdigest()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:32]}"


class Kernel:
    """The virtual files of one host."""

    def __init__(self, state: SimState, gpu: GpuMemory) -> None:
        self._state = state
        self._gpu = gpu

    def owns(self, path: str) -> bool:
        """Say whether a path is one of the kernel's."""
        return path in ("/proc", "/sys") or path.startswith(("/proc/", "/sys/"))

    def read(self, path: str) -> bytes:
        """Return what a virtual file says."""
        fixed = _FIXED.get(path)
        if fixed is not None:
            return fixed(self)
        match = _PID.match(path)
        if match and match[2]:
            return self._of_process(path, int(match[1]), match[2])
        if path.startswith(_CGROUPS) and path.rpartition("/")[2] in _GROUP_FILES:
            return self._of_group(path)
        if path.startswith("/sys/devices/system/node/node"):
            return self._node(path)
        raise error(errno.ENOENT, path)

    def listdir(self, path: str) -> list[str]:
        """Return the names in a virtual directory."""
        if path == "/proc":
            return sorted([str(pid) for pid in self._state.processes] + ["driver", "meminfo", "sys", "uptime"])
        if path == "/proc/driver/nvidia/gpus":
            return sorted(_sysfs_bus(gpu.bus) for gpu in self._state.gpus)
        if path == "/sys/devices/system/node":
            return ["node0", "node1"] if self._state.kind == "gh200" else ["node0"]
        if path.startswith(_CGROUPS):
            return sorted({*_GROUP_FILES, *self._below(path)})
        raise error(errno.ENOENT, path)

    def kind_of(self, path: str) -> str | None:
        """Say what is at a path: file, dir, or nothing."""
        if path == f"{_CGROUPS}/cgroup.controllers":
            return "file"
        if path.startswith(_CGROUPS):
            name = path.rpartition("/")[2]
            group = path[len(_CGROUPS) :].rpartition("/")[0] if name in _GROUP_FILES else path[len(_CGROUPS) :]
            if not self._has_group(group):
                return None
            return "file" if name in _GROUP_FILES else "dir"
        try:
            self.read(path)
        except OSError:
            try:
                self.listdir(path)
            except OSError:
                return None
            return "dir"
        return "file"

    def _has_group(self, group: str) -> bool:
        return group in ("", "/") or any(
            (process.cgroup + "/").startswith(group + "/") for process in self._state.processes.values()
        )

    def _members(self, group: str) -> list[Process]:
        return [process for process in self._state.processes.values() if (process.cgroup + "/").startswith(group + "/")]

    def _below(self, path: str) -> set[str]:
        group = path[len(_CGROUPS) :].rstrip("/")
        if not self._has_group(group):
            raise error(errno.ENOENT, path)
        return {
            process.cgroup[len(group) + 1 :].split("/")[0]
            for process in self._members(group)
            if process.cgroup != group
        }

    def _of_group(self, path: str) -> bytes:
        group, _, name = path[len(_CGROUPS) :].rpartition("/")
        if not self._has_group(group):
            raise error(errno.ENOENT, path)
        members = self._members(group)
        if name == "cgroup.procs":
            return "".join(f"{process.pid}\n" for process in members if process.cgroup == group).encode()
        return f"populated {1 if members else 0}\nfrozen 0\n".encode()

    def _of_process(self, path: str, pid: int, name: str) -> bytes:
        process = self._state.processes.get(pid)
        if process is None:
            raise error(errno.ENOENT, path)
        if name == "stat":
            ticks = int((process.started - self._state.booted_at) * _TICKS)
            zeros = " ".join(["0"] * 18)
            return f"{pid} ({process.comm}) {process.state} {zeros} {ticks} 0 0\n".encode()
        made = {
            "cgroup": f"0::{process.cgroup}\n",
            "comm": f"{process.comm}\n",
            "cmdline": "".join(f"{word}\0" for word in process.argv),
            "environ": "".join(f"{key}={value}\0" for key, value in process.env.items()),
            "status": f"Name:\t{process.comm}\nUid:\t{process.uid}\t{process.uid}\t{process.uid}\t{process.uid}\n",
        }
        if name not in made:
            raise error(errno.ENOENT, path)
        return made[name].encode()

    def _mounts(self) -> bytes:
        lines = ["22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw"]
        lines += [
            f"{30 + number} 22 0:{30 + number} / {place} rw,nosuid,nodev shared:9 - nfs4 {source} rw,hard"
            for number, (place, source) in enumerate(sorted(self._state.mounted.items()))
        ]
        return ("\n".join(lines) + "\n").encode()

    def _meminfo(self) -> bytes:
        return "".join(
            f"{key}: {value // 1024} kB\n" if key != "HugePages_Total" else f"{key}: {value}\n"
            for key, value in self._gpu.meminfo().items()
        ).encode()

    def _driver(self) -> bytes:
        return f"NVRM version: NVIDIA UNIX Open Kernel Module  {self._state.driver}  Release Build\n".encode()

    def _node(self, path: str) -> bytes:
        if self._state.kind != "gh200" or not path.endswith("/node1/meminfo"):
            raise error(errno.ENOENT, path)
        figures = {"MemTotal": 97_871 * 1024, "MemFree": 90_000 * 1024, "Active(file)": 0}
        figures["Inactive(file)"] = self._state.hbm_cache // 1024
        return "".join(f"Node 1 {key}: {value} kB\n" for key, value in figures.items()).encode()


_FIXED: dict[str, Callable[[Kernel], bytes]] = {
    "/proc/1/stat": lambda _: b"1 (systemd) S %b0 0 0\n" % (b"0 " * 18),
    "/proc/1/mountinfo": Kernel._mounts,
    "/proc/meminfo": Kernel._meminfo,
    "/proc/self/status": lambda _: b"Name:\tpython3\nUid:\t0\t0\t0\t0\n",
    "/proc/uptime": lambda kernel: f"{kernel._state.now - kernel._state.booted_at:.2f} 0.00\n".encode(),
    "/proc/sys/kernel/random/boot_id": lambda kernel: f"{boot_id(kernel._state)}\n".encode(),
    "/proc/sys/kernel/hostname": lambda kernel: f"{kernel._state.host}\n".encode(),
    "/proc/sys/kernel/osrelease": lambda _: b"6.12.48+deb13-amd64\n",
    "/proc/driver/nvidia/version": Kernel._driver,
    "/proc/driver/nvidia/params": lambda _: b"EnableMSI: 1\n",
}


def _sysfs_bus(bus: str) -> str:
    return bus[4:].lower()
