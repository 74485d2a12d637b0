"""The lines of a plan about what stands around a coven's steps: hooks, what keeps new requests out, the spiral.

Pure. Must not: know the order of the steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from reconciler.model.base import format_duration, format_size
from reconciler.model.intent import Group, HookCall, Member, SlotMove
from reconciler.model.intent_spiral import SpiralMember
from reconciler.model.plan import PlanStep
from reconciler.model.subject import Subject

_ABORTS = {"before_drain", "drain"}
_GRACE_S = 5.0
STOP_MARGIN_S = 15.0


def hook_steps(group: Group | None, event: str) -> Iterator[PlanStep]:
    """Yield the line of a coven's hook at one point, if it has one there."""
    for hook in group.hooks if group else ():
        if hook.event == event:
            yield PlanStep(
                step="hook",
                text=f"{event} of {group.coven if group else ''}: {called(hook)}",
                deadline_s=hook.timeout_s,
                on_failure=_on_failure(hook),
            )


def hooks_of_the_way_back(*groups: Group | None) -> Iterator[PlanStep]:
    """Yield what is called on the way back only, each coven once."""
    seen: dict[str, Group] = {group.coven: group for group in groups if group is not None}
    for group in seen.values():
        for step in hook_steps(group, "on_rollback"):
            yield step.model_copy(update={"text": f"only on the way back: {step.text}"})


def admission_steps(stopping: tuple[Member, ...]) -> Iterator[PlanStep]:
    """Yield the line about the firewall, if a member that stops wants it."""
    closed = [member for member in stopping if member.firewall and member.port]
    if closed:
        ports = ", ".join(f"{member.port} ({member.service})" for member in closed)
        yield PlanStep(
            step="admission",
            text=f"refuse new connections to {ports} by nftables, until it has stopped or on every way back",
            deadline_s=30.0,
            on_failure="abort: the old coven goes on serving",
        )


def cache_steps(move: SlotMove) -> Iterator[PlanStep]:
    """Yield the line about the page cache, where it may be dropped."""
    if move.drop_caches:
        unified = move.memory_class == "unified"
        wanted = format_size(move.need_bytes + move.reserve_bytes if unified else move.need_bytes_per_gpu)
        yield PlanStep(
            step="drop_caches",
            text=f"drop the page cache, if less than {wanted} is free without it and enough would be",
            on_failure="go on",
        )


def gpu_lane(subject: Subject, slot: str) -> tuple[SpiralMember, ...]:
    """Return the loops of the spiral that yield to a transition of a slot."""
    spiral = subject.rendered.spiral
    if spiral is None or spiral.slot != slot:
        return ()
    return tuple(unit for unit in spiral.units if unit.lane == "gpu" and (spiral.enabled or subject.is_up(unit.unit)))


def lane_steps(lane: tuple[SpiralMember, ...], what: Literal["stop", "start"]) -> Iterator[PlanStep]:
    """Yield the line about the spiral: stopped before the coven stops, started again after, on every way back too."""
    if not lane:
        return
    names = ", ".join(unit.name for unit in lane)
    if what == "start":
        yield PlanStep(step="spiral", text=f"start the GPU lane of the spiral again: {names}", on_failure="told")
        return
    slowest = max(unit.stop_timeout_s for unit in lane)
    text = f"stop the GPU lane of the spiral: {names}"
    yield PlanStep(step="spiral", text=text, deadline_s=slowest + STOP_MARGIN_S, on_failure="roll back")


def seal_text(stopping: tuple[Member, ...]) -> str:
    """Say who is surely paused between the drain and the stop; a pause that may not be offered is not promised."""
    sealed = [m.service for m in stopping if m.pause and m.resume and (m.must_pause or not m.pause.optional)]
    return f", then pause {', '.join(sealed)}" if sealed else ""


def has_drain_hook(group: Group | None) -> bool:
    """Say whether somebody else waits for the work that recon cannot see."""
    return group is not None and any(hook.event == "drain" for hook in group.hooks)


def called(hook: HookCall) -> str:
    """Say what a hook calls."""
    if hook.call is not None:
        return f"{hook.call.method} {hook.call.url}"
    return f"run {' '.join(hook.argv)}"


def _on_failure(hook: HookCall) -> str:
    if hook.on_timeout == "continue":
        return f"go on, after {format_duration(_GRACE_S)} more for it to end" if hook.argv else "go on"
    return "abort: the old coven goes on serving" if hook.event in _ABORTS else "roll back"
