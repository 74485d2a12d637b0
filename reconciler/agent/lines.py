"""Lines that verify: each ends with a sum over itself and over the sum of the line before it.

For files that only grow (the journal of a transaction, the history of the host), where sealing the whole file with
every line would cost a copy of it. A line that was changed, taken out or put elsewhere is found by its number; half a
line at the end, as a power cut leaves it, is no line and no fault.

Must not: touch a file, or repair a line. Pure.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

VERSION = 1
_END = re.compile(rb',"sum":"([0-9a-f]{16})"\}\Z')
_BEGIN = b'{"v":%d,' % VERSION
_OWN = ("v", "sum")


class Lines(NamedTuple):
    """What is in such a file.

    `good` are the lines that verify, in order and without their line feed; `bad` the numbers of those that do not, from
    1; `torn` says that the file ends in half a line; `last` is the sum the next line is chained to.
    """

    good: List[bytes]
    bad: List[int]
    torn: bool
    last: str

    @property
    def problem(self) -> Optional[str]:
        """Say what is wrong, None when nothing is."""
        if not self.bad:
            return None
        shown = ", ".join(str(number) for number in self.bad[:5]) + (", …" if len(self.bad) > 5 else "")
        return f"line {shown} is not as it was written"


def line(body: Dict[str, Any], previous: str) -> Tuple[bytes, str]:
    """Return a body as one line, and its sum for the next one."""
    text = json.dumps({"v": VERSION, **body}, separators=(",", ":"), ensure_ascii=False)
    raw = text.encode("utf-8", "backslashreplace")[:-1]
    digest = _sum(previous, raw)
    return b'%b,"sum":"%b"}\n' % (raw, digest.encode()), digest


def read_lines(data: bytes) -> Lines:
    """Take a file apart; nothing in it is believed that does not verify."""
    *whole, rest = data.split(b"\n")
    good: List[bytes] = []
    bad: List[int] = []
    last = ""
    for number, raw in enumerate(whole, 1):
        found = _END.search(raw)
        digest = found[1].decode() if found else ""
        if found and raw.startswith(_BEGIN) and digest == _sum(last, raw[: found.start()]):
            good.append(raw)
        else:
            bad.append(number)
        # The sum that stands there, right or wrong: one changed line must not take all that follow with it.
        last = digest
    return Lines(good, bad, bool(rest), last)


def body_of(raw: bytes) -> Dict[str, Any]:
    """Return what a line that verified says."""
    document = json.loads(raw.decode("utf-8"))
    return {key: value for key, value in document.items() if key not in _OWN}


def again(bodies: List[Dict[str, Any]]) -> Tuple[bytes, str]:
    """Return bodies as a new chain, and the sum of its last line."""
    made: List[bytes] = []
    last = ""
    for body in bodies:
        data, last = line(body, last)
        made.append(data)
    return b"".join(made), last


def _sum(previous: str, raw: bytes) -> str:
    return hashlib.sha256(previous.encode() + raw).hexdigest()[:16]
