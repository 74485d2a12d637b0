"""One value over the facts that a plan depends on, so that `apply` can tell whether the host is still the one reviewed.

Pids, bytes, times, temperatures, counts of restarts and health are never in it: they move by themselves.

Must not: look at anything but the state it is given. Pure.
"""

import hashlib
from typing import Any, Dict, List

from .covens import UP
from .record import canonical

_GRAPHICS_ONLY = "G"
_LOOPS = ("recon-spiral", "recon-job-", "recon-share-")


def fingerprint(state: Dict[str, Any]) -> str:
    """Return `sha256:<hex>` for an observed state (the dictionary of `model.observed.HostState`)."""
    return total(parts(state))


def total(found: Dict[str, str]) -> str:
    """Return the one value over the parts."""
    return "sha256:" + hashlib.sha256(canonical(found)).hexdigest()


def parts(state: Dict[str, Any]) -> Dict[str, str]:
    """Return a short sum for each fact a plan depends on, by a name for people: so it can be said what moved."""
    generation = state["generation"].get("value")
    covered: Dict[str, Any] = {
        "the machine-id": state["identity"]["machine_id"],
        "the boot": state["identity"]["boot_id"],
        "the committed generation": generation["number"] if generation else _word(state["generation"]),
        "the managed files": _word(state["files"]),
        "the units": _word(state["units"]),
        "what boots": [_word(state["boot_targets"]), sorted(state["boot_targets"].get("value", []))],
        "the hold": _hold(state),
        "the kind of memory": state["memory_class"].get("value", _word(state["memory_class"])),
        "the claim (somebody else's transaction, or a force-release)": state.get("epoch"),
    }
    for file in state["files"].get("value", []):
        covered[file["path"]] = [file["body_sha256"], file["tier"]]
    for row in _units(state):
        covered[row[0]] = row
    for uuid, row in _holders(state).items():
        covered[f"who uses {uuid}"] = row
    return {name: hashlib.sha256(canonical(value)).hexdigest()[:16] for name, value in sorted(covered.items())}


def _word(found: Dict[str, Any]) -> str:
    """Say only which kind of answer a fact is: the words of a reason may hold pids and times."""
    return next(iter(found))


def _units(state: Dict[str, Any]) -> List[Any]:
    rows = []
    for unit in state["units"].get("value", []):
        # Loops come and go as they like, and so does a share whose hub was away; an executor brings them to what is
        # committed, however it finds them.
        if unit["name"].startswith(_LOOPS):
            continue
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
    if unit["active"] == "failed" or unit["sub"].startswith("auto-restart"):
        return "failed"
    if unit["restarts"] and unit["active"] != "inactive":
        return "failed"
    return "up" if unit["active"] in UP else "inactive"


def _holders(state: Dict[str, Any]) -> Dict[str, List[Any]]:
    """Return, by GPU, who is on it and neither of recon, shared nor a desktop: as the planner sees it.

    Who is gone is nobody (memory is verified before a start anyway).
    """
    if "value" not in state["gpus"]:
        return {"the GPUs": [_word(state["gpus"])]}
    shared = {service["unit"] for service in state.get("shared", [])}
    found: Dict[str, List[Any]] = {}
    for gpu in state["gpus"]["value"]:
        row = {_word(gpu["processes"])}
        for process in gpu["processes"].get("value", []):
            unit = process["unit"] or ""
            if process["state"] == "gone" or process["kind"] == _GRAPHICS_ONLY:
                continue
            if not unit.startswith("recon-") and unit not in shared:
                row.add("by " + (unit or process["comm"]))
        found[gpu["uuid"]] = sorted(row)
    return found


def _hold(state: Dict[str, Any]) -> Any:
    hold = state["hold"].get("value")
    return [hold["owner"], hold["reason"]] if hold else _word(state["hold"])
