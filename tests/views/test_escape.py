"""Hostile text is shown and does nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.views.escape import fenced, inert, one_line, painted, printable


def test_control_and_bidi_characters_are_shown_as_escapes() -> None:
    assert printable("a\x1b[31mb\x07\u202ec\u200bd\r") == "a\\x1b[31mb\\x07\\u202ec\\u200bd\\x0d"


def test_mentions_links_html_and_tables_are_inert_in_markdown() -> None:
    text = inert("@team #12 <img src=x> </details> | [a](https://example.net) `x`")

    assert "@team" not in text
    assert "#12" not in text
    assert "<" not in text
    assert "https://" not in text
    assert "\\|" in text
    assert "\\`x\\`" in text


def test_a_fence_is_longer_than_any_run_of_backticks_inside() -> None:
    assert fenced(["````` x"])[0] == "``````diff"


@given(st.text())
def test_no_control_character_survives_on_a_line(text: str) -> None:
    shown = one_line(text)

    assert all(ord(char) >= 0x20 and not 0x7F <= ord(char) < 0xA0 for char in shown)
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200b\u200e\u200f")


def test_colours_stay_and_nothing_else_that_a_terminal_obeys() -> None:
    text = "\x1b[1;31mheld\x1b[0m \x1b[8mx\x1b[1;8my\x1b[m \x1b[2J\x1b]0;mine\x07\r\x9b31m\tend\n"

    assert (
        painted(text)
        == "\x1b[1;31mheld\x1b[0m \\x1b[8mx\\x1b[1;8my\\x1b[m \\x1b[2J\\x1b]0;mine\\x07\\x0d\\x9b31m\tend\n"
    )
