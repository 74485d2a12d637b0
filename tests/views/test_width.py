"""A narrow terminal gets lines that are folded at spaces, and loses nothing of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.views.paint import Paint
from reconciler.views.run import waiting_line
from reconciler.views.table import table
from reconciler.views.width import fold, seen

RED = Paint(on=True)


@pytest.mark.parametrize(
    ("line", "folded"),
    [
        ("short", ["short"]),
        ("", [""]),
        (
            "    memory:    95GiB - reserve 1GiB - shared 0B = 94GiB",
            ["    memory:    95GiB - reserve 1GiB -", "               shared 0B = 94GiB"],
        ),
        (
            "     1. claim  take the lease             ≤ 30s  else refused",
            ["     1. claim  take the lease", "               ≤ 30s  else refused"],
        ),
        (
            "gh-1: watchdog looked at all of it a moment ago",
            ["gh-1: watchdog looked at all of it a", "      moment ago"],
        ),
        (
            "        recon-boot.target, recon-coven-a.target, more",
            ["        recon-boot.target,", "        recon-coven-a.target, more"],
        ),
        (
            "0 differences ignored · sha256:4b6a9b97dbb08fc0dc713d3a80f834b3c8",
            ["0 differences ignored ·", "  sha256:4b6a9b97dbb08fc0dc713d3a80f834b3c8"],
        ),
    ],
    ids=["fits", "empty", "label", "columns", "host", "list", "long word"],
)
def test_a_line_goes_on_below_the_column_it_began_in(line: str, folded: list[str]) -> None:
    assert list(fold(line, 40)) == folded


def test_a_command_to_type_stays_whole() -> None:
    command = "    hint: recon lock force-release spark-1 --epoch 7 --reason TEXT"

    assert list(fold(command, 40)) == [command]


def test_a_colour_goes_on_in_the_next_piece_and_ends_with_each() -> None:
    line = f"gh-1: {RED('a sentence in red that does not fit', 'red')} and a rest"

    assert list(fold(line, 40)) == [
        "gh-1: \x1b[31ma sentence in red that does not\x1b[0m",
        "      \x1b[31mfit\x1b[0m and a rest",
    ]


@given(
    words=st.lists(st.text(alphabet="abc:.,()", min_size=1, max_size=12), min_size=1, max_size=30),
    width=st.integers(min_value=40, max_value=100),
)
def test_no_word_is_lost_and_no_piece_is_too_wide(words: list[str], width: int) -> None:
    line = " ".join(words)

    pieces = list(fold(line, width))

    assert " ".join(pieces).split() == words
    assert all(seen(piece) <= width for piece in pieces)


def test_a_table_that_is_too_wide_folds_its_widest_cells() -> None:
    rows = [("gh-1", "vllm ok, reranker ok, embedder ok", "1"), ("gh-2", "vllm ok", "12")]

    narrow = list(table(("HOST", "SERVICES", "GENERATION"), rows, Paint(on=False, width=34)))

    assert narrow == [
        "HOST  SERVICES          GENERATION",
        "gh-1  vllm ok,          1",
        "      reranker ok,",
        "      embedder ok",
        "gh-2  vllm ok           12",
    ]


def test_a_table_of_what_is_no_terminal_has_every_row_in_one_line() -> None:
    rows = [("gh-1", "x" * 200)]

    assert list(table(("HOST", "WHAT"), rows, Paint(on=False))) == ["HOST  WHAT", f"gh-1  {'x' * 200}"]


def test_the_moving_line_is_one_row_of_the_terminal() -> None:
    running = {f"host-{number}": ("verify_memory", 12.0) for number in range(9)}

    assert seen(waiting_line(running, Paint(on=True, width=40))) < 40


def test_a_last_column_that_fits_nowhere_costs_the_others_nothing() -> None:
    rows = [("a.service", "inactive (dead)", "/etc/recon/generations/1/recon-a.container")]

    narrow = list(table(("UNIT", "STATE", "SOURCE"), rows, Paint(on=False, width=44)))

    assert narrow[1] == "a.service  inactive (dead)  /etc/recon/generations/1/recon-a.container"
