"""What happens during an apply, as it happens: lines for a log, one moving line for a terminal, JSON for programs.

Must not: know how events travel, or call anything done that has no outcome.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from reconciler.model.base import format_duration
from reconciler.model.outcome import JournalEvent, Outcome
from reconciler.views.escape import one_line
from reconciler.views.paint import Paint
from reconciler.views.width import fold

_STATE = {
    "applied": ("✔", "green"),
    "nothing": ("✔", "green"),
    "rolled_back": ("↺", "yellow"),
    "held": ("✗", "red"),
    "unknown": ("?", "red"),
}
_STATUS = {"begin": ("►", "blue"), "progress": ("◎", "dim"), "done": ("✔", "green"), "failed": ("✗", "red")}


def event_line(host: str, event: JournalEvent, paint: Paint) -> str:
    """Return one journal event as a line: time since the transaction began, host, step, what."""
    sign, style = _STATUS.get(event.status, ("·", "dim"))
    slot = "" if event.slot in {None, "all"} else f" [{one_line(event.slot or '')}]"
    return (
        f"{paint(f'{event.t:7.1f}s', 'dim')} {paint(host, 'bold')} {paint(sign, style)} "
        f"{one_line(event.step)}{slot}: {one_line(event.text)}"
    )


def waiting_line(running: dict[str, tuple[str, float]], paint: Paint) -> str:
    """Return the moving line of a terminal: for each running host its step and for how long, as far as one row goes.

    A second row would stay behind when the line is wiped.
    """
    parts = [
        f"{paint(host, 'bold')} {one_line(step)} {format_duration(max(0, int(s)))}"
        for host, (step, s) in running.items()
    ]
    line = paint("… ", "dim") + " · ".join(parts)
    return line if paint.width is None else next(fold(line, paint.width - 1, hang=0))


def outcome_lines(outcome: Outcome, paint: Paint) -> Iterator[str]:
    """Yield how a host ended: the state, why, what runs now, the failing services' last words, what to type."""
    sign, style = _STATE.get(outcome.state, ("✗", "red"))
    runs = ", ".join(one_line(coven or "nothing") for _, coven in sorted(outcome.live.items())) or "nothing"
    word = outcome.state.replace("_", " ")
    took = format_duration(round(outcome.elapsed_s, 1))
    # What was not read is not nothing.
    told = f"; runs {runs}" if outcome.live or outcome.state != "unknown" else ""
    yield f"{paint(sign, style)} {paint(one_line(outcome.host), 'bold')} {paint(word, style, 'bold')} in {took}{told}"
    if outcome.state not in {"applied", "nothing"}:
        code = f"[{one_line(outcome.code)}] " if outcome.code else ""
        yield f"    why:  {code}{one_line(outcome.reason)}"
    elif outcome.reason and outcome.state == "applied":
        yield f"    {paint(one_line(outcome.reason), 'dim')}"
    for tried in outcome.attempts:
        if tried.used > 1:
            way = " on the way back" if tried.back else ""
            yield f"    {paint(f'{one_line(tried.what)}: {tried.used} of {tried.allowed} attempts{way}', 'dim')}"
    for unit, lines in sorted(outcome.logs.items()):
        yield f"    last words of {paint(one_line(unit), 'bold')}:"
        for line in lines[-12:]:
            yield f"      {paint('|', 'dim')} {one_line(line)}"
    if outcome.fix:
        yield f"    hint: {paint(one_line(outcome.fix), 'cyan')}"


def json_event(kind: str, *, host: str | None, at: float, **fields: Any) -> str:
    """Return one line of the event stream; `type` and `@timestamp` are always there."""
    value: dict[str, Any] = {"type": kind, "timestamp": at}
    if host:
        value["host"] = host
    return json.dumps(value | fields, ensure_ascii=True, separators=(",", ":"))
