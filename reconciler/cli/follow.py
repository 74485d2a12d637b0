"""Carrying out and following, for `recon apply`: events to the screen, Ctrl-C that is safe, one exit code.

Must not: decide what happens on a host.
"""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from reconciler.apply.events import HostEvent, HostFinished, HostJoined, HostLost, HostProgress, HostStarted
from reconciler.cli import common
from reconciler.errors import ExitCode, Problem, UsageError
from reconciler.model.base import TXID_PATTERN
from reconciler.model.outcome import Outcome, exit_code_of
from reconciler.model.plan import Plan
from reconciler.views.escape import one_line
from reconciler.views.run import event_line, json_event, outcome_lines, waiting_line

if TYPE_CHECKING:
    from reconciler.workflow.repository import Repository


class Screen:
    """Shows events as they come: JSON lines on stdout, or lines on stderr with a moving one below on a terminal."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._moving = not as_json and sys.stderr.isatty()
        self._paint = common.paint_progress()
        self._running: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()

    def __enter__(self) -> Screen:
        if self._moving:
            threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with self._lock:
            self._wipe()

    def show(self, event: HostEvent) -> None:
        """Show one event; called from one thread at a time. The hosts are followed also when nobody looks any more."""
        with self._lock:
            self._wipe()
            if self._as_json:
                with contextlib.suppress(OSError):
                    common.say(_as_json(event), whole=True)
                    sys.stdout.flush()
            else:
                self._as_text(event)

    def tell(self, text: str) -> None:
        """Show a line about the run itself."""
        with self._lock:
            self._wipe()
            common.tell(text)

    def _as_text(self, event: HostEvent) -> None:
        if isinstance(event, HostStarted):
            self._running[event.host] = ("starting", time.monotonic())
            common.tell(f"{self._paint(event.host, 'bold')} begins transaction {event.txid}")
        elif isinstance(event, HostJoined):
            self._running[event.host] = ("following", time.monotonic())
            name = self._paint(event.host, "bold")
            common.tell(f"{name} already does this: following it, {one_line(event.who)}")
        elif isinstance(event, HostProgress):
            if event.event.status == "begin":
                self._running[event.host] = (event.event.step, time.monotonic())
            common.tell(event_line(event.host, event.event, self._paint))
        elif isinstance(event, HostLost):
            common.tell(
                f"{self._paint(event.host, 'bold')} connection lost, the host goes on: {one_line(event.reason)}"
            )
        else:
            self._running.pop(event.host, None)

    def _tick(self) -> None:
        while not self._over.wait(0.5):
            with self._lock:
                self._wipe()
                if self._running and not self._over.is_set():
                    now = time.monotonic()
                    running = {host: (step, now - since) for host, (step, since) in self._running.items()}
                    self._write(waiting_line(running, self._paint))

    def _wipe(self) -> None:
        if self._moving:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()


def _as_json(event: HostEvent) -> str:
    now = time.time()
    if isinstance(event, HostStarted):
        return json_event("host_start", host=event.host, at=now, txid=event.txid, transitions=event.transitions)
    if isinstance(event, HostJoined):
        return json_event("host_join", host=event.host, at=now, txid=event.txid, who=event.who)
    if isinstance(event, HostProgress):
        return json_event("step", host=event.host, at=now, event=event.event.model_dump(mode="json"))
    if isinstance(event, HostLost):
        return json_event("connection_lost", host=event.host, at=now, reason=event.reason)
    return json_event("host_complete", host=event.host, at=now, outcome=event.outcome.model_dump(mode="json"))


def carry_out(
    repository: Repository,
    made: Plan,
    planned: ExitCode,
    *,
    owner: str,
    as_json: bool,
    tokens: tuple[str, ...] = (),
) -> ExitCode:
    """Apply a plan, show what happens, and return the exit code of the whole run.

    Hosts that the plan refused or could not ask count like hosts that ended so.
    """
    from reconciler import __version__
    from reconciler.workflow.applying import run_plan

    stop, detach = threading.Event(), threading.Event()
    if as_json:
        common.say(
            json_event("version", host=None, at=time.time(), recon=__version__, format_version="1.0"), whole=True
        )
        common.say(json_event("planned", host=None, at=time.time(), plan=made.model_dump(mode="json")), whole=True)
    outcomes: tuple[Outcome, ...] = ()
    if made.applyable or any(plan.joins for plan in made.hosts):
        with Screen(as_json=as_json) as screen, _interruptible(stop, detach, screen):
            outcomes = run_plan(
                repository, made, owner=owner, on_event=screen.show, stop=stop, detach=detach, tokens=tokens
            )
    code = overall(outcomes, planned)
    with common.telling_an_outcome():
        _report(outcomes, code, made, as_json=as_json)
    return code


def overall(outcomes: tuple[Outcome, ...], planned: ExitCode) -> ExitCode:
    """Return the one exit code for how hosts ended and for those that were never begun."""
    ran = exit_code_of(outcomes)
    if planned is ExitCode.OK:
        return ran
    if not outcomes or ran is planned:
        return planned
    return ExitCode.SOME_FAILED


def _report(outcomes: tuple[Outcome, ...], code: ExitCode, made: Plan, *, as_json: bool) -> None:
    if as_json:
        common.say(
            json_event("outcome", host=None, at=time.time(), exit_code=int(code), outcome=code.name.lower()), whole=True
        )
        return
    paint = common.paint()
    if outcomes:
        common.say()
    for outcome in outcomes:
        for line in outcome_lines(outcome, paint):
            common.say(line)
    if code is ExitCode.OK and not outcomes and not made.has_changes:
        common.say("Nothing to do.")
    elif code is ExitCode.OK and not outcomes:
        common.say("Nothing that recon can do: the differences above are for a person.")
    elif code is not ExitCode.OK:
        common.say(paint(f"exit {int(code)}: {code.name.lower().replace('_', ' ')}", "red"))


@contextlib.contextmanager
def _interruptible(stop: threading.Event, detach: threading.Event, screen: Screen) -> Iterator[None]:
    """Make the first Ctrl-C start no further host and the second one let go of those that run; neither hurts a host."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        # A handler runs between two steps of the main thread, which may hold the screen's lock: tell from a thread.
        if stop.is_set():
            detach.set()
            text = "letting go; the hosts finish by themselves: recon status"
        else:
            stop.set()
            text = "no further host is begun; those in transition are followed to their end. Ctrl-C again to let go."
        threading.Thread(target=screen.tell, args=(text,), daemon=True).start()

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def attach_to(txid: str, patterns: list[str], *, as_json: bool) -> ExitCode:
    """Follow a transaction somebody started before, to its end."""
    from reconciler.workflow.applying import follow_host
    from reconciler.workflow.repository import open_for_deeds, select_hosts

    if not re.match(TXID_PATTERN, txid):
        # Most likely a variable that nobody set: what was to be followed is then not known, and nothing is begun.
        raise UsageError(Problem("REC7018", "--attach names no transaction", f"{txid[:80]!a}", "recon status"))
    repository = open_for_deeds(common.SETTINGS.root, on_problems=common.tell_invalid)
    hosts = select_hosts(repository.fleet, patterns)
    if len(hosts) != 1:
        raise UsageError(
            Problem(
                code="REC7018",
                summary="a transaction is followed on one host",
                detail=f"{len(hosts)} hosts are chosen",
                fix=f"recon apply --attach {txid} --host NAME",
            )
        )
    stop, detach = threading.Event(), threading.Event()
    with Screen(as_json=as_json) as screen, _interruptible(stop, detach, screen):
        outcome = follow_host(repository, hosts[0], txid, on_event=screen.show, detach=detach)
    with common.telling_an_outcome():
        if as_json:
            common.say(_as_json(HostFinished(hosts[0].name, outcome)), whole=True)
        else:
            for line in outcome_lines(outcome, common.paint()):
                common.say(line)
    return exit_code_of((outcome,))
