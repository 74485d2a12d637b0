"""The checks of an enrolment for hosts that git declares, all at the same time.

Must not: change anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from reconciler.errors import Problem
from reconciler.model.desired import Fleet, Host
from reconciler.model.survey import Check, Checkup
from reconciler.planner.checkup import judge
from reconciler.workflow.repository import Repository

if TYPE_CHECKING:
    from reconciler.hosts.survey import Answer


def check_hosts(
    repository: Repository, hosts: tuple[Host, ...], *, on_done: Callable[[str, object], None] | None = None
) -> tuple[Checkup, ...]:
    """Check hosts that git declares, all at the same time: all of `recon doctor`."""
    from reconciler.hosts.connect import connector
    from reconciler.hosts.survey import ask_all

    fleet = repository.fleet
    connect = connector(fleet, repository.root)
    try:
        answers = ask_all({host.name: connect(host) for host in hosts}, on_done)
    finally:
        connect.close()
    return tuple(_checkup(fleet, host, answers[host.name]) for host in hosts)


def _checkup(fleet: Fleet, host: Host, answer: Answer) -> Checkup:
    if answer.survey is None:
        problem = answer.problem or Problem("REC5005", "the host's reply is not valid")
        text = "; ".join(part for part in (problem.summary, problem.detail) if part)
        ssh = Check(name="ssh", verdict="failed", text=f"[{problem.code}] {text}", fix=problem.fix)
        return Checkup(host=host.name, checks=(ssh,), code=problem.code)
    is_simulated = fleet.transport == "sim"
    ssh = Check(name="ssh", verdict="ok", text="simulated" if is_simulated else _way(host))
    checks = judge(
        answer.survey,
        offset_s=None if is_simulated else answer.offset_s,
        owners=(f"{fleet.name}/{host.name}", *([host.formerly] if host.formerly else [])),
        platform=host.platform,
        scope=getattr(host, "scope", "system"),
        mounts=host.share is not None and host.share.role == "worker",
    )
    return Checkup(host=host.name, checks=(ssh, *checks))


def _way(host: Host) -> str:
    key = "its key is pinned in git" if host.host_key else "its key is in known_hosts"
    return f"{host.ssh.user}@{host.address}, port {host.ssh.port}; {key}"
