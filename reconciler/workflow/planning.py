"""From git and hosts to a plan: render, observe, compare, plan.

Must not: change a host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from reconciler.diff import diff_host, ignored_facts
from reconciler.load.fleet import collection_paused
from reconciler.load.source import undeclared
from reconciler.model.desired import Host
from reconciler.model.observed import Observation, Unreachable
from reconciler.model.plan import HostPlan, Plan
from reconciler.model.rendered import RenderedHost
from reconciler.model.subject import look_at
from reconciler.planner import assemble, plan_host, plan_unreachable
from reconciler.planner.guards_share import as_the_hub_says
from reconciler.render import Memo
from reconciler.workflow.repository import Repository, open_repository, reached, select_hosts


def render_hosts(repository: Repository, hosts: Iterable[Host]) -> dict[str, RenderedHost]:
    """Return the files of every host; of none where git is not valid: hosts are then asked without."""
    if not repository.is_whole:
        return {}
    memo = Memo(repository.fleet, repository.templates)
    with collection_paused():
        return {host.name: memo.host(host) for host in hosts}


def observe_hosts(
    repository: Repository,
    hosts: tuple[Host, ...],
    rendered: Mapping[str, RenderedHost],
    *,
    tokens: Sequence[str] = (),
    on_done: Callable[[str, Observation], None] | None = None,
) -> dict[str, Observation]:
    """Ask every host once, all at the same time; one that does not answer is a state, not an error."""
    from reconciler.hosts.observe import observe_fleet

    with reached(repository) as connect:
        return observe_fleet(
            repository.fleet,
            [host.name for host in hosts],
            connect,
            rendered=rendered,
            tokens=tokens,
            on_done=on_done,
        )


def plan_one(
    rendered: RenderedHost, host: Host, answer: Observation, *, fleet: str, renews_manifest: bool = False
) -> HostPlan:
    """Return the plan of one host of a fleet from what it said."""
    if isinstance(answer, Unreachable):
        return plan_unreachable(host, answer)
    subject = look_at(rendered, host, answer, renews_manifest=renews_manifest)
    return plan_host(subject, diff_host(subject), fleet=fleet, ignored=ignored_facts(answer))


def plan_fleet(
    repository: Repository,
    hosts: tuple[Host, ...],
    rendered: Mapping[str, RenderedHost],
    answers: Mapping[str, Observation],
    *,
    now: float,
    renews_manifest: bool = False,
) -> Plan:
    """Return the plan for the hosts asked about; a plan for fewer than all of them says which."""
    targeted = tuple(host.name for host in hosts) if len(hosts) < len(repository.fleet.hosts) else ()
    warnings = tuple(
        f"{name} is no longer declared: what it runs goes on, and nobody looks after it"
        for name in undeclared(repository.root, repository.fleet.hosts)
    )
    bodies = {file.body_sha256: file.body for files in rendered.values() for file in files.files}
    with collection_paused():
        fleet = repository.fleet.name
        plans = [
            plan_one(
                rendered[host.name],
                host,
                as_the_hub_says(
                    answers[host.name], rendered[host.name], answers.get(host.share.hub) if host.share else None
                ),
                fleet=fleet,
                renews_manifest=renews_manifest,
            )
            for host in hosts
        ]
        return assemble(
            repository.fleet, plans, bodies, source=repository.source, now=now, targeted=targeted, warnings=warnings
        )


def make_plan(
    root: Path,
    patterns: Iterable[str] = (),
    *,
    now: float,
    on_done: Callable[[str, Observation], None] | None = None,
    renews_manifest: bool = False,
    tokens: Sequence[str] = (),
) -> tuple[Repository, Plan]:
    """Load, render, observe, compare and plan: all of `recon plan`.

    `renews_manifest`: a host whose committed manifest does not verify gets a plan where git tells all that runs.
    `tokens` are of locks that the asker holds: those keep nobody out.
    """
    repository = open_repository(root)
    hosts = select_hosts(repository.fleet, patterns)
    rendered = render_hosts(repository, hosts)
    answers = observe_hosts(repository, hosts, rendered, tokens=tokens, on_done=on_done)
    return repository, plan_fleet(repository, hosts, rendered, answers, now=now, renews_manifest=renews_manifest)
