"""Follow a transaction on a host to its end, from the first line or from where one left off.

The host does not need us for it: losing the connection, or leaving, changes nothing there.

Must not: start, stop or change anything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from pydantic import ValidationError

from reconciler.apply import outcomes
from reconciler.apply.events import HostEvent, HostLost, HostProgress
from reconciler.apply.line import DetachedError, GoneError, Line
from reconciler.apply.outcomes import Task
from reconciler.apply.pace import Pace, RealPace
from reconciler.errors import HostError, Problem
from reconciler.hosts.transport import Connect
from reconciler.model.base import Wire
from reconciler.model.desired import Host
from reconciler.model.outcome import JournalEvent, Outcome

WAIT_S = 2.0
TRAVEL_S = 20.0
STARTUP_S = 15.0
"""How long there may be neither an executor nor an outcome before it counts as gone: systemd is starting it, or the
host is between ending the unit and writing down how it went."""
_IDLE_S = 0.2


def follow(
    task: Task,
    line: Line,
    *,
    on_event: Callable[[HostEvent], None],
    pace: Pace,
    detach: threading.Event,
    after_seq: int = 0,
) -> Outcome:
    """Return how the transaction ended; never raises for what the host or the way to it does."""
    started_at, began = pace.wall(), pace.monotonic()
    seen, last_sign = after_seq, began
    while True:
        asked = pace.monotonic()
        answer = _ask(task, line, seen)
        if isinstance(answer, Problem):
            return task.end("unknown", answer, started_at=started_at, elapsed_s=pace.monotonic() - began)
        # A request that was sent twice brings the same lines twice.
        news = [event for event in answer.events if event.seq > seen]
        for event in news:
            seen = event.seq
            on_event(HostProgress(task.host, event))
        if answer.outcome:
            return answer.outcome
        now = pace.monotonic()
        if answer.active or news:
            last_sign = now
        elif now - last_sign > STARTUP_S:
            problem = outcomes.vanished(task.host, task.txid, has_begun=seen > 0)
            return task.end("unknown", problem, started_at=started_at, elapsed_s=now - began)
        if not news and now - asked < _IDLE_S:
            # The host should have waited for news; without this a host that does not would be asked in a circle.
            pace.wait(_IDLE_S, detach)


class _Answer(Wire):
    """The reply to `follow`."""

    events: tuple[JournalEvent, ...]
    outcome: Outcome | None
    active: bool


def _ask(task: Task, line: Line, after_seq: int) -> _Answer | Problem:
    args = {"txid": task.txid, "after_seq": after_seq, "wait_s": WAIT_S}
    try:
        answer = _Answer.model_validate(line.ask("follow", args, deadline_s=WAIT_S + TRAVEL_S))
    except DetachedError:
        return outcomes.detached(task.host, task.txid)
    except GoneError as exc:
        return outcomes.lost_for_good(task.host, task.txid, exc.problem)
    except HostError as exc:
        return outcomes.lost_for_good(task.host, task.txid, exc.problems[0])
    except ValidationError as exc:
        return outcomes.unreadable(task.host, task.txid, str(exc)[:300])
    ended = answer.outcome
    # The end of an order that the host could not read names no host.
    if ended and (ended.txid != task.txid or ended.host not in {"", *line.host.names}):
        other = f"it tells how transaction {ended.txid[:80]} of {ended.host[:80]} ended"
        return outcomes.unreadable(task.host, task.txid, other)
    return answer


def attach(
    host: Host,
    txid: str,
    connect: Connect,
    *,
    on_event: Callable[[HostEvent], None],
    detach: threading.Event | None = None,
    pace: Pace | None = None,
) -> Outcome:
    """Follow a transaction that somebody started before, from its first line."""
    pace, detach = pace or RealPace(), detach or threading.Event()
    line = Line(host, connect, pace=pace, detach=detach, on_lost=lost_reporter(host.name, on_event))
    try:
        return follow(Task(host=host.name, txid=txid), line, on_event=on_event, pace=pace, detach=detach)
    finally:
        line.close()


def lost_reporter(host: str, on_event: Callable[[HostEvent], None]) -> Callable[[Problem], None]:
    """Return what tells that the connection to a host broke."""
    return lambda problem: on_event(HostLost(host, f"{problem.code}: {problem.summary}"))
