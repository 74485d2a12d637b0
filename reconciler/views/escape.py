"""Makes text from hosts and files harmless before a terminal or a pull-request comment sees it.

Must not: change meaning silently; what is not printable is shown as an escape, never dropped.
"""

from __future__ import annotations

import html
import re

from reconciler.views.paint import CODES

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_MENTION = re.compile(r"(?<![\w`])([@#])(?=\w)")
_FENCE = re.compile(r"`{3,}")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]|])")
_STYLE = "|".join(CODES.values())
_COLOUR = re.compile(f"(\x1b\\[(?:0|(?:{_STYLE})(?:;(?:{_STYLE}))*)m)")
_JOINER = "\u200d"


def printable(text: str) -> str:
    """Return the text with control, bidi and zero-width characters as visible escapes; newlines and tabs stay."""
    return _UNSAFE.sub(lambda match: _escape(match[0]), text)


def painted(text: str) -> str:
    """Return printable text in which the codes that `Paint` writes stay as they are, and no other: one conceals."""
    return "".join(part if at % 2 else printable(part) for at, part in enumerate(_COLOUR.split(text)))


def one_line(text: str) -> str:
    """Return printable text on one line."""
    return printable(text.replace("\n", "\\n").replace("\t", " "))


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def inert(text: str) -> str:
    """Return one line that Markdown shows as it is: no HTML, links, mentions, references or table breaks."""
    escaped = html.escape(one_line(text), quote=False)
    escaped = _MARKDOWN.sub(r"\\\1", escaped)
    return _MENTION.sub(lambda match: match[1] + _JOINER, escaped).replace("://", f":{_JOINER}//")


def fenced(lines: tuple[str, ...] | list[str], language: str = "diff") -> list[str]:
    """Return lines in a code fence longer than any run of backticks inside it."""
    body = [one_line(line) for line in lines]
    longest = max((len(run) for line in body for run in _FENCE.findall(line)), default=2)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *body, fence]
