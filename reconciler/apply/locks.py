"""Locks and holds of a host: one request each, answered by the host.

A request is sent once. A lock whose token got lost on the way is nobody's, and is told as such: its time runs out, or a
person takes it away.

Must not: decide who may; the host compares the token.
"""

from __future__ import annotations

from typing import Any

from reconciler.apply.line import FAILED, FINAL, PROVES_NOTHING
from reconciler.errors import HostError, LockedError, Problem, ReconError, RefusedError, StaleError, UnreachableError
from reconciler.hosts.reply import Form, read
from reconciler.hosts.transport import Connect
from reconciler.model.base import Wire
from reconciler.model.desired import Host

DEADLINE_S = 40.0
_NEVER_SENT = FINAL | {"REC6005", "REC6007"}
_ERRORS: dict[str, type[ReconError]] = {
    "REC7300": LockedError,
    "REC7301": LockedError,
    "REC7302": RefusedError,
    "REC7303": RefusedError,
    "REC7304": RefusedError,
    "REC7305": RefusedError,
    "REC7307": StaleError,
    "REC7308": LockedError,
    "REC7311": RefusedError,
    "REC7312": LockedError,
    "REC7313": StaleError,
}


class Granted(Wire):
    """A lock as its holder is told of it."""

    id: str
    slot: str | None
    owner: str
    reason: str
    ttl_s: float
    left_s: float


class LockReply(Wire):
    """What came of a deed on a lock: the lock, its token when it was just acquired, what was put aside by force."""

    lock: Granted | None
    token: str | None = None
    aside: str | None = None


class Held(Wire):
    """A hold as it was put on a host."""

    owner: str
    reason: str
    since: float
    until: float | None


class HoldReply(Wire):
    """What came of a hold; `running` is the transaction that goes on all the same."""

    hold: Held
    running: str | None


class LiftReply(Wire):
    """Whose hold was taken off; `aside` is where one that could not be read was put."""

    holder: str | None
    aside: str | None = None


def lock(host: Host, connect: Connect, args: dict[str, Any]) -> LockReply:
    """Do one deed (`acquire`, `renew`, `release` or `force`) on the locks of a host.

    Raises:
        LockedError: somebody else has it, or a transition runs.
        RefusedError: the token is of no lock, or what was said is not fit for one.
        StaleError: REC7307, the lock to take away does not stand any more.
        UnreachableError: REC6008, whether it was done is not known.
    """
    return _ask(LockReply, host, connect, "lock", args, f"recon lock list --host {host.name}")


def hold(host: Host, connect: Connect, args: dict[str, Any]) -> HoldReply:
    """Put a hold on a host; errors as those of `lock`, REC7312 when somebody else holds it."""
    asked = {**args, "deed": "hold"}
    return _ask(HoldReply, host, connect, "hold", asked, f"recon status --host {host.name}")


def lift(host: Host, connect: Connect, args: dict[str, Any]) -> LiftReply:
    """Take the hold off a host; REC7313 when there is none."""
    asked = {**args, "deed": "release"}
    return _ask(LiftReply, host, connect, "hold", asked, f"recon status --host {host.name}")


def _ask(form: type[Form], host: Host, connect: Connect, verb: str, args: dict[str, Any], look: str) -> Form:
    transport = connect(host)
    try:
        return read(form, host.name, transport.ask(verb, {**args, "host": host.name}, deadline_s=DEADLINE_S))
    except HostError as exc:
        problem = exc.problems[0]
        was_sent = isinstance(exc, UnreachableError) and problem.code not in _NEVER_SENT
        if not was_sent and problem.code not in PROVES_NOTHING | {FAILED}:
            raise _ERRORS.get(problem.code, type(exc))(*exc.problems) from exc
        detail = f"{problem.summary} ({problem.code}: {problem.detail}); {host.name} may have done it"
        raise UnreachableError(Problem("REC6008", "the outcome is not known", detail, look)) from exc
    finally:
        transport.close()
