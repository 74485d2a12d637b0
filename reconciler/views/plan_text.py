"""A plan as text for people. Everything shown comes from the plan document.

Must not: print, decide, or know how a plan was made.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from reconciler.model.base import count, format_duration, format_size
from reconciler.model.desired import Source
from reconciler.model.plan import Budget, Cause, HostPlan, Plan, PlannedChange, Transition, WayBack
from reconciler.views.escape import one_line
from reconciler.views.paint import Paint

_SIGNS = {
    "write": ("~", "yellow"),
    "delete": ("-", "red"),
    "switch": ("↻", "magenta"),
    "restart": ("↻", "yellow"),
    "start": ("+", "green"),
    "stop": ("-", "red"),
    "enable": ("~", "yellow"),
    "report": ("!", "red"),
}
_DISRUPTION = {"switch": "magenta", "restart": "yellow", "start": "green", "stop": "red", "none": "dim"}


def plan_lines(plan: Plan, paint: Paint, *, diffs: bool = False) -> Iterator[str]:
    """Yield the lines of a plan: hosts with something to say first, then the rest in one line each."""
    yield _title(plan, paint)
    if plan.way_back:
        yield _way_back(plan.way_back, paint)
    yield ""
    busy = [host for host in plan.hosts if not _is_quiet(host)]
    quiet = [host for host in plan.hosts if _is_quiet(host)]
    for host in busy:
        yield from host_lines(host, paint, diffs=diffs)
        yield ""
    if quiet:
        names = ", ".join(f"{host.host} ({_live(host)})" for host in quiet)
        yield f"{paint('No changes', 'green')}: {one_line(names)}"
        for host in quiet:
            yield from schedule_lines(host, paint, named=True)
        yield ""
    for warning in plan.warnings:
        yield paint(f"warning: {one_line(warning)}", "yellow")
    yield from _summary(plan, paint)


def _whose(host: HostPlan) -> dict[Cause, str]:
    """Return whose move a difference of each cause was, in the words of people."""
    return {"desired": host.origin, "drift": "drift", "both": f"{host.origin} and drift"}


def _is_quiet(host: HostPlan) -> bool:
    return host.status == "ok" and not (
        host.changes or host.transitions or host.warnings or host.unknowns or host.order or host.held
    )


def _live(host: HostPlan) -> str:
    if set(host.live) == {"all"}:
        return one_line(host.live["all"] or "nothing")
    slots = (f"{slot}: {coven or 'nothing'}" for slot, coven in sorted(host.live.items()))
    return one_line(", ".join(slots)) or "nothing"


def _title(plan: Plan, paint: Paint) -> str:
    commit = plan.source.commit[:12] if plan.source.commit else "not in git"
    tree = " with local changes" if plan.source.commit and plan.source.dirty else ""
    only = f" · only {', '.join(plan.targeted)}" if plan.targeted else ""
    return f"{paint(f'Fleet {plan.fleet}', 'bold')} · {count(len(plan.hosts), 'host')} · {commit}{tree}{only}"


def _way_back(way: WayBack, paint: Paint) -> str:
    text = (
        f"Back to generation {way.generation} of {way.host}: commit {Source.of_label(way.source_commit).short}, "
        f"applied by {way.applied_by}; {way.from_generation} is committed now"
    )
    return paint(one_line(text), "magenta")


def host_lines(host: HostPlan, paint: Paint, *, diffs: bool) -> Iterator[str]:
    """Yield what would happen on one host."""
    if host.status == "unreachable":
        yield f"{paint(host.host, 'bold')}  {paint('unreachable', 'red', 'bold')}  {one_line(host.reason)}"
        return
    word = "" if host.status == "ok" else paint(_status_word(host), "red", "bold")
    yield f"{paint(host.host, 'bold')}  {paint(f'now {_live(host)}', 'dim')}  {word}".rstrip()
    whose = _whose(host)
    for refusal in host.refusals:
        yield f"  {paint('✗', 'red')} {paint(f'[{refusal.code}]', 'red')} {one_line(refusal.summary)}"
        yield f"    why:  {one_line(refusal.detail)}"
        yield f"    hint: {paint(one_line(refusal.fix), 'cyan')}"
    yield from schedule_lines(host, paint)
    covens_are_refused = any(refusal.code == "REC8021" for refusal in host.refusals)
    for held in host.held:
        if covens_are_refused and held.startswith("coven is down"):
            continue  # the refusal says so already
        yield f"  {paint('held', 'magenta', 'bold')} {one_line(held)}"
    for guardrail in host.guardrails:
        colour = "green" if guardrail.state == "ok" else "red"
        yield f"  guardrail {guardrail.name:<13} {paint(f'{guardrail.state:<7}', colour)} {one_line(guardrail.text)}"
    for transition in host.transitions:
        yield from _transition(transition, paint, whose=whose[transition.cause], steps=not host.refusals)
    # What a transition does about covens and members stands above, with its reason.
    changes = [change for change in host.changes if change.kind not in {"coven", "member"}]
    if changes:
        yield f"  {paint('changes', 'bold')}"
    groups = _grouped(changes, apart=diffs)
    width = max((len(_name(group[0])) for group in groups if len(group) == 1), default=0)
    for group in groups:
        said = whose[group[0].cause]
        alone = _change(group[0], paint, said, width=width, diffs=diffs)
        yield from alone if len(group) == 1 else _many(group, paint, said)
    for unknown in host.unknowns:
        yield f"  {paint('? unknown', 'red')} {one_line(unknown)}"
    for warning in host.warnings:
        yield f"  {paint('!', 'yellow')} {one_line(warning)}"


_HOLDS = frozenset({"REC8012", "REC8021"})
_LOCKS = frozenset({"REC7300", "REC7301"})


def _status_word(host: HostPlan) -> str:
    """Say in a word why nothing will be done; `locked` of the JSON is a lock, a hold, or somebody at work."""
    codes = {refusal.code for refusal in host.refusals}
    if host.status != "locked" or codes <= _LOCKS:
        return host.status
    return "held" if codes <= _HOLDS | _LOCKS else "busy"


def schedule_lines(host: HostPlan, paint: Paint, *, named: bool = False) -> Iterator[str]:
    """Yield what the schedule of a host says now and next."""
    if host.schedule:
        from reconciler.model.week import said  # the plan of a fleet without windows needs no rule

        for now in host.schedule:
            name = f"{host.host} " if named else ""
            yield f"  {paint('schedule', 'blue')} {name}{one_line(said(now))}"


def _transition(move: Transition, paint: Paint, *, whose: str, steps: bool) -> Iterator[str]:
    route = f"{move.from_coven or 'nothing'} → {move.to_coven or 'nothing'}"
    if move.disruption == "restart":
        route = f"{move.to_coven}: {', '.join(move.members)}"
    yield (
        f"  {paint(move.disruption, _DISRUPTION[move.disruption], 'bold')} slot {one_line(move.slot)}  "
        f"{paint(one_line(route), 'bold')}  {paint(f'({whose})', 'dim')}"
    )
    yield f"    why:       {one_line(move.reason)}"
    yield f"    service:   {one_line(move.cuts_off)}"
    if move.budget:
        yield f"    memory:    {_budget(move.budget)}"
    if not steps:
        return
    width = max(len(step.text) for step in move.steps)
    for number, step in enumerate(move.steps, 1):
        deadline = f"≤ {format_duration(step.deadline_s)}" if step.deadline_s else ""
        failure = f"else {one_line(step.on_failure)}" if step.on_failure not in {"-", ""} else ""
        yield (
            f"    {number:>2}. {step.step:<14} {one_line(step.text):<{width}}  {deadline:<8} {paint(failure, 'dim')}"
        ).rstrip()


def _budget(budget: Budget) -> str:
    if budget.capacity is None or budget.available is None:
        return f"unknown: {one_line(budget.reason)}"
    return (
        f"{format_size(budget.capacity)} - reserve {format_size(budget.reserve)} - shared {format_size(budget.shared)}"
        f" - residents {format_size(budget.residents)}"
        + (f" - spiral {format_size(budget.spiral)}" if budget.spiral else "")
        + f" = {format_size(budget.available)},"
        f" needed {format_size(budget.need)}"
    )


def _grouped(changes: list[PlannedChange], *, apart: bool) -> list[list[PlannedChange]]:
    """Put alike file changes together, when nobody asked to see each: ten new files are one thing to know."""
    groups: dict[tuple[str, ...], list[PlannedChange]] = {}
    for number, change in enumerate(changes):
        alike = not apart and change.kind == "file"
        key = (change.action_reason, change.cause) if alike else (str(number),)
        groups.setdefault(key, []).append(change)
    return list(groups.values())


_NAMES_WIDTH = 72
"""Names of files side by side: as wide as fits a terminal of 80, for what is folded twice is ragged."""

_MANY = {
    "file_new": "new",
    "file_missing": "removed by hand",
    "file_extra": "no longer declared",
    "edited_by_hand": "edited by hand",
    "config_changed": "changed in git",
    "trial_left": "left over from a trial",
    "manifest_lost": "cannot be trusted",
}


def _many(group: list[PlannedChange], paint: Paint, whose: str) -> Iterator[str]:
    sign, color = _sign(group[0])
    what = _MANY.get(group[0].action_reason, group[0].action_reason)
    yield f"    {paint(sign, color)} {len(group)} files {what} {paint(f'({whose})', 'dim')}"
    names = ", ".join(change.name for change in group)
    for line in textwrap.wrap(one_line(names), _NAMES_WIDTH, break_on_hyphens=False):
        yield f"        {paint(line, 'dim')}"


def _sign(change: PlannedChange) -> tuple[str, str]:
    if change.action_reason == "file_new":
        return "+", "green"
    return _SIGNS.get(change.actions[0] if change.actions else "report", ("~", "yellow"))


def _name(change: PlannedChange) -> str:
    return one_line(f"{change.kind}/{change.name}")


def _change(change: PlannedChange, paint: Paint, whose: str, *, width: int, diffs: bool) -> Iterator[str]:
    sign, color = _sign(change)
    name = f"{_name(change):<{width}}"
    yield f"    {paint(sign, color)} {name}  {one_line(change.reason)} {paint(f'({whose})', 'dim')}"
    if diffs:
        for line in change.diff:
            yield "        " + paint(one_line(line), *_diff_style(line))


def _diff_style(line: str) -> tuple[str, ...]:
    if line.startswith("+"):
        return ("green",)
    if line.startswith("-"):
        return ("red",)
    return ("dim",)


def _summary(plan: Plan, paint: Paint) -> Iterator[str]:
    total = plan.summary
    if not plan.has_changes and plan.complete and not total.refused:
        said = "It runs what that generation says for now." if plan.way_back else "Every host runs what is declared."
        if any(host.held for host in plan.hosts):
            said = "Every host runs what is declared, but for what people hold down or have forced."
        yield paint(f"No changes. {said}", "green", "bold")
    else:
        yield (
            f"{paint('Plan:', 'bold')} {total.switch} to switch, {total.start} to start, {total.stop} to stop, "
            f"{total.restart} to restart, {total.files} files; {total.drift} by drift"
        )
    if total.refused:
        yield paint(f"{count(total.refused, 'host')} refused: nothing will be done there.", "red")
    if not plan.complete:
        yield paint(f"Incomplete: {incomplete(plan)}.", "red")
    yield paint(f"{count(plan.ignored_drift_count, 'difference')} ignored on purpose · {plan.plan_digest}", "dim")


def incomplete(plan: Plan) -> str:
    """Say how many hosts could not be asked, and how many could not tell everything."""
    blind = sum(bool(host.unknowns) for host in plan.hosts)
    lost = plan.summary.unreachable
    said = [f"{count(lost, 'host')} could not be asked"] if lost else []
    return ", ".join([*said, *([f"{count(blind, 'host')} could not tell all"] if blind else [])])
