"""Removes what a cut left of a write under its temporary name (`durable`): `.NAME.recon-` and 12 hex digits.

Such a file is read by nobody, so it is harmless, and would lie there for ever. Only who holds the host's lock and its
claim removes it, and only where nobody else writes meanwhile: in the generations, among the books that the claim
covers, in the directories of this transaction and of those that have ended, and beside units and Quadlets of ours. Half
an intent of a transaction that has none goes while nobody can be launching it.

Must not: touch a name that is not exactly one of ours, or tell of it.
"""

from __future__ import annotations

import contextlib
import re
from typing import Iterator, Tuple

from . import files, history, lease, locks, outcome, places
from .machine import BusyError, Machine

_NAME = re.compile(r"\A\.(.+)\.recon-[0-9a-f]{12}\Z")
_ANY = re.compile(r"")
_OURS = re.compile(r"\Arecon(-.*)?\Z")
# A link is made in the directory above its own: beside the one that systemd or Quadlet reads.
_SHARED = (places.NATIVE, "/etc/systemd", "/etc/containers", "/run/systemd", "/run/containers")
_INTENT = re.compile(r"\Aintent\.json\Z")


def _any_of(*paths: str) -> "re.Pattern[str]":
    return re.compile("|".join(rf"\A{re.escape(path.rpartition('/')[2])}\Z" for path in paths))


_BOOKS = _any_of(places.EPOCH, places.LAST_GENERATION, places.TIMINGS, places.KEPT)
# Also written by who has no claim: whoever locks the host or holds it.
_OF_ALL = _any_of(places.HISTORY, places.HISTORY_HEAD, places.LOCKS, places.HOLD)


def collect(machine: Machine, txid: str) -> None:
    """Remove what is left, as far as the disk lets itself be read; `txid` is the transaction that holds the claim."""
    with contextlib.suppress(OSError):
        _remove(machine, _directories(machine, txid))
    with contextlib.suppress(OSError, BusyError), locks.alone(machine), history.alone(machine):
        _remove(machine, iter([(places.STATE, _OF_ALL), (places.HOLD.rpartition("/")[0], _OF_ALL)]))
    # Whoever is launched gets its intent under this lock. One that waited too long for it goes on without, and fails
    # when its half is taken away: it hands the order over again.
    with contextlib.suppress(OSError, BusyError), machine.lock(places.LAUNCH_LOCK):
        _remove(machine, _never_begun(machine))


def _remove(machine: Machine, where: "Iterator[Tuple[str, re.Pattern[str]]]") -> None:
    for directory, of_ours in where:
        for name in files.names_in(machine, directory):
            found = _NAME.match(name)
            if found and of_ours.match(found[1]) and _is_plain(machine, f"{directory}/{name}"):
                machine.remove(f"{directory}/{name}")


def _never_begun(machine: Machine) -> "Iterator[Tuple[str, re.Pattern[str]]]":
    for name in files.names_in(machine, places.TRANSACTIONS):
        directory = places.transaction(name)
        if not name.startswith(".") and machine.stat(f"{directory}/intent.json") is None:
            yield directory, _INTENT


def _directories(machine: Machine, txid: str) -> "Iterator[Tuple[str, re.Pattern[str]]]":
    """Yield where to look, and for the temporary names of what."""
    for directory in _SHARED:
        yield directory, _OURS
    yield places.STATE, _BOOKS
    for number in lease.generations(machine):
        for part in ("", "/units"):
            yield places.generation(number) + part, _ANY
    for name in files.names_in(machine, places.TRANSACTIONS):
        if not name.startswith(".") and (name == txid or outcome.has_ended(machine, name)):
            yield places.transaction(name), _ANY


def _is_plain(machine: Machine, path: str) -> bool:
    found = machine.stat(path)
    return found is not None and found.kind in ("file", "link")
