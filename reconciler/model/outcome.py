"""How a transaction on a host went: journal events while it runs, one outcome at the end.

The exit code is a function of the outcome (`exit_code_of`), never of the controller's flow: a rollback cannot be
reported as success because somebody's terminal was closed.

Must not: know how the events travelled.
"""

from __future__ import annotations

import operator
from typing import Literal

from pydantic import Field

from reconciler.errors import ExitCode
from reconciler.model.base import END_OF_TIME_S, Wire

State = Literal["applied", "nothing", "refused", "stale", "locked", "aborted", "rolled_back", "held", "unknown"]

STEPS = (
    "claim",
    "stage",
    "hook",
    "admission",
    "drain",
    "spiral",
    "stop",
    "take_over",
    "drop_caches",
    "verify_memory",
    "trial",
    "start",
    "warm",
    "commit",
    "resume",
    "finish",
    "rollback",
)
"""The words for what a transition does, in order; `rollback` is the way back and has no place in the order."""


class JournalEvent(Wire):
    """One line of a transaction's journal: `t` is seconds since the transaction began, on a clock that never jumps."""

    seq: int
    t: float
    step: str
    slot: str | None
    status: Literal["begin", "progress", "done", "failed", "skipped"]
    text: str


class Attempts(Wire):
    """How many starts it took, of how many allowed, until something came up or was given up.

    `what` is a coven or a resident; `back` says that it was what ran before, on the way back.
    """

    what: str
    slot: str | None
    used: int
    allowed: int
    back: bool


class Outcome(Wire):
    """The end of a transaction on one host.

    Invariants: `state` decides the exit code; `committed` is the generation that boots from now on; `code` and
    `fix` are there whenever the state is not applied or nothing.
    """

    txid: str
    host: str
    state: State
    reason: str
    code: str | None = None
    fix: str | None = None
    committed: int | None
    live: dict[str, str | None]
    owner: str
    source_commit: str
    plan_digest: str
    started_at: float = Field(ge=0, le=END_OF_TIME_S)
    elapsed_s: float
    steps_s: dict[str, float]
    logs: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    attempts: tuple[Attempts, ...] = ()
    epoch: int | None = None
    """The number of the claim under which it ran; None when it never had one, or the controller wrote this."""
    events: int | None = None
    """How many lines its journal has: one that was cut later is noticed."""
    asked: str = Field(default="", exclude_if=operator.not_)
    """What a person asked for beside what is declared."""


_EXIT: dict[str, ExitCode] = {
    "applied": ExitCode.OK,
    "nothing": ExitCode.OK,
    "refused": ExitCode.REFUSED,
    "stale": ExitCode.STALE,
    "locked": ExitCode.LOCKED,
    "aborted": ExitCode.REFUSED,
    "rolled_back": ExitCode.ROLLED_BACK,
    "held": ExitCode.HELD,
    "unknown": ExitCode.UNKNOWN_OUTCOME,
}


def exit_code_of(outcomes: tuple[Outcome, ...]) -> ExitCode:
    """Return the exit code of a run: that of its one failure, SOME_FAILED when hosts ended in different ways."""
    codes = {_EXIT[outcome.state] for outcome in outcomes}
    if codes <= {ExitCode.OK}:
        return ExitCode.OK
    if len(codes) == 1:
        return codes.pop()
    return ExitCode.SOME_FAILED
