"""One value over the facts that a plan depends on, so that `apply` can tell whether the host is still the one reviewed.

Pids, bytes, times, temperatures, counts of restarts and health are never in it: they move by themselves.

Must not: look at anything but the state it is given. Pure.
"""

import hashlib
from typing import Any, Dict, List

from .covens import UP
from .record import canonical

_GRAPHICS_ONLY = "G"


def fingerprint(state: Dict[str, Any]) -> str:
    """Return `sha256:<hex>` for an observed state (the dictionary of `model.observed.HostState`)."""
    generation = state["generation"].get("value")
    covered = {
        "machine_id": state["identity"]["machine_id"],
        "boot_id": state["identity"]["boot_id"],
        "generation": generation["number"] if generation else _word(state["generation"]),
        "files": [[file["path"], file["body_sha256"], file["tier"]] for file in state["files"].get("value", [])],
        "files_known": _word(state["files"]),
        "units": _units(state),
        "boot": [_word(state["boot_targets"]), sorted(state["boot_targets"].get("value", []))],
        "holders": _holders(state),
        "hold": _hold(state),
        "memory_class": state["memory_class"].get("value", _word(state["memory_class"])),
    }
    return "sha256:" + hashlib.sha256(canonical(covered)).hexdigest()


def _word(found: Dict[str, Any]) -> str:
    """Say only which kind of answer a fact is: the words of a reason may hold pids and times."""
    return next(iter(found))


def _units(state: Dict[str, Any]) -> List[Any]:
    if "value" not in state["units"]:
        return [_word(state["units"])]
    rows = []
    for unit in state["units"]["value"]:
        condition = _condition(unit)
        # systemd forgets and remembers names that only others mention, as it likes.
        if unit["load"] == "not-found" and condition == "inactive":
            continue
        # What fails has a process or has none, as one happens to look.
        running = unit["config_hash"].get("value", _word(unit["config_hash"])) if condition != "failed" else ""
        rows.append([unit["name"], unit["load"], condition, running])
    return sorted(rows)


def _condition(unit: Dict[str, Any]) -> str:
    """Return up, failed or inactive.

    A unit in a crash loop is failed, whatever systemd calls it at this moment: systemd counts the restarts that it made
    by itself, and forgets them when somebody starts the unit. How many there were is not in the sum.
    """
    if unit["active"] == "failed" or unit["sub"] == "auto-restart":
        return "failed"
    if unit["restarts"] and unit["active"] != "inactive":
        return "failed"
    return "up" if unit["active"] in UP else "inactive"


def _holders(state: Dict[str, Any]) -> List[Any]:
    """Return who is on the GPUs and neither of recon, shared nor a desktop: as the planner sees it.

    Who is gone is nobody (memory is verified before a start anyway).
    """
    if "value" not in state["gpus"]:
        return [_word(state["gpus"])]
    shared = {service["unit"] for service in state.get("shared", [])}
    rows = set()
    for gpu in state["gpus"]["value"]:
        rows.add((gpu["uuid"], _word(gpu["processes"])))
        for process in gpu["processes"].get("value", []):
            unit = process["unit"] or ""
            if process["state"] == "gone" or process["kind"] == _GRAPHICS_ONLY:
                continue
            if not unit.startswith("recon-") and unit not in shared:
                rows.add((gpu["uuid"], unit or process["comm"]))
    return [list(row) for row in sorted(rows)]


def _hold(state: Dict[str, Any]) -> Any:
    hold = state["hold"].get("value")
    return [hold["owner"], hold["reason"]] if hold else _word(state["hold"])
