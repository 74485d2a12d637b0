"""What people do to hosts at once, and what they ask them, without a plan.

Must not: change what git declares, or render.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from reconciler.errors import HostError, Problem
from reconciler.model.desired import Host
from reconciler.workflow.repository import Repository, on_host, reached

if TYPE_CHECKING:
    from reconciler.apply.down import Downed, Lifted, Wish
    from reconciler.apply.history import History
    from reconciler.apply.release import Released
    from reconciler.apply.webhooks import Trial
    from reconciler.model.observed_schedule import Job


def clear_alerts(repository: Repository, hosts: Iterable[Host]) -> dict[str, int]:
    """Clear the alerts of hosts; return how many each had."""
    from reconciler.apply.alerts import clear

    with reached(repository) as connect:
        return {host.name: clear(host, connect) for host in hosts}


def try_webhooks(
    repository: Repository, hosts: Iterable[Host], owner: str
) -> tuple[dict[str, Trial], dict[str, HostError]]:
    """Let hosts send a test event to each of their webhooks; return what was answered, and why other hosts did not."""
    from reconciler.apply.webhooks import try_webhooks

    tried: dict[str, Trial] = {}
    lost: dict[str, HostError] = {}
    with reached(repository) as connect:
        for host in hosts:
            try:
                tried[host.name] = try_webhooks(host, connect, owner)
            except HostError as exc:
                lost[host.name] = exc
    return tried, lost


def read_history(
    repository: Repository, hosts: Iterable[Host], limit: int
) -> tuple[dict[str, History], dict[str, str]]:
    """Return the history of hosts, and of those that did not answer why."""
    from reconciler.apply.history import ask_history

    told: dict[str, History] = {}
    lost: dict[str, str] = {}
    with reached(repository) as connect:
        for host in hosts:
            try:
                told[host.name] = ask_history(host, connect, limit)
            except HostError as exc:
                problem = exc.problems[0]
                lost[host.name] = f"[{problem.code}] {problem.summary}: {problem.detail}"
    return told, lost


def release_claim(
    repository: Repository,
    host: Host,
    *,
    epoch: int,
    reason: str,
    owner: str,
    on_wait: Callable[[str | None, str | None], None],
) -> Released:
    """Take the claim of an epoch away from whoever has it on one host: all of `recon lock force-release`."""
    from reconciler.apply.pace import RealPace
    from reconciler.apply.release import Demand, force_release
    from reconciler.apply.run import new_run_id

    with reached(repository) as connect:
        demand = Demand(host=host, epoch=epoch, reason=reason, owner=owner, name=f"release-{new_run_id(RealPace())}")
        return force_release(demand, connect, on_wait=on_wait)


def register_job(
    repository: Repository, host: Host, *, name: str, owner: str, times: Mapping[str, str | None]
) -> tuple[Job, ...]:
    """Register a job of another program on a host: all of `recon schedule register`."""
    from reconciler.apply.registry import job_of

    job = job_of(name, owner, times)
    return _ask_registry(repository, host, {"do": "register", "job": job, "host": host.name})


def remove_job(repository: Repository, host: Host, *, name: str, owner: str) -> tuple[Job, ...]:
    """Remove a job of another program from a host: all of `recon schedule remove`."""
    return _ask_registry(repository, host, {"do": "remove", "name": name, "owner": owner, "host": host.name})


def _ask_registry(repository: Repository, host: Host, request: Mapping[str, Any]) -> tuple[Job, ...]:
    from reconciler.apply.registry import ask_registry

    return on_host(repository, host, lambda host, connect: ask_registry(host, connect, request))


def take_down(repository: Repository, hosts: tuple[Host, ...], wish: Wish) -> dict[str, Downed | Problem]:
    """Stop what a person names on hosts, at once: all of `recon down`."""
    from reconciler.apply.down import down

    with reached(repository) as connect:
        return down(hosts, connect, wish)


def lift_down(repository: Repository, hosts: tuple[Host, ...], wish: Wish) -> dict[str, Lifted | Problem]:
    """Lift what a person took down on hosts: all of `recon up`."""
    from reconciler.apply.down import up

    with reached(repository) as connect:
        return up(hosts, connect, wish)
