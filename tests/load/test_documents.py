"""The reference pages, the schema files and the examples say what the code does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.load.codes import SUMMARIES
from reconciler.load.compose import compose
from reconciler.load.schema import json_schema, schema_files

REPOSITORY = Path(__file__).parents[2]
CODE = re.compile(r"\bREC\d{4}\b")
ROW = re.compile(r"^\| (REC\d{4}) \| (.+?) \| (.+?) \|$", re.MULTILINE)
PAGE = (REPOSITORY / "docs/reference/errors.md").read_text()
DESIRED_STATE = (REPOSITORY / "docs/reference/desired-state.md").read_text()


def codes_in(folder: Path) -> set[str]:
    return {code for path in folder.rglob("*.py") for code in CODE.findall(path.read_text())}


def test_every_code_of_the_source_is_explained_once() -> None:
    documented = [row[0] for row in ROW.findall(PAGE)]

    assert sorted(set(documented)) == documented
    assert codes_in(REPOSITORY / "reconciler") - set(documented) == set()


def test_no_code_is_explained_that_nothing_gives() -> None:
    assert {row[0] for row in ROW.findall(PAGE)} - codes_in(REPOSITORY / "reconciler") == set()


def test_every_code_of_load_is_used_beyond_its_summary_and_explained_in_its_words() -> None:
    used = {
        code
        for path in (REPOSITORY / "reconciler/load").rglob("*.py")
        if path.name != "codes.py"
        for code in CODE.findall(path.read_text())
    }
    explained = {row[0]: row[1] for row in ROW.findall(PAGE)}

    assert used == set(SUMMARIES)
    assert [code for code, words in SUMMARIES.items() if not explained[code].startswith(words)] == []


@pytest.mark.parametrize("name", sorted(schema_files()))
def test_the_schema_files_are_current(name: str) -> None:
    assert (REPOSITORY / "docs/reference/schema" / name).read_text() == schema_files()[name]


@pytest.mark.parametrize("kind", ["fleet", "host", "coven", "workload"])
def test_every_key_of_the_schema_is_in_the_reference(kind: Any) -> None:
    missing = [key for key in keys_of(json_schema(kind)) if not re.search(rf"[`.]{key}[`.]", DESIRED_STATE)]

    assert missing == []


def keys_of(schema: dict[str, Any]) -> Iterator[str]:
    for part in (schema, *schema.get("$defs", {}).values()):
        yield from part.get("properties", {})


def test_the_schema_says_durations_as_people_write_them() -> None:
    drain = json_schema("fleet")["$defs"]["Drain"]["properties"]["timeout"]

    assert drain == {
        "type": "string",
        "pattern": r"^(\d+h)?(\d+m)?(\d+s)?(\d+ms)?$",
        "examples": ["5m", "90s", "1h30m"],
        "default": "5m",
        "description": "How long to wait for requests in flight and waiting.",
        "title": "Timeout",
    }


@pytest.mark.parametrize("path", sorted((REPOSITORY / "desired").rglob("*.yaml")), ids=lambda path: path.name)
def test_every_example_opens_with_its_schema(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)

    assert named is not None
    schema = (path.parent / named[1]).resolve()
    kind = path.parent.name.removesuffix("s") if path.parent.name != "desired" else "fleet"
    assert schema == REPOSITORY / f"docs/reference/schema/{kind}.schema.json"


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", DESIRED_STATE, re.DOTALL))
def test_every_yaml_block_of_the_reference_is_yaml_that_recon_reads(block: str) -> None:
    composed = compose(block, "block")

    assert [each.code for each in composed.problems] in ([], ["REC1013"])
