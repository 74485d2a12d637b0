"""Who holds memory, or does not end, in words a person can act on.

A process may hold memory and be beyond any signal: stuck in the kernel (state D), running inside the driver and deaf to
SIGKILL (R), dead with a thread that is not (Z), or listed by the driver and in no /proc. And memory may be used that is
listed with nobody: a close that a signal interrupted is finished by a kernel thread of the driver.

Must not: end anything, or guess whose memory it is.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

from . import processes
from .machine import Machine
from .systemd import CGROUPS

MIB = 1 << 20
TOLERANCE = 256 << 20
_DEPTH = 6
_MOST = 8
_REBOOT = "no signal ends it; if it stays, reboot the host"
_BEYOND = {
    "D": f"stuck in the kernel: {_REBOOT}",
    "Z": f"dead, and a thread or child of it is not: {_REBOOT}",
    "gone": "listed by the driver and in no /proc: of another namespace, or dead and not let go of",
}
_ASKS_FOR = {1: "a reset of the GPU", 2: "a reboot", 3: "a drain of its peers", 4: "a drain and a reset"}


def on_gpu(gpu: Dict[str, Any], gone: Sequence[str]) -> List[str]:
    """Name every process that the driver lists on a GPU; `gone` are units that were stopped."""
    held = []
    for process in gpu["processes"].get("value", []):
        size = process["bytes"].get("value")
        shown = "an unknown amount" if size is None else f"{size // MIB} MiB"
        who = process["unit"] or "foreign"
        text = f"pid {process['pid']} ({who}, {process['comm'] or '?'}, state {process['state']}) holds {shown}"
        beyond = _beyond(process["state"], was_killed=process["unit"] in gone)
        held.append(f"{text}; it is {beyond}" if beyond else text)
    return held


def unlisted(slot: Sequence[Dict[str, Any]]) -> str:
    """Name what is used on GPUs and listed with no process, and what the driver itself asks for."""
    parts = []
    for each in slot:
        figures = each["memory"].get("value", {})
        used = figures.get("used")
        sizes = [process["bytes"].get("value") for process in each["processes"].get("value", [])]
        known = [size for size in sizes if size is not None]
        # Page cache on a GPU that is a NUMA node counts as used, is nobody's, and is told by itself.
        nobodys = (used or 0) - sum(known) - figures.get("reclaimable", 0)
        if used is not None and len(known) == len(sizes) and nobodys > TOLERANCE:
            parts.append(
                f"{nobodys // MIB} MiB on {each['uuid']} are used and listed with no process: the driver"
                " still has it (its kernel thread nv_queue finishes a close that was interrupted), or a process of"
                " another namespace; if it stays, reset the GPU (nvidia-smi --gpu-reset) or reboot the host"
            )
        asked = _ASKS_FOR.get(each["recovery_action"].get("value") or 0)
        if asked:
            parts.append(f"the driver asks for {asked} of {each['uuid']}")
    return "; ".join(parts)


def in_group(machine: Machine, control_group: str) -> List[str]:
    """Name the processes left in a control group and below it, those beyond any signal as such."""
    return [_named(machine, pid) for pid in _pids(machine, CGROUPS + control_group, _DEPTH)[:_MOST]]


def _named(machine: Machine, pid: int) -> str:
    found = processes.describe(machine, {"pid": pid, "bytes": None, "kind": "C"})
    beyond = _beyond(found["state"], was_killed=True)
    return f"pid {pid} ({found['comm'] or '?'}, state {found['state']}{': ' + beyond if beyond else ''})"


def _beyond(state: str, *, was_killed: bool) -> Optional[str]:
    """Say why a process is beyond reach; a running one only when it was told to end and should not be there."""
    if state.startswith("R") and was_killed:
        return f"running on after it was killed, inside the driver: {_REBOOT}"
    return _BEYOND.get(state if state == "gone" else state[:1])


def _pids(machine: Machine, directory: str, depth: int) -> List[int]:
    try:
        pids = [int(word) for word in machine.read(directory + "/cgroup.procs").split() if word.isdigit()]
        names = machine.listdir(directory) if depth else []
    except OSError:
        return []
    for name in names:
        found = machine.stat(f"{directory}/{name}")
        if found is not None and found.kind == "dir":
            pids += _pids(machine, f"{directory}/{name}", depth - 1)
    return sorted(pids)
