"""Plans toward what a host once committed: the way back to a generation, and the restart of one service.

A host is brought back whatever is wrong in git just then, so nothing of git is needed but how to reach it.
Must not: change a host, or take git for what the host had then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from reconciler.diff import diff_host, ignored_facts
from reconciler.errors import Problem, RefusedError
from reconciler.model import live
from reconciler.model.desired import Host, Source
from reconciler.model.observed import HostState, Observation, Unreachable
from reconciler.model.plan import HostPlan, Plan, WayBack
from reconciler.model.rendered import RenderedHost
from reconciler.model.subject import look_at
from reconciler.planner import assemble, plan_host, plan_unreachable
from reconciler.planner.restart import Target, asked_changes, find_target
from reconciler.planner.way_back import said_of
from reconciler.render.units import gate_name
from reconciler.workflow.planning import observe_hosts
from reconciler.workflow.repository import Repository, only_host, reached

if TYPE_CHECKING:
    from reconciler.hosts.generation import GenerationReply


def make_way_back(
    repository: Repository,
    name: str,
    number: int | None,
    *,
    now: float,
    on_done: Callable[[str, Observation], None] | None = None,
    tokens: Sequence[str] = (),
) -> Plan:
    """Plan a host's way back to one of its generations: all of `recon rollback` before the question.

    Raises:
        UsageError: not exactly one host is meant.
        RefusedError: that generation cannot be gone back to.
        HostError: the host has no such generation, or did not answer.
    """
    from reconciler.hosts.generation import ask_generation, rendered_of

    host = only_host(repository, name, what="a way back", command="recon rollback HOST")
    with reached(repository) as connect:
        reply = ask_generation(host, connect, number)
    then = _as_it_was(host, reply)
    rendered = {host.name: rendered_of(then, reply)}
    answers = observe_hosts(repository, (then,), rendered, tokens=tokens, on_done=on_done)
    return _toward(repository, then, rendered[host.name], answers[host.name], reply, now=now)


def make_restart(
    repository: Repository,
    name: str,
    service: str,
    *,
    now: float,
    tokens: Sequence[str] = (),
    on_done: Callable[[str, Observation], None] | None = None,
) -> Plan:
    """Plan the restart of one service of a host, as it was committed: all of `recon restart` before the question.

    Raises:
        UsageError: not exactly one host is meant.
        RefusedError: it is not one service of what runs there, or the host is not as it was committed.
        HostError: nothing is committed on the host, or it did not answer.
    """
    from reconciler.hosts.generation import ask_generation, rendered_of

    host = only_host(repository, name, what="a restart", command="recon restart HOST SERVICE")
    with reached(repository) as connect:
        reply = ask_generation(host, connect, None, is_committed=True)
    then = _with_slots_of(host, reply)
    rendered = rendered_of(then, reply)
    target = find_target(service, then, rendered)
    answer = observe_hosts(repository, (then,), {host.name: rendered}, tokens=tokens, on_done=on_done)[host.name]
    if not isinstance(answer, Unreachable):
        _check_gpus(then, reply, answer, {target.slot})
    planned = _restarting(then, rendered, answer, target, fleet=repository.fleet.name)
    source = Source.of_label(reply.manifest.source_commit)
    bodies = {file.body_sha256: file.body for file in rendered.files}
    return assemble(repository.fleet, [planned], bodies, source=source, now=now, targeted=(host.name,))


def _restarting(host: Host, rendered: RenderedHost, answer: Observation, target: Target, *, fleet: str) -> HostPlan:
    if isinstance(answer, Unreachable):
        return plan_unreachable(host, answer)
    subject = look_at(rendered, host, answer)
    changes = asked_changes(target, subject, diff_host(subject))
    planned = plan_host(subject, changes, fleet=fleet, ignored=ignored_facts(answer))
    order = planned.order.model_copy(update={"asked": f"restart {target.name}"}) if planned.order else None
    # What runs there just now may want the same coven, and does not restart this service for it.
    return planned.model_copy(update={"origin": "asked", "order": order, "joins": None})


def _as_it_was(host: Host, reply: GenerationReply) -> Host:
    """Return a host as git has it, with the covens it had in a generation."""
    if reply.number == reply.committed:
        detail = f"generation {reply.number} is the committed one of {host.name}"
        raise RefusedError(Problem("REC7036", "that is where the host is", detail, f"recon apply --host {host.name}"))
    return _with_slots_of(host, reply)


def _with_slots_of(host: Host, reply: GenerationReply) -> Host:
    had = reply.manifest.live
    if set(had) != {slot.name for slot in host.slots}:
        now = ", ".join(slot.name for slot in host.slots)
        detail = f"generation {reply.number} has slots {', '.join(sorted(had))}, git says {now}"
        fix = f"revert the commit that changed the slots, then recon apply --host {host.name}"
        raise RefusedError(Problem("REC7036", "the host had other slots then", detail, fix))
    slots = tuple(slot.model_copy(update={"coven": had[slot.name]}) for slot in host.slots)
    return host.model_copy(update={"slots": slots, "may_run": tuple(group.coven for group in reply.manifest.groups)})


def _check_gpus(host: Host, reply: GenerationReply, state: HostState, starts_in: Collection[str | None]) -> None:
    """Refuse to start in a slot that git gives other GPUs: memory is verified on those, and others may have the old."""
    from reconciler.hosts.generation import gpus_of

    for slot in (slot for slot in host.slots if slot.name in starts_in):
        now = (slot.gpus,) if isinstance(slot.gpus, str) else slot.gpus
        for group in reply.manifest.groups:
            then = gpus_of(reply, group)
            is_here = group.gate == gate_name(slot.name, group.coven)
            if is_here and then and not live.same_gpus(then, now, state):
                had, has = ", ".join(sorted(then)), ", ".join(sorted(now))
                said = f"slot {slot.name} of generation {reply.number} has GPU {had}, git says {has}"
                fix = f"revert the commit that changed gpus:, or take its GPUs: recon apply --host {host.name}"
                raise RefusedError(Problem("REC7486", "the host had other GPUs then", said, fix))


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
    warnings = [*_git_goes_on(fleet.hosts[host.name], host)]
    if isinstance(answer, Unreachable):
        planned = plan_unreachable(host, answer)
    else:
        subject = look_at(rendered, host, answer)
        warnings += _schedule_goes_on(subject.rendered.live, reply)
        changes = said_of(diff_host(subject), reply.number)
        planned = plan_host(subject, changes, fleet=fleet.name, ignored=ignored_facts(answer), is_way_back=True)
        starts_in = {move.slot for move in planned.transitions if move.disruption != "stop"}
        _check_gpus(host, reply, answer, starts_in)
    planned = planned.model_copy(update={"origin": f"generation {reply.number}"})
    plan = assemble(
        fleet,
        [planned],
        {file.body_sha256: file.body for file in rendered.files},
        source=Source.of_label(written.source_commit),
        now=now,
        targeted=(host.name,),
        warnings=tuple(warnings),
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
    for coven in (slot.coven for slot in then.slots):
        if coven and coven not in declared.may_run:
            yield f"git does not let {then.name} run {coven} any more (may_run: [{', '.join(declared.may_run)}])"


def _schedule_goes_on(in_force: Mapping[str, str | None], reply: GenerationReply) -> Iterable[str]:
    """Yield where the schedule of a generation wants another coven now than it had live when it was committed."""
    for slot, coven in sorted(in_force.items()):
        then = reply.manifest.live.get(slot)
        if coven != then:
            yield (
                f"the schedule has {coven or 'nothing'} in force for slot {slot} now; generation {reply.number} had "
                f"{then or 'nothing'} there, as it does again when the schedule says so"
            )
