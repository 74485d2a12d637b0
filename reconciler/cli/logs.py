"""`recon logs` and `recon run`: the journal of a unit of recon's, and a job that is started and followed."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import common
from reconciler.errors import ExitCode

if TYPE_CHECKING:
    from reconciler.model.journal_lines import JobStart, LogLine

HostArgument = Annotated[str, typer.Argument(metavar="HOST", help="The host.")]


def logs(
    host: HostArgument,
    service: Annotated[
        str, typer.Argument(metavar="SERVICE", help="A service, coven/service, loop or job of recon's, or its unit.")
    ],
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=10_000, metavar="N", help="How many lines of the past.")
    ] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show what comes, until Ctrl-C.")] = False,
) -> None:
    """Show the journal of a service on a host: of a coven, a resident, the spiral, a job, or recon's own programs.

    Examples: recon logs gh-1 vllm · recon logs gh-1 flux/comfy --lines 200 · recon logs gh-1 worker --follow

    Exit codes: 0 shown · 3 no such service of recon's on the host · 8 the host did not answer.
    """
    from reconciler.workflow.spiral import show_host_log

    repository, chosen = common.open_one(host, what="a journal", command="recon logs HOST SERVICE")
    detach = threading.Event()
    with _leaving(detach):
        show_host_log(repository, chosen, service, lines=lines, follows=follow, on_lines=_show, detach=detach)
    common.finish(ExitCode.OK)


def run(
    host: HostArgument,
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job of desired/workloads/spiral.yaml.")],
) -> None:
    """Start a declared job as its unit on the host and follow its journal to its end.

    Ctrl-C lets go; the job goes on. A job that runs already is followed. Loops are never started by hand: switch the
    spiral on in git.

    Examples: recon run gh-1 refill · recon run gh-1 converge

    Exit codes: 0 the job went well · 1 it failed · 3 no such job, or a loop · 4 held, down or in transition ·
    8 detached, or the host did not answer.
    """
    from reconciler.cli.apply import owner
    from reconciler.views.escape import one_line
    from reconciler.workflow.spiral import run_host_job

    repository, chosen = common.open_one(host, what="a job", command="recon run HOST JOB")

    def on_start(start: JobStart) -> None:
        what = "runs already: following it" if start.joined else "was started"
        common.tell(f"{chosen.name}: {one_line(start.unit)} {what}")

    detach = threading.Event()
    with _leaving(detach):
        result = run_host_job(repository, chosen, job, owner=owner(), on_start=on_start, on_lines=_show, detach=detach)
    common.tell(f"{chosen.name}: {one_line(job)} {'went well' if result.ok else 'failed'}: {one_line(result.text)}")
    common.finish(ExitCode.OK if result.ok else ExitCode.ERROR)


def _show(lines: tuple[LogLine, ...]) -> None:
    import datetime
    import sys

    from reconciler.views.escape import one_line

    for line in lines:
        at = datetime.datetime.fromtimestamp(line.at, tz=datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        common.say(f"{at} {one_line(line.text)}", whole=True)
    if lines:
        sys.stdout.flush()


@contextlib.contextmanager
def _leaving(detach: threading.Event) -> Iterator[None]:
    """Make Ctrl-C let go, which hurts nothing on the host."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        detach.set()

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
