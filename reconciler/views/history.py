"""The history of hosts, as text and as data.

Must not: leave out that a history is damaged, or that a host did not answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from reconciler.model.base import format_duration
from reconciler.model.desired import Source
from reconciler.views.escape import one_line
from reconciler.views.paint import Paint

Told = tuple[tuple[dict[str, Any], ...], tuple[str, ...]]
"""Lines and problems."""

_COLOURS = {"applied": "green", "nothing": "green", "rolled back": "yellow", "held": "red", "drift": "yellow"}
_BRIEF = frozenset({"down", "up", "hold", "lock"})
"""Kinds of lines that are told in one: what was done to what."""
_ABOUT = ("deed", "about", "reason", "why", "found", "name", "slot", "started", "stopped", "against")


def history_document(fleet: str, told: Mapping[str, Told], lost: Mapping[str, str]) -> dict[str, Any]:
    """Return the lines of every host as they stand there, in the usual envelope."""
    hosts: dict[str, Any] = {
        name: {"lines": list(lines), "problems": list(problems)} for name, (lines, problems) in sorted(told.items())
    }
    hosts |= {name: {"unknown": why} for name, why in sorted(lost.items())}
    status = "incomplete" if lost else "damaged" if any(problems for _, problems in told.values()) else "ok"
    return {"format_version": "1.0", "command": "history", "status": status, "fleet": fleet, "hosts": hosts}


def history_lines(told: Mapping[str, Told], lost: Mapping[str, str], paint: Paint) -> Iterator[str]:
    """Yield every line of every host, oldest first, then what is wrong with its history."""
    for name, (lines, problems) in sorted(told.items()):
        yield paint(name, "bold")
        for line in lines:
            yield from _line(line, paint)
        if not lines:
            yield "  nothing has happened here yet"
        for problem in problems:
            yield f"  {paint('damaged', 'red')} [REC5022] {one_line(problem)}"
    for name, why in sorted(lost.items()):
        yield f"{paint(name, 'bold')}: {paint('unreachable', 'red')} {one_line(why)}"


def _line(line: dict[str, Any], paint: Paint) -> Iterator[str]:
    word = str(line.get("state") or line.get("kind") or "?").replace("_", " ")
    named = line.get("txid") or line.get("transaction")
    who = f" by {_text(line['owner'])}" if line.get("owner") else ""
    is_brief = str(line.get("kind")) in _BRIEF
    what = _deed(line) if is_brief else f" {_text(named)}" if named else ""
    yield f"  {_when(line)}  {paint(one_line(word), *_colour(word))}{what}{who}"
    if line.get("source_commit"):
        commit = one_line(Source.of_label(str(line["source_commit"])).short)
        yield f"      commit {commit}, plan {_text(line.get('plan_digest', '?'))[:19]}"
    for key in _ABOUT:
        if line.get(key) and not (is_brief and key in {"deed", "slot"}):
            yield f"      {key}: {_text(line[key])}"
    if isinstance(line.get("steps_s"), dict) and line["steps_s"]:
        spent = ", ".join(f"{one_line(str(step))} {_seconds(took)}" for step, took in line["steps_s"].items())
        yield f"      {_seconds(line.get('elapsed_s'))}: {spent}"


def _deed(line: dict[str, Any]) -> str:
    """Say what somebody did to what: `down` of which scopes, which lock of which slot, and until when."""
    said = [_text(line[key]) for key in ("scopes", "deed", "lock") if line.get(key) not in (None, "held")]
    if line.get("slot"):
        said.append(f"of slot {_text(line['slot'])}")
    if isinstance(line.get("ttl_s"), int | float):
        said.append(f"for {format_duration(float(line['ttl_s']))}")
    if line.get("until"):
        said.append(f"until {_time(line['until'])}")
    return "".join(f" {word}" for word in said)


def _colour(word: str) -> tuple[str, ...]:
    return (_COLOURS[word],) if word in _COLOURS else ()


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(_text(each) for each in value)
    return one_line(str(value))


def _seconds(value: Any) -> str:
    return format_duration(float(value)) if isinstance(value, int | float) else "?"


def _when(line: dict[str, Any]) -> str:
    """Say when it was: of an outcome, when it was known."""
    began, took = line.get("started_at"), line.get("elapsed_s")
    if line.get("at") is None and isinstance(began, int | float) and isinstance(took, int | float):
        return _time(began + took)
    return _time(line.get("at") or began)


def _time(at: Any) -> str:
    try:
        return datetime.fromtimestamp(float(at or "nan"), UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError, TypeError):
        return "at a time unknown   "
