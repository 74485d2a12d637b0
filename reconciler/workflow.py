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
from reconciler.errors import Problem, RefusedError, UsageError
from reconciler.load.fleet import collection_paused, load_fleet, load_templates
from reconciler.load.source import load_source, undeclared
from reconciler.model.desired import Fleet, Host, Source
from reconciler.model.observed import Observation, Unreachable
from reconciler.model.plan import HostPlan, Plan, WayBack
from reconciler.model.rendered import RenderedHost
from reconciler.model.subject import look_at
from reconciler.planner import assemble, plan_host, plan_unreachable
from reconciler.planner.way_back import said_of
from reconciler.render import Memo

if TYPE_CHECKING:
    from reconciler.apply.events import HostEvent
    from reconciler.apply.release import Released
    from reconciler.hosts.generation import GenerationReply
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
    with collection_paused():
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
            plan_one(rendered[host.name], host, answers[host.name], fleet=fleet, renews_manifest=renews_manifest)
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
) -> tuple[Repository, Plan]:
    """Load, render, observe, compare and plan: all of `recon plan`.

    `renews_manifest`: a host whose committed manifest does not verify gets a plan where git tells all that runs.
    """
    repository = open_repository(root)
    hosts = select_hosts(repository.fleet, patterns)
    rendered = render_hosts(repository, hosts)
    answers = observe_hosts(repository, hosts, rendered, on_done=on_done)
    return repository, plan_fleet(repository, hosts, rendered, answers, now=now, renews_manifest=renews_manifest)


def make_way_back(
    root: Path,
    name: str,
    number: int | None,
    *,
    now: float,
    on_done: Callable[[str, Observation], None] | None = None,
) -> tuple[Repository, Plan]:
    """Plan a host's way back to one of its generations: all of `recon rollback` before the question.

    Raises:
        UsageError: not exactly one host is meant.
        RefusedError: that generation cannot be gone back to.
        HostError: the host has no such generation, or did not answer.
    """
    from reconciler.hosts.connect import connector
    from reconciler.hosts.generation import ask_generation, rendered_of

    repository = open_repository(root)
    host = _only(select_hosts(repository.fleet, [name]), name)
    connect = connector(repository.fleet, root)
    try:
        reply = ask_generation(host, connect, number)
    finally:
        connect.close()
    then = _as_it_was(host, reply)
    rendered = {host.name: rendered_of(then, reply)}
    answers = observe_hosts(repository, (then,), rendered, on_done=on_done)
    plan = _toward(repository, then, rendered[host.name], answers[host.name], reply, now=now)
    return repository, plan


def _only(hosts: tuple[Host, ...], name: str) -> Host:
    if len(hosts) == 1:
        return hosts[0]
    detail = f"'{name}' matches {', '.join(host.name for host in hosts)}"
    raise UsageError(Problem("REC7018", "a way back is one host's", detail, "recon rollback HOST"))


def _as_it_was(host: Host, reply: GenerationReply) -> Host:
    """Return a host as git has it, with the covens it had in a generation."""
    live = reply.manifest.live
    if reply.number == reply.committed:
        detail = f"generation {reply.number} is the committed one of {host.name}"
        raise RefusedError(Problem("REC7036", "that is where the host is", detail, f"recon apply --host {host.name}"))
    if set(live) != {slot.name for slot in host.slots}:
        now = ", ".join(slot.name for slot in host.slots)
        detail = f"generation {reply.number} has slots {', '.join(sorted(live))}, git says {now}"
        fix = f"revert the commit that changed the slots, then recon apply --host {host.name}"
        raise RefusedError(Problem("REC7036", "the host had other slots then", detail, fix))
    slots = tuple(slot.model_copy(update={"coven": live[slot.name]}) for slot in host.slots)
    return host.model_copy(update={"slots": slots, "may_run": tuple(group.coven for group in reply.manifest.groups)})


def _toward(
    repository: Repository,
    host: Host,
    rendered: RenderedHost,
    answer: Observation,
    reply: GenerationReply,
    *,
    now: float,
) -> Plan:
    fleet, written = repository.fleet, reply.manifest
    if isinstance(answer, Unreachable):
        planned = plan_unreachable(host, answer)
    else:
        subject = look_at(rendered, host, answer)
        changes = said_of(diff_host(subject), reply.number)
        planned = plan_host(subject, changes, fleet=fleet.name, ignored=ignored_facts(answer), is_way_back=True)
    planned = planned.model_copy(update={"origin": f"generation {reply.number}"})
    plan = assemble(
        fleet,
        [planned],
        {file.body_sha256: file.body for file in rendered.files},
        source=Source.of_label(written.source_commit),
        now=now,
        targeted=(host.name,),
        warnings=tuple(_git_goes_on(fleet.hosts[host.name], host)),
    )
    way_back = WayBack(
        host=host.name,
        generation=reply.number,
        from_generation=reply.committed,
        source_commit=written.source_commit,
        applied_by=written.owner,
    )
    return plan.model_copy(update={"way_back": way_back})


def _git_goes_on(declared: Host, then: Host) -> Iterable[str]:
    """Yield what the next apply would do about a way back: git is not changed by it."""
    moved = [slot.coven or "nothing" for slot, was in zip(declared.slots, then.slots, strict=True) if slot != was]
    what = f"declares {', '.join(moved)} for {declared.name}" if moved else f"is not changed for {declared.name}"
    yield f"git {what}: the next recon apply goes there again, so revert it in git too"


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


def clear_alerts(repository: Repository, hosts: Iterable[Host]) -> dict[str, int]:
    """Clear the alerts of hosts; return how many each had."""
    from reconciler.apply.alerts import clear
    from reconciler.hosts.connect import connector

    connect = connector(repository.fleet, repository.root)
    try:
        return {host.name: clear(host, connect) for host in hosts}
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
