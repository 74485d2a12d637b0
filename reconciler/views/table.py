"""Columns of text whose cells may be coloured.

Must not: cut anything off; a wide cell makes a wide column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from reconciler.views.paint import Paint

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], paint: Paint) -> Iterator[str]:
    """Yield the head and the rows, columns aligned by what is seen."""
    widths = [max(_width(row[column]) for row in (head, *rows)) for column in range(len(head))]
    yield paint(_line(head, widths), "dim")
    for row in rows:
        yield _line(row, widths)


def _width(cell: str) -> int:
    return len(_COLOUR.sub("", cell))


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
