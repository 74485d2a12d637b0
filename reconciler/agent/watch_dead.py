"""Starts an executor again for a transaction whose own are all gone, and which no reboot brought to an end.

An executor is followed by two others, and systemd starts it again a few times in ten seconds. All of them may die all
the same: out of memory again and again, or no interpreter for a moment while the host is being updated. Then nobody
would come before the next apply, and the host would be half-way until a person looked. After some a person is called,
and from then on one is started every ten minutes: what keeps them from an end (a full disk) may be repaired by then.

Must not: begin an order, do a step of a transition, or start a second executor: systemd has one unit of that name.
"""

from __future__ import annotations

from typing import Optional, Tuple

from . import alerts, announce, claims, history, places, systemd, transactions
from .journal import is_of_this_boot
from .launch import LAUNCH_TIMEOUT_S, launch_argv
from .machine import BusyError, Machine
from .outcome import proceed
from .plain import clean
from .record import RecordError, read_record, write_record
from .watch_site import ApartError, Site, is_down

_STARTS = 3
_AGAIN_S = 600.0
_NOBODY = "transaction {} has no executor, and none could be started"


def follow(machine: Machine, site: Site) -> str:
    """Do it and say so; return nothing when there is nobody to follow, ApartError when it cannot be done now."""
    txid = _left(machine)
    if txid is None:
        return ""
    starts, since_s = _starts(machine, txid)
    if starts >= _STARTS:
        text = f"transaction {txid} has no end: its executors all died, and so did those that the watchdog started"
        alerts.raise_alert(machine, by="watchdog", code="REC7177", about=txid, text=text, fix=proceed(site.host))
        if since_s < _AGAIN_S:
            return ""
    try:
        place = machine.read_link(places.CURRENT_AGENT)
        _remember(machine, txid, starts + 1)
        done = machine.run(launch_argv(place, txid), LAUNCH_TIMEOUT_S)
    except OSError as error:
        raise ApartError(f"{_NOBODY.format(txid)}: {error}") from error
    if done.rc != 0:
        raise ApartError(f"{_NOBODY.format(txid)}: {clean(done.err)}")
    said = f"started an executor again for transaction {txid}, whose own had all died"
    machine.log_error(f"recon watchdog {said}")
    return said


def _left(machine: Machine) -> Optional[str]:
    """Return the transaction of this boot that began, has no end and surely no executor, None when there is none.

    Of several it is the one with the claim, for it came last; what nobody claims is left alone unless it is the only
    one, and so is what a person took the claim from.
    """
    found = [txid for txid in transactions.unfinished(machine) if _is_of_this_boot(machine, txid)]
    if not found:
        return None
    try:
        claimed = claims.lease(machine)
        if claims.hold(machine) is not None or (claimed is not None and claimed["txid"] not in found):
            return None
        if not is_down(systemd.show_units(machine, [places.EXECUTOR]).get(places.EXECUTOR)):
            return None
        last = claimed["txid"] if claimed is not None else found[0]
        if claimed is None and len(found) > 1:
            return None
        if _was_released(machine, last, claimed["epoch"] if claimed is not None else 0):
            return None
        with machine.lock(places.LOCK):
            return str(last)
    except (BusyError, OSError, RecordError):
        return None


def _is_of_this_boot(machine: Machine, txid: str) -> bool:
    return is_of_this_boot(machine, places.transaction(txid) + "/journal.jsonl")


def _was_released(machine: Machine, txid: str, epoch: int) -> bool:
    """Say whether a person took the claim of a transaction away: whoever did repairs the host by hand.

    A claim of a later epoch than that is a new one. Where the history does not say whose claim it was, it may have been
    that of any transaction begun by then.
    """
    for line in reversed(history.recent(machine)):
        if line.get("kind") == announce.KIND and line.get("transaction") == txid:
            return False
        if line.get("state") == "released" and line.get("taken_from") in (None, txid):
            return bool(line["epoch"] > epoch)
    return False


def _starts(machine: Machine, txid: str) -> Tuple[int, float]:
    """Return how often one was started for a transaction, and how long ago the last one was."""
    try:
        found = read_record(machine, places.FOLLOWED)
        if found["txid"] == txid:
            return int(found["starts"]), machine.boottime() - float(found["at"])
    except FileNotFoundError:
        pass
    except (OSError, RecordError, KeyError, TypeError, ValueError):
        # It may have said that it was tried often enough: to count from zero again would be a guess.
        _remember(machine, txid, _STARTS)
        return _STARTS, 0.0
    return 0, 0.0


def _remember(machine: Machine, txid: str, starts: int) -> None:
    write_record(machine, places.FOLLOWED, {"txid": txid, "starts": starts, "at": machine.boottime()})
