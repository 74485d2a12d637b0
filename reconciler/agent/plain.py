"""Makes text that somebody else wrote harmless before it enters a journal, an outcome or a reason.

Must not: know where the text goes. Pure.
"""

from __future__ import annotations

import unicodedata
from typing import List

_LINE = 400


def clean(text: bytes | str, limit: int = _LINE) -> str:
    """Return one line of at most `limit` characters: control and direction characters are shown as escapes."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    line = " ".join(text.split())
    # Nearly every text is plain, and is not looked at letter by letter.
    if not (line.isascii() and line.isprintable()):
        line = "".join(char if _harmless(char) else ascii(char)[1:-1] for char in line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def clean_lines(text: bytes, last: int) -> List[str]:
    """Return the last lines of an output, each of them harmless; empty lines are left out."""
    lines = [clean(line) for line in text.split(b"\n")]
    return [line for line in lines if line][-last:]


def _harmless(char: str) -> bool:
    # Cf holds the bidirectional overrides, Cs lone surrogates: both can make a terminal lie.
    return unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
