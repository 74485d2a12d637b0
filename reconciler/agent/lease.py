"""The executor's claim on the host: a lock the kernel gives back on death, and an epoch that only ever grows.

The lock keeps two executors apart. The epoch keeps a stale one from finishing anyway: it is read again before every
step that changes something, and a holder whose number is no longer the newest stops. The lease file is for people.

Must not: judge whether somebody else's lease has run out; the lock does.
"""

from __future__ import annotations

from typing import Any, Dict

from . import places
from .machine import Machine
from .record import write_record


class LeaseError(Exception):
    """The claim is not, or no longer, ours."""


class Lease:
    """A claim with its epoch; `take` under the lock, `check` before every step that changes something."""

    def __init__(self, machine: Machine, body: Dict[str, Any]) -> None:
        self._machine = machine
        self._body = body

    @property
    def epoch(self) -> int:
        """Return the number that orders claims."""
        return int(self._body["epoch"])

    def check(self) -> None:
        """Raise `LeaseError` when somebody has claimed the host since."""
        current = read_epoch(self._machine)
        if current != self.epoch:
            raise LeaseError(f"the claim of epoch {self.epoch} is over: the host is at epoch {current}")

    def enter(self, step: str) -> None:
        """Say in the lease file which step runs; losing that file is no reason to stop."""
        self._body["step"] = step
        write_record(self._machine, places.LEASE, self._body)


def take(machine: Machine, *, owner: str, txid: str, boot_id: str) -> Lease:
    """Claim the host with the next epoch. The caller holds the lock."""
    epoch = read_epoch(machine) + 1
    machine.mkdir(places.STATE)
    machine.write(places.EPOCH, f"{epoch}\n".encode())
    # Seconds since boot: with the boot's id beside it, an age that no clock jump can falsify.
    since = round(machine.boottime(), 3)
    lease = Lease(
        machine,
        {"epoch": epoch, "owner": owner, "txid": txid, "boot_id": boot_id, "step": "claim", "since": since},
    )
    lease.enter("claim")
    return lease


def read_epoch(machine: Machine) -> int:
    """Return the newest epoch, 0 on a host that never had one; `LeaseError` when the file is there but unreadable."""
    try:
        text = machine.read(places.EPOCH, 64)
    except FileNotFoundError:
        return 0
    digits = text.strip()
    if not digits.isdigit():
        raise LeaseError(f"{places.EPOCH} does not hold a number")
    return int(digits)
