"""Looks over recon's own files and names those that do not verify, so that nobody has to stumble over them.

Only what may still be read is looked at: the newest transaction, one that holds the host and those without an end, not
the books of long ago.
What was moved out of the way stays named until a person has looked at it and removed it.

Must not: move, repair or write anything; who changes the host does that when it comes to the file.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, Iterator, List, Optional

from . import claims, fact, files, history, lease, mark, places, transactions
from .journal import read_journal
from .machine import Machine
from .record import RecordError, is_set_aside, read_record

LINES = "REC5022"
_SEALED = (places.EPOCH, places.LAST_GENERATION, places.TIMINGS, places.HISTORY_HEAD, places.LEASE, places.LOCKS)
_LIMIT = 40


def survey(machine: Machine) -> List[Dict[str, Any]]:
    """Return `model.observed.Damage` for every file that is not as it was written, at most forty."""
    found: List[Dict[str, Any]] = []
    for each in _all(machine):
        found.append(each)
        if len(found) >= _LIMIT:
            break
    return found


def _all(machine: Machine) -> Iterator[Dict[str, Any]]:
    for path in (
        *_SEALED,
        places.FACTS,
        places.IDLE,
        places.RELEASE,
        places.FOLLOWED,
        places.KEPT,
        places.ALERTS,
        places.WATCHDOG,
        places.LOOKS,
        places.SCHEDULE,
        places.SCHEDULE_LOOK,
        places.REGISTRY,
        places.LOOP,
        places.DRIFT,
        *(f"{places.OUTBOX}/{name}" for name in _names(machine, places.OUTBOX) if not is_set_aside(name)),
    ):
        yield from _sealed(machine, path)
    yield from _history(machine)
    yield from _hold(machine)
    for txid in _transactions(machine):
        yield from _transaction(machine, txid)
    for number in lease.generations(machine):
        yield from _sealed(machine, f"{places.generation(number)}/manifest.json")
    for name in _names(machine, places.AGENTS):
        if f"{places.AGENTS}/{name}" == places.CURRENT_AGENT:
            continue
        if machine.stat(f"{places.AGENTS}/{name}/.ok") is not None and not mark.is_complete(machine, name):
            yield _damage(f"{places.AGENTS}/{name}/.ok", RecordError.code, "it does not name the agent it lies with")
    for directory in (places.STATE, places.RUN, places.OUTBOX):
        for name in _names(machine, directory):
            if is_set_aside(name):
                yield _damage(f"{directory}/{name}", RecordError.code, "put aside; look at it, then remove it")


def _sealed(machine: Machine, path: str) -> Iterator[Dict[str, Any]]:
    return _unread(path, functools.partial(read_record, machine, path))


def _unread(path: str, read: Callable[[], object]) -> Iterator[Dict[str, Any]]:
    try:
        read()
    except FileNotFoundError:
        return
    except RecordError as error:
        yield _damage(path, error.code, str(error).partition(": ")[2])
    except OSError as error:
        yield _damage(path, RecordError.code, fact.why(error))


def _history(machine: Machine) -> Iterator[Dict[str, Any]]:
    try:
        problem: Optional[str] = history.examine(machine).problem
    except OSError as error:
        problem = fact.why(error)
    if problem:
        yield _damage(places.HISTORY, LINES, problem)


def _hold(machine: Machine) -> Iterator[Dict[str, Any]]:
    try:
        claims.hold(machine)
    except (OSError, ValueError) as error:
        yield _damage(places.HOLD, RecordError.code, f"{fact.why(error)}; it counts as a hold")


def _transactions(machine: Machine) -> List[str]:
    names = transactions.in_order(machine)
    held = transactions.left_to_a_person(machine)
    return [
        *(name for name in names[:-1] if name == held or not transactions.has(machine, name, "outcome.json")),
        *names[-1:],
    ]


def _transaction(machine: Machine, txid: str) -> Iterator[Dict[str, Any]]:
    place = places.transaction(txid)
    for name in ("intent.json", "passes.json", "undo.json", "outcome.json"):
        yield from _unread(f"{place}/{name}", functools.partial(transactions.read_book, machine, txid, name))
    path = f"{place}/journal.jsonl"
    try:
        found = read_journal(machine, path)
        outcome = transactions.read_book(machine, txid, "outcome.json")
    except (OSError, RecordError):
        found, outcome = _journal_alone(machine, path), {}
    if found is None:
        return
    written, count = outcome.get("events"), len(found.good) + len(found.bad)
    if found.problem:
        yield _damage(path, LINES, found.problem)
    elif outcome and found.torn:
        yield _damage(path, LINES, "it ends in half a line, although its transaction has ended")
    elif isinstance(written, int) and count < written:
        yield _damage(path, LINES, f"it has {count} lines, {written} were written")


def _journal_alone(machine: Machine, path: str) -> Any:
    try:
        return read_journal(machine, path)
    except OSError:
        return None


def _names(machine: Machine, directory: str) -> List[str]:
    return files.names_in(machine, directory)


def _damage(path: str, code: str, reason: str) -> Dict[str, Any]:
    return {"path": path, "code": code, "reason": fact.unknown(reason)["unknown"]}
