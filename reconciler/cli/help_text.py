"""How the help of a command is laid out: examples and exit codes a line each, so that one can be copied.

Must not: say anything that the command's docstring does not.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer

_LISTS = ("Examples:", "Exit codes:")
_APART = " · "
VERBATIM = "\b"
"""What keeps the parser from wrapping the paragraph that it stands above."""


def laid_out(text: str) -> str:
    """Return a docstring with what its lists hold one below the other."""
    return "\n\n".join(_paragraph(paragraph) for paragraph in inspect.cleandoc(text).split("\n\n"))


def lay_out(app: typer.Typer) -> None:
    """Lay out the help of every command of an app, of its groups too."""
    for command in app.registered_commands:
        command.help = _help_of(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            lay_out(group.typer_instance)
            callback = group.typer_instance.registered_callback
            if callback is not None:
                callback.help = _help_of(callback.callback)


def _help_of(callback: Callable[..., Any] | None) -> str | None:
    return laid_out(callback.__doc__) if callback is not None and callback.__doc__ else None


def _paragraph(paragraph: str) -> str:
    one = " ".join(paragraph.split())
    name = next((name for name in _LISTS if one.startswith(name)), None)
    if name is None:
        return paragraph
    items = one.removeprefix(name).strip().removesuffix(".").split(_APART)
    return "\n".join([VERBATIM, name, *(f"  {item}" for item in items)])
