"""The follower of pages: it must see what a page says wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import follow


def test_a_line_that_was_not_printed_is_seen() -> None:
    assert not follow.is_as_printed(("Valid.",), ("Invalid.",))
    assert not follow.is_as_printed(("Valid.",), ())
    assert not follow.is_as_printed((), ("more",))


def test_what_differs_from_run_to_run_is_not_compared() -> None:
    said = ("spark-1 begins transaction 20261121T071055.000Z-e727b4", "✔ spark-1 applied in 58s; runs vision")
    printed = ("spark-1 begins transaction 20270101T000000.000Z-ffffff", "✔ spark-1 applied in 1m2s; runs vision")

    assert follow.is_as_printed(said, printed)
    assert not follow.is_as_printed(said, (printed[0], printed[1].replace("vision", "reasoning")))


def test_lines_left_out_may_be_anything_but_the_ends_must_be_there() -> None:
    said = ("first", "...", "last")

    assert follow.is_as_printed(said, ("first", "a", "b", "last"))
    assert follow.is_as_printed(said, ("first", "last"))
    assert not follow.is_as_printed(said, ("first", "a", "b"))
    assert not follow.is_as_printed(said, ("a", "last"))


def test_a_rewritten_page_leaves_out_as_much_as_before() -> None:
    assert follow.shortened(("old", "...", "end"), ("new", "a", "b", "stop")) == ("new", "...", "stop")
    assert follow.shortened(("old",), ("new", "more")) == ("new", "more")


def test_a_program_that_is_not_on_the_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be followed with rm"):
        follow.fresh_walk(tmp_path).run("rm -rf studio")
