"""Whatever stands in a file, the answer is a fleet or problems: never another error."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.load.codes import SUMMARIES
from tests.load.states import COVEN, FLEET, HOST, problems, write

KEYS = [
    "address",
    "coven",
    "slots",
    "services",
    "one",
    "runtime",
    "image",
    "memory",
    "port",
    "env",
    "args",
    "ssh",
    "http",
]
KEYS += [
    "model",
    "shared",
    "residents",
    "schedule",
    "version",
    "name",
    "defaults",
    "policy",
    "after",
    "in_flight",
    "drain",
]
WORDS = [
    "vllm",
    "generic",
    "none",
    "writing",
    "10GiB",
    "5m",
    "8000",
    "true",
    "~",
    ".inf",
    "010",
    "&a",
    "*a",
    "<<",
    "!x",
]
WORDS += [
    "'",
    '"',
    "|",
    ">-",
    "[",
    "]",
    "{",
    "}",
    ",",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "\n    ",
    "\t",
    "#",
    "%",
    "---",
    "\x85",
    "é",
]
FILES = st.sampled_from(["desired/fleet.yaml", "desired/covens/writing.yaml", "desired/hosts/box.yaml"])
SOUP = st.lists(st.sampled_from([*KEYS, *[f"{key}: " for key in KEYS], *WORDS]), max_size=40).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=12,
)
EXAMPLES = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def is_told(name: str, content: str | bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for problem in problems(write(Path(folder), {name: content})):
            assert problem.summary == SUMMARIES[problem.code]
            assert problem.where is not None
            assert problem.detail
            assert problem.fix
            assert str(problem).replace("\n", "").isprintable()


@EXAMPLES
@given(name=FILES, content=st.binary(max_size=200))
def test_random_bytes_are_told(name: str, content: bytes) -> None:
    is_told(name, content)


@EXAMPLES
@given(name=FILES, text=SOUP)
def test_a_soup_of_yaml_is_told(name: str, text: str) -> None:
    is_told(name, text)


@EXAMPLES
@given(name=FILES, value=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6))
def test_well_formed_values_of_any_shape_are_told(name: str, value: dict[str, object]) -> None:
    is_told(name, flow(value))


@EXAMPLES
@given(name=FILES, at=st.integers(0, 200), junk=st.sampled_from([*WORDS, *KEYS, "\x00", "\u202e", "\xff"]))
def test_junk_in_the_middle_of_a_good_file_is_told(name: str, at: int, junk: str) -> None:
    good = {"desired/fleet.yaml": FLEET, "desired/covens/writing.yaml": COVEN, "desired/hosts/box.yaml": HOST}[name]

    is_told(name, good[:at] + junk + good[at:])


def flow(value: object) -> str:
    """Write a value in YAML's flow style, without help of a library whose limits would hide ours."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(inner) for inner in value) + "]"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "null" if value is None else str(value).lower()
