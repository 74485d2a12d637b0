"""Ask hosts what they are and have, before or after they are recon's: one request each, all at the same time.

Must not: change a host, or judge what it says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import ValidationError

from reconciler.errors import HostError, Problem
from reconciler.hosts.transport import Transport
from reconciler.model.survey import Survey

MAX_PARALLEL = 256
DEADLINE_S = 45.0
"""Connecting, the agent's bytes, and probes of at most ten seconds that run together."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one host said, and how far its clock is from this computer's; or why it could not be asked."""

    survey: Survey | None
    offset_s: float = 0.0
    problem: Problem | None = None


def ask_survey(host: str, transport: Transport, *, wall: Callable[[], float] = time.time) -> Answer:
    """Ask one host; never raises for what the host or the way to it does. The transport stays open."""
    sent = wall()
    try:
        reply = transport.ask("survey", {}, deadline_s=DEADLINE_S)
        received = wall()
        survey = Survey.model_validate(reply)
    except HostError as exc:
        return Answer(None, problem=exc.problems[0])
    except (ValidationError, RecursionError) as exc:
        detail = f"{host} sent a survey recon does not understand: {str(exc)[:200]!a}"
        return Answer(None, problem=Problem("REC5005", "the host's reply is not valid", detail, "update recon"))
    return Answer(survey, _offset(survey.wall_time, sent, received))


def _offset(told: float, sent: float, received: float) -> float:
    """Return what the time of travelling cannot explain; the host looked at its clock somewhere in between."""
    if told > received:
        return told - received
    return min(0.0, told - sent)


def ask_all(transports: Mapping[str, Transport], on_done: Callable[[str, Answer], None] | None) -> dict[str, Answer]:
    """Ask hosts in parallel and close the way to each; `on_done` is called as they answer, in any thread."""

    def one(name: str) -> Answer:
        try:
            answer = ask_survey(name, transports[name])
        finally:
            transports[name].close()
        if on_done:
            on_done(name, answer)
        return answer

    if not transports:
        return {}
    pool = ThreadPoolExecutor(min(MAX_PARALLEL, len(transports)), thread_name_prefix="survey")
    try:
        return dict(zip(transports, pool.map(one, transports), strict=True))
    except BaseException:
        _close(transports.values())
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _close(transports: Iterable[Transport]) -> None:
    for transport in transports:
        transport.close()
