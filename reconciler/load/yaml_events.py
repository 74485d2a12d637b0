"""The event parser that everything in `load` reads YAML with, and the errors it gives in our words.

libyaml's parser (in C) when it is installed, ruamel.yaml's own otherwise: both are state machines that give one event
at a time, so that limits are checked before anything is built.

Must not: build values, know the schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.reader import ReaderError

from reconciler.errors import DesiredStateError, Problem, Where
from reconciler.load.codes import problem

try:
    from ruamel.yaml.cyaml import CParser  # type: ignore[attr-defined]  # it is imported there, not exported
except ImportError:  # the compiled parser is not available for every platform
    CParser = None

# Any: ruamel.yaml declares the attributes of events on no common class.
NextEvent = Callable[[], Any]


def open_events(text: str, *, pure: bool = False) -> NextEvent:
    """Return a function that gives the next event of the text each time it is called."""
    if CParser is not None and not pure:
        next_event: NextEvent = CParser(text).get_event
        return next_event
    from ruamel.yaml import YAML

    events = YAML(typ="safe", pure=True).parse(text)
    return lambda: next(events)


def where_of(file: str, event: Any) -> Where:
    """Return the place an event starts at."""
    mark = event.start_mark
    return Where(file, mark.line + 1, mark.column + 1)


def syntax_problem(error: Exception, file: str, text: str) -> Problem:
    """Say a parser's error in our words, at the place where the reader has to look."""
    if isinstance(error, ReaderError):
        return _at_index(error.position, file, text)
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return problem("REC1029", Where(file), "the parser gave up", "compare it with an example of the documentation")
    lines = text.splitlines()
    mark = error.problem_mark
    if mark.line >= len(lines) and error.context_mark is not None:
        mark = error.context_mark  # the end of the file says little: show where the unfinished thing begins
    line = lines[mark.line] if mark.line < len(lines) else ""
    where = Where(file, mark.line + 1, mark.column + 1)
    if re.match(r"[ ]*\t", line):
        column = line.index("\t") + 1
        return tab_problem(Where(file, mark.line + 1, column))
    said = f"{error.context}: {error.problem}" if error.context else str(error.problem)
    return problem("REC1029", where, said, _syntax_hint(str(error.problem)))


def refuse(code: str, where: Where, detail: str, fix: str) -> DesiredStateError:
    """Make the error that ends the reading of a file."""
    return DesiredStateError(problem(code, where, detail, fix))


def tab_problem(where: Where) -> Problem:
    """Say that a line is indented with a tab."""
    return problem(
        "REC1004", where, "YAML indents with spaces; a tab has no width of its own", "replace the tab by spaces"
    )


def _at_index(index: int, file: str, text: str) -> Problem:
    before = text[:index]
    where = Where(file, before.count("\n") + 1, index - before.rfind("\n"))
    return problem("REC1021", where, "the file holds a character that YAML does not allow", "remove the character")


def _syntax_hint(said: str) -> str:
    if "mapping values are not allowed" in said or "unexpected ':'" in said:
        return "quote a value that holds ':', or check the indentation"
    if "cannot start any token" in said:
        return "quote a value that starts with @, ` or %"
    if "unexpected end of stream" in said:
        return "close the quotes"
    if "']'" in said or "'}'" in said:
        return "close the bracket, put a comma between the items, or quote a value that holds ':'"
    return "check indentation, brackets and quotes near this place"
