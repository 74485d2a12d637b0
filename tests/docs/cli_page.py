"""Writes docs/reference/cli.md from the commands themselves, so that the page cannot say anything else.

    .venv/bin/python -m tests.docs.cli_page

Must not: know any one command.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from reconciler.cli.app import app
from reconciler.cli.help_text import VERBATIM

PAGE = Path("docs/reference/cli.md")
_COMPLETION = frozenset({"install_completion", "show_completion"})
_INTRO = """\
# Commands

Every command, its arguments and its options, as the program itself says them.
This page is made by `python -m tests.docs.cli_page`; a test holds it against the code.

What a command finds out goes to stdout, progress goes to stderr.
`--output json` gives one JSON document (for `apply`: a line per event), errors included.
Options may stand anywhere after the command's name, except `-C`, `--color` and `--version`, which stand before it.
What the exit codes mean is in [exit-codes.md](exit-codes.md), what the error codes mean in [errors.md](errors.md).

Colours: `--color` beats `FORCE_COLOR`, that beats `NO_COLOR`, that beats what the terminal can do.
"""


@functools.cache
def command_line() -> Any:
    """Return the root command as typer built it."""
    return typer.main.get_command(app)


def commands(command: Any, words: tuple[str, ...] = ("recon",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command below one, groups included, with the words that lead to it."""
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*words, name))


def page() -> str:
    """Return the whole page."""
    return _INTRO + "".join(_section(words, command) for words, command in commands(command_line()))


def _section(words: tuple[str, ...], command: Any) -> str:
    lines = ["", f"## {' '.join(words)}", ""]
    lines += ["```", " ".join([*words, *_usage(command)]), "```", ""]
    lines += _paragraphs(command.help or "")
    context = command.context_class(command, info_name=words[-1])
    rows = [_row(parameter, context) for parameter in command.params if parameter.name not in _COMPLETION]
    if rows:
        lines += ["| argument or option | what it does |", "|---|---|", *rows]
    return "\n".join(lines).rstrip() + "\n"


def _usage(command: Any) -> list[str]:
    words = ["[OPTIONS]"] if any(_is_option(parameter) for parameter in command.params) else []
    for parameter in command.params:
        if not _is_option(parameter):
            word = _metavar(parameter) + ("..." if parameter.nargs == -1 else "")
            words.append(word if parameter.required else f"[{word}]")
    return words + (["COMMAND"] if getattr(command, "commands", None) else [])


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        if paragraph.startswith(VERBATIM):
            _, name, *items = paragraph.split("\n")
            yield from (name, "", *(_item(name, each) for each in items), "")
        else:
            yield from (_plain(paragraph), "")


def _item(name: str, text: str) -> str:
    return f"- `{text.strip()}`" if name == "Examples:" else f"- {_plain(text)}"


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is, but for code between backticks."""
    parts = " ".join(text.split()).split("`")
    return "`".join(part if at % 2 else part.replace("*", "\\*").replace("<", "&lt;") for at, part in enumerate(parts))


def _is_option(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "option")


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _row(parameter: Any, context: Any) -> str:
    if _is_option(parameter):
        shown, said = parameter.get_help_record(context)
    else:
        shown, said = _metavar(parameter), parameter.help or ""
    # A bar ends a cell of the table, in code too.
    cells = (f"`{shown}`", _plain(said))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
