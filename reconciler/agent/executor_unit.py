"""The executor's unit as systemd has it: whether it runs, and for which transaction.

The unit's description names the transaction from the moment systemd takes it, before the executor has written a word:
so whoever comes second is told at once who was first.

Must not: start or stop it.
"""

from __future__ import annotations

import re
from typing import List, Optional

from . import holders, places, processes, systemd
from .machine import Machine

DESCRIPTION = "recon transaction "
TXID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}\Z")
"""What a transaction is called: safe in a path and on a command line."""
# Where systemd puts the executor's processes; it may be told to put them elsewhere, and then it is asked.
_GROUP = f"/system.slice/{places.EXECUTOR}"
# What systemd keeps of a unit that it was handed, for as long as it knows the unit.
_HANDED = f"/run/systemd/transient/{places.EXECUTOR}"


def has_process(machine: Machine) -> bool:
    """Say whether an executor surely runs, by a look at files; it may be about to, or run elsewhere, without.

    What is stuck in the kernel does not run: it may outlive the unit for ever.
    """
    return systemd.is_populated(machine, _GROUP) is True and not stuck(machine)


def is_active(machine: Machine) -> bool:
    """Say whether an executor runs, or is about to."""
    # A process of its own is proof; systemctl takes ten milliseconds of two programs.
    if has_process(machine):
        return True
    shown = systemd.show_units(machine, [places.EXECUTOR]).get(places.EXECUTOR)
    # Queued counts: systemd-run returns before the unit has begun.
    return shown is not None and (shown.active not in ("inactive", "failed") or bool(shown.job))


def running_txid(machine: Machine) -> Optional[str]:
    """Return the transaction of the executor's unit, None when there is no unit or it does not say."""
    # Asking systemd takes two programs, and all who lost a race for the host want to know this at the same time.
    text = _handed(machine) or systemd.description(machine, places.EXECUTOR)
    txid = text[len(DESCRIPTION) :] if text.startswith(DESCRIPTION) else ""
    return txid if TXID.match(txid) else None


def stuck(machine: Machine) -> List[str]:
    """Name what is left in the executor's control group when all of it is beyond any signal; else nobody."""
    try:
        pids = machine.read(f"{systemd.CGROUPS}{_GROUP}/cgroup.procs").split()
        if not all(processes.state_of(machine, int(pid)) in ("D", "Z") for pid in pids):
            return []
    except (OSError, ValueError, IndexError):
        return []
    return holders.in_group(machine, _GROUP)


def _handed(machine: Machine) -> str:
    """Return the description in the unit that systemd was handed; nothing when there is none, or none like ours."""
    try:
        lines = machine.read(_HANDED).decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    key = "Description="
    return next((line[len(key) :] for line in lines if line.startswith(key + DESCRIPTION)), "")
