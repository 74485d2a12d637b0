"""Makes a host recon's: hands the agent over, with the account to make, and says what the host did.

Must not: decide whether the host is fit, or write a file on this computer.
"""

from __future__ import annotations

from reconciler.errors import HostError, RefusedError
from reconciler.hosts.reply import read
from reconciler.hosts.transport import Transport
from reconciler.model.base import Wire

DEADLINE_S = 200.0
_REFUSALS = frozenset({"REC7424", "REC7425"})


class Said(Wire):
    """The four texts of what went wrong on the host."""

    code: str
    summary: str
    detail: str = ""
    fix: str = ""


class Enrolled(Wire):
    """What became of the host: parts that were made, parts that were there, and why it ended early if it did."""

    done: tuple[str, ...]
    kept: tuple[str, ...]
    problem: Said | None


def enroll(host: str, transport: Transport, *, user: str | None, key: str | None, check: bool) -> Enrolled:
    """Install the agent and make the account; with `check` only say what would be done.

    Raises:
        RefusedError: the host refused before it changed anything.
        HostError: it was lost.
    """
    try:
        reply = transport.ask("enroll", {"user": user, "key": key, "check": check}, deadline_s=DEADLINE_S)
    except HostError as exc:
        if exc.problems[0].code in _REFUSALS:
            raise RefusedError(*exc.problems) from exc
        raise
    return read(Enrolled, host, reply)
