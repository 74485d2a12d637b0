"""Changing values in somebody else's JSON: theirs stays, character for character."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.agent.splice import SpliceError, look_up, parse, splice

HANDWRITTEN = b"""{
\t"prompt": "a \\u00e9 {\\"limits\\": {}} }",
  "seed": 1e3,   "big": 12345678901234567890.000,
  "limits": {
    "jobs_per_hour":   40,
    "other": [1, {"jobs_per_hour": 7}, null]
  },
  "globals": {"limits": {"jobs_per_hour": 9}}
}
"""


def test_only_the_value_changes_and_every_other_character_stays() -> None:
    made = splice(HANDWRITTEN, {"limits.jobs_per_hour": 12})

    assert made == HANDWRITTEN.replace(b"  40", b"  12")


def test_what_is_so_already_is_left_as_it_is_written() -> None:
    data = b'{"limits": {"jobs_per_hour": 12.0}}'

    assert splice(data, {"limits.jobs_per_hour": 12}) == data
    assert splice(b'{"a": true}', {"a": 1}) == b'{"a": 1}'


@pytest.mark.parametrize(
    ("before", "key", "after"),
    [
        ("{}", "a", '{"a": 5}'),
        ("{}", "a.b.c", '{"a": {"b": {"c": 5}}}'),
        ('{"x": 1}', "a", '{"x": 1, "a": 5}'),
        ('{"x":1,"y":2}', "a", '{"x":1,"y":2,"a": 5}'),
        ('{\n  "x": 1\n}\n', "a", '{\n  "x": 1,\n  "a": 5\n}\n'),
        ('{"l": {}, "x": 1}', "l.a", '{"l": {"a": 5}, "x": 1}'),
        ('{"l": {"b": 2}}', "l.a", '{"l": {"b": 2, "a": 5}}'),
        (' {"é": "ü"} ', "a", ' {"é": "ü", "a": 5} '),
    ],
)
def test_a_missing_key_is_added_last_in_the_way_the_file_is_laid_out(before: str, key: str, after: str) -> None:
    assert splice(before.encode(), {key: 5}).decode() == after


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b'"a"',
        b"null",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b'{"a": 1} {"a": 2}',
        b'{"a": 1,}',
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1}, "a": {"b": 2}}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_object_or_has_the_key_twice_is_refused(data: bytes) -> None:
    with pytest.raises(SpliceError):
        splice(data, {"a": 5})


def test_a_value_where_an_object_belongs_is_not_replaced() -> None:
    for data in (b'{"limits": 5}', b'{"limits": null}', b'{"limits": [{"jobs": 1}]}'):
        with pytest.raises(SpliceError, match="limits is no object"):
            splice(data, {"limits.jobs": 5})


def test_a_key_is_looked_up_through_objects_alone() -> None:
    assert look_up(b'{"a": {"b": null}}', "a.b") == (True, None)
    assert look_up(b'{"a": {"b": 1}, "a.b": 2}', "a.b") == (True, 1)
    assert look_up(b'{"a": [1]}', "a.0") == (False, None)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
_KEYS = st.text("abl", min_size=1, max_size=2)


@given(
    st.dictionaries(_KEYS | st.text(max_size=3), _JSON, max_size=5),
    st.dictionaries(_KEYS, st.integers(0, 99), min_size=1, max_size=3),
    st.sampled_from([None, 1, 3]),
)
def test_whatever_the_object_is_the_wanted_keys_are_set_and_the_others_and_their_order_stay(
    document: dict[str, Any], wanted: dict[str, int], indent: int | None
) -> None:
    data = json.dumps(document, indent=indent).encode()

    made = parse(splice(data, wanted))

    assert list(made.items()) == list({**document, **wanted}.items())
    assert splice(json.dumps(made).encode(), wanted) == json.dumps(made).encode()
