"""Composes one YAML text into plain values, strictly, with every limit checked while the events come in.

Mappings become dicts with text keys, sequences become tuples, scalars what `scalars.resolve` says. Problems inside the
file are gathered, so that one run shows them all; only those after which the rest has no meaning end the reading.

Must not: know the schema, open files.
"""

from __future__ import annotations

import re
from typing import Any

from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from reconciler.errors import DesiredStateError, Problem, Where
from reconciler.load.codes import problem, shown
from reconciler.load.scalars import CONSTANTS, NUMBER_START, ScalarError, resolve
from reconciler.load.yaml_events import open_events, refuse, syntax_problem, tab_problem, where_of

MAX_DEPTH = 50
MAX_ALIASES = 100
MAX_EXPANDED_NODES = 10_000
LONG_TEXT = 2048

_MAYBE_SPECIAL = NUMBER_START | frozenset("~tTfFnN")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_MERGE_MARKERS = ("<<<<<<<", ">>>>>>>", "|||||||")
_MERGE_MARKER = re.compile(r"^(?:<{7}|>{7}|\|{7})(?: |$)", re.MULTILINE)
_LEADING_TAB = re.compile(r"^[ ]*(\t)\s*\S", re.MULTILINE)
_DIRECTIVE = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)*%")
_OPEN = object()


class Composed:
    """What one text holds: its value, whether a text in it needs a closer look, and the problems met."""

    __slots__ = ("has_odd_text", "problems", "value")

    def __init__(self) -> None:
        self.value: dict[str, Any] | None = None
        self.has_odd_text = False
        self.problems: list[Problem] = []


def compose(text: str, file: str, *, pure: bool = False) -> Composed:
    """Read one document; `value` is None when there is none that means anything."""
    composed = Composed()
    try:
        _scan_text(text, file, composed)
        _Composer(text, file, composed, pure=pure).document()
    except DesiredStateError as error:
        composed.value = None
        composed.problems.extend(error.problems)
    except YAMLError as error:
        composed.value = None
        composed.problems.append(syntax_problem(error, file, text))
    return composed


def _scan_text(text: str, file: str, composed: Composed) -> None:
    """Look for what no parser needs to see: it would stop there, or hide it in a comment."""
    if any(marker in text for marker in _MERGE_MARKERS) and _MERGE_MARKER.search(text):
        where = _where_in(text, _MERGE_MARKER, file)
        raise refuse("REC1026", where, "both sides of a conflict are in the file", "resolve the merge, then commit")
    if "%" in text and (directive := _DIRECTIVE.match(text)):
        where = Where(file, text.count("\n", 0, directive.end()) + 1, 1)
        detail = "a directive such as %YAML 1.1 changes what every value of the file means"
        raise refuse("REC1011", where, detail, "remove the line")
    # The quick question first: nearly every file is printable ASCII, and there may be ten thousand of them.
    if not (text.isascii() and text.replace("\n", "").isprintable()):
        _scan_characters(text, file, composed)
    if "\t" in text and not _has_block_text(text) and _LEADING_TAB.search(text):
        where = _where_in(text, _LEADING_TAB, file)
        raise DesiredStateError(tab_problem(Where(where.file, where.line, where.column + _indent(text, where.line))))


def _scan_characters(text: str, file: str, composed: Composed) -> None:
    if _CONTROL.search(text):
        where = _where_in(text, _CONTROL, file)
        raise refuse("REC1021", where, "control characters steer terminals and end lines in unit files", "remove it")
    if found := _INVISIBLE.search(text):
        composed.problems.append(_invisible(found[0], _where_in(text, _INVISIBLE, file)))
        if found[0] in "\u2028\u2029":  # whether a line ends here is what parsers disagree about
            raise DesiredStateError(composed.problems.pop())


def _has_block_text(text: str) -> bool:
    """Tell whether lines may belong to a block scalar, whose text may hold tabs; the parser finds the others."""
    return re.search(r"[|>][+-]?[0-9]?[+-]?[ ]*(?:#.*)?$", text, re.MULTILINE) is not None


def _indent(text: str, line: int) -> int:
    return text.split("\n")[line - 1].index("\t")


def _where_in(text: str, pattern: re.Pattern[str], file: str) -> Where:
    found = pattern.search(text)
    start = found.start() if found else 0
    return Where(file, text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start))


def _invisible(character: str, where: Where) -> Problem:
    detail = f"U+{ord(character):04X} does not show, or shows text in another order than it is read"
    return problem("REC1022", where, detail, "remove the character")


def _is_text(plain: str) -> bool:
    try:
        return isinstance(resolve(plain), str)
    except ScalarError:
        return False


class _Composer:
    """Walks the events of one document. Depth is bounded by MAX_DEPTH, so plain recursion is safe."""

    def __init__(self, text: str, file: str, composed: Composed, *, pure: bool) -> None:
        self._next = open_events(text, pure=pure)
        self._file = file
        self._composed = composed
        self._anchors: dict[str, Any] = {}
        self._sizes: dict[str, int] = {}
        self._nodes = 0
        self._aliases = 0

    def document(self) -> None:
        """Read the only document and leave its value in `composed`."""
        self._next()
        start = self._next()
        if type(start) is StreamEndEvent:
            raise refuse("REC1013", Where(self._file, 1, 1), "there is nothing in it", "write the keys, or delete it")
        first = self._next()
        value = self._value(first, 1)
        if value is None and type(first) is ScalarEvent:
            raise refuse("REC1013", Where(self._file, 1, 1), "there is nothing in it", "write the keys, or delete it")
        self._next()
        after = self._next()
        if type(after) is DocumentStartEvent:
            detail = "a second document begins here, and only one of them could count"
            raise refuse("REC1012", where_of(self._file, after), detail, "keep one document; remove the '---' line")
        if type(first) not in (MappingStartEvent, AliasEvent):
            detail = "the file is a list or a single value where 'key: value' lines are expected"
            raise refuse("REC1014", where_of(self._file, first), detail, "start with the keys of this kind of file")
        self._composed.value = value

    def _value(self, event: Any, depth: int) -> Any:
        self._nodes += 1
        kind = type(event)
        if kind is AliasEvent:
            return self._alias(event)
        if event.tag is not None:
            self._add("REC1010", event, f"{shown(event.tag)} asks for a type of its own", "remove the tag")
        anchor = event.anchor
        if anchor is None:
            return self._scalar(event) if kind is ScalarEvent else self._collection(event, kind, depth)
        before = self._nodes
        self._anchors[anchor] = _OPEN
        value = self._scalar(event) if kind is ScalarEvent else self._collection(event, kind, depth)
        self._anchors[anchor] = value
        self._sizes[anchor] = self._nodes - before + 1
        return value

    def _collection(self, event: Any, kind: type, depth: int) -> Any:
        if depth > MAX_DEPTH:
            where = where_of(self._file, event)
            raise refuse("REC1009", where, f"more than {MAX_DEPTH} levels deep", "no file needs that; remove levels")
        return self._mapping(depth) if kind is MappingStartEvent else self._sequence(depth)

    def _sequence(self, depth: int) -> tuple[Any, ...]:
        items: list[Any] = []
        event = self._next()
        while type(event) is not SequenceEndEvent:
            items.append(self._value(event, depth + 1))
            event = self._next()
        return tuple(items)

    def _mapping(self, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        keys: dict[str, Any] = {}
        merges: list[tuple[Any, Any]] = []
        event = self._next()
        while type(event) is not MappingEndEvent:
            text = event.value if type(event) is ScalarEvent and event.anchor is None and event.tag is None else None
            # Most keys are plain words; those need no closer look.
            is_word = text is not None and text.isidentifier() and text.isascii() and text not in CONSTANTS
            key = text if is_word else self._key(event, depth)
            inner = self._next()
            value = self._value(inner, depth + 1)
            if key is None:
                pass
            elif key == "<<" and not event.style:
                merges.append((event, value))
            elif key in keys:
                self._duplicate(key, keys[key], event)
            else:
                keys[key] = event
                values[key] = value
            event = self._next()
        if merges:
            self._merge(values, merges)
        return values

    def _key(self, event: Any, depth: int) -> str | None:
        """Return the text of a key; None, and a problem, when it is none."""
        if type(event) is not ScalarEvent:
            self._value(event, depth + 1)
            self._add("REC1015", event, "a list, mapping or alias names nothing here", "write the key as plain text")
            return None
        if event.tag is not None:
            self._add("REC1010", event, f"{shown(event.tag)} asks for a type of its own", "remove the tag")
        if event.anchor is not None:
            self._anchors[event.anchor] = event.value
            self._sizes[event.anchor] = 1
        text: str = event.value
        if not event.style and not _is_text(text):
            detail = f"{shown(text)} is not text to YAML" if text else "the key is empty"
            self._add("REC1015", event, detail, f'quote it: "{text[:40]}"' if text else "write a key before the ':'")
            return None
        self._look_at(text, event)
        return text

    def _duplicate(self, key: str, first: Any, event: Any) -> None:
        lines = f"line {first.start_mark.line + 1} and again line {event.start_mark.line + 1}"
        self._add("REC1005", event, f"{shown(key)} is given on {lines}; which one counts?", "keep one of the two")

    def _merge(self, values: dict[str, Any], merges: list[tuple[Any, Any]]) -> None:
        for event, merged in merges:
            for part in merged if isinstance(merged, tuple) else (merged,):
                if not isinstance(part, dict):
                    self._add("REC1023", event, "'<<' merges mappings only", "write '<<: *anchor' of a mapping")
                    continue
                for key, value in part.items():
                    if key in values:
                        detail = f"{shown(key)} comes from the merge and is given here too; which one counts?"
                        self._add("REC1023", event, detail, "give it in one place")
                    else:
                        values[key] = value

    def _alias(self, event: Any) -> Any:
        where = where_of(self._file, event)
        name = event.anchor
        if name not in self._anchors:
            raise refuse(
                "REC1008", where, f"no '&{name}' comes before it", f"define '&{name}' first, or write the value"
            )
        if self._anchors[name] is _OPEN:
            raise refuse("REC1007", where, f"'*{name}' is part of what '&{name}' names", "write the value out")
        self._aliases += 1
        self._nodes += self._sizes[name]
        if self._aliases > MAX_ALIASES or self._nodes > MAX_EXPANDED_NODES:
            detail = f"more than {MAX_ALIASES} aliases, or {MAX_EXPANDED_NODES} values when they are followed"
            raise refuse("REC1006", where, detail, "write the values out, or split the file")
        return self._anchors[name]

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.style or (text and text[0] not in _MAYBE_SPECIAL):
            if len(text) > LONG_TEXT or not text.isprintable() or not text.isascii():
                self._look_at(text, event)
            return text
        try:
            return resolve(text)
        except ScalarError as error:
            self._add(error.code, event, error.detail, error.fix)
            return text

    def _look_at(self, text: str, event: Any) -> None:
        self._composed.has_odd_text = True
        if _CONTROL.search(text):
            detail = "an escape puts a control character into the value"
            self._add("REC1021", event, detail, "remove the escape")
        elif not text.isascii() and (found := _INVISIBLE.search(text)):
            self._composed.problems.append(_invisible(found[0], where_of(self._file, event)))

    def _add(self, code: str, event: Any, detail: str, fix: str) -> None:
        self._composed.problems.append(problem(code, where_of(self._file, event), detail, fix))
