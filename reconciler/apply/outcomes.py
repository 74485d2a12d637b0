"""Outcomes that the controller has to write itself, because the host could not: not reached, lost, locked, not begun.

Whatever the host wrote down wins over all of these.

Must not: call anything applied.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from reconciler.errors import Problem
from reconciler.model.base import format_duration
from reconciler.model.outcome import Outcome, State

_CODE = re.compile(r"^REC\d{4}$")


@dataclass(frozen=True, slots=True)
class Task:
    """One transaction on one host, with what was known about the host before."""

    host: str
    txid: str
    owner: str = "unknown"
    source_commit: str = "unknown"
    plan_digest: str = "unknown"
    committed: int | None = None
    live: dict[str, str | None] | None = None

    def end(self, state: State, problem: Problem, *, started_at: float, elapsed_s: float) -> Outcome:
        """Return the outcome as seen from here."""
        return Outcome(
            txid=self.txid,
            host=self.host,
            state=state,
            reason=f"{problem.summary}: {problem.detail}" if problem.detail else problem.summary,
            code=problem.code,
            fix=problem.fix or None,
            committed=self.committed,
            live=self.live or {},
            owner=self.owner,
            source_commit=self.source_commit,
            plan_digest=self.plan_digest,
            started_at=started_at,
            elapsed_s=round(elapsed_s, 3),
            steps_s={},
        )


def attach_command(host: str, txid: str) -> str:
    """Return what to type to follow a transaction again."""
    return f"recon apply --attach {txid} --host {host}"


def not_started(host: str, why: str) -> Problem:
    """REC6020: the order was never handed over."""
    return Problem("REC6020", "not started", f"{why}; {host} was not touched", f"recon plan --host {host}")


def not_reached(host: str, problem: Problem) -> Problem:
    """Say that the host could not be reached and never got the order."""
    return Problem(problem.code, problem.summary, f"{problem.detail}; {host} was not touched", problem.fix)


def lost_for_good(host: str, txid: str, problem: Problem) -> Problem:
    """REC6008: the host may be doing it, and could not be asked for too long."""
    detail = f"{problem.summary} ({problem.code}: {problem.detail}); if {host} got its order, it goes on by itself"
    return Problem("REC6008", "the outcome is not known", detail, attach_command(host, txid))


def detached(host: str, txid: str) -> Problem:
    """REC6021: a person left; the host goes on."""
    detail = f"no longer following; {host} goes on by itself and ends applied, rolled back or held"
    return Problem("REC6021", "detached", detail, attach_command(host, txid))


def vanished(host: str, txid: str, *, has_begun: bool) -> Problem:
    """REC6022: no executor, no outcome."""
    if has_begun:
        detail = (
            f"transaction {txid} has no outcome and no executor of it runs on {host}; "
            "the host restarted, or it was killed"
        )
    else:
        detail = f"{host} has no line of transaction {txid} and no executor of it runs there; it was never begun"
    return Problem("REC6022", "the outcome is not known", detail, f"recon status --host {host}")


def unreadable(host: str, txid: str, why: str) -> Problem:
    """REC5005: what the host says is not what a host says."""
    return Problem("REC5005", "the host's reply is not valid", f"{host}: {why}", attach_command(host, txid))


def failed_here(host: str, txid: str, mistake: Exception) -> Problem:
    """REC7488: recon itself failed while it followed a host, which goes on."""
    detail = f"{type(mistake).__name__}: {str(mistake)[:300]}; if {host} got its order, it goes on by itself"
    return Problem("REC7488", "recon failed while it followed the host", detail, attach_command(host, txid))


def said(problem: dict[str, Any]) -> Problem:
    """Return a problem that the host told in its reply."""
    code, summary, detail, fix = (str(problem.get(key, ""))[:500] for key in ("code", "summary", "detail", "fix"))
    return Problem(code if _CODE.match(code) else "REC5005", summary, detail, fix)


def busy(host: str, lease: dict[str, Any] | None) -> Problem:
    """REC8013: another transaction runs; say whose, since when, and what it does."""
    if not lease:
        detail = "its executor has just been started, by whom is not known yet"
        return Problem("REC8013", f"a transition runs on {host}", detail, f"recon status --host {host}")
    owner, txid, step = (str(lease.get(key, "unknown"))[:200] for key in ("owner", "txid", "step"))
    age = lease.get("age_s")
    when = f" for {format_duration(age)}" if isinstance(age, (int, float)) and 0 <= age < math.inf else ""
    detail = f"{owner} runs transaction {txid}{when}, step {step}"
    return Problem("REC8013", f"a transition runs on {host}", detail, attach_command(host, txid))
