"""From changes to the moves of slots: what stops, what starts, in which steps, and who notices.

Order of the steps, and why: everything that can fail without disturbing anybody comes first (stage); nothing of the new
coven starts before the old one's control groups are empty and its memory is measured as free; the commit comes after
health, so a power cut before it boots the old coven (reference: DESIGN of the transition, docs/explanation).

Pure. Must not: refuse anything; that is the guards'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.model import live
from reconciler.model.base import count, format_duration
from reconciler.model.change import Change
from reconciler.model.intent import Group, Member, SlotMove
from reconciler.model.observed import HostState, Known
from reconciler.model.plan import Budget, Disruption, PlanStep, Transition
from reconciler.model.subject import Subject
from reconciler.planner import around, takeover
from reconciler.planner.budget import reserve_of

MEMORY_TIMEOUT_S = {"discrete": 60.0, "unified": 240.0, "gh200": 60.0}
"""How long released memory may take to show; GB10 was seen to need three to four minutes."""
STAGE_DEADLINE_S = 600.0
PULL_DEADLINE_S = 3600.0


def slot_moves(subject: Subject, changes: tuple[Change, ...], *, is_way_back: bool = False) -> tuple[SlotMove, ...]:
    """Return the moves of a host, those that only free a slot first.

    What is declared is an earlier generation on a way back: how that one let a coven go is no wish of anybody now.
    """
    moves = [
        move
        for slot in subject.host.slots
        if (move := _move(slot.name, subject, changes, is_way_back=is_way_back)) is not None
    ]
    return tuple(sorted(moves, key=lambda move: (move.new is not None, move.old is None, move.slot)))


def _move(slot: str, subject: Subject, changes: tuple[Change, ...], *, is_way_back: bool) -> SlotMove | None:
    switch = next((change for change in changes if change.slot == slot and change.kind == "coven"), None)
    members = [change for change in changes if change.slot == slot and change.kind == "member"]
    if not switch and not members:
        return None
    rendered, host, state = subject.rendered, subject.host, subject.state
    before = switch.before if switch else rendered.live[slot]
    after = rendered.live[slot]
    old = _running_group(before, subject, is_way_back=is_way_back)
    new = rendered.groups.get(after) if after else None
    restart = tuple(sorted(change.service for change in members if change.service)) if not switch else ()
    starting = [member for member in (new.members if new else ()) if switch or member.service in restart]
    gpus = live.slot_gpus(host, slot, state) or ()
    need = sum(member.memory for member in starting)
    memory_class = state.memory_class.value if isinstance(state.memory_class, Known) else "discrete"
    return SlotMove(
        slot=slot,
        gpus=tuple(gpu.uuid for gpu in gpus),
        kind="switch" if switch else "restart",
        old=old,
        new=new,
        restart=restart,
        need_bytes=need,
        need_bytes_per_gpu=-(-need // max(1, len(gpus))),
        reserve_bytes=reserve_of(host, state),
        memory_class=memory_class,
        memory_timeout_s=host.memory.release or MEMORY_TIMEOUT_S[memory_class],
        drop_caches=host.memory.drop_caches and memory_class != "discrete",
        takes_over=takeover.taken_over(starting, subject),
    )


def _running_group(coven: str | None, subject: Subject, *, is_way_back: bool) -> Group | None:
    """Return a live coven as it was committed; what git says now may have other members.

    How long to wait for its clients, what then, how new ones are kept out and the hooks are what git says now: whoever
    reviews the plan reads that, and it is how a coven that cannot get idle is let go. On a way back nothing of git is
    looked at, and what was committed last is the newest that was reviewed.
    """
    if coven is None:
        return None
    committed, declared = subject.committed.running_group(coven), subject.rendered.groups.get(coven)
    if not committed or not declared or is_way_back:
        return committed or declared
    said = {member.service: member for member in declared.members}
    members = tuple(_drained_as(member, said.get(member.service, member)) for member in committed.members)
    if members == committed.members and declared.hooks == committed.hooks:
        return committed
    return Group.of(committed.coven, committed.gate, committed.target, members, declared.hooks)


def _drained_as(member: Member, said: Member) -> Member:
    told = {
        "drain_timeout_s": said.drain_timeout_s,
        "on_timeout": said.on_timeout,
        "firewall": said.firewall and member.port is not None,
        "must_pause": said.must_pause and member.pause is not None,
    }
    return member.model_copy(update=told)


def describe_move(move: SlotMove, subject: Subject, changes: tuple[Change, ...], budget: Budget) -> Transition:
    """Return a move as people see it: what is disrupted, for how long, and every step with its deadline."""
    mine = [change for change in changes if change.slot == move.slot and change.kind in {"coven", "member"}]
    causes = {change.cause for change in mine}
    estimated = _estimate(move, subject.state)
    return Transition(
        slot=move.slot,
        from_coven=move.old.coven if move.old else None,
        to_coven=move.new.coven if move.new else None,
        disruption=_disruption(move, mine),
        members=move.restart or tuple(member.service for member in (move.new or move.old or _EMPTY).members),
        reason="; ".join(change.reason for change in mine),
        cause=causes.pop() if len(causes) == 1 else "both",
        cuts_off=_cuts_off(move, estimated, subject),
        estimated_s=estimated,
        steps=tuple(_steps(move, subject)),
        budget=budget,
    )


_EMPTY = Group(coven="", gate="", target="", members=())


def _disruption(move: SlotMove, changes: list[Change]) -> Disruption:
    if move.kind == "restart":
        words = {change.word for change in changes}
        if words <= {"member_gone"}:
            return "stop"
        return "start" if words <= {"unit_stopped", "unit_failed", "member_new"} else "restart"
    if move.old and move.new:
        return "switch"
    return "start" if move.new else "stop"


def _estimate(move: SlotMove, state: HostState) -> float | None:
    """Return the seconds without service as the host recorded them for this coven, None when it never came up."""
    return state.timings.get(move.new.coven) if move.new else None


def _cuts_off(move: SlotMove, estimated: float | None, subject: Subject) -> str:
    """Say who is without service, for how long, and what becomes of the work that runs when it begins."""
    stopping = tuple(member for member in _stopping(move) if subject.is_up(member.unit))
    taken = tuple(takeover.cut_off(move, subject))
    if not stopping and taken:
        return "; ".join(taken)
    if not stopping:
        return "nobody is without service: nothing that serves is stopped"
    took = f"about {format_duration(estimated)}" if estimated else "a time not recorded yet"
    who = f"{move.old.coven} ({_names(stopping)})" if move.old else _names(stopping)
    return "; ".join([f"clients of {who} are without service for {took}", *_what_of_work(move.old, stopping), *taken])


def _what_of_work(old: Group | None, stopping: tuple[Member, ...]) -> Iterator[str]:
    closed = [member for member in stopping if member.firewall and member.port]
    finished = [member for member in stopping if member.in_flight and member.on_timeout != "force"]
    forced = [member for member in stopping if member.in_flight and member.on_timeout == "force"]
    blind = [member for member in stopping if not member.in_flight]
    if closed:
        yield f"new connections to {_names(closed)} are refused first, open ones go on until it stops"
    if finished:
        yield f"work in flight on {_names(finished)} is finished first"
    if forced:
        yield f"what {_names(forced)} still does at the drain deadline is cut (on_timeout: force)"
    if blind:
        is_cut = "is waited for by the drain hook alone" if around.has_drain_hook(old) else "is cut"
        yield f"work of {_names(blind)} cannot be seen and {is_cut}"


def _stopping(move: SlotMove) -> tuple[Member, ...]:
    if not move.old:
        return ()
    return tuple(m for m in move.old.members if move.kind == "switch" or m.service in move.restart)


def _names(members: Iterable[Member]) -> str:
    return ", ".join(member.service for member in members)


def _steps(move: SlotMove, subject: Subject) -> Iterator[PlanStep]:
    state = subject.state
    lane = around.gpu_lane(subject, move.slot)
    stopping, starting = _stopping(move), move.starting()
    untouched, back = "refused, nothing changed", "roll back"
    yield PlanStep(step="claim", text="take the host's lease and look again", deadline_s=30.0, on_failure=untouched)
    yield PlanStep(
        step="stage", text=_stage_text(move, state), deadline_s=_stage_deadline_s(move, state), on_failure=untouched
    )
    if stopping:
        yield from around.hook_steps(move.old, "before_drain")
        yield from around.admission_steps(stopping)
        yield from around.hook_steps(move.old, "drain")
        yield _drain_step(stopping, hooked=around.has_drain_hook(move.old))
    taking = tuple(takeover.steps(move, subject))
    yield from (step for step in taking if step.step == "drain")
    yield from around.lane_steps(lane, "stop")
    if stopping:
        slowest = max(member.stop_timeout_s for member in stopping)
        yield PlanStep(
            step="stop",
            text=f"stop {_names(stopping)} and wait until nothing of it runs",
            deadline_s=slowest + around.STOP_MARGIN_S,
            on_failure=back,
        )
    yield from (step for step in taking if step.step == "take_over")
    if stopping:
        yield from around.hook_steps(move.old, "after_stop")
    if starting:
        yield from around.hook_steps(move.new, "before_start")
        yield from around.cache_steps(move)
        yield PlanStep(
            step="verify_memory",
            text="see that the memory is really free, three times",
            deadline_s=move.memory_timeout_s,
            on_failure=f"{back}, else hold",
        )
        yield PlanStep(step="trial", text="put the new units on trial in /run", deadline_s=120.0, on_failure=back)
        yield PlanStep(step="start", text=f"start {_names(starting)}", deadline_s=60.0, on_failure=back)
        yield PlanStep(
            step="warm",
            text=f"wait until healthy and answering: {_names(starting)}{_attempts(starting)}",
            deadline_s=max(member.warm_timeout_s for member in starting),
            on_failure=back,
        )
        yield from around.hook_steps(move.new, "after_warm")
    yield PlanStep(step="commit", text="make it what boots: one symlink in /etc", on_failure="forward only from here")
    yield PlanStep(step="finish", text="drop the trial, record history", deadline_s=60.0, on_failure="retried")
    yield from around.lane_steps(lane, "start")
    yield from around.hooks_of_the_way_back(move.new, move.old)


def _attempts(starting: tuple[Member, ...]) -> str:
    """Say how often it may be started; the deadline is one for all of them together."""
    most = max(member.attempts for member in starting)
    fewer = [f"{member.service} {member.attempts}" for member in starting if member.attempts < most]
    return (f"; up to {count(most, 'attempt')}" if most > 1 else "") + (f" ({', '.join(fewer)})" if fewer else "")


def _missing_images(move: SlotMove, state: HostState) -> list[str]:
    if not isinstance(state.images, Known):
        return []
    return sorted({member.image for member in move.starting()} - set(state.images.value))


def _stage_deadline_s(move: SlotMove, state: HostState) -> float:
    return STAGE_DEADLINE_S + PULL_DEADLINE_S * len(_missing_images(move, state))


def _stage_text(move: SlotMove, state: HostState) -> str:
    missing = len(_missing_images(move, state))
    pull = f"pull {count(missing, 'image')}, " if missing else ""
    return f"{pull}write and check the new generation"


def _drain_step(stopping: tuple[Member, ...], *, hooked: bool) -> PlanStep:
    seen = [member for member in stopping if member.in_flight]
    if not seen:
        why = f"{_names(stopping)} cannot say what it does"
        text = f"nothing more to wait for than the hook did: {why}" if hooked else f"nothing to wait for: {why}"
        return PlanStep(step="drain", text=text, on_failure="-")
    forced = [member for member in seen if member.on_timeout == "force"]
    cut = f"cut what {_names(forced)} still does (on_timeout: force)"
    stays = "abort: the old coven goes on serving"
    return PlanStep(
        step="drain",
        text=f"wait until nothing is in flight or waiting on {_names(seen)}{around.seal_text(tuple(seen))}",
        deadline_s=max(member.drain_timeout_s for member in seen),
        on_failure=stays if not forced else cut if len(forced) == len(seen) else f"{cut}, others {stays}",
    )
