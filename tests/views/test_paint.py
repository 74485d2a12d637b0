"""Colours obey whoever asks them to stop."""

from __future__ import annotations

import pytest

from reconciler.views.paint import Paint, When, wants_color


@pytest.mark.parametrize(
    ("when", "environ", "is_terminal", "expected"),
    [
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": ""}, True, True),
        ("auto", {"TERM": "dumb"}, True, False),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, True),
        ("never", {"FORCE_COLOR": "1"}, True, False),
        ("always", {"NO_COLOR": "1"}, False, True),
    ],
)
def test_a_flag_beats_the_environment_beats_the_terminal(
    when: When, environ: dict[str, str], is_terminal: bool, expected: bool
) -> None:
    assert wants_color(when, environ, is_terminal=is_terminal) is expected


def test_without_colour_text_stays_as_it_is() -> None:
    assert Paint(on=False)("x", "red") == "x"
    assert Paint(on=True)("x", "red", "bold") == "\x1b[31;1mx\x1b[0m"
