"""What a move takes over of somebody else: which units and containers, whether that can be undone, how it is told.

Pure. Must not: take over what no service that starts names, or what is shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.model.base import format_size
from reconciler.model.intent import Member, SlotMove, TakeOver
from reconciler.model.observed import Adoptee, GpuProcess, HostState, Known
from reconciler.model.plan import PlanStep, Refusal
from reconciler.model.subject import Subject
from reconciler.planner.around import STOP_MARGIN_S
from reconciler.planner.budget import why
from reconciler.planner.case import Case

_UNTOLD = "how much GPU memory it holds cannot be told"


def taken_over(members: Iterable[Member], subject: Subject) -> tuple[TakeOver, ...]:
    """Return what services that start take over: of what they name, that which runs or starts with the host."""
    seen = _seen(subject.state)
    shared = {service.unit for service in subject.host.shared}
    found: dict[str, TakeOver] = {}
    for member in members:
        for name in member.adopts:
            there = seen.get(name)
            if there is None or there.kind == "missing" or name in shared or not (there.is_up or there.boots):
                continue
            entry = TakeOver(name=name, kind=there.kind, service=member.service, is_up=there.is_up, boots=there.boots)
            found.setdefault(name, entry)
    return tuple(found[name] for name in sorted(found))


def is_taken_over(process: GpuProcess, move: SlotMove, state: HostState) -> bool:
    """Say whether a holder of GPU memory is what a move takes over."""
    seen = _seen(state)
    for each in move.takes_over:
        if each.kind == "unit" and process.unit == each.name:
            return True
        if (
            each.kind == "container"
            and process.container is not None
            and process.container == seen[each.name].container
        ):
            return True
    return False


def can_be_taken_over(case: Case) -> Iterator[Refusal]:
    """A take-over that could not be undone, or would not last, must not begin; nor a start beside what has to wait."""
    adoptees, shared = case.state.adoptees, {service.unit for service in case.host.shared}
    for move in case.moves:
        names = sorted({name for member in move.starting() for name in member.adopts} - shared)
        if names and not isinstance(adoptees, Known):
            yield Refusal(
                code="REC7490",
                summary=f"how {', '.join(names)} of {case.host.name} is cannot be told",
                detail=why(adoptees),
                fix=f"recon status --host {case.host.name}",
            )
        for name in names:
            # Also what is off just now: one that a timer starts, or that has another name, is not off for good.
            there = _seen(case.state).get(name)
            if there is not None and there.problem:
                yield Refusal(
                    code="REC7490",
                    summary=f"{name} of {case.host.name} cannot be taken over",
                    detail=there.problem,
                    fix=there.fix,
                )


def steps(move: SlotMove, subject: Subject) -> Iterator[PlanStep]:
    """Yield the lines about what is taken over: what is waited for, then its stop, each a line of its own."""
    seen, members = _seen(subject.state), {member.service: member for member in move.starting()}
    for each in move.takes_over:
        if each.is_up:
            yield _drain_step(each, members[each.service])
    for each in move.takes_over:
        yield PlanStep(
            step="take_over",
            text=f"takes over {each.name}: {_what(each)}",
            deadline_s=seen[each.name].stop_timeout_s + STOP_MARGIN_S if each.is_up else None,
            on_failure="roll back: it is brought back as it was",
        )


def cut_off(move: SlotMove, subject: Subject) -> Iterator[str]:
    """Yield who is cut off by a take-over, and the GPU memory that it holds."""
    for each in move.takes_over:
        if each.is_up:
            yield f"{each.name} serves until {each.service} takes its place; {_held(each, move, subject)}"


def _what(each: TakeOver) -> str:
    off = "kept from starting with the host" if each.boots else "kept off"
    return f"stopped, and {off}" if each.is_up else off


def _drain_step(each: TakeOver, member: Member) -> PlanStep:
    if not member.in_flight:
        text = f"nothing to wait for on {each.name}: {member.service} does not know how to ask, its work is cut"
        return PlanStep(step="drain", text=text, on_failure="-")
    forced = member.on_timeout == "force"
    return PlanStep(
        step="drain",
        text=f"wait until {each.name} has nothing in flight, asked as {member.service} on port {member.port};"
        " new requests still get in",
        deadline_s=member.drain_timeout_s,
        on_failure="cut what it still does (on_timeout: force)" if forced else f"abort: {each.name} goes on serving",
    )


def _held(each: TakeOver, move: SlotMove, subject: Subject) -> str:
    state = subject.state
    if not isinstance(state.gpus, Known):
        return _UNTOLD
    lone = move.model_copy(update={"takes_over": (each,)})
    looked = [gpu.processes.value for gpu in state.gpus.value if isinstance(gpu.processes, Known)]
    processes = [process for found in looked for process in found if is_taken_over(process, lone, state)]
    if not processes:
        return "it holds no GPU memory" if len(looked) == len(state.gpus.value) else _UNTOLD
    sizes = [process.bytes.value for process in processes if isinstance(process.bytes, Known)]
    if len(sizes) < len(processes) or len(looked) < len(state.gpus.value):
        return _UNTOLD
    return f"it holds {format_size(sum(sizes))} of GPU memory"


def _seen(state: HostState) -> dict[str, Adoptee]:
    return {each.name: each for each in state.adoptees.value} if isinstance(state.adoptees, Known) else {}
