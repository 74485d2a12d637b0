"""The history of the host: a line for every transaction that ended and every claim that was taken away.

The lines verify one by one (`lines`), and a small sealed file beside them says how many there must be, so that a
history that was cut is noticed too, and which transactions ended last. Its last lines say which epochs and generations
were used before. When it is long it goes on in a new part (`history_parts`); only the live one is read here.

Must not: be read to decide what runs.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional, Tuple

from . import history_parts, lines, places
from .lines import Lines
from .machine import Machine
from .record import RecordError, is_no_file, make_way, read_record, set_aside, write_record

_LIMIT = 256 << 20
_RECENT = 50
_ENDED = 50


def append(machine: Machine, body: Dict[str, Any], over: Optional[List[str]] = None) -> None:
    """Add a line. A history that does not verify is put aside first; the lines of it that do verify are kept.

    Args:
        machine: the host.
        body: the line.
        over: the transactions that have ended by now, in that order; as before when None.
    """
    if is_no_file(machine, places.HISTORY):
        set_aside(machine, places.HISTORY)
    found, problem = examine(machine)
    if not problem and not found.torn:
        found = history_parts.turned_over(machine, found)
    make_way(machine, places.HISTORY_HEAD)
    over = ended(machine) if over is None else over
    count, last = len(found.good), found.last
    if problem or found.torn:
        data, last = lines.again([lines.body_of(raw) for raw in found.good])
        if problem and machine.stat(places.HISTORY) is not None:
            set_aside(machine, places.HISTORY)
        machine.write(places.HISTORY, data)
    data, last = lines.line(body, last)
    machine.append(places.HISTORY, data)
    # After the line: a power cut in between leaves one line more than is written here, which is no fault.
    head = {"lines": count + 1, "sum": last, "ended": over[-_ENDED:]}
    write_record(machine, places.HISTORY_HEAD, head)


def examine(machine: Machine) -> Tuple[Lines, Optional[str]]:
    """Return the lines of the history, and what is wrong with it."""
    try:
        found = lines.read_lines(machine.read(places.HISTORY, _LIMIT))
    except FileNotFoundError:
        found = Lines([], [], False, "")
    return found, found.problem or _shortened(machine, found)


def has(machine: Machine, txid: str) -> bool:
    """Say whether a transaction has its line."""
    if is_no_file(machine, places.HISTORY):
        return False  # it will be put aside, and a new one begun
    wanted = f'"txid":{json.dumps(txid)}'.encode()
    return any(wanted in raw for raw in examine(machine)[0].good) or wanted in history_parts.newest_before(machine)


def ended(machine: Machine) -> List[str]:
    """Return the transactions that ended last, in that order; those of the last lines where it is not written down."""
    try:
        return [str(txid) for txid in read_record(machine, places.HISTORY_HEAD)["ended"]]
    except (OSError, RecordError, KeyError, TypeError):
        return [line["txid"] for line in recent(machine) if isinstance(line.get("txid"), str)]


def recent(machine: Machine) -> List[Dict[str, Any]]:
    """Return the last lines that verify, oldest first; none when there is no history, or it cannot be read."""
    try:
        return history_parts.without_beginning(examine(machine)[0])[-_RECENT:]
    except OSError:
        return []


def _shortened(machine: Machine, found: Lines) -> Optional[str]:
    """Say when lines are missing at the end; a head that does not verify is told by itself."""
    try:
        head = read_record(machine, places.HISTORY_HEAD)
    except (OSError, RecordError):
        return None
    if len(found.good) + len(found.bad) >= int(head["lines"]) or history_parts.is_just_begun(found, head):
        return None
    return f"it has {len(found.good)} lines, {head['lines']} were written"
