"""What the journal of the host has of one unit of ours, from where a reader left off.

Lines are made harmless here, once: they are whatever a model server or a prompt printed.

Must not: read of a unit that is not recon's.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, NamedTuple, Optional

from . import ours
from .machine import Machine
from .plain import clean
from .wire import RequestError

MOST = 10_000
_LINE = 2_000
_TIMEOUT_S = 20.0
_POLL_S = 0.5
_LONGEST_WAIT_S = 10.0


class Page(NamedTuple):
    """Lines with their time, the cursor of the last one (empty without any), and how a start ended among them."""

    lines: List[Dict[str, Any]]
    cursor: str
    ended: str


def logs(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Return the last lines of a unit, or those after a cursor, waiting a little for news.

    Args:
        machine: the host.
        args: `service` as a person says it, `lines` at most, `after` the cursor of an earlier answer, `wait_s`.
    """
    unit = ours.unit_of(ours.manifest(machine), str(args.get("service", "")))
    wanted = args.get("lines", 50)
    count = min(MOST, max(0, wanted)) if type(wanted) is int else 50
    after = args.get("after")
    after = after if isinstance(after, str) and after else None
    ends = machine.monotonic() + min(float(args.get("wait_s", 0.0)), _LONGEST_WAIT_S)
    while True:
        page = read(machine, unit, count, after)
        if page.lines or after is None or machine.monotonic() >= ends:
            return {"unit": unit, "lines": page.lines, "cursor": page.cursor or after or ""}
        machine.sleep(_POLL_S)


def read(machine: Machine, unit: str, count: int, after: Optional[str]) -> Page:
    """Return the last lines of a unit, or all that came after a cursor."""
    argv = ["journalctl", "--no-pager", "--quiet", "--output=json", "--unit=" + unit]
    argv += ["--lines=" + str(count)] if after is None else ["--after-cursor=" + after]
    done = machine.run(argv, _TIMEOUT_S)
    if done.rc != 0:
        said = clean(done.err or done.out, 300) or f"exit status {done.rc}"
        raise RequestError("REC7396", "the journal of the host cannot be read", said, _fix(machine))
    found: List[Dict[str, Any]] = []
    cursor, ended = "", ""
    for raw in done.out.split(b"\n"):
        entry = _entry(raw)
        if entry is None:
            continue
        cursor = str(entry.get("__CURSOR", cursor))
        if entry.get("JOB_TYPE") == "start":
            ended = str(entry.get("JOB_RESULT", ended))
        found.append({"at": _seconds(entry.get("__REALTIME_TIMESTAMP")), "text": _text(entry.get("MESSAGE"))})
    return Page(found, cursor, clean(ended, 40))


def _fix(machine: Machine) -> str:
    """Say what to do: where the journal is not kept on disk, lines of users lie in the system's, which root gives."""
    if machine.own_uid == 0:
        return "look on the host: journalctl"
    return f"as root on the host: usermod --append --groups systemd-journal {machine.own_login}"


def _entry(raw: bytes) -> Optional[Dict[str, Any]]:
    try:
        entry = json.loads(raw.decode("utf-8"))
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _text(message: Any) -> str:
    """Return a message in one line; the journal gives bytes that are no text as numbers, and long ones not at all."""
    if isinstance(message, list) and all(isinstance(each, int) and 0 <= each < 256 for each in message):
        message = bytes(message)
    return clean(message, _LINE) if isinstance(message, (str, bytes)) else ""


def _seconds(stamp: Any) -> float:
    return int(stamp) / 1e6 if isinstance(stamp, str) and stamp.isdigit() else 0.0
