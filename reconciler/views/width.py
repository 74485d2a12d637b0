"""Lines that are too wide for a terminal, folded at spaces below the column they began in.

What is no terminal gets every line whole: files, pipes and tests. A line that is a command to type stays whole too, for
whoever copies it.

Must not: cut anything off, or know what a line says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LEAST = 40
"""Columns below which nothing is folded: nobody reads that either way."""

_CODE = re.compile(r"\x1b\[[0-9;]*m")
_PIECE = re.compile(r"\x1b\[[0-9;]*m| +|[^ \x1b]+")
_COLUMN = re.compile(r"^\s*(?:\S+ )*?\S+ {2,}(?=\S)|^ *[^ ]+: +|^ +(?:[^\w\s\"'(\[<] +|\d+\. +)?")
_COMMAND = re.compile(r"^\s*(?:hint: )?(?:recon|sudo|systemctl|podman) \S")
_RESET = "\x1b[0m"


def seen(text: str) -> int:
    """Return how many columns a text takes: colours take none."""
    return len(_CODE.sub("", text))


def fold(line: str, width: int, *, hang: int | None = None) -> Iterator[str]:
    """Yield a line in pieces of at most `width` columns; a word that is longer stays whole.

    Args:
        line: one line, coloured or not; colours go on in the next piece.
        width: columns there are.
        hang: where further pieces begin; the line's own last column near its left edge when not said.
    """
    plain = _CODE.sub("", line)
    if len(plain) <= width or (width < LEAST and hang is None) or _COMMAND.match(plain):
        yield line
        return
    indent = _hang(plain, width) if hang is None else hang
    piece, column, gap, style = "", 0, "", ""
    for token in _PIECE.findall(line):
        if token[0] == "\x1b":
            style = "" if token == _RESET else token
            if column:
                piece, column, gap = piece + gap, column + len(gap), ""
            piece += token
        elif token[0] == " ":
            gap = token
        elif column and column + len(gap) + len(token) > width and piece.strip():
            yield (piece + _RESET if style else piece).rstrip()
            piece, column, gap = " " * indent + style + token, indent + len(token), ""
        else:
            piece, column, gap = piece + gap + token, column + len(gap) + len(token), ""
    yield piece


def _hang(plain: str, width: int) -> int:
    """Return the column of the text behind a label, a number or a bullet; the line's indentation and two otherwise."""
    found = _COLUMN.match(plain)
    at = found.end() if found else 0
    return at if 0 < at <= min(26, width // 2) else len(plain) - len(plain.lstrip()) + 2
