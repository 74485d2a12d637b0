"""Who else has the name that git gives to a container: Quadlet starts with `--replace`, which would remove his.

Must not: touch a container, or take what cannot be read for nobody.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Sequence

from . import privilege, systemd
from .machine import Machine
from .plain import clean
from .txn import HaltError, Run, starting

_TIMEOUT_S = 20.0
_OURS = "recon-"


def holders(machine: Machine, names: Sequence[str]) -> List[Dict[str, Any]]:
    """Return every container of somebody else with one of these names, as `model.observed.NameHolder`.

    Raises:
        ValueError: podman does not say.
    """
    if privilege.is_guest(machine):
        raise ValueError(privilege.NOT_OURS)
    done = machine.run(["podman", "ps", "--all", "--no-trunc", "--format", "json"], _TIMEOUT_S)
    if done.rc != 0:
        raise ValueError(f"podman ps: {clean(done.err, 200) or f'exit status {done.rc}'}")
    listed = json.loads(done.out.decode("utf-8", "replace") or "[]") or []
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ValueError("podman ps: that is no list of containers")
    found = []
    for each in listed:
        unit = str((each.get("Labels") or {}).get("PODMAN_SYSTEMD_UNIT") or "")
        if unit.startswith(_OURS):
            continue
        found += [
            {
                "name": name,
                "unit": clean(unit, 200) or None,
                "status": clean(str(each.get("State", "")), 40),
                "is_removed": each.get("AutoRemove") is True,
            }
            for name in names
            if name in (each.get("Names") or [])
        ]
    return sorted(found, key=lambda each: str(each["name"]))


def check(run: Run, members: Sequence[Dict[str, Any]], *, is_taken: bool = False) -> None:
    """Refuse to start what would remove a container of somebody else; HaltError REC7494 names it.

    `is_taken`: what the order takes over is down by now, so its name must be free too. Before that it may still have
    it, when the name goes with it.
    """
    names = [member["container"] for member in members if f"{member['container']}.service" != member["unit"]]
    if not names:
        return
    try:
        found = holders(run.machine, names)
    except ValueError as error:
        raise HaltError("REC7494", f"who has the name {', '.join(names)} cannot be told: {error}") from error
    adopted = frozenset() if is_taken else systemd.adopted_by(run.intent)
    left = [each for each in found if not (each["is_removed"] and each["unit"] in adopted)]
    if left:
        text = "; ".join(f"the container {each['name']} ({each['status']}) is not recon's" for each in left)
        fix = f"on the host, if nobody needs it: podman rm {left[0]['name']}; or give another container_name"
        raise HaltError("REC7494", f"{text}, and starting ours would remove it", fix=fix)


def check_starting(run: Run, move: Dict[str, Any]) -> None:
    """Check again right before a move starts what it does."""
    check(run, starting(move), is_taken=True)
