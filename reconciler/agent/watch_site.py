"""What the watchdog looks after on this host, and whether the host is somebody else's just now.

Must not: change anything, or take what cannot be read for "nobody's".
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional

from . import claims, down_mark, files, locks, places, step_trial, systemd, transactions, watch_deeds
from .journal import boot_id
from .machine import Machine
from .record import RecordError
from .watch_deeds import Charge

_DOWN = ("inactive", "failed")


class Site(NamedTuple):
    """What was committed here, as far as the watchdog goes by it."""

    host: str
    generation: int
    boot_id: str
    spec: Dict[str, Any]
    charges: List[Charge]


class ApartError(Exception):
    """The host is left alone, and why."""


def site_of(machine: Machine) -> Site:
    """Return what was committed; ApartError when there is nothing to look after, or that cannot be told."""
    try:
        number = files.committed_number(machine)
        if number is None:
            raise ApartError("nothing is committed")
        body = files.manifest(machine, number)
    except (OSError, ValueError) as error:
        raise ApartError(f"what is committed cannot be told: {error}") from error
    this_boot = boot_id(machine)
    if not this_boot:
        raise ApartError("the kernel does not say which boot this is")
    spec = body.get("watchdog")
    if not spec:
        raise ApartError("the committed generation has no watchdog")
    groups = {group["coven"]: group for group in body["groups"]}
    charges = [
        Charge(
            coven, groups[coven]["gate"], list(spec["gpus"].get(slot, ["all"])), list(groups[coven]["members"]), slot
        )
        for slot, coven in sorted(body["live"].items())
        if coven in groups
    ]
    charges += [Charge(f"resident {each['service']}", "", ["all"], [each]) for each in body["residents"]]
    return Site(str(body["host"]), number, this_boot, spec, charges)


def stay_away(machine: Machine, *, must_have_ended: bool = True, asks_covens: bool = True) -> None:
    """Raise why the host is somebody else's now; what cannot be read may be such a reason.

    Args:
        machine: the host.
        must_have_ended: whether the newest transaction must have an end, and not have left the host to a person.
        asks_covens: whether covens that a person has down are such a reason.
    """
    try:
        hold = claims.hold(machine)
        claimed = claims.lease(machine)
        # What a transaction began may be brought to its end under anybody's lock: it began before, or with the token.
        locked = locks.standing(machine) if must_have_ended else []
        txid, last = transactions.newest(machine)
    except (OSError, RecordError) as error:
        raise ApartError(f"whose it is cannot be told: {error}") from error
    mark = down_mark.of(machine, down_mark.COVEN) if asks_covens else None
    if mark is not None:
        raise ApartError(_covens_are_down(mark))
    if hold is not None:
        raise ApartError(f"held by {hold['owner']}: {hold['reason']}")
    for lock in locked:
        if lock.slot is None:
            raise ApartError(f"locked by {lock.owner}: {lock.reason}")
    if claimed is not None and claimed["txid"] != watch_deeds.TXID:
        raise ApartError(f"claimed by {claimed['owner']}, transaction {claimed['txid']}")
    executor = systemd.show_units(machine, [places.EXECUTOR]).get(places.EXECUTOR)
    if not is_down(executor):
        raise ApartError("a transition runs")
    if step_trial.is_open(machine):
        raise ApartError("a generation is on trial")
    if not must_have_ended:
        return
    if txid is not None and "unknown" in last and not transactions.is_seen(machine, txid):
        raise ApartError(f"transaction {txid} has no end that can be read")
    held = transactions.left_to_a_person(machine)
    if held is not None:
        raise ApartError(f"transaction {held} left it to a person")


def without_what_is_down(machine: Machine, charges: List[Charge]) -> List[Charge]:
    """Return what nobody has down: residents go on while the covens are; ApartError when nothing is left."""
    mark = down_mark.of(machine, down_mark.COVEN)
    if mark is None:
        return charges
    kept = [charge for charge in charges if not charge.gate]
    if not kept:
        raise ApartError(_covens_are_down(mark))
    return kept


def _covens_are_down(mark: Dict[str, Any]) -> str:
    return f"the covens are down {down_mark.said(mark)}"


def locked_slots(machine: Machine) -> FrozenSet[str]:
    """Return the slots that are locked one by one; what runs there is left alone."""
    try:
        return frozenset(slot for slot in locks.slots(machine) if slot is not None)
    except (OSError, RecordError) as error:
        raise ApartError(f"whose it is cannot be told: {error}") from error


def is_down(executor: Optional[systemd.UnitState]) -> bool:
    """Say whether the executor's unit surely does nothing, and is not about to."""
    return executor is not None and executor.active in _DOWN and not executor.job
