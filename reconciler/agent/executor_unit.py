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


def is_active(machine: Machine) -> bool:
    """Say whether an executor runs, or is about to."""
    # A process of its own is proof, and a look at one file; systemctl takes ten milliseconds of two programs. One that
    # is stuck in the kernel is none: it may outlive the unit for ever.
    if systemd.is_populated(machine, _GROUP) and not stuck(machine):
        return True
    shown = systemd.show_units(machine, [places.EXECUTOR]).get(places.EXECUTOR)
    # Queued counts: systemd-run returns before the unit has begun.
    return shown is not None and (shown.active not in ("inactive", "failed") or bool(shown.job))


def running_txid(machine: Machine) -> Optional[str]:
    """Return the transaction of the executor's unit, None when there is no unit or it does not say."""
    text = systemd.description(machine, places.EXECUTOR)
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
