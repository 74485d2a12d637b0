"""What every command shares: options, where text goes, and how errors end.

stdout is the result, stderr the progress. Must not: know any one command; import anything heavy at the top.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from reconciler.errors import ExitCode, ReconError
from reconciler.views.escape import printable
from reconciler.views.paint import Paint, When, wants_color


class Output(StrEnum):
    """How a result is shown."""

    text = "text"
    json = "json"


class PlanOutput(StrEnum):
    """How a plan is shown."""

    text = "text"
    json = "json"
    markdown = "markdown"


@dataclass
class Settings:
    """The options before the command's name; set once per run by the root callback."""

    root: Path = Path()
    color: When = "auto"


SETTINGS = Settings()

HostOption = Annotated[
    list[str] | None, typer.Option("--host", "-h", metavar="NAME", help="Only these hosts; * and ? match, may repeat.")
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to show the result.")]


def paint() -> Paint:
    """Return the colours for stdout."""
    return Paint(on=wants_color(SETTINGS.color, os.environ, is_terminal=sys.stdout.isatty()))


def paint_progress() -> Paint:
    """Return the colours for stderr."""
    return Paint(on=wants_color(SETTINGS.color, os.environ, is_terminal=sys.stderr.isatty()))


def say(text: str = "") -> None:
    """Write a line of the result."""
    sys.stdout.write(text + "\n")


def tell(text: str) -> None:
    """Write a line of progress."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@contextlib.contextmanager
def asking() -> Iterator[Callable[[str, object], None]]:
    """Show on a terminal that hosts are asked and how many have answered; give what to call for each."""
    moving = sys.stderr.isatty()
    answered = 0

    def show(text: str) -> None:
        if moving:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def on_done(_host: str, _answer: object) -> None:
        nonlocal answered
        answered += 1
        show(f"… asking the hosts: {answered} answered")

    show("… asking the hosts")
    try:
        yield on_done
    finally:
        show("")


def finish(code: ExitCode) -> NoReturn:
    """End the command with an exit code."""
    raise typer.Exit(int(code))


def show_error(error: ReconError, *, as_json: bool, command: str) -> None:
    """Show every problem of an error: as text on stderr, or as one JSON document on stdout."""
    if as_json:
        say(json.dumps(error_document(error, command), indent=2, ensure_ascii=True))
        return
    colours = paint_progress()
    for problem in error.problems:
        head, *rest = printable(str(problem)).split("\n")
        tell(colours(head, "red", "bold"))
        for line in rest:
            tell(colours(line, "cyan") if line.startswith("  hint:") else line)
    if len(error.problems) > 1:
        tell(f"{len(error.problems)} problems")


def error_document(error: ReconError, command: str) -> dict[str, object]:
    """Return an error in the envelope every JSON answer has."""
    return {
        "format_version": "1.0",
        "command": command,
        "status": "error",
        "exit_code": int(error.exit_code),
        "errors": [
            {
                "code": problem.code,
                "summary": problem.summary,
                "detail": problem.detail,
                "fix": problem.fix,
                "where": str(problem.where) if problem.where else None,
            }
            for problem in error.problems
        ],
    }
