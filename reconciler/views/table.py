"""Columns of text whose cells may be coloured.

Must not: cut anything off; a wide cell makes a wide column, or takes more lines where the width is limited.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from reconciler.views.paint import Paint
from reconciler.views.width import fold, seen

_GAP = 2
_NARROWEST = 8


def table(head: Sequence[str], rows: Sequence[Sequence[str]], paint: Paint) -> Iterator[str]:
    """Yield the head and the rows, aligned by what is seen; where the terminal is narrow, cells are folded."""
    widths = [max(seen(row[column]) for row in (head, *rows)) for column in range(len(head))]
    if paint.width is not None:
        words = [max(_longest_word(row[column]) for row in (head, *rows)) for column in range(len(head))]
        room = paint.width - _GAP * (len(head) - 1)
        fitted = _fitted(widths, words, room)
        # A last column that fits nowhere goes on in the next line by itself; the others need not pay for it.
        widths = fitted if sum(fitted) <= room else [*_fitted(widths[:-1], words[:-1], room + _GAP), widths[-1]]
    for line in _lines(head, widths):
        yield paint(line, "dim")
    for row in rows:
        yield from _lines(row, widths)


def _longest_word(cell: str) -> int:
    return max((seen(word) for word in cell.split()), default=0)


def _fitted(widths: Sequence[int], words: Sequence[int], room: int) -> list[int]:
    """Take from the widest column until all fit; no column gets narrower than its longest word."""
    fitted = list(widths)
    while sum(fitted) > room:
        spare = [max(0, width - max(word, _NARROWEST)) for width, word in zip(fitted, words, strict=True)]
        if not any(spare):
            break
        fitted[max(range(len(fitted)), key=lambda at: (spare[at] > 0, fitted[at]))] -= 1
    return fitted


def _lines(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    cells = [tuple(fold(cell, width, hang=0)) for cell, width in zip(row, widths, strict=True)]
    for parts in zip_longest(*cells, fillvalue=""):
        yield "  ".join(part + " " * (width - seen(part)) for part, width in zip(parts, widths, strict=True)).rstrip()
