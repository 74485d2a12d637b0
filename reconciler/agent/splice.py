"""Changes values in the text of a JSON object and leaves every other character as it stands.

Order, spacing, the way somebody writes a number, a key that is there twice: all of that belongs to whoever wrote it.

Must not: read or write a file. Pure.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class SpliceError(ValueError):
    """The text is no JSON object, or has something else where an object or one value belongs."""


class _Member(NamedTuple):
    """A key of an object and where it is: of its quote, and of its value."""

    key: str
    at: int
    begins: int
    ends: int


class _Object(NamedTuple):
    """An object in the text: where its brace opens and closes, and what is in it."""

    begins: int
    ends: int
    members: List[_Member]


def look_up(data: bytes, dotted: str) -> Tuple[bool, Any]:
    """Return whether a dotted key is there, and its value; SpliceError when the text is no object."""
    here: Any = parse(data)
    for key in dotted.split("."):
        if not isinstance(here, dict) or key not in here:
            return False, None
        here = here[key]
    return True, here


def parse(data: bytes) -> Dict[str, Any]:
    """Return the object; SpliceError when it is none."""
    try:
        document = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SpliceError("it is not JSON") from error
    if not isinstance(document, dict):
        raise SpliceError("it is JSON, but no object")
    return document


def splice(data: bytes, wanted: Dict[str, Any]) -> bytes:
    """Return the text with the wanted values at their dotted keys; what is so already stays as it is written."""
    parse(data)
    text = data.decode("utf-8")
    for dotted, value in wanted.items():
        found, now = look_up(text.encode("utf-8"), dotted)
        if not found or not is_same(now, value):
            text = _put(text, dotted.split("."), json.dumps(value))
    return text.encode("utf-8")


def is_same(one: Any, other: Any) -> bool:
    """Compare as JSON does, where true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _put(text: str, keys: Sequence[str], literal: str) -> str:
    at = _blank(text, 0)
    for depth, key in enumerate(keys):
        if text[at] != "{":
            raise SpliceError(f"{'.'.join(keys[:depth])} is no object")
        scope = _scan(text, at)
        named = [member for member in scope.members if member.key == key]
        if len(named) > 1:
            raise SpliceError(f"{'.'.join(keys[: depth + 1])} is there twice")
        if not named:
            return _insert(text, scope, keys[depth:], literal)
        at = named[0].begins
    return text[:at] + literal + text[named[0].ends :]


def _insert(text: str, scope: _Object, keys: Sequence[str], literal: str) -> str:
    for key in reversed(keys[1:]):
        literal = "{" + json.dumps(key) + ": " + literal + "}"
    pair = json.dumps(keys[0]) + ": " + literal
    if not scope.members:
        return text[: scope.begins + 1] + pair + text[scope.begins + 1 :]
    # As the member before it is set off from its own neighbour, so that a file of lines stays one.
    last = scope.members[-1]
    before = text[: last.at]
    space = before[len(before.rstrip(" \t\n\r")) :]
    if len(scope.members) == 1 and not space:
        space = " "
    return text[: last.ends] + "," + space + pair + text[last.ends :]


def _scan(text: str, begins: int) -> _Object:
    """Take an object apart, one level; the whole text is known to be JSON."""
    members: List[_Member] = []
    at = _blank(text, begins + 1)
    while text[at] != "}":
        key, after = _value(text, at)
        colon = _blank(text, after)
        value = _blank(text, colon + 1)
        _, ends = _value(text, value)
        members.append(_Member(key, at, value, ends))
        at = _blank(text, ends)
        if text[at] == ",":
            at = _blank(text, at + 1)
    return _Object(begins, at + 1, members)


def _value(text: str, at: int) -> Tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError) as error:
        raise SpliceError("it is not JSON") from error


def _blank(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()
