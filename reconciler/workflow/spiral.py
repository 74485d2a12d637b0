"""Deeds on what the spiral runs and leaves behind: its reaper, its jobs, and the journal of a service.

Must not: start a loop; systemd does that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from reconciler.model.desired import Host
from reconciler.workflow.repository import Repository, on_host, select_hosts

if TYPE_CHECKING:
    from reconciler.model.journal_lines import JobResult, JobStart, LogLine
    from reconciler.model.reaped import Reaped


def hosts_with_reaper(repository: Repository) -> tuple[Host, ...]:
    """Return the hosts whose spiral has a reaper, by name."""
    spiral = repository.fleet.spiral
    if spiral is None or spiral.reaper is None:
        return ()
    return tuple(host for host in select_hosts(repository.fleet, ()) if host.has_spiral)


def reap_host(repository: Repository, host: Host, *, go: bool, owner: str) -> Reaped:
    """Say what the reaper of one host would let go, or have it done: all of `recon reap` for a host."""
    from reconciler.apply.reap import reap

    return on_host(repository, host, lambda host, connect: reap(host, connect, go=go, owner=owner))


def run_host_job(
    repository: Repository,
    host: Host,
    job: str,
    *,
    owner: str,
    on_start: Callable[[JobStart], None],
    on_lines: Callable[[tuple[LogLine, ...]], None],
    detach: threading.Event,
) -> JobResult:
    """Start a job on one host and follow it to its end: all of `recon run`."""
    from reconciler.apply.jobs import run_job

    return on_host(
        repository,
        host,
        lambda host, connect: run_job(
            host, job, connect, owner=owner, on_start=on_start, on_lines=on_lines, detach=detach
        ),
    )


def show_host_log(
    repository: Repository,
    host: Host,
    service: str,
    *,
    lines: int,
    follows: bool,
    on_lines: Callable[[tuple[LogLine, ...]], None],
    detach: threading.Event,
) -> str:
    """Show the journal of a service on one host: all of `recon logs`."""
    from reconciler.apply.jobs import show_log

    return on_host(
        repository,
        host,
        lambda host, connect: show_log(
            host, service, connect, lines=lines, follows=follows, on_lines=on_lines, detach=detach
        ),
    )
