"""The history of the host: a line for every transaction that ended and every deed of a person or program.

The lines verify one by one (`lines`), and a small sealed file beside them says how many there must be, so that a
history that was cut is noticed too, and which transactions ended last. Its last lines say which epochs and generations
were used before. When it is long it goes on in a new part (`history_parts`); only the live one is read here.

Must not: be read to decide what runs.
"""

from __future__ import annotations

import contextlib
import errno
import json
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from . import history_parts, lines, patience, places
from .lines import Lines
from .machine import BusyError, Machine
from .record import RecordError, is_no_file, make_way, read_record, set_aside, write_record

_LIMIT = 256 << 20
_ENDED = 50
_PATIENCE_S = 10.0


class Live(NamedTuple):
    """The live part as it lies on the disk.

    `problem` says what is wrong with it; `doubtful` are the last lines that nobody counted: who wrote them ended, by a
    sync that failed or by a cut, before.
    """

    lines: Lines
    problem: Optional[str]
    doubtful: List[bytes]


def append(
    machine: Machine, body: Dict[str, Any], over: Optional[List[str]] = None, live: Optional[Live] = None
) -> None:
    """Add a line. A history that does not verify is put aside first; the lines of it that do verify are kept.

    One whose last line was not counted is written again: it is there, and whether it is on the disk nobody was told.

    Args:
        machine: the host.
        body: the line.
        over: the transactions that have ended by now, in that order; as before when None.
        live: the live part, when it was looked at just now, by whoever is alone with it.
    """
    if live is None:
        with alone(machine):
            _append(machine, body, over, examine(machine))
    else:
        _append(machine, body, over, live)


@contextlib.contextmanager
def alone(machine: Machine) -> Iterator[None]:
    """Keep everybody else from writing the history for the length of a block.

    Not only who has the host writes: a lock is renewed while a transition goes on.
    """
    machine.mkdir(places.RUN)
    with contextlib.ExitStack() as turn:
        try:
            turn.enter_context(patience.locked(machine, places.HISTORY_LOCK, _PATIENCE_S))
        except BusyError as error:
            raise OSError(errno.EAGAIN, "somebody else has written it for a while", places.HISTORY) from error
        yield


def _append(machine: Machine, body: Dict[str, Any], over: Optional[List[str]], live: Live) -> None:
    found, problem, doubtful = live
    must_write = bool(problem or found.torn or doubtful)
    if not must_write:
        found = history_parts.turned_over(machine, found)
    make_way(machine, places.HISTORY_HEAD)
    over = ended(machine) if over is None else over
    count, last, is_there = len(found.good), found.last, False
    if must_write:
        kept = [lines.body_of(raw) for raw in found.good if raw not in doubtful or not _is_same(raw, body)]
        if problem and machine.stat(places.HISTORY) is not None:
            set_aside(machine, places.HISTORY)
        data, again = lines.again(kept)
        try:
            machine.write(places.HISTORY, data)
            count, last = len(kept), again
        except OSError:
            if problem or found.torn:
                raise
            # A full disk takes a line where it does not take the whole; and what is there need not be told twice.
            is_there = len(kept) < count
    if not is_there:
        data, last = lines.line(body, last)
        machine.append(places.HISTORY, data)
        count += 1
    # After the line: a power cut in between leaves one line more than is written here, which is no fault.
    head = {"lines": count, "sum": last, "ended": over[-_ENDED:]}
    write_record(machine, places.HISTORY_HEAD, head)


def examine(machine: Machine) -> Live:
    """Return the live part, and what is wrong with it; a head that does not verify is told by itself.

    Whoever only reads has no lock, and somebody may write meanwhile. What is wrong is looked at once more: a part that
    was turned over, or put aside and made again, between the two reads is none that lost lines.
    """
    seen = _look(machine)
    return _look(machine) if seen.problem else seen


def _look(machine: Machine) -> Live:
    if is_no_file(machine, places.HISTORY):
        return Live(Lines([], [], False, ""), "it is no file", [])
    head = _head(machine)  # first: a line comes before its count, so there are at least as many as this says
    try:
        found = lines.read_lines(machine.read(places.HISTORY, _LIMIT))
    except FileNotFoundError:
        found = Lines([], [], False, "")
    if head is None or found.bad or history_parts.is_just_begun(found, head):
        return Live(found, found.problem, [])
    there, counted = len(found.good), int(head["lines"])
    problem = f"it has {there} lines, {counted} were written" if there < counted else None
    return Live(found, problem, found.good[counted:])


def _head(machine: Machine) -> Optional[Dict[str, Any]]:
    """Return how many lines were counted, None where that is not written down or does not verify."""
    try:
        return read_record(machine, places.HISTORY_HEAD)
    except (OSError, RecordError):
        return None


def has(machine: Machine, txid: str, live: Optional[Live] = None) -> bool:
    """Say whether a transaction has its line, and that was counted; `live` is the live part when just looked at."""
    wanted = _named(txid)
    found = live or examine(machine)
    counted = found.lines.good[: len(found.lines.good) - len(found.doubtful)]
    return any(wanted in raw for raw in counted) or wanted in history_parts.newest_before(machine)


def end_of(machine: Machine, txid: str) -> Optional[Dict[str, Any]]:
    """Return the line of a transaction that ended, in whichever part it lies; None when none that verifies is there."""
    wanted = _named(txid)
    older = (places.history_part(number) for number in sorted(history_parts.numbers(machine), reverse=True))
    for path in (places.HISTORY, *older):
        try:
            data = machine.read(path, _LIMIT)
        except OSError:
            continue
        # Looked for first: to verify every line of every part takes long.
        good = lines.read_lines(data).good if wanted in data else []
        for body in (lines.body_of(raw) for raw in good if wanted in raw):
            if (body.get("kind"), body.get("txid")) == (None, txid) and body.get("state") != "released":
                return body
    return None


def ended(machine: Machine) -> List[str]:
    """Return the transactions that ended last, in that order; those of the last lines where it is not written down."""
    try:
        return [str(txid) for txid in read_record(machine, places.HISTORY_HEAD)["ended"]]
    except (OSError, RecordError, KeyError, TypeError):
        return [line["txid"] for line in recent(machine) if isinstance(line.get("txid"), str)]


def recent(machine: Machine) -> List[Dict[str, Any]]:
    """Return the last lines that verify, oldest first; none when there is no history, or it cannot be read."""
    try:
        return history_parts.lately(examine(machine).lines)
    except OSError:
        return []


def _named(txid: str) -> bytes:
    """Return the bytes that are in every line of a transaction."""
    return f'"txid":{json.dumps(txid)}'.encode()


def _is_same(raw: bytes, body: Dict[str, Any]) -> bool:
    """Say whether a line tells what a body is about to tell again."""
    written, txid = lines.body_of(raw), body.get("txid")
    return txid is not None and (written.get("txid"), written.get("state")) == (txid, body.get("state"))
