"""A line to one host that is picked up again when it breaks, for a bounded time and never after a refused login.

Must not: know what is asked. Only requests that may be sent twice may go over it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

from reconciler.apply.pace import Pace
from reconciler.errors import HostError, Problem
from reconciler.hosts.transport import Connect, Transport
from reconciler.model.desired import Host

GIVE_UP_S = 60.0
BACK_OFF_S = (0.5, 1.0, 2.0, 4.0, 8.0)
FINAL = frozenset({"REC6001", "REC6002", "REC6003", "REC6004", "REC6009", "REC6010", "REC5007"})
"""Trying again changes nothing here, and hosts lock out who insists."""
PROVES_NOTHING = frozenset({"REC5005", "REC5006", "REC5007", "REC5008"})
"""No answer, or half of one: the agent may be at work still, and do what it was told after we asked."""
FAILED = "REC5014"
"""The last words of an agent that failed, before or after it did what it was told."""


class DetachedError(Exception):
    """A person does not want to wait any longer."""


class GoneError(Exception):
    """The host could not be asked, for as long as one tries; carries the last reason."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Line:
    """Asks one host; a broken connection is made anew."""

    def __init__(
        self,
        host: Host,
        connect: Connect,
        *,
        pace: Pace,
        detach: threading.Event,
        on_lost: Callable[[Problem], None],
    ) -> None:
        self.host = host
        self._connect = connect
        self._pace = pace
        self._detach = detach
        self._on_lost = on_lost
        self._transport: Transport | None = None

    def ask(
        self,
        verb: str,
        args: dict[str, Any],
        *,
        deadline_s: float,
        is_final: Callable[[HostError], bool] = lambda _: False,
    ) -> dict[str, Any]:
        """Return the reply, trying again for about a minute.

        Raises:
            HostError: what `is_final` says, or what can never work.
            GoneError: the time is up.
            DetachedError: nobody wants to know any more.
        """
        began = self._pace.monotonic()
        for delay in _delays():
            if self._detach.is_set():
                raise DetachedError
            try:
                return self._open().ask(verb, args, deadline_s=deadline_s)
            except HostError as exc:
                self.close()
                problem = exc.problems[0]
                if problem.code in FINAL or is_final(exc):
                    raise
                if self._pace.monotonic() - began + delay > GIVE_UP_S:
                    raise GoneError(problem) from exc
                self._on_lost(problem)
            self._pace.wait(delay, self._detach)
        raise AssertionError("the delays never end")

    def close(self) -> None:
        """Let go of the connection; the next request makes a new one."""
        transport, self._transport = self._transport, None
        if transport:
            transport.close()

    def _open(self) -> Transport:
        if self._transport is None:
            self._transport = self._connect(self.host)
        return self._transport


def _delays() -> Iterator[float]:
    for delay in BACK_OFF_S:
        yield delay * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, guards nothing
    while True:
        yield BACK_OFF_S[-1] * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, guards nothing
