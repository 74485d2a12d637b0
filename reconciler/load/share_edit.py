"""Adds a worker to a share in `desired/workloads/spiral.yaml`: one name in one line, and every other byte as it was.

A file can be written in more ways than are worth knowing here. What was written is read back, and where it does not say
exactly what it should, nothing is written and a person is told the line.

Must not: write a file, or reformat one.
"""

from __future__ import annotations

from pydantic import ValidationError

from reconciler.load.document import Document, parse
from reconciler.model.spiral import SpiralFile

FILE = "desired/workloads/spiral.yaml"


def with_worker(text: str, share: str, worker: str) -> str | None:
    """Return the text with one more worker, None where it is written in a way that is better changed by hand."""
    document = _read(text)
    before = _meaning(document)
    if document is None or before is None or share not in before.shares:
        return None
    if worker in before.shares[share].workers:
        return text
    lines = text.splitlines(keepends=True)
    edit = _in_a_list if before.shares[share].workers or _has_list(document, share) else _without_a_list
    if not edit(lines, document, share, worker):
        return None
    edited = "".join(lines)
    after = _meaning(_read(edited))
    shares = before.shares
    wanted = shares[share].model_copy(update={"workers": (*shares[share].workers, worker)})
    expected = before.model_copy(update={"shares": {**shares, share: wanted}})
    return edited if after == expected else None


def _has_list(document: Document, share: str) -> bool:
    return "workers" in document.value["shares"][share]


def _in_a_list(lines: list[str], document: Document, share: str, worker: str) -> bool:
    """Add the name to a list: `[a, b]` on one line, or one name a line."""
    path = ("shares", share, "workers")
    where = document.where(path)
    line, column = where.line or 0, where.column or 0
    text = lines[line - 1]
    if text[column - 1 : column] == "[":
        end = text.find("]", column)
        if end < 0:
            return False
        inside = text[column:end]
        more = f"{inside.rstrip()}, {worker}" if inside.strip() else worker
        lines[line - 1] = text[:column] + more + text[end:]
        return True
    last = document.where((*path, len(document.value["shares"][share]["workers"]) - 1))
    bare = lines[(last.line or 0) - 1]
    dash = bare[: (last.column or 1) - 1]
    if dash.strip() != "-":
        return False
    lines.insert(last.line or 0, f"{dash}{worker}\n")
    if not bare.endswith("\n"):
        lines[(last.line or 0) - 1] = bare + "\n"
    return True


def _without_a_list(lines: list[str], document: Document, share: str, worker: str) -> bool:
    """Add the list after the hub: in a share on one line behind it, else on a line of its own."""
    where = document.where(("shares", share, "hub"), key=True)
    line, column = where.line or 0, where.column or 0
    text = lines[line - 1]
    before = text[: column - 1]
    hub = str(document.value["shares"][share]["hub"])
    if not before.strip():
        lines.insert(line, f"{before}workers: [{worker}]\n")
        if not text.endswith("\n"):
            lines[line - 1] = text + "\n"
        return True
    end = text.find(hub, column)
    if end < 0:
        return False
    lines[line - 1] = f"{text[: end + len(hub)]}, workers: [{worker}]{text[end + len(hub) :]}"
    return True


def _meaning(document: Document | None) -> SpiralFile | None:
    try:
        return None if document is None else SpiralFile.model_validate(document.value)
    except ValidationError:
        return None


def _read(text: str) -> Document | None:
    problems: list[object] = []
    document = parse(text, FILE, problems)
    return None if problems else document
