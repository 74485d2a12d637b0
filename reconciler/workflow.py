"""The stages strung together: load, render, observe, diff, plan, apply.

Every command is one of these strings. Must not: decide, print, or know which view shows the result.
"""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.diff import diff_host, ignored_facts
from reconciler.errors import Problem, UsageError
from reconciler.load.fleet import collection_paused, load_fleet, load_templates
from reconciler.load.source import load_source, undeclared
from reconciler.model.desired import Fleet, Host, Source
from reconciler.model.observed import Observation, Unreachable
from reconciler.model.plan import HostPlan, Plan
from reconciler.model.rendered import RenderedHost
from reconciler.planner import assemble, plan_host, plan_unreachable
from reconciler.render import Memo

if TYPE_CHECKING:
    from reconciler.apply.events import HostEvent
    from reconciler.apply.release import Released
    from reconciler.model.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Repository:
    """A state repository as it was read: what git says, from which commit, with which templates."""

    root: Path
    fleet: Fleet
    source: Source
    templates: dict[str, str]


def open_repository(root: Path) -> Repository:
    """Read a state repository whole; DesiredStateError names everything that is wrong with it."""
    return Repository(root=root, fleet=load_fleet(root), source=load_source(root), templates=load_templates(root))


def select_hosts(fleet: Fleet, patterns: Iterable[str]) -> tuple[Host, ...]:
    """Return the hosts that match any of the shell-style patterns, all of them when there are no patterns."""
    wanted = tuple(patterns)
    if not wanted:
        return tuple(fleet.hosts[name] for name in sorted(fleet.hosts))
    found: dict[str, Host] = {}
    for pattern in wanted:
        matching = fnmatch.filter(sorted(fleet.hosts), pattern)
        if not matching:
            raise UsageError(
                Problem(
                    code="REC7020",
                    summary=f"no host matches '{pattern}'",
                    detail=f"hosts of {fleet.name}: {', '.join(sorted(fleet.hosts))}",
                    fix="recon status",
                )
            )
        found |= {name: fleet.hosts[name] for name in matching}
    return tuple(found[name] for name in sorted(found))


def render_hosts(repository: Repository, hosts: Iterable[Host]) -> dict[str, RenderedHost]:
    """Return the files of every host."""
    memo = Memo(repository.fleet, repository.templates)
    return {host.name: memo.host(host) for host in hosts}


def observe_hosts(
    repository: Repository,
    hosts: tuple[Host, ...],
    rendered: Mapping[str, RenderedHost],
    *,
    on_done: Callable[[str, Observation], None] | None = None,
) -> dict[str, Observation]:
    """Ask every host once, all at the same time; one that does not answer is a state, not an error."""
    from reconciler.hosts.connect import connector
    from reconciler.hosts.observe import observe_fleet

    connect = connector(repository.fleet, repository.root)
    try:
        return observe_fleet(
            repository.fleet,
            [host.name for host in hosts],
            connect,
            images_by_host={name: _images(files) for name, files in rendered.items()},
            expect_by_host={
                name: {file.name: file.body_sha256 for file in files.files} for name, files in rendered.items()
            },
            on_done=on_done,
        )
    finally:
        connect.close()


def _images(files: RenderedHost) -> tuple[str, ...]:
    members = [member for group in files.groups.values() for member in group.members]
    return tuple(sorted({member.image for member in (*members, *files.residents)}))


def plan_one(rendered: RenderedHost, host: Host, answer: Observation, *, fleet: str) -> HostPlan:
    """Return the plan of one host of a fleet from what it said."""
    if isinstance(answer, Unreachable):
        return plan_unreachable(host, answer)
    return plan_host(
        rendered, host, answer, diff_host(rendered, host, answer), fleet=fleet, ignored=ignored_facts(answer)
    )


def plan_fleet(
    repository: Repository,
    hosts: tuple[Host, ...],
    rendered: Mapping[str, RenderedHost],
    answers: Mapping[str, Observation],
    *,
    now: float,
) -> Plan:
    """Return the plan for the hosts asked about; a plan for fewer than all of them says which."""
    name = repository.fleet.name
    with collection_paused():
        plans = [plan_one(rendered[host.name], host, answers[host.name], fleet=name) for host in hosts]
    bodies = {file.body_sha256: file.body for files in rendered.values() for file in files.files}
    targeted = tuple(host.name for host in hosts) if len(hosts) < len(repository.fleet.hosts) else ()
    warnings = tuple(
        f"{name} is no longer declared: what it runs goes on, and nobody looks after it"
        for name in undeclared(repository.root, repository.fleet.hosts)
    )
    return assemble(
        repository.fleet, plans, bodies, source=repository.source, now=now, targeted=targeted, warnings=warnings
    )


def make_plan(
    root: Path,
    patterns: Iterable[str] = (),
    *,
    now: float,
    on_done: Callable[[str, Observation], None] | None = None,
) -> tuple[Repository, Plan]:
    """Load, render, observe, compare and plan: all of `recon plan`."""
    repository = open_repository(root)
    hosts = select_hosts(repository.fleet, patterns)
    rendered = render_hosts(repository, hosts)
    answers = observe_hosts(repository, hosts, rendered, on_done=on_done)
    return repository, plan_fleet(repository, hosts, rendered, answers, now=now)


def run_plan(
    repository: Repository,
    plan: Plan,
    *,
    owner: str,
    on_event: Callable[[HostEvent], None],
    stop: threading.Event,
    detach: threading.Event,
) -> tuple[Outcome, ...]:
    """Hand every host its order and follow it to its end: all of `recon apply` after the question."""
    from reconciler.apply.run import apply_plan
    from reconciler.hosts.connect import connector

    connect = connector(repository.fleet, repository.root)
    try:
        return apply_plan(plan, repository.fleet, connect, owner=owner, on_event=on_event, stop=stop, detach=detach)
    finally:
        connect.close()


def follow_host(
    repository: Repository, host: Host, txid: str, *, on_event: Callable[[HostEvent], None], detach: threading.Event
) -> Outcome:
    """Follow a transaction on one host from its first line to its end."""
    from reconciler.apply.follow import attach
    from reconciler.hosts.connect import connector

    connect = connector(repository.fleet, repository.root)
    try:
        return attach(host, txid, connect, on_event=on_event, detach=detach)
    finally:
        connect.close()


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
    from reconciler.hosts.connect import connector

    connect = connector(repository.fleet, repository.root)
    try:
        demand = Demand(host=host, epoch=epoch, reason=reason, owner=owner, name=f"release-{new_run_id(RealPace())}")
        return force_release(demand, connect, on_wait=on_wait)
    finally:
        connect.close()
