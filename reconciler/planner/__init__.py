"""From changes to a plan: the whole of it on one screen.

Must not: ask a host anything, know a clock, or show anything.
"""

from __future__ import annotations

from collections.abc import Iterable

from reconciler import __version__
from reconciler.model import live
from reconciler.model.base import format_duration
from reconciler.model.change import Change
from reconciler.model.desired import Fleet, Host, Source
from reconciler.model.digest import plan_digest, target_digest
from reconciler.model.intent import Group, SlotMove
from reconciler.model.observed import HostState, Known, Unknown, Unreachable
from reconciler.model.plan import HostPlan, HostStatus, Plan, PlannedChange, Refusal, Summary
from reconciler.model.rendered import RenderedHost
from reconciler.model.subject import Subject
from reconciler.planner.budget import budget_of, why
from reconciler.planner.case import Case
from reconciler.planner.guards import refusals
from reconciler.planner.guards_held import who_else
from reconciler.planner.guards_spiral import guardrails_of, held_lines
from reconciler.planner.health import health_warnings, model_warnings
from reconciler.planner.orders import host_order, planned_changes
from reconciler.planner.scheduled import schedule_now, schedule_warnings
from reconciler.planner.transitions import describe_move, slot_moves

WATCHDOG_SILENT_S = 600.0
WATCHDOG_SILENT_LOOKS = 10
"""A look that restarts something takes as long as the stop and the release of memory; past this it is no look."""

HOLDING = frozenset({"REC8012", "REC8013", "REC8021", "REC7150", "REC7232", "REC7300", "REC7301"})
"""Refusals that mean "somebody else has it", not "this is wrong"."""


def plan_unreachable(host: Host, answer: Unreachable) -> HostPlan:
    """Return the plan of a host that did not answer: nothing is known, so nothing is planned."""
    return HostPlan(
        host=host.name,
        status="unreachable",
        reason=f"[{answer.code}] {answer.reason}",
        observed_fingerprint=None,
        observed_at=None,
        from_generation=None,
        live={},
    )


def plan_host(
    subject: Subject, changes: tuple[Change, ...], *, fleet: str, ignored: int, is_way_back: bool = False
) -> HostPlan:
    """Return what would be done on one host of a fleet, or why it will not be."""
    host, state = subject.host, subject.state
    moves = slot_moves(subject, changes, is_way_back=is_way_back)
    asked = moves or any(change.kind == "resident" for change in changes)
    slots = host.slots if asked else ()
    budgets = {slot.name: budget_of(subject, slot.name, _wanted(subject.rendered, slot.name)) for slot in slots}
    case = Case(f"{fleet}/{host.name}", subject, changes=changes, moves=moves, budgets=budgets, is_way_back=is_way_back)
    refused = refusals(case)
    order = None if refused else host_order(subject, changes, moves)
    return HostPlan(
        host=host.name,
        status=_status(refused),
        reason="; ".join(refusal.summary for refusal in refused),
        observed_fingerprint=state.fingerprint,
        observed_at=state.identity.wall_time,
        from_generation=live.committed_number(state),
        live={slot: found[0] if found else None for slot, found in subject.running.items()},
        transitions=tuple(describe_move(move, subject, changes, budgets[move.slot]) for move in moves),
        changes=tuple(planned_changes(host, changes)),
        refusals=refused,
        ignored=ignored,
        warnings=(*who_else(case, refused), *_warnings(subject, moves)),
        unknowns=tuple(_unknowns(subject)),
        guardrails=guardrails_of(subject),
        held=tuple(held_lines(subject)),
        order=order,
        schedule=schedule_now(subject),
        joins=_joined(subject.rendered, state),
        observed_parts=state.fingerprint_parts if order else {},
    )


def _joined(rendered: RenderedHost, state: HostState) -> str | None:
    """Return the transaction that runs on the host when it makes of it exactly what is declared."""
    executor = state.executor
    same = executor.active and executor.target is not None and executor.target == target_digest(rendered)
    return executor.txid if same else None


def _wanted(rendered: RenderedHost, slot: str) -> Group | None:
    coven = rendered.live[slot]
    return rendered.groups.get(coven) if coven else None


def _status(refused: tuple[Refusal, ...]) -> HostStatus:
    if not refused:
        return "ok"
    return "locked" if all(refusal.code in HOLDING for refusal in refused) else "refused"


def _warnings(subject: Subject, moves: tuple[SlotMove, ...]) -> Iterable[str]:
    state = subject.state
    yield from health_warnings(subject)
    yield from model_warnings(subject)
    starting = [unit for unit in subject.units.values() if unit.active == "activating"]
    for unit in starting:
        if not unit.sub.startswith("auto-restart"):  # that one is a change, with the same words
            crashes = live.crashes(unit)
            yield f"{unit.name} {crashes}, and is starting again" if crashes else f"{unit.name} is starting"
    yield from _watchdog_warnings(subject)
    yield from schedule_warnings(subject, moves)
    for damage in state.damaged:
        yield f"[{damage.code}] {damage.path}: {damage.reason}"
    yield from state.notes


def _watchdog_warnings(subject: Subject) -> Iterable[str]:
    """Yield the alerts that stand, and that nobody looks although git says so."""
    host, state = subject.host, subject.state
    if not isinstance(state.watchdog, Known):
        return
    seen = state.watchdog.value
    for alert in seen.alerts:
        yield f"alert [{alert.code}] {alert.about}: {alert.text}; {alert.fix}"
    if host.watchdog is None or state.executor.active:
        return
    patience = max(WATCHDOG_SILENT_S, WATCHDOG_SILENT_LOOKS * host.watchdog.every)
    silent = live.quiet_s(state) if seen.looked_s is None else seen.looked_s
    if silent > patience:
        yield f"the watchdog has not looked for {format_duration(silent)}: journalctl -u recon-watchdog.service"


def _unknowns(subject: Subject) -> Iterable[str]:
    """Yield what was asked for and could not be read; guards refuse where a transition would depend on it."""
    state = subject.state
    yield from _unread_gpus(state)
    yield from _untold(state)
    for name, health in sorted(state.health.items()):
        if isinstance(health, Unknown):
            yield f"the health of {name}: {health.unknown}"
    for shared in state.shared:
        if isinstance(shared.health, Unknown):
            yield f"the health of shared service {shared.unit}: {shared.health.unknown}"
    unread = [unit for unit in subject.units.values() if isinstance(unit.config_hash, Unknown)]
    for unit in sorted(unread, key=lambda unit: unit.name):
        if unit.active == "active" and unit.name in subject.rendered.member_units():
            yield f"which configuration {unit.name} runs: {why(unit.config_hash)}"


def _unread_gpus(state: HostState) -> Iterable[str]:
    if isinstance(state.gpus, Unknown):
        yield f"the GPUs and who uses them: {state.gpus.unknown}"
    for gpu in state.gpus.value if isinstance(state.gpus, Known) else ():
        for what, fact in (("memory", gpu.memory), ("processes", gpu.processes)):
            if isinstance(fact, Unknown):
                yield f"{what} of GPU {gpu.index}: {fact.unknown}"


def _untold(state: HostState) -> Iterable[str]:
    for what, told in (
        ("what the watchdog says", state.watchdog),
        ("whether the models are there", state.models),
        ("what people have down", state.down),
        ("the guardrails of the spiral", state.spiral),
    ):
        if isinstance(told, Unknown):
            yield f"{what}: {told.unknown}"


def assemble(
    fleet: Fleet,
    hosts: Iterable[HostPlan],
    bodies: dict[str, str],
    *,
    source: Source,
    now: float,
    targeted: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
) -> Plan:
    """Return the plan of a fleet from those of its hosts; `bodies` maps body digests to bodies."""
    plans = tuple(sorted(hosts, key=lambda plan: plan.host))
    wanted = {ref.body_sha256 for plan in plans if plan.order for ref in (*plan.order.quadlets, *plan.order.natives)}
    plan = Plan(
        recon_version=__version__,
        fleet=fleet.name,
        plan_digest="",
        created_at=now,
        source=source,
        targeted=targeted,
        complete=all(plan.status != "unreachable" and not plan.unknowns for plan in plans),
        applyable=any(plan.order for plan in plans),
        hosts=plans,
        blobs={digest: bodies[digest] for digest in sorted(wanted)},
        warnings=warnings,
        ignored_drift_count=sum(plan.ignored for plan in plans),
        summary=_summary(plans),
    )
    return plan.model_copy(update={"plan_digest": plan_digest(plan)})


def _summary(plans: tuple[HostPlan, ...]) -> Summary:
    moves = [move for plan in plans if not plan.refusals for move in plan.transitions]
    changes = [change for plan in plans for change in plan.changes]
    return Summary(
        hosts=len(plans),
        switch=sum(move.disruption == "switch" for move in moves),
        restart=sum(move.disruption == "restart" for move in moves) + _beside(changes, "restart"),
        start=sum(move.disruption == "start" for move in moves) + _beside(changes, "start"),
        stop=sum(move.disruption == "stop" for move in moves) + _beside(changes, "stop"),
        files=sum(change.kind == "file" for change in changes),
        drift=sum(change.cause in {"drift", "both"} for change in changes),
        refused=sum(plan.status in {"refused", "locked"} for plan in plans),
        unreachable=sum(plan.status == "unreachable" for plan in plans),
    )


def _beside(changes: list[PlannedChange], action: str) -> int:
    """Count the residents and left-over services that something is done to, beside the slots."""
    return sum(action in change.actions and change.is_beside_slots for change in changes)
