"""What a host says of its reaper: the files that go by the budget, and those that cannot.

Must not: hold a path that was not made harmless on the host.
"""

from __future__ import annotations

from typing import Literal

from reconciler.model.base import Wire


class Counted(Wire):
    """Files, and the bytes they take on the disk."""

    files: int
    bytes: int


class Found(Counted):
    """What lies below the declared directories; `others` are links, sockets and the like, which stay."""

    others: int


class Going(Wire):
    """A file that goes: which budget it is over, and what the disk gets back for it."""

    path: str
    bytes: int
    at: float
    why: Literal["age", "count", "bytes"]


class Skipped(Wire):
    """What is over the budget and stays, or could not be looked at."""

    path: str
    why: str


class Budgets(Wire):
    """The declared budget; None is no bound. `age` is in seconds."""

    bytes: int | None = None
    age: float | None = None
    count: int | None = None


class Reaped(Wire):
    """One answer. `listed` and `skipped` are the first of what they count; `more`: there was no time for all."""

    go: bool
    paths: tuple[str, ...]
    keep: Budgets
    found: Found
    gone: Counted
    stay: Counted
    listed: tuple[Going, ...]
    skipped: tuple[Skipped, ...]
    skipped_files: int
    more: bool
