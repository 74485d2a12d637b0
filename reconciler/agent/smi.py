"""Asks `nvidia-smi -q -x` where NVML cannot be loaded or cannot be believed; the answer has the shape of `gpu_child`.

Must not: parse the table for people, or take a figure for zero that the program did not print as a number.
"""

import re
from typing import Any, Dict, List, Optional

from .gpu_child import Raw
from .machine import Machine

# Logins over SSH have a short PATH, and WSL and NixOS keep it elsewhere.
PROGRAMS = (
    "/usr/bin/nvidia-smi",
    "/usr/lib/wsl/lib/nvidia-smi",
    "/run/current-system/sw/bin/nvidia-smi",
    "/usr/local/bin/nvidia-smi",
)
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE = re.compile(r"^(\d+) (B|KiB|MiB|GiB)$")
_ACTIONS = {"None": 0, "Reset": 1, "Reboot": 2, "Drain P2P": 3, "Drain and Reset": 4}
_MODES = {"None": 0, "HMM": 1, "ATS": 2}


def ask(machine: Machine, timeout_s: float) -> Optional[Raw]:
    """Return what nvidia-smi says, None when there is none or it says nothing that can be read."""
    program = next((path for path in PROGRAMS if machine.stat(path) is not None), None)
    if program is None:
        return None
    done = machine.run([program, "-q", "-x"], timeout_s)
    return parse(done.out, program) if done.rc == 0 else None


def parse(document: bytes, program: str) -> Optional[Raw]:
    """Return the GPUs of an XML report, None when it is no report."""
    from xml.etree import ElementTree  # slow to import, and rarely needed

    try:
        root = ElementTree.fromstring(document)  # noqa: S314 - the driver's own program wrote it
    except ElementTree.ParseError:
        return None
    gpus = [_gpu(element, index) for index, element in enumerate(root.findall("gpu"))]
    return {"error": None, "driver": root.findtext("driver_version"), "library": program, "gpus": gpus}


def _gpu(element: Any, index: int) -> Dict[str, Any]:
    return {
        "index": index,
        "error": None,
        "uuid": _text(element.findtext("uuid")),
        "name": _text(element.findtext("product_name")),
        "bus": _text(element.findtext("pci/pci_bus_id")),
        "memory": _memory(element.find("fb_memory_usage")),
        "bar1": _size(element.findtext("bar1_memory_usage/total")),
        "numa_node": {"error": "not_found", "code": 13},
        "addressing": _choice(element.findtext("addressing_mode"), _MODES),
        "recovery_action": _choice(element.findtext("gpu_recovery_action"), _ACTIONS),
        "utilization": _share(element.findtext("utilization/gpu_util")),
        "mig": None,
        "processes": _processes(element.find("processes")),
        "suspect": False,
    }


def _refused(text: Optional[str]) -> Dict[str, Any]:
    """Return what stands in place of a value: these words are values too, and none of them is zero."""
    word = (text or "").strip().strip("[]")
    if word == "Insufficient Permissions":
        return {"error": "no_permission", "code": 4}
    if word in ("N/A", "Not Supported"):
        return {"error": "not_supported", "code": 3}
    return {"error": "not_found" if not word else "error", "code": 13 if not word else 999}


def _text(text: Optional[str]) -> Dict[str, Any]:
    refused = _refused(text)
    return {"ok": text.strip()} if text and refused["code"] == 999 and not text.startswith("[") else refused


def _size(text: Optional[str]) -> Dict[str, Any]:
    match = _SIZE.match((text or "").strip())
    return {"ok": int(match[1]) * _UNITS[match[2]]} if match else _refused(text)


def _share(text: Optional[str]) -> Dict[str, Any]:
    number = (text or "").strip().rstrip("% ")
    return {"ok": int(number)} if number.isascii() and number.isdigit() else _refused(text)


def _choice(text: Optional[str], choices: Dict[str, int]) -> Dict[str, Any]:
    word = (text or "").strip()
    return {"ok": choices[word]} if word in choices else _refused(text)


def _memory(usage: Any) -> Dict[str, Any]:
    if usage is None:
        return _refused(None)
    sizes = {key: _size(usage.findtext(key)) for key in ("total", "used", "free")}
    for size in sizes.values():
        if "ok" not in size:
            return size
    # Drivers before 510 print no reserve; it is in `used` there.
    sizes["reserved"] = {"ok": _size(usage.findtext("reserved")).get("ok", 0)}
    return {"ok": {key: size["ok"] for key, size in sizes.items()}}


def _processes(listed: Any) -> Dict[str, Any]:
    if listed is None:
        return _refused(None)
    if listed.text and listed.text.strip():
        return _refused(listed.text)
    rows: List[Dict[str, Any]] = []
    for info in listed.findall("process_info"):
        pid = (info.findtext("pid") or "").strip()
        if not pid.isdigit():
            return {"error": "error", "code": 999}
        size = _size(info.findtext("used_memory")).get("ok")
        rows.append({"pid": int(pid), "bytes": size, "kind": (info.findtext("type") or "").strip()})
    return {"ok": rows}
