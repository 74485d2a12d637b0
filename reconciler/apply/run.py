"""Apply a plan: give every host its order, follow each to its end, gather how they ended.

Hosts whose slots move go a few at a time, in the plan's order (`policy.concurrent_transitions`); hosts where only files
change go all together. A transition that ended badly stops the ones that have not begun: what broke one host would
likely break the next.

| somebody presses Ctrl-C | |
|---|---|
| once (`stop`) | no further host is begun, those that run are followed to their end |
| twice (`detach`) | nobody is followed any more; the hosts go on by themselves |

Must not: render, plan, or change a host in any other way than by handing it its order.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from reconciler.apply import outcomes
from reconciler.apply.events import HostEvent, HostFinished, HostJoined, HostStarted
from reconciler.apply.follow import follow, lost_reporter
from reconciler.apply.intents import build_intent, check_plan
from reconciler.apply.line import FAILED, FINAL, PROVES_NOTHING, DetachedError, GoneError, Line
from reconciler.apply.outcomes import Task
from reconciler.apply.pace import Pace, RealPace
from reconciler.errors import HostError, Problem, ReconError, UnreachableError
from reconciler.hosts.transport import Connect
from reconciler.model.desired import Fleet
from reconciler.model.intent import Intent
from reconciler.model.outcome import Outcome, State
from reconciler.model.plan import HostPlan, Plan
from reconciler.model.tokens import of_host

CONCURRENCY = 64
HAND_OVER_S = 40.0
"""Under the 45 s within which a connection that went half-open is to be noticed."""
HALTING = frozenset({"rolled_back", "held", "unknown"})
"""Endings after which no further transition begins; the other bad ones say nothing about other hosts."""
_NEVER_SENT = FINAL | {"REC6005", "REC6007"}


@dataclass(frozen=True, slots=True)
class Options:
    """What has a good default.

    Attributes:
        run_id: the transaction's name on every host; made from the time when None.
        concurrency: how many hosts without transitions are served at a time.
        pace: the clock.
        tokens: of locks that the owner of this run holds; they travel beside the orders.
    """

    run_id: str | None = None
    concurrency: int = CONCURRENCY
    pace: Pace = field(default_factory=RealPace)
    tokens: tuple[str, ...] = field(default=(), repr=False)


def new_run_id(pace: Pace) -> str:
    """Return a name for a run that sorts by time, in UTC: a host takes the last name for the newest."""
    now = datetime.fromtimestamp(pace.wall(), UTC)
    return f"{now:%Y%m%dT%H%M%S}.{now.microsecond // 1000:03}Z-{secrets.token_hex(3)}"


def apply_plan(
    plan: Plan,
    fleet: Fleet,
    connect: Connect,
    *,
    owner: str,
    on_event: Callable[[HostEvent], None],
    stop: threading.Event | None = None,
    detach: threading.Event | None = None,
    options: Options | None = None,
) -> tuple[Outcome, ...]:
    """Do what a plan says and return how every host with an order ended, in the plan's order.

    A host on which a transaction already does what is wanted is followed to the end of that one.

    Args:
        plan: the plan, exactly as it was reviewed.
        fleet: where its hosts are, and how many may be in transition at a time.
        connect: how a host is reached.
        owner: who does this, as `user@computer`.
        on_event: told everything as it happens, one call at a time.
        stop: once set, no further host is begun.
        detach: once set, nothing is waited for any more; a KeyboardInterrupt in the calling thread sets both.
        options: see `Options`.

    Raises:
        StaleError, RefusedError: the plan is not what it says; no host was asked anything.
    """
    check_plan(plan, fleet.name)
    options = options or Options()
    txid = options.run_id or new_run_id(options.pace)
    orders = [_Order(build_intent(plan, host, txid=txid, owner=owner), host.live) for host in plan.hosts if host.order]
    joins = [host for host in plan.hosts if host.joins]
    _refuse_strangers([*(order.host for order in orders), *(host.host for host in joins)], fleet)
    run = _Run(
        fleet, connect, _one_at_a_time(on_event), stop or threading.Event(), detach or threading.Event(), options
    )
    moving = [order for order in orders if order.disturbs]
    still = [order for order in orders if not order.disturbs]
    with (
        ThreadPoolExecutor(max(1, min(fleet.policy.concurrent_transitions, len(moving)))) as a_few,
        ThreadPoolExecutor(max(1, min(options.concurrency, len(still) + len(joins)))) as together,
    ):
        running = {order.host: together.submit(run.one, order) for order in still}
        running |= {host.host: together.submit(run.join, host) for host in joins}
        running |= {order.host: a_few.submit(run.one, order) for order in moving}
        try:
            wait(running.values())
        except KeyboardInterrupt:
            # Leaving the block waits for the threads, so they are told first; they then end within a poll.
            run.let_go()
        return tuple(running[host.host].result() for host in plan.hosts if host.host in running)


@dataclass(frozen=True, slots=True)
class _Order:
    """What one host is to do, and what it ran before."""

    intent: Intent
    live: dict[str, str | None]

    @property
    def host(self) -> str:
        return self.intent.host

    @property
    def disturbs(self) -> bool:
        """Say whether anything that runs is stopped or started; files alone disturb nobody."""
        return bool(self.intent.moves or self.intent.restart_residents or self.intent.stop_units)

    @property
    def task(self) -> Task:
        intent = self.intent
        return Task(
            host=intent.host,
            txid=intent.txid,
            owner=intent.owner,
            source_commit=intent.source_commit,
            plan_digest=intent.plan_digest,
            committed=intent.from_generation,
            live=self.live,
        )


class _Run:
    """One apply: what its hosts share, and whether any more may begin."""

    def __init__(
        self,
        fleet: Fleet,
        connect: Connect,
        on_event: Callable[[HostEvent], None],
        stop: threading.Event,
        detach: threading.Event,
        options: Options,
    ) -> None:
        self._fleet = fleet
        self._connect = connect
        self._on_event = on_event
        self._pace = options.pace
        self._tokens = options.tokens
        self._stop = stop
        self._detach = detach
        self._halted_by: Outcome | None = None

    def let_go(self) -> None:
        """Begin nothing more and wait for nothing more."""
        self._stop.set()
        self._detach.set()

    def one(self, order: _Order) -> Outcome:
        """Serve one host to its end."""
        return self._guarded(order.task, lambda: self._one(order), disturbs=order.disturbs)

    def join(self, plan: HostPlan) -> Outcome:
        """Follow a transaction that somebody else began to its end."""
        task = Task(host=plan.host, txid=plan.joins or "")
        return self._guarded(task, lambda: self._join(task, plan), disturbs=False)

    def _guarded(self, task: Task, serve: Callable[[], Outcome], *, disturbs: bool) -> Outcome:
        """Return how a host ended; a mistake of ours about it costs neither its outcome nor that of the others."""
        started_at, began = self._pace.wall(), self._pace.monotonic()
        try:
            return serve()
        except Exception as exc:
            elapsed_s = self._pace.monotonic() - began
            problem = outcomes.failed_here(task.host, task.txid, exc)
            outcome = task.end("unknown", problem, started_at=started_at, elapsed_s=elapsed_s)
            if disturbs:
                self._halted_by = self._halted_by or outcome
            with suppress(Exception):
                self._on_event(HostFinished(task.host, outcome))
            return outcome

    def _one(self, order: _Order) -> Outcome:
        why = self._why_not(order)
        if why:
            now = self._pace.wall()
            outcome = order.task.end("refused", outcomes.not_started(order.host, why), started_at=now, elapsed_s=0.0)
        else:
            self._on_event(HostStarted(order.host, order.intent.txid, len(order.intent.moves)))
            outcome = self._serve(order)
        if order.disturbs and outcome.state in HALTING:
            self._halted_by = self._halted_by or outcome
        self._on_event(HostFinished(order.host, outcome))
        return outcome

    def _join(self, task: Task, plan: HostPlan) -> Outcome:
        host = task.host
        self._on_event(HostJoined(host, task.txid, "; ".join(refusal.detail for refusal in plan.refusals)))
        on_lost = lost_reporter(host, self._on_event)
        line = Line(self._fleet.hosts[host], self._connect, pace=self._pace, detach=self._detach, on_lost=on_lost)
        try:
            outcome = follow(task, line, on_event=self._on_event, pace=self._pace, detach=self._detach)
        finally:
            line.close()
        self._on_event(HostFinished(host, outcome))
        return outcome

    def _why_not(self, order: _Order) -> str | None:
        if self._stop.is_set() or self._detach.is_set():
            return "the run was interrupted before its turn"
        if order.disturbs and self._halted_by:
            return f"{self._halted_by.host} ended {self._halted_by.state.replace('_', ' ')} before its turn"
        return None

    def _serve(self, order: _Order) -> Outcome:
        on_lost = lost_reporter(order.host, self._on_event)
        host = self._fleet.hosts[order.host]
        line = Line(host, self._connect, pace=self._pace, detach=self._detach, on_lost=on_lost)
        try:
            handed = self._hand_over(order, line)
            if isinstance(handed, Outcome):
                return handed
            return follow(handed, line, on_event=self._on_event, pace=self._pace, detach=self._detach)
        finally:
            line.close()

    def _hand_over(self, order: _Order, line: Line) -> Outcome | Task:
        """Give the host its order and return what is to be followed, or how it ended.

        The same order given twice is one order, by its name; and when somebody was faster with another one that wants
        the very same, theirs is followed.
        """
        task, started_at, began = order.task, self._pace.wall(), self._pace.monotonic()

        def end(state: State, problem: Problem) -> Outcome:
            return task.end(state, problem, started_at=started_at, elapsed_s=self._pace.monotonic() - began)

        args: dict[str, Any] = {"intent": order.intent.model_dump(mode="json")}
        if tokens := of_host(self._tokens, order.host):
            args["tokens"] = list(tokens)
        has_left = False

        def is_final(exc: HostError) -> bool:
            # Until something may have got through, a host that cannot be reached is not worth a minute's wait.
            nonlocal has_left
            never_sent = exc.problems[0].code in _NEVER_SENT
            has_left = has_left or not never_sent
            return not isinstance(exc, UnreachableError) or (never_sent and not has_left)

        try:
            reply = line.ask("apply", args, deadline_s=HAND_OVER_S, is_final=is_final)
        except DetachedError:
            return end("unknown", outcomes.detached(task.host, task.txid))
        except GoneError as exc:
            return end("unknown", outcomes.lost_for_good(task.host, task.txid, exc.problem))
        except UnreachableError as exc:
            if has_left:
                return end("unknown", outcomes.lost_for_good(task.host, task.txid, exc.problems[0]))
            return end("unknown", outcomes.not_reached(task.host, exc.problems[0]))
        except HostError as exc:
            code = exc.problems[0].code
            if code in PROVES_NOTHING or self._has_begun(task, line, unless_told=has_left or code == FAILED):
                return task
            return end("refused", exc.problems[0])
        return task if reply.get("launched") is True else self._second(task, reply, end, has_left=has_left)

    def _second(
        self, task: Task, reply: dict[str, Any], end: Callable[[State, Problem], Outcome], *, has_left: bool
    ) -> Outcome | Task:
        """Return what becomes of an order that the host did not begin, for it has another one."""
        if isinstance(reply.get("problem"), dict):
            return end("locked", outcomes.said(reply["problem"]))
        lease = reply["lease"] if isinstance(reply.get("lease"), dict) else None
        if has_left and (lease is None or lease.get("txid") == task.txid):
            # The order that was sent before the connection broke did get there: it is our own executor that runs.
            return task
        if isinstance(reply.get("joins"), str):
            self._on_event(HostJoined(task.host, reply["joins"], outcomes.busy(task.host, lease).detail))
            return replace(task, txid=reply["joins"])
        return end("locked", outcomes.busy(task.host, lease))

    def _has_begun(self, task: Task, line: Line, *, unless_told: bool) -> bool:
        """Ask whether the host runs the transaction although its agent refused the order, or failed at it.

        Args:
            task: the transaction.
            line: the way to the host.
            unless_told: what to believe when the host gives no answer that can be read.
        """
        args = {"txid": task.txid, "after_seq": 0, "wait_s": 0}
        try:
            reply = line.ask("follow", args, deadline_s=HAND_OVER_S, is_final=lambda _: True)
        except UnreachableError:
            # Not known, and `follow` is what finds out.
            return True
        except (HostError, GoneError, DetachedError):
            return unless_told
        return bool(reply.get("active") or reply.get("outcome") or reply.get("events"))


def _refuse_strangers(hosts: list[str], fleet: Fleet) -> None:
    missing = [host for host in hosts if host not in fleet.hosts]
    if missing:
        detail = f"{', '.join(missing)}: in the plan, not in desired/hosts"
        raise ReconError(Problem("REC7032", "the plan has hosts that the fleet does not have", detail, "recon plan"))


def _one_at_a_time(on_event: Callable[[HostEvent], None]) -> Callable[[HostEvent], None]:
    lock = threading.Lock()

    def tell(event: HostEvent) -> None:
        with lock:
            on_event(event)

    return tell
