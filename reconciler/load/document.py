"""One file that was read whole: its value, and on demand the place of everything in it.

Positions are needed only when something is wrong, so they are worked out by a second reading of the text, then.

Must not: judge values; `compose` has done that before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ruamel.yaml.events import AliasEvent, MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent

from reconciler.errors import Where
from reconciler.load.compose import compose
from reconciler.load.yaml_events import open_events

Path = Sequence[str | int]


@dataclass(slots=True)
class _Place:
    """Where a value is, where its key is, and what is inside."""

    line: int
    column: int
    inside: dict[str | int, _Place] = field(default_factory=dict)
    key_line: int = 0
    key_column: int = 0

    def with_key(self, mark: Any) -> _Place:
        return _Place(self.line, self.column, self.inside, mark.line + 1, mark.column + 1)


class Document:
    """A composed file that can say where things are."""

    def __init__(self, file: str, text: str, value: dict[str, Any], *, has_odd_text: bool) -> None:
        self.file = file
        self.text = text
        self.value = value
        self.has_odd_text = has_odd_text

    def where(self, path: Path, *, key: bool = False) -> Where:
        """Return the place of a value, or of its key.

        Steps of the path that are not in the file are passed over: a missing key is shown at the mapping that lacks it.
        """
        place = self._places
        found: list[_Place] = []
        for step in path:
            if step in place.inside:
                place = place.inside[step]
                found.append(place)
        last_is_there = (
            bool(path) and bool(found) and path[-1] in (found[-2] if len(found) > 1 else self._places).inside
        )
        if place.key_line and (key or not last_is_there):
            return Where(self.file, place.key_line, place.key_column)
        return Where(self.file, place.line, place.column)

    @cached_property
    def _places(self) -> _Place:
        return _Locator(self.text).document()


def parse(text: str, file: str, problems: list[Any]) -> Document | None:
    """Compose a text, add what is wrong with it to `problems`, and return the document when it has a meaning."""
    composed = compose(text, file)
    problems.extend(composed.problems)
    if composed.value is None:
        return None
    return Document(file, text, composed.value, has_odd_text=composed.has_odd_text)


class _Locator:
    """Builds the tree of places of a text that `compose` has accepted as a whole."""

    def __init__(self, text: str) -> None:
        self._next = open_events(text)
        self._anchors: dict[str, _Place] = {}

    def document(self) -> _Place:
        self._next()
        self._next()
        return self._place(self._next())

    def _place(self, event: Any) -> _Place:
        if type(event) is AliasEvent:
            target = self._anchors[event.anchor]
            return _Place(event.start_mark.line + 1, event.start_mark.column + 1, target.inside)
        place = _Place(event.start_mark.line + 1, event.start_mark.column + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = place
        if type(event) is MappingStartEvent:
            self._fill_mapping(place)
        elif type(event) is not ScalarEvent:
            self._fill_sequence(place)
        return place

    def _fill_mapping(self, place: _Place) -> None:
        event = self._next()
        while type(event) is not MappingEndEvent:
            key = event.value if type(event) is ScalarEvent else None
            if key is None or event.anchor is not None:
                self._place(event)
            value = self._place(self._next())
            if key == "<<" and not event.style:
                for part in [value, *value.inside.values()]:
                    for name, inner in part.inside.items():
                        place.inside.setdefault(name, inner)
            elif key is not None:
                place.inside.setdefault(key, value.with_key(event.start_mark))
            event = self._next()

    def _fill_sequence(self, place: _Place) -> None:
        event = self._next()
        while type(event) is not SequenceEndEvent:
            place.inside[len(place.inside)] = self._place(event)
            event = self._next()
