"""What a reaper lets go, as text and as data.

Must not: say that something went when it was only looked at.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.model.base import format_size
from reconciler.model.reaped import Budgets, Reaped
from reconciler.views.escape import one_line
from reconciler.views.paint import Paint

_SHOWN = 20


def reaped_document(fleet: str, answers: Mapping[str, Reaped], errors: Mapping[str, str]) -> dict[str, Any]:
    """Return what hosts said, in the usual envelope."""
    return {
        "format_version": "1.0",
        "command": "reap",
        "status": "incomplete" if errors else "ok",
        "fleet": fleet,
        "hosts": {
            **{name: answer.model_dump(mode="json") for name, answer in sorted(answers.items())},
            **{name: {"error": text} for name, text in sorted(errors.items())},
        },
    }


def reaped_lines(host: str, done: Reaped, paint: Paint) -> Iterator[str]:
    """Yield what goes on one host, oldest first, then what cannot, then the sum."""
    yield f"{paint(host, 'bold')}: {', '.join(one_line(path) for path in done.paths)}; keep {_budget(done.keep)}"
    for each in done.listed[:_SHOWN]:
        day = datetime.datetime.fromtimestamp(each.at, tz=datetime.UTC).strftime("%Y-%m-%d %H:%M")
        yield f"  {paint('-', 'red')} {day}  {format_size(each.bytes):>10}  {one_line(each.path)}  ({each.why})"
    if done.gone.files > _SHOWN:
        yield f"  … and {done.gone.files - min(_SHOWN, len(done.listed))} more files"
    for skipped in done.skipped[:_SHOWN]:
        yield f"  {paint('stays', 'yellow')}: {one_line(skipped.path)} {one_line(skipped.why)}"
    if done.skipped_files > _SHOWN:
        yield f"  … and {done.skipped_files - _SHOWN} more that stay"
    found = f"{done.found.files} files, {format_size(done.found.bytes)}"
    if not done.gone.files:
        yield f"  nothing goes of {found}"
        return
    least = "at least " if done.more else ""
    went = "went" if done.go else "would go"
    gone = f"{least}{done.gone.files} files, {format_size(done.gone.bytes)}"
    yield f"  {paint(gone, 'bold')} {went} of {found}; {done.stay.files} files, {format_size(done.stay.bytes)} stay"
    if not done.go:
        yield f"  {paint(f'recon reap --host {host} --go', 'cyan')}"


def _budget(keep: Budgets) -> str:
    words = [format_size(keep.bytes)] if keep.bytes is not None else []
    words += [f"{keep.age / 3600:g} h"] if keep.age is not None else []
    words += [f"{keep.count} files"] if keep.count is not None else []
    return ", ".join(words)
