"""Take a claim on a host away: ask, and ask again with the same words until the host says that it is done.

The host stops its executor and lets it bring things to an end first, which takes as long as that takes; leaving does
not undo the request, and the same command goes on with it.

Must not: decide who may; the host checks that the epoch is the one that was shown.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import StrictBool, StrictInt, model_validator

from reconciler.apply.line import FAILED, PROVES_NOTHING, DetachedError, GoneError, Line
from reconciler.apply.pace import Pace, RealPace
from reconciler.errors import HostError, LockedError, Problem, RefusedError, StaleError, UnreachableError
from reconciler.hosts.reply import read
from reconciler.hosts.transport import Connect
from reconciler.model.base import Wire
from reconciler.model.desired import Host

ASK_S = 40.0
_PAUSE_S = 1.0
_ERRORS = {"REC7152": StaleError, "REC7153": LockedError, "REC7154": RefusedError, "REC7232": LockedError}


@dataclass(frozen=True, slots=True)
class Demand:
    """What a person wants: this host, away from the claim of this epoch, for this reason. `name` is of this demand."""

    host: Host
    epoch: int
    reason: str
    owner: str
    name: str


@dataclass(frozen=True, slots=True)
class Released:
    """What came of it: the epoch that was granted, and the transaction that was stopped for it, if any."""

    epoch: int
    stopped: str | None


class _Reply(Wire):
    """The reply to `release`: the epoch that is granted, or whose end is waited for."""

    released: StrictBool
    epoch: StrictInt | None = None
    stopped: str | None = None
    txid: str | None = None
    step: str | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> _Reply:
        if self.released is (self.epoch is None):
            raise ValueError("a claim that is gone has a next epoch, and no other has")
        return self


def force_release(
    demand: Demand,
    connect: Connect,
    *,
    on_wait: Callable[[str | None, str | None], None],
    detach: threading.Event | None = None,
    pace: Pace | None = None,
) -> Released:
    """Return once the claim is gone and the next epoch is granted.

    Args:
        demand: what is wanted.
        connect: how the host is reached.
        on_wait: told the transaction and its step while an executor is brought to an end.
        detach: once set, nothing is waited for any more.
        pace: the clock.

    Raises:
        StaleError: REC7152, the host is not at that epoch.
        LockedError: REC7153, somebody executes by hand; REC7232, the watchdog acts and ends by itself.
        UnreachableError: REC6008, the host could not be asked, or its answer tells nothing; REC6021, a person left.
    """
    pace, detach = pace or RealPace(), detach or threading.Event()
    host = demand.host
    args = {"epoch": demand.epoch, "reason": demand.reason, "owner": demand.owner, "host": host.name, "id": demand.name}
    line = Line(host, connect, pace=pace, detach=detach, on_lost=lambda _problem: None)
    try:
        while True:
            reply = read(_Reply, host.name, line.ask("release", args, deadline_s=ASK_S, is_final=_is_refusal))
            if reply.epoch is not None:
                return Released(reply.epoch, reply.stopped)
            on_wait(reply.txid, reply.step)
            pace.wait(_PAUSE_S, detach)
    except (DetachedError, KeyboardInterrupt) as exc:
        raise UnreachableError(_left(demand)) from exc
    except GoneError as exc:
        raise UnreachableError(_lost(demand, exc.problem)) from exc
    except HostError as exc:
        problem = exc.problems[0]
        if problem.code in PROVES_NOTHING or problem.code == FAILED:
            raise UnreachableError(_lost(demand, problem)) from exc
        raise _ERRORS.get(problem.code, type(exc))(problem) from exc
    finally:
        line.close()


def command(demand: Demand) -> str:
    """Return what to type to go on."""
    return f"recon lock force-release {demand.host.name} --epoch {demand.epoch} --reason TEXT"


def _is_refusal(exc: HostError) -> bool:
    return not isinstance(exc, UnreachableError)


def _left(demand: Demand) -> Problem:
    detail = f"{demand.host.name} goes on ending its transaction; the claim is not taken away yet"
    return Problem("REC6021", "detached", detail, command(demand))


def _lost(demand: Demand, problem: Problem) -> Problem:
    detail = f"{problem.summary} ({problem.code}: {problem.detail}); whether the claim is gone is not known"
    return Problem("REC6008", "the outcome is not known", detail, command(demand))
