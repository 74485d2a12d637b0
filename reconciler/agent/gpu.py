"""What NVML's words mean: GPUs, their memory and holders, as facts that a plan may rely on.

The order is NVML, then nvidia-smi where NVML cannot be loaded or its list is scrambled, then unknown with the reason.
A failed question never looks like an idle GPU.

Must not: talk to the library itself (`nvml` does, in a child).
"""

import re
from typing import Any, Dict, List, NamedTuple, Optional

from . import fact, memory, processes, smi
from .gpu_child import LIBRARY_MISSING, Raw
from .machine import Machine
from .plain import clean

_CODES = {
    4: "no permission on the NVIDIA device files",
    9: "the NVIDIA kernel driver is not loaded",
    LIBRARY_MISSING: "no NVIDIA driver library (libnvidia-ml.so.1) and no nvidia-smi",
    15: "the GPU is lost: it no longer answers on its bus",
    17: "the operating system blocks the NVIDIA devices",
    18: "the NVIDIA library and kernel module are of different versions: reboot, or reload the driver",
}
_VALUE_ERRORS = {
    "not_supported": "not supported",
    "no_permission": "no permission",
    "not_found": "the driver is too old to say",
    "lost": "the GPU is lost",
}
_VERSION = re.compile(rb"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\s")
_PROC = "/proc/driver/nvidia"


class Gpus(NamedTuple):
    """All that is known about the GPUs of a host."""

    gpus: fact.Fact
    driver: fact.Fact
    memory_class: fact.Fact
    notes: List[str]


def describe(machine: Machine, raw: Raw, configured: str, timeout_s: float) -> Gpus:
    """Return facts from NVML's answer.

    Args:
        machine: where processes and meminfo are looked up.
        raw: the answer in the shape of `gpu_child`.
        configured: the memory kind the operator declared, or `auto`.
        timeout_s: what nvidia-smi may take, should it be needed.
    """
    notes: List[str] = []
    raw = _believable(machine, raw, timeout_s, notes)
    module = module_version(machine)
    if raw["error"] is not None:
        reason = _reason(raw["error"], module)
        driver = fact.value(module) if module else fact.unknown(reason)
        kind = fact.value(configured) if configured != "auto" else fact.unknown(reason)
        return Gpus(fact.unknown(reason), driver, kind, notes)
    if module and raw["driver"] and module != raw["driver"]:
        notes.append(f"the NVIDIA library says driver {raw['driver']}, the kernel module is {module}")
    answering = [gpu for gpu in raw["gpus"] if gpu["error"] is None]
    managed = memory.is_driver_managed(machine)
    kinds = [memory.kind_of(gpu, configured, driver_managed=managed) for gpu in answering]
    buses = [_bus(gpu["bus"].get("ok")) for gpu in answering]
    kind_by_id = {id(gpu): kind for gpu, kind in zip(answering, kinds)}
    gpus = []
    for gpu in raw["gpus"]:
        if gpu["error"] is not None:
            gpus.append(_lost(machine, gpu, buses, notes))
        else:
            gpus.append(_gpu(machine, gpu, kind_by_id[id(gpu)], notes))
    driver = fact.value(clean(raw["driver"])) if raw["driver"] else fact.unknown("NVML does not say")
    return Gpus(fact.value(gpus), driver, _kind_of_host(raw["gpus"], answering, kinds, configured), notes)


def _kind_of_host(
    gpus: List[Dict[str, Any]], answering: List[Dict[str, Any]], kinds: List[Optional[str]], configured: str
) -> fact.Fact:
    """Return the kind of the host; a GPU that is lost says nothing about the others."""
    told = [kind for gpu, kind in zip(answering, kinds) if gpu["memory"].get("error") != "lost"]
    if gpus and not told and configured == "auto":
        return fact.unknown("no GPU answers")
    return memory.kind_of_host(told, configured)


def _believable(machine: Machine, raw: Raw, timeout_s: float, notes: List[str]) -> Raw:
    """Ask nvidia-smi when the library is missing or crashed, or when a process list has rows that cannot be."""
    error = raw["error"]
    if error is not None:
        if error["code"] not in (LIBRARY_MISSING, None):
            return raw
        other = smi.ask(machine, timeout_s)
        if other is None:
            return raw
        notes.append(f"NVML could not be used ({clean(error['text'])}); nvidia-smi answered instead")
        return other
    if not any(gpu.get("suspect") for gpu in raw["gpus"]):
        return raw
    other = smi.ask(machine, timeout_s)
    lists = {gpu["uuid"].get("ok"): gpu["processes"] for gpu in other["gpus"]} if other else {}
    return {**raw, "gpus": [_unscrambled(gpu, lists, notes) for gpu in raw["gpus"]]}


def _unscrambled(gpu: Dict[str, Any], lists: Dict[Optional[str], Any], notes: List[str]) -> Dict[str, Any]:
    if not gpu.get("suspect"):
        return gpu
    other = lists.get(gpu["uuid"].get("ok"), {})
    if "ok" in other:
        notes.append(f"GPU {gpu['index']}: NVML's process list is scrambled; nvidia-smi's is used")
        return {**gpu, "processes": other}
    seen = ", ".join(str(row["pid"]) for row in gpu["processes"].get("ok", [])) or "none"
    notes.append(
        f"GPU {gpu['index']}: NVML's process list is scrambled (a driver fault); believable pids in it: {seen}"
    )
    return {**gpu, "processes": {"error": "scrambled", "code": 0}}


def _reason(error: Dict[str, Any], module: Optional[str]) -> str:
    text = _CODES.get(error["code"]) or f"NVML: {error['text']}"
    return f"{text} (kernel module {module})" if error["code"] == 18 and module else text


def module_version(machine: Machine) -> Optional[str]:
    """Return the version of the kernel module, None when none is loaded or it cannot be read."""
    try:
        match = _VERSION.search(machine.read(f"{_PROC}/version"))
    except OSError:
        return None
    return match[1].decode() if match else None


def _gpu(machine: Machine, gpu: Dict[str, Any], kind: Optional[str], notes: List[str]) -> Dict[str, Any]:
    index = int(gpu["index"])
    if kind == "unified" and "ok" in gpu["memory"]:
        notes.append(f"GPU {index} shares the host's memory, yet NVML gives a figure of its own: it is not used")
    uuid = gpu["uuid"].get("ok")
    return {
        "index": index,
        "uuid": clean(uuid) if uuid else f"unknown-{index}",
        "name": clean(gpu["name"].get("ok") or "unknown"),
        "bus": _bus(gpu["bus"].get("ok")),
        "memory": _memory(machine, gpu, kind, notes),
        "processes": _processes(machine, gpu["processes"]),
        "recovery_action": _plain_value(gpu["recovery_action"]),
    }


def _memory(machine: Machine, gpu: Dict[str, Any], kind: Optional[str], notes: List[str]) -> fact.Fact:
    if kind == "unified":
        return fact.not_applicable("the GPU shares the host's memory")
    answer = gpu["memory"]
    if "ok" not in answer:
        if gpu.get("mig"):
            return fact.unknown("MIG is on and has no instances")
        return fact.unknown(f"NVML tells no memory figure: {_VALUE_ERRORS.get(answer['error'], _code(answer))}")
    figures = {**answer["ok"], "reclaimable": 0}
    if not 0 <= figures["free"] <= figures["total"]:
        # Counted below zero, a figure without a sign reads as more room than any card has.
        return fact.unknown(f"NVML says that {figures['free']} of {figures['total']} bytes are free, which cannot be")
    if kind == "gh200" and "ok" in gpu["numa_node"]:
        try:
            figures["reclaimable"] = memory.reclaimable(machine, gpu["numa_node"]["ok"])
        except (OSError, KeyError) as error:
            notes.append(f"GPU {gpu['index']}: the page cache on its memory is unknown ({fact.why(error)})")
    return fact.value(figures)


def _processes(machine: Machine, answer: Dict[str, Any]) -> fact.Fact:
    if "ok" in answer:
        return fact.value([processes.describe(machine, row) for row in answer["ok"]])
    if answer["error"] == "scrambled":
        return fact.unknown("NVML's process list is scrambled (a driver fault)")
    return fact.unknown(f"NVML lists no processes: {_VALUE_ERRORS.get(answer['error'], _code(answer))}")


def _plain_value(answer: Dict[str, Any]) -> fact.Fact:
    if "ok" in answer:
        return fact.value(answer["ok"])
    if answer["error"] in ("not_supported", "not_found"):
        return fact.not_applicable("this GPU or driver does not have it")
    return fact.unknown(_VALUE_ERRORS.get(answer["error"], _code(answer)))


def _code(answer: Dict[str, Any]) -> str:
    return f"NVML answers {answer.get('code')}"


def _lost(machine: Machine, gpu: Dict[str, Any], buses: List[str], notes: List[str]) -> Dict[str, Any]:
    """Describe a GPU that gives no handle: the driver's own list in /proc may still know which one it is."""
    reason = _CODES.get(gpu["error"]["code"]) or f"NVML: {gpu['error']['text']}"
    index = int(gpu["index"])
    listed = [entry for entry in _listed(machine) if entry["bus"] not in buses]
    entry = listed[0] if len(listed) == 1 else {"uuid": f"unknown-{index}", "name": "unknown", "bus": ""}
    notes.append(clean(f"GPU {index} ({entry['uuid']}): {reason}"))
    unknown = fact.unknown(reason)
    return {"index": index, **entry, "memory": unknown, "processes": unknown, "recovery_action": unknown}


def _listed(machine: Machine) -> List[Dict[str, str]]:
    entries = []
    try:
        for bus in machine.listdir(f"{_PROC}/gpus"):
            text = machine.read(f"{_PROC}/gpus/{bus}/information").decode("utf-8", "backslashreplace")
            told = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
            uuid, name = told.get("GPU UUID", "").strip(), told.get("Model", "").strip()
            entries.append({"uuid": clean(uuid), "name": clean(name), "bus": _bus(bus)})
    except OSError:
        return []
    return entries


def _bus(address: Optional[str]) -> str:
    """Return a PCI address as the kernel writes it: NVML has eight digits of domain and capitals."""
    if not address:
        return ""
    domain, _, rest = clean(address).lower().partition(":")
    return f"{domain[-4:]}:{rest}"
