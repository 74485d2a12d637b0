"""How systemd reads unit files: sections, continuation lines, quoting, specifiers, time spans.

Must not: know a search path or a unit's state. Pure.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping

Sections = dict[str, list[tuple[str, str]]]

_SPAN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zµ]*)")
_SPAN_UNITS = {
    "": 1.0, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3, "us": 1e-6, "usec": 1e-6,
    "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0, "h": 3600.0, "hr": 3600.0, "hour": 3600.0,
    "hours": 3600.0, "d": 86400.0, "day": 86400.0, "days": 86400.0, "w": 604800.0, "week": 604800.0,
}  # fmt: skip
_SIMPLE_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
_HEX_ESCAPES = {"x": 2, "u": 4, "U": 8}


class BadUnitError(ValueError):
    """A line that is neither a section, a setting nor a comment."""


def parse(text: str) -> Sections:
    """Return the settings of every section in order; comment lines inside a continued line are left out."""
    return {section: list(settings) for section, settings in _parsed(text).items()}


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> Sections:
    sections: Sections = {}
    section = ""
    for number, line in _logical_lines(text):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            sections.setdefault(section, [])
            continue
        key, equals, value = line.partition("=")
        if not equals or not section:
            raise BadUnitError(f"line {number}: “{line}” which is not a key-value pair, group, or comment")
        sections[section].append((key.strip(), value.strip()))
    return sections


def _logical_lines(text: str) -> Iterable[tuple[int, str]]:
    pending = ""
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if line.startswith(("#", ";")) or (not line and not pending):
            continue
        if line.endswith("\\"):
            pending += line[:-1]
            continue
        if pending + line:
            yield number, pending + line
        pending = ""
    if pending:
        yield text.count("\n") + 1, pending


def values(sections: Mapping[str, list[tuple[str, str]]], section: str, key: str) -> list[str]:
    """Return every value of a setting; an empty one takes back those before it."""
    found: list[str] = []
    for name, value in sections.get(section, ()):
        if name == key:
            found = [*found, value] if value else []
    return found


def last(sections: Mapping[str, list[tuple[str, str]]], section: str, key: str, default: str = "") -> str:
    """Return the value of a setting that is given once; the last one counts."""
    found = default
    for name, value in sections.get(section, ()):
        if name == key:
            found = value or default
    return found


def words(sections: Mapping[str, list[tuple[str, str]]], section: str, key: str) -> list[str]:
    """Return the words of a setting that holds a list, such as After=."""
    return [word for value in values(sections, section, key) for word in value.split()]


def is_true(value: str) -> bool:
    """Say whether systemd reads this as true."""
    return value.lower() in ("1", "yes", "y", "true", "t", "on")


def seconds(value: str, default: float) -> float:
    """Return a time span in seconds; `infinity` is inf, nothing is the default."""
    if not value:
        return default
    if value == "infinity":
        return float("inf")
    total, at = 0.0, 0
    for match in _SPAN.finditer(value):
        if match.start() != at or match[2] not in _SPAN_UNITS:
            raise BadUnitError(f"not a time span: {value}")
        total += float(match[1]) * _SPAN_UNITS[match[2]]
        at = match.end()
    if value[at:].strip():
        raise BadUnitError(f"not a time span: {value}")
    return total


def split(text: str, *, stop_at_empty: bool = False) -> list[str]:
    """Split into words as systemd does: quotes, C escapes.

    Podman's generator ends at the first empty word and forgets the rest; `stop_at_empty` does the same.
    """
    return list(_words_of(text, stop_at_empty))


@functools.lru_cache(maxsize=4096)
def _words_of(text: str, stop_at_empty: bool) -> tuple[str, ...]:  # noqa: FBT001 - the cache knows no keyword
    found: list[str] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        word, at = _word(text, at)
        if stop_at_empty and not word:
            break
        found.append(word)
    return tuple(found)


def _word(text: str, at: int) -> tuple[str, int]:
    out: list[str] = []
    quote = ""
    while at < len(text):
        char = text[at]
        if char == "\\" and at + 1 < len(text):
            piece, at = _escape(text, at + 1)
            out.append(piece)
            continue
        at += 1
        if quote:
            if char == quote:
                quote = ""
            else:
                out.append(char)
        elif char in "\"'":
            quote = char
        elif char.isspace():
            break
        else:
            out.append(char)
    return "".join(out), at


def _escape(text: str, at: int) -> tuple[str, int]:
    char = text[at]
    if char in _SIMPLE_ESCAPES:
        return _SIMPLE_ESCAPES[char], at + 1
    if char in _HEX_ESCAPES:
        digits = text[at + 1 : at + 1 + _HEX_ESCAPES[char]]
        return chr(int(digits, 16)), at + 1 + len(digits)
    return char, at + 1


def quote(word: str) -> str:
    """Write a word so that `split` gives it back, as podman's generator does: quotes only where they are needed."""
    if word and not re.search(r"[\s\"'\\\x00-\x1f]", word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def expand(value: str, unit: str, specifiers: Mapping[str, str]) -> str:
    """Replace %n, %N and the given specifiers; %% is a percent sign. An unknown one stays as it is."""
    if "%" not in value:
        return value
    known = {"n": unit, "N": unit.rpartition(".")[0], "p": unit.rpartition(".")[0], "i": "", "%": "%", **specifiers}
    return re.sub(r"%(.)", lambda match: known.get(match[1], match[0]), value)


def command(line: str, unit: str, specifiers: Mapping[str, str]) -> list[str]:
    """Return the argv of an Exec line: prefix characters off, specifiers and `$$` replaced."""
    body = line.lstrip("-@:+!")
    return [expand(word, unit, specifiers).replace("$$", "$") for word in split(body)]
