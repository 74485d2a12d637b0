"""Lines of a host's journal, as the agent hands them on.

Must not: hold a line that was not made harmless on the host.
"""

from __future__ import annotations

from pydantic import Field

from reconciler.model.base import END_OF_TIME_S, Wire


class LogLine(Wire):
    """One line and when it was written, in Unix seconds."""

    at: float = Field(ge=0, le=END_OF_TIME_S)
    text: str


class LogPage(Wire):
    """Lines of a unit, and from where to go on."""

    unit: str
    lines: tuple[LogLine, ...]
    cursor: str


class JobResult(Wire):
    """How a job ended."""

    ok: bool
    text: str


class JobPage(LogPage):
    """News of a job; `result` is None while it runs."""

    result: JobResult | None
    active: bool


class JobStart(Wire):
    """A job that was started, or runs already; its journal begins after `cursor`."""

    unit: str
    cursor: str
    joined: bool
