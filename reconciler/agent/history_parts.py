"""The history in parts, so that what is read at every look does not grow with the age of the host.

The live part is `history.jsonl`. When it is long, it is kept whole as `history-N.jsonl`, and a new live part begins
with a line that says which part came before, how many lines it has and with which sum it ends; its last lines are
carried over (`lately`), for who looks for what was a short while ago. Each part is a chain of its own: the live one is
verified at every look, those before it when somebody asks (`verify`).

    older, durable ─▶ live, replaced ─▶ head (the caller's)     a cut after any of them is seen for what it is

Must not: drop a line, or turn over a part that does not verify.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any, Dict, Iterator, List

from . import files, lines, places
from .lines import Lines
from .machine import Machine

LONG = 1 << 20
CARRIED = 50
KIND = "part"
_EARLIER = "earlier"
_LIMIT = 256 << 20
_NAME = re.compile(r"\Ahistory-([1-9][0-9]{0,8})\.jsonl\Z")


def turned_over(machine: Machine, found: Lines) -> Lines:
    """Begin a new live part when this one is long; return what is live then. `found` is whole, and verified."""
    here = machine.stat(places.HISTORY)
    if here is None or here.size <= LONG:
        return found
    data = b"".join(raw + b"\n" for raw in found.good)
    number = max(numbers(machine), default=0)
    # What a cut left of this very deed is written again; nobody else's is, whatever became of the live part since.
    if not number or not data.startswith(machine.read(places.history_part(number), _LIMIT) or b"-"):
        number += 1
    machine.write(places.history_part(number), data)
    begin = {"kind": KIND, "part": number + 1, "lines_before": len(found.good), "sum_before": found.last}
    late = lately(found)
    # The last lines go on as lines, without a gap. What came long before them is no line of this part: who follows the
    # history line by line would take it for the place where it stands.
    data, _ = lines.again([{**begin, _EARLIER: late[:-CARRIED]}, *late[-CARRIED:]])
    machine.write(places.HISTORY, data)
    return lines.read_lines(data)


def lately(found: Lines) -> List[Dict[str, Any]]:
    """Return the last lines, and before them those of the last transactions: deeds beside must not push these away."""
    bodies = without_beginning(found)
    last = bodies[-CARRIED:]
    told = [body for body in [*_beginning(found).get(_EARLIER, []), *bodies[:-CARRIED]] if "txid" in body]
    missing = CARRIED - sum("txid" in body for body in last)
    return [*(told[-missing:] if missing else []), *last]


def without_beginning(found: Lines) -> List[Dict[str, Any]]:
    """Return what the lines say, without the one that begins a part."""
    bodies = [lines.body_of(raw) for raw in found.good[:1]]
    rest = found.good[1:] if bodies and bodies[0].get("kind") == KIND else found.good
    return [lines.body_of(raw) for raw in rest]


def is_just_begun(found: Lines, head: Dict[str, Any]) -> bool:
    """Say whether a count is still that of the part before: the power was cut before the new one was written down."""
    begin = _beginning(found)
    return (begin.get("lines_before"), begin.get("sum_before", "")) == (head.get("lines"), head.get("sum"))


def newest_before(machine: Machine) -> bytes:
    """Return the part before the live one as it lies there, empty when there is none."""
    with contextlib.suppress(OSError):
        found = numbers(machine)
        return machine.read(places.history_part(max(found)), _LIMIT) if found else b""
    return b""


def verify(machine: Machine) -> Iterator[str]:
    """Yield what is wrong with the parts before the live one, and with how they follow each other."""
    begin = _beginning(_read(machine, places.HISTORY))
    for number in range(max([*numbers(machine), int(begin.get("part", 1)) - 1]), 0, -1):
        path = places.history_part(number)
        try:
            found = _read(machine, path)
        except OSError as error:
            yield f"{path}: {error.strerror or error}"
            begin = {}
            continue
        if found.problem or found.torn:
            yield f"{path}: {found.problem or 'it ends in half a line'}"
        # Nothing says how a part ended whose follower was damaged and made again.
        ends = (len(found.good) + len(found.bad), found.last)
        if begin.get("part") == number + 1 and ends != (begin["lines_before"], begin["sum_before"]):
            yield f"{path}: it is not the part that the next one follows"
        begin = _beginning(found)


def numbers(machine: Machine) -> List[int]:
    """Return the numbers of the parts before the live one, as they lie there."""
    matches = (_NAME.match(name) for name in files.names_in(machine, places.STATE))
    return [int(match[1]) for match in matches if match]


def _read(machine: Machine, path: str) -> Lines:
    return lines.read_lines(machine.read(path, _LIMIT))


def _beginning(found: Lines) -> Dict[str, Any]:
    begin = lines.body_of(found.good[0]) if found.good else {}
    return begin if begin.get("kind") == KIND else {}
