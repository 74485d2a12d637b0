"""The one small tree of errors, and the exit codes that are an API.

    ReconError
    ├── UsageError              64  the command line is wrong
    ├── RefusedError             3  bad input, a guard or a policy said no; nothing was touched
    │   └── DesiredStateError    3  problems in desired/ or templates/, all of them at once
    ├── LockedError              4  somebody else holds the host
    ├── StaleError               5  the host or the plan moved since it was reviewed
    └── HostError                1  a host answered wrongly
        └── UnreachableError     8  a host did not answer, or the outcome is not known

Must not: print, know a terminal, import anything of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """What a command tells the shell; documented in docs/reference/exit-codes.md and never renumbered."""

    OK = 0
    ERROR = 1
    CHANGES = 2
    REFUSED = 3
    LOCKED = 4
    STALE = 5
    ROLLED_BACK = 6
    HELD = 7
    UNKNOWN_OUTCOME = 8
    SOME_FAILED = 9
    USAGE = 64
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True, order=True)
class Where:
    """A place in a file; line and column count from 1, 0 means the whole file."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, said so that the reader knows what to type next.

    Attributes:
        code: stable, `REC` and four digits; listed in docs/reference/errors.md.
        summary: the same words each time, no user data beyond names.
        detail: what was found and why it matters.
        fix: what to type or change.
        where: the file position, or `host:field` as a file without line.
    """

    code: str
    summary: str
    detail: str = ""
    fix: str = ""
    where: Where | None = None

    def __str__(self) -> str:
        parts = [f"error[{self.code}]: {self.summary}"]
        if self.where:
            parts.append(f"  at {self.where}")
        if self.detail:
            parts.append(f"  why: {self.detail}")
        if self.fix:
            parts.append(f"  hint: {self.fix}")
        return "\n".join(parts)


class ReconError(Exception):
    """Something the user is told about, with at least one problem and an exit code."""

    exit_code: ExitCode = ExitCode.ERROR

    def __init__(self, *problems: Problem) -> None:
        if not problems:
            raise ValueError("an error needs a problem")
        self.problems: tuple[Problem, ...] = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class UsageError(ReconError):
    """The command line is wrong."""

    exit_code = ExitCode.USAGE


class RefusedError(ReconError):
    """Bad input, a guard or a policy said no; no host was changed."""

    exit_code = ExitCode.REFUSED


class DesiredStateError(RefusedError):
    """Every problem found in the desired state, in file order."""


class LockedError(ReconError):
    """Somebody else holds the host."""

    exit_code = ExitCode.LOCKED


class StaleError(ReconError):
    """The host, the plan or the source moved since the plan was made."""

    exit_code = ExitCode.STALE


class HostError(ReconError):
    """A host answered, but not with what was asked for."""


class UnreachableError(HostError):
    """A host did not answer, or vanished before its outcome was known."""

    exit_code = ExitCode.UNKNOWN_OUTCOME
