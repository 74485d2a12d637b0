"""The executor's claim on the host: a lock the kernel gives back on death, and an epoch that only ever grows.

The lock keeps two executors apart. The epoch keeps a stale one from finishing anyway: it is read again before every
change (`fence`), and a holder whose number is no longer the newest stops. The lease file is for people, and renewed
by its holder while it works; its times are seconds since boot, with the boot's id beside them, so that no clock jump
can make a claim older or younger.

The number must not come back after a restore or a damaged file, so it is found in several places (the epoch's own file,
the lease, the history, the manifests of the generations), and the next one is above all of them.

Must not: judge whether somebody else's lease has run out; the lock does.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator

from . import history, places
from .machine import Machine
from .record import RecordError, make_way, read_record, write_record

TTL_S = 60.0
RENEW_S = 15.0


class LeaseError(Exception):
    """The claim is not, or no longer, ours."""


class Lease:
    """A claim with its epoch; `take` under the lock, `check` before everything that changes something."""

    def __init__(self, machine: Machine, body: Dict[str, Any]) -> None:
        self._machine = machine
        self._body = body

    @property
    def epoch(self) -> int:
        """Return the number that orders claims."""
        return int(self._body["epoch"])

    def check(self) -> None:
        """Raise `LeaseError` when somebody has claimed the host since, or when that cannot be told."""
        current = read_epoch(self._machine)
        if current != self.epoch:
            raise LeaseError(f"the claim of epoch {self.epoch} is over: the host is at epoch {current}")

    def enter(self, step: str) -> None:
        """Say in the lease file which step runs."""
        self._body["step"] = step
        self._write(TTL_S)

    def renew(self, busy_s: float = 0.0) -> None:
        """Say that the holder lives, when it was not said lately or nothing will be said for a while.

        Only people read it, so what goes wrong here stops nothing.
        """
        since = self._machine.boottime() - self._body["renewed"]
        if since < RENEW_S and busy_s + since < self._body["ttl_s"] - RENEW_S:
            return
        with contextlib.suppress(OSError):
            self._write(TTL_S + busy_s)

    def _write(self, ttl_s: float) -> None:
        try:
            self.check()
        except LeaseError:
            # The file tells of somebody else's claim by now, and must go on doing so.
            return
        self._body.update(renewed=round(self._machine.boottime(), 3), ttl_s=ttl_s)
        write_record(self._machine, places.LEASE, self._body)


def take(machine: Machine, *, owner: str, txid: str, boot_id: str) -> Lease:
    """Claim the host with the next epoch. The caller holds the lock, so whoever else has a lease is dead."""
    return _claim(machine, advance(machine), owner, txid, boot_id)


def borrow(machine: Machine, *, owner: str, txid: str, boot_id: str, doing: str) -> Lease:
    """Claim the host under the epoch it is at, for a deed that makes no plan stale. The caller holds the lock.

    `doing` tells whoever comes meanwhile what the deed is.

    The lock keeps every executor out meanwhile, and who takes the next epoch all the same (a force-release) stops this
    holder at its next change, as any other. `LeaseError` when the epoch cannot be told.
    """
    return _claim(machine, read_epoch(machine), owner, txid, boot_id, doing)


def _claim(machine: Machine, epoch: int, owner: str, txid: str, boot_id: str, doing: str = "") -> Lease:
    since = round(machine.boottime(), 3)
    body = {"epoch": epoch, "owner": owner, "txid": txid, "boot_id": boot_id, "step": "claim", "since": since}
    body.update({"doing": doing} if doing else {})
    lease = Lease(machine, {**body, "renewed": since, "ttl_s": TTL_S})
    lease.enter("claim")
    return lease


def advance(machine: Machine) -> int:
    """Make the next epoch the newest one and return it. The caller holds the lock."""
    epoch = newest(machine) + 1
    machine.mkdir(places.STATE)
    make_way(machine, places.EPOCH)
    make_way(machine, places.LEASE)
    write_record(machine, places.EPOCH, {"epoch": epoch})
    return epoch


def read_epoch(machine: Machine) -> int:
    """Return the newest epoch by its own file, 0 when there is none; `LeaseError` when the file cannot be believed."""
    try:
        return _epoch_in(read_record(machine, places.EPOCH))
    except FileNotFoundError:
        return 0
    except (OSError, RecordError) as error:
        raise LeaseError(f"which claim is the newest cannot be told: {error}") from error


def current(machine: Machine) -> int:
    """Return the newest epoch for people: by its own file, or by everything else when that one cannot be believed."""
    try:
        return read_epoch(machine)
    except LeaseError:
        return newest(machine)


def newest(machine: Machine) -> int:
    """Return the highest epoch that anything on the host tells of; what cannot be believed tells nothing."""
    return max(_seen(machine), default=0)


def _seen(machine: Machine) -> Iterator[int]:
    manifests = [f"{places.generation(number)}/manifest.json" for number in generations(machine)]
    for path in (places.EPOCH, places.LEASE, *manifests):
        with contextlib.suppress(OSError, RecordError):
            yield _epoch_in(read_record(machine, path))
    for line in history.recent(machine):
        yield _epoch_in(line)


def generations(machine: Machine) -> "list[int]":
    """Return the numbers of the generations that are on the host."""
    try:
        names = machine.listdir(places.GENERATIONS)
    except OSError:
        return []
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def _epoch_in(body: Dict[str, Any]) -> int:
    found = body.get("epoch")
    return found if isinstance(found, int) and not isinstance(found, bool) else 0
