"""The transactions that a host still knows, in the order in which they came to an end here.

A transaction is named by the computer that orders it, after its clock. Those clocks are not the host's: one that is an
hour ahead would have the newest name for an hour. The history says what ended after what; a name only breaks ties.

Must not: write, or take a time for an order.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from . import fact, history, places
from .files import names_in
from .machine import Machine
from .plain import clean
from .record import RecordError, read_record

SEEN = "seen"
"""Lies beside an outcome since a person cleared the alerts after it."""

_CHANGED_NOTHING = ("refused", "stale", "locked", "aborted")


def read_book(machine: Machine, txid: str, name: str) -> Dict[str, Any]:
    """Read a file of a transaction; `RecordError` when it does not verify, or is the same file of another one.

    Its seal carries its name, which they all have in common.
    """
    path = f"{places.transaction(txid)}/{name}"
    found = read_record(machine, path)
    if found.get("txid", txid) != txid:
        raise RecordError(f"{path}: it is of transaction {clean(str(found['txid']), 80)}")
    return found


def in_order(machine: Machine) -> List[str]:
    """Return every transaction: what never began, what ended in that order, then what began and has no end.

    What ended and is not in that order yet comes after what is: a power cut came between its outcome and its line.
    """
    names = [name for name in names_in(machine, places.TRANSACTIONS) if not name.startswith(".")]
    if len(names) < 2:
        return names
    ended = {txid: number for number, txid in enumerate(history.ended(machine))}

    def rank(name: str) -> Tuple[int, int, str]:
        if name in ended:
            return (1, ended[name], name)
        if has(machine, name, "outcome.json"):
            return (2, 0, name)
        return (3 if has(machine, name, "journal.jsonl") else 0, 0, name)

    return sorted(names, key=rank)


def ended(machine: Machine) -> List[str]:
    """Return the transactions that have an outcome, in the order in which they came to it."""
    return [name for name in in_order(machine) if has(machine, name, "outcome.json")]


def untold(machine: Machine) -> List[str]:
    """Return the transactions that have an outcome and are not among those that the history says have ended."""
    told = set(history.ended(machine))
    return [name for name in ended(machine) if name not in told]


def unfinished(machine: Machine) -> List[str]:
    """Return the transactions that began and have no outcome, the last of that order first."""
    return [name for name in reversed(in_order(machine)) if is_unfinished(machine, name)]


def is_unfinished(machine: Machine, txid: str) -> bool:
    """Say whether a transaction began and has no outcome."""
    return has(machine, txid, "journal.jsonl") and not has(machine, txid, "outcome.json")


def newest(machine: Machine) -> Tuple[Optional[str], fact.Fact]:
    """Return the transaction that ended last, or has no end, and its outcome."""
    names = in_order(machine)
    if not names:
        return None, fact.not_applicable("no transaction was ever run here")
    txid = names[-1]
    try:
        return txid, fact.value(read_book(machine, txid, "outcome.json"))
    except FileNotFoundError:
        return txid, fact.unknown(f"transaction {txid} has no outcome: it runs, or was cut off")
    except (OSError, RecordError) as error:
        return txid, fact.unknown(fact.why(error))


def left_to_a_person(machine: Machine) -> Optional[str]:
    """Return the transaction that held the host, None when one since then did what it was to do, or went back.

    One whose end cannot be read may have held it.
    An order that changed nothing (refused, stale, locked out, aborted) does not release what another one held.
    """
    for txid in reversed(ended(machine)):
        try:
            state = read_book(machine, txid, "outcome.json").get("state")
        except (OSError, RecordError):
            state = "held"
        if state not in _CHANGED_NOTHING:
            return txid if state == "held" and not is_seen(machine, txid) else None
    return None


def unreadable(machine: Machine) -> Optional[str]:
    """Return the newest transaction when it has an end that cannot be read, and no person has seen that."""
    txid, outcome = newest(machine)
    if txid is None or "unknown" not in outcome or not has(machine, txid, "outcome.json"):
        return None
    return None if is_seen(machine, txid) else txid


def is_seen(machine: Machine, txid: str) -> bool:
    """Say whether a person has seen how a transaction ended, and lets the host's own programs go on."""
    return has(machine, txid, SEEN)


def has(machine: Machine, txid: str, name: str) -> bool:
    """Say whether a transaction has a file."""
    return machine.stat(f"{places.transaction(txid)}/{name}") is not None
