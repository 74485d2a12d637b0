"""Examples and exit codes stand one below the other in the help, ready to be copied."""

from __future__ import annotations

from reconciler.cli.help_text import laid_out
from tests.cli.test_commands import recon

DOC = """Do it.

    Long text that the terminal wraps.

    Exit codes: 0 done · 8 a host did not
    answer.

    Examples: recon do · recon do --it 'a b'
    """


def test_lists_are_a_line_each_and_text_is_left_to_the_terminal() -> None:
    assert laid_out(DOC) == (
        "Do it.\n\nLong text that the terminal wraps.\n\n"
        "\b\nExit codes:\n  0 done\n  8 a host did not answer\n\n"
        "\b\nExamples:\n  recon do\n  recon do --it 'a b'"
    )


def test_a_group_that_is_a_command_too_shows_its_own_examples() -> None:
    assert "\n  Examples:\n    recon schedule\n    recon schedule --host spark-1\n" in recon("schedule", "--help").out
