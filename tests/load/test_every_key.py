"""Every key that a file may have refuses what cannot stand there, at its own line, with what to type.

The keys are read from the schema, so one that is new is tested as soon as it is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from reconciler.load.codes import SUMMARIES
from reconciler.load.schema import json_schema
from tests.load.states import problems, write

MARK = "zzz-mark"
FILES = {
    "fleet": "desired/fleet.yaml",
    "host": "desired/hosts/box.yaml",
    "coven": "desired/covens/writing.yaml",
    "workload": "desired/workloads/spiral.yaml",
}


class Key(NamedTuple):
    """A key of a file by the way that leads to it; `takes_mapping` where a mapping may stand there."""

    kind: str
    way: tuple[str | int, ...]
    takes_mapping: bool

    def __str__(self) -> str:
        return f"{self.kind}:" + ".".join(map(str, self.way))


def every_key() -> Iterator[Key]:
    for kind in FILES:
        schema = json_schema(kind)  # type: ignore[arg-type] # the four kinds are those of FILES
        for way, part in keys_below(schema, schema.get("$defs", {}), ()):
            yield Key(kind, way, any(form.get("type") == "object" for form in forms(part, schema.get("$defs", {}))))


def keys_below(
    part: dict[str, Any], known: dict[str, Any], way: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    for form in forms(part, known):
        for name, below in form.get("properties", {}).items():
            yield (*way, name), below
            yield from keys_below(below, known, (*way, name))
        for values in (form.get("additionalProperties"), *form.get("patternProperties", {}).values()):
            if isinstance(values, dict):
                yield (*way, "one"), values
                yield from keys_below(values, known, (*way, "one"))
        items = form.get("items")
        if isinstance(items, dict):
            yield (*way, 0), items
            yield from keys_below(items, known, (*way, 0))


def forms(part: dict[str, Any], known: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what may stand there, references resolved."""
    if "$ref" in part:
        yield from forms(known[part["$ref"].rpartition("/")[2]], known)
    for key in ("anyOf", "oneOf", "allOf"):
        for each in part.get(key, ()):
            yield from forms(each, known)
    if not {"$ref", "anyOf", "oneOf", "allOf"} & set(part):
        yield part


def written(key: Key, nonsense: str) -> str:
    """Return a file that has only this key, with nonsense as its value, in a line of its own."""
    text = ""
    for depth, step in enumerate(key.way):
        text += "\n" + "  " * depth + ("-" if isinstance(step, int) else f"{step}:")
    return f"{text.lstrip()} {nonsense}\n"


KEYS = sorted({str(key): key for key in every_key()}.values(), key=str)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_a_key_refuses_what_is_of_another_type_where_it_stands(key: Key, tmp_path: Path) -> None:
    nonsense = f"[{MARK}, [{MARK}]]" if key.takes_mapping else f"{{{MARK}: {{{MARK}: 1}}}}"
    text = written(key, nonsense)
    write(tmp_path, {FILES[key.kind]: text})
    line = text[: text.index(MARK)].count("\n") + 1

    found = problems(tmp_path)

    at_home = [each for each in found if each.where and (each.where.file, each.where.line) == (FILES[key.kind], line)]
    assert at_home, [str(each) for each in found]
    assert all(each.code in SUMMARIES and each.summary and each.detail and each.fix for each in at_home)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_a_key_refuses_a_control_character_in_its_text(key: Key, tmp_path: Path) -> None:
    write(tmp_path, {FILES[key.kind]: written(key, r'"a\u0007b"')})

    found = [each for each in problems(tmp_path) if each.where and each.where.file == FILES[key.kind]]

    assert "REC1021" in {each.code for each in found}
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", json.dumps([str(each) for each in found], ensure_ascii=False))


def test_the_schema_was_read_to_its_depth() -> None:
    names = {str(key) for key in KEYS}

    assert {
        "host:schedule.0.from",
        "host:residents.one.model.hub",
        "workload:reaper.keep.age",
        "workload:control.keys.one",
        "fleet:events.webhooks.one.secret_file",
        "coven:services.one.http.in_flight.metrics.0",
    } <= names
    assert len(names) >= 354
