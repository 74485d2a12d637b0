"""Reads every GPU through NVML (`pynvml` of nvidia-ml-py). Runs in the child of `gpu_child` only.

Each value is asked for on its own and says what NVML said: a GPU that is lost, or a figure that a chip does not have,
takes nothing else with it. The shape of the answer is in `gpu_child`.

Must not: be used outside the child, load the library when it is imported, decide what a missing figure means.
"""

import contextlib
import ctypes
import functools
import importlib
import os
from typing import Any, Callable, Dict, List, Optional, Tuple

from .gpu_child import LIBRARY_MISSING, Raw, failed

# The loader's own search comes first; the others are where WSL, NixOS and container images keep the library.
LIBRARIES = (
    "libnvidia-ml.so.1",
    "/usr/lib/wsl/lib/libnvidia-ml.so.1",
    "/run/opengl-driver/lib/libnvidia-ml.so.1",
    "/usr/local/nvidia/lib64/libnvidia-ml.so.1",
    "/usr/lib/aarch64-linux-gnu/nvidia/libnvidia-ml.so.1",
)

INSUFFICIENT_SIZE = 7
_CODES = {3: "not_supported", 4: "no_permission", 13: "not_found", 15: "lost"}
_RECOVERY_ACTION = 230
_IMPOSSIBLE_PIDS = (0, 0xFFFFFFFF)
_MIG_LIMIT = 16
_CHURN_RETRIES = 5


def ask() -> Raw:
    """Return all that NVML says about this machine."""
    library = _load()
    if library is None:
        return failed(LIBRARY_MISSING, "no NVIDIA driver library (libnvidia-ml.so.1)")
    pynvml: Any = importlib.import_module("pynvml")
    pynvml.nvmlLib = library[1]
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        return failed(error.value, str(error))
    driver = _asked(pynvml, pynvml.nvmlSystemGetDriverVersion)
    gpus = [entry for index in range(count) for entry in _gpu(pynvml, index)]
    return {"error": None, "driver": driver.get("ok"), "library": library[0], "gpus": gpus}


def _load() -> Optional[Tuple[str, Any]]:
    # The package is big and slow to import from source, so first find out whether there is anything to talk to.
    for path in LIBRARIES:
        if path.startswith("/") and not os.path.exists(path):
            continue
        try:
            return path, ctypes.CDLL(path)
        except OSError:
            continue
    return None


def _asked(pynvml: Any, call: Callable[[], Any]) -> Dict[str, Any]:
    """Make one call and say how it went, as a Val."""
    try:
        found = call()
    except pynvml.NVMLError as error:
        return {"error": _CODES.get(error.value, "error"), "code": error.value}
    return {"ok": found.decode("utf-8", "backslashreplace") if isinstance(found, bytes) else found}


def _gpu(pynvml: Any, index: int) -> List[Dict[str, Any]]:
    """Return a GPU; one that is cut into MIG instances is those instead, for nothing else can run on it."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        return [{"index": index, "error": {"code": error.value, "text": str(error)}}]
    whole = _device(pynvml, index, handle)
    mode = _asked(pynvml, lambda: pynvml.nvmlDeviceGetMigMode(handle)[0])
    if mode.get("ok") != 1:
        return [whole]
    parts = []
    for instance in _instances(pynvml, handle):
        part = _device(pynvml, index, instance)
        # An instance has no address and no recovery of its own.
        parts.append(
            {**part, **{key: whole[key] for key in ("bus", "recovery_action")}, "mig": whole["uuid"].get("ok")}
        )
    return parts or [{**whole, "memory": {"error": "not_supported", "code": 3}, "mig": whole["uuid"].get("ok")}]


def _instances(pynvml: Any, handle: Any) -> List[Any]:
    found = []
    for slot in range(_MIG_LIMIT):
        with contextlib.suppress(pynvml.NVMLError):  # an empty slot, not the end
            found.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot))
    return found


def _device(pynvml: Any, index: int, handle: Any) -> Dict[str, Any]:
    processes, suspect = _processes(pynvml, handle)
    return {
        "index": index,
        "error": None,
        "uuid": _asked(pynvml, lambda: pynvml.nvmlDeviceGetUUID(handle)),
        "name": _asked(pynvml, lambda: pynvml.nvmlDeviceGetName(handle)),
        "bus": _asked(pynvml, lambda: pynvml.nvmlDeviceGetPciInfo(handle).busId),
        "memory": _memory(pynvml, handle),
        "bar1": _asked(pynvml, lambda: int(pynvml.nvmlDeviceGetBAR1MemoryInfo(handle).bar1Total)),
        "numa_node": _asked(pynvml, lambda: int(pynvml.nvmlDeviceGetNumaNodeId(handle))),
        "addressing": _asked(pynvml, lambda: int(pynvml.nvmlDeviceGetAddressingMode(handle))),
        "recovery_action": _recovery(pynvml, handle),
        "utilization": _asked(pynvml, lambda: int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
        "mig": None,
        "processes": processes,
        "suspect": suspect,
    }


def _memory(pynvml: Any, handle: Any) -> Dict[str, Any]:
    """Ask version 2, which tells the driver's reserve apart; only a driver without it is asked version 1."""

    def second() -> Dict[str, int]:
        found = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
        return {"total": found.total, "reserved": found.reserved, "used": found.used, "free": found.free}

    def first() -> Dict[str, int]:
        found = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return {"total": found.total, "reserved": 0, "used": found.used, "free": found.free}

    answer = _asked(pynvml, second)
    if answer.get("error") in ("not_found", "error"):
        return _asked(pynvml, first)
    return answer


def _recovery(pynvml: Any, handle: Any) -> Dict[str, Any]:
    field = _asked(pynvml, lambda: pynvml.nvmlDeviceGetFieldValues(handle, [_RECOVERY_ACTION])[0])
    if "ok" not in field:
        return field
    code = field["ok"].nvmlReturn
    if code != 0:
        return {"error": _CODES.get(code, "error"), "code": code}
    return {"ok": int(field["ok"].value.uiVal)}


def _processes(pynvml: Any, handle: Any) -> Tuple[Dict[str, Any], bool]:
    """Return who holds memory, of every kind, one row per pid; and whether rows had pids that cannot be."""
    rows: Dict[int, Dict[str, Any]] = {}
    suspect = False
    for kind, name in (("C", "Compute"), ("G", "Graphics"), ("M", "MPSCompute")):
        call = getattr(pynvml, f"nvmlDeviceGet{name}RunningProcesses", None)
        if call is None:
            continue
        answer = settled(functools.partial(_asked, pynvml, functools.partial(call, handle)))
        if "ok" not in answer:
            # Not every chip draws or shares; the list of programs that compute is the one that must be there.
            if kind != "C" and answer["error"] in ("not_supported", "not_found"):
                continue
            return answer, suspect
        for process in answer["ok"]:
            if process.pid in _IMPOSSIBLE_PIDS:
                suspect = True
            else:
                _merge(rows, process.pid, process.usedGpuMemory, kind)
    return {"ok": [rows[pid] for pid in sorted(rows)]}, suspect


def settled(ask_once: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
    """Ask again while a list grows between asking for its size and asking for it; return the last answer."""
    answer = ask_once()
    for _ in range(_CHURN_RETRIES):
        if answer.get("code") != INSUFFICIENT_SIZE:
            break
        answer = ask_once()
    return answer


def _merge(rows: Dict[int, Dict[str, Any]], pid: int, size: Optional[int], kind: str) -> None:
    row = rows.get(pid)
    if row is None:
        rows[pid] = {"pid": pid, "bytes": size, "kind": kind}
        return
    row["kind"] += "+" + kind
    if size is not None:
        row["bytes"] = max(size, row["bytes"] or 0)
