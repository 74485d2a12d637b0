"""Start a job on a host and follow its journal to its end; show the journal of any unit of recon's.

The host does not need us for it: losing the connection, or leaving, changes nothing there.

Must not: start anything twice, or stop anything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from reconciler.apply.line import FAILED, PROVES_NOTHING, DetachedError, GoneError, Line
from reconciler.apply.pace import Pace, RealPace
from reconciler.errors import HostError, LockedError, Problem, RefusedError, UnreachableError
from reconciler.hosts.reply import read
from reconciler.hosts.transport import Connect
from reconciler.model.desired import Host
from reconciler.model.journal_lines import JobPage, JobResult, JobStart, LogLine, LogPage

ASK_S = 40.0
WAIT_S = 2.0
_IDLE_S = 0.2
_FIRST_LINES = 1000
SILENCE_S = 20.0
"""How long a job may neither run nor have ended before nobody knows what became of it."""
_ERRORS = {"REC7392": RefusedError, "REC7393": RefusedError, "REC7394": LockedError}

OnLines = Callable[[tuple[LogLine, ...]], None]


def run_job(
    host: Host,
    job: str,
    connect: Connect,
    *,
    owner: str,
    on_start: Callable[[JobStart], None],
    on_lines: OnLines,
    detach: threading.Event,
    pace: Pace | None = None,
) -> JobResult:
    """Return how the job ended.

    Raises:
        RefusedError: REC7392 no such job, REC7393 that is a loop.
        LockedError: REC7394, not now.
        UnreachableError: REC6008 the outcome is not known, REC6021 a person left.
    """
    pace = pace or RealPace()
    start = _start(host, job, connect, owner)
    on_start(start)
    line = Line(host, connect, pace=pace, detach=detach, on_lost=lambda _problem: None)
    args = {"job": job, "after": start.cursor, "wait_s": WAIT_S}
    last_sign = pace.monotonic()
    try:
        while True:
            page = read(JobPage, host.name, line.ask("job", args, deadline_s=ASK_S, is_final=_is_refusal))
            args["after"] = page.cursor
            on_lines(page.lines)
            if page.result is not None:
                return page.result
            if page.active or page.lines:
                last_sign = pace.monotonic()
            elif pace.monotonic() - last_sign > SILENCE_S:
                detail = f"{start.unit} neither runs nor says how it ended"
                raise UnreachableError(_unknown(host, job, detail))
            if not page.lines:
                # The host should have waited for news; one that does not is not asked in a circle.
                pace.wait(_IDLE_S, detach)
    except DetachedError as exc:
        detail = f"{start.unit} goes on on {host.name}"
        raise UnreachableError(Problem("REC6021", "detached", detail, _again(host, job))) from exc
    except GoneError as exc:
        raise UnreachableError(_unknown(host, job, f"{exc.problem.summary} ({exc.problem.code})")) from exc
    except HostError as exc:
        # It was started: whatever keeps its end from us, nobody knows that.
        if isinstance(exc, UnreachableError):
            raise
        raise _unsure(host, job, exc) from exc
    finally:
        line.close()


def show_log(
    host: Host,
    service: str,
    connect: Connect,
    *,
    lines: int,
    follows: bool,
    on_lines: OnLines,
    detach: threading.Event,
    pace: Pace | None = None,
) -> str:
    """Hand on the last lines of a unit's journal, and with `follows` what comes until a person leaves; return the unit.

    Raises:
        RefusedError: REC7392, no such service of recon's.
        HostError: the host could not be asked.
    """
    pace = pace or RealPace()
    line = Line(host, connect, pace=pace, detach=detach, on_lost=lambda _problem: None)
    # Without a line there is no cursor to follow from: the last one is asked for, and not shown.
    is_for_cursor = follows and lines == 0
    args: dict[str, object] = {"service": service, "lines": 1 if is_for_cursor else lines}
    try:
        while True:
            page = read(LogPage, host.name, line.ask("logs", args, deadline_s=ASK_S, is_final=_is_refusal))
            on_lines(() if is_for_cursor else page.lines)
            if is_for_cursor and not page.cursor:
                # The journal is empty: whatever comes is new, and may be many lines by the next look.
                args = {"service": service, "lines": _FIRST_LINES}
            is_for_cursor = False
            if not follows or detach.is_set():
                return page.unit
            if page.cursor:
                args = {"service": service, "after": page.cursor, "wait_s": WAIT_S}
            if not page.lines:
                pace.wait(_IDLE_S, detach)
    except DetachedError:
        return service
    except GoneError as exc:
        raise UnreachableError(exc.problem) from exc
    except HostError as exc:
        raise _sorted(exc) from exc
    finally:
        line.close()


def _start(host: Host, job: str, connect: Connect, owner: str) -> JobStart:
    """Ask once: a start that may or may not have happened is not asked for again."""
    transport = connect(host)
    try:
        asked = {"job": job, "owner": owner, "host": host.name}
        return read(JobStart, host.name, transport.ask("run", asked, deadline_s=ASK_S))
    except HostError as exc:
        if exc.problems[0].code in PROVES_NOTHING | {FAILED}:
            raise _unsure(host, job, exc) from exc
        raise _sorted(exc) from exc
    finally:
        transport.close()


def _sorted(exc: HostError) -> Exception:
    problem = exc.problems[0]
    return _ERRORS.get(problem.code, type(exc))(problem)


def _is_refusal(exc: HostError) -> bool:
    return not isinstance(exc, UnreachableError)


def _unsure(host: Host, job: str, exc: HostError) -> UnreachableError:
    problem = exc.problems[0]
    return UnreachableError(_unknown(host, job, f"{problem.summary} ({problem.code}: {problem.detail})"))


def _unknown(host: Host, job: str, detail: str) -> Problem:
    return Problem("REC6008", "the outcome is not known", detail, _again(host, job))


def _again(host: Host, job: str) -> str:
    return f"recon logs {host.name} {job} --follow"
