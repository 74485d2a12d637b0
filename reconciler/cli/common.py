"""What every command shares: options, where text goes, and how errors end.

stdout is the result, stderr the progress. Must not: know any one command; import anything heavy at the top.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TextIO

import typer

from reconciler.errors import ExitCode, Problem, ReconError
from reconciler.views.escape import painted, printable
from reconciler.views.paint import Paint, When, wants_color
from reconciler.views.width import fold

if TYPE_CHECKING:
    from reconciler.model.desired import Host
    from reconciler.model.observed import Observation
    from reconciler.workflow.repository import Repository


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
    """Return the colours and the width of stdout."""
    return _paint(sys.stdout)


def paint_progress() -> Paint:
    """Return the colours and the width of stderr."""
    return _paint(sys.stderr)


def _paint(stream: TextIO) -> Paint:
    is_terminal = stream.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else None
    return Paint(on=wants_color(SETTINGS.color, os.environ, is_terminal=is_terminal), width=width)


def say(text: str = "", *, whole: bool = False) -> None:
    """Write a line of the result, folded where a terminal is narrower; `whole` is for what programs read."""
    sys.stdout.write((text if whole else _folded(text, paint())) + "\n")


def say_document(document: Mapping[str, object]) -> None:
    """Write a result as JSON."""
    say(json.dumps(document, indent=1), whole=True)


def tell(text: str) -> None:
    """Write a line of progress, folded where a terminal is narrower; nothing fails for want of a reader."""
    with contextlib.suppress(OSError):
        sys.stderr.write(_folded(text, paint_progress()) + "\n")
        sys.stderr.flush()


def silence(stream: TextIO) -> None:
    """Let go of a stream that takes nothing more, so that no further line and no end of the program fails for it."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def telling_an_outcome() -> Iterator[None]:
    """Let what is said tell how a deed ended, if it can: the exit code says it also where nobody reads."""
    try:
        yield
        sys.stdout.flush()
    except OSError:
        silence(sys.stdout)


def _folded(text: str, paint: Paint) -> str:
    # Whatever a view let through of what a host said moves no cursor and sets no title.
    text = painted(text)
    if paint.width is None:
        return text
    return "\n".join(piece for line in text.split("\n") for piece in fold(line, paint.width))


def tell_invalid(problems: tuple[Problem, ...]) -> None:
    """Say on stderr that git is not valid, and that what was typed is done all the same."""
    first = problems[0]
    more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
    where = f" at {first.where}" if first.where else ""
    text = f"! git is not valid: [{first.code}] {first.summary}{where}{more}; going on without it (recon validate)"
    tell(paint_progress()(printable(text), "yellow"))


def open_one(name: str, *, what: str, command: str) -> tuple[Repository, Host]:
    """Open the repository, valid or not, and return the one host that is meant; `what` is of one host alone."""
    from reconciler.workflow.repository import only_host, open_for_deeds

    repository = open_for_deeds(SETTINGS.root, on_problems=tell_invalid)
    return repository, only_host(repository, name, what=what, command=command)


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


def finish_asked(answers: Mapping[str, Observation]) -> NoReturn:
    """End a command that only asked hosts: 8 when one of them did not answer."""
    from reconciler.model.observed import Unreachable

    lost = any(isinstance(answer, Unreachable) for answer in answers.values())
    finish(ExitCode.UNKNOWN_OUTCOME if lost else ExitCode.OK)


def show_error(error: ReconError, *, as_json: bool, command: str) -> None:
    """Show every problem of an error: as one JSON document on stdout, or as text on stderr, also where that fails."""
    if as_json:
        with contextlib.suppress(OSError):
            say(json.dumps(error_document(error, command), indent=2, ensure_ascii=True), whole=True)
            sys.stdout.flush()
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
