"""Colours that obey: a flag beats FORCE_COLOR, that beats NO_COLOR, that beats what the terminal can do.

Must not: print; it only wraps text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

When = Literal["auto", "always", "never"]

CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}


@dataclass(frozen=True, slots=True)
class Paint:
    """Wraps text in colours, or leaves it alone; `width` is how many columns there are, None where nobody counts."""

    on: bool
    width: int | None = None

    def __call__(self, text: str, *styles: str) -> str:
        """Return the text in the styles named."""
        if not self.on or not styles or not text:
            return text
        return f"\x1b[{';'.join(CODES[style] for style in styles)}m{text}\x1b[0m"


def wants_color(when: When, environ: Mapping[str, str], *, is_terminal: bool) -> bool:
    """Say whether output is coloured (https://no-color.org: set and not empty means no)."""
    if when != "auto":
        return when == "always"
    if environ.get("FORCE_COLOR"):
        return True
    if environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return False
    return is_terminal
