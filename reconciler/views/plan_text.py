"""A plan as text for people. Everything shown comes from the plan document.

Must not: print, decide, or know how a plan was made.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from reconciler.model.base import count, format_duration, format_size
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
        yield ""
    for warning in plan.warnings:
        yield paint(f"warning: {one_line(warning)}", "yellow")
    yield from _summary(plan, paint)


def _whose(host: HostPlan) -> dict[Cause, str]:
    """Return whose move a difference of each cause was, in the words of people."""
    return {"desired": host.origin, "drift": "drift", "both": f"{host.origin} and drift"}


def _is_quiet(host: HostPlan) -> bool:
    return host.status == "ok" and not (
        host.changes or host.transitions or host.warnings or host.unknowns or host.order
    )


def _live(host: HostPlan) -> str:
    if set(host.live) == {"all"}:
        return host.live["all"] or "nothing"
    return ", ".join(f"{slot}: {coven or 'nothing'}" for slot, coven in sorted(host.live.items())) or "nothing"


def _title(plan: Plan, paint: Paint) -> str:
    commit = plan.source.commit[:12] if plan.source.commit else "not in git"
    tree = " with local changes" if plan.source.commit and plan.source.dirty else ""
    only = f" · only {', '.join(plan.targeted)}" if plan.targeted else ""
    return f"{paint(f'Fleet {plan.fleet}', 'bold')} · {count(len(plan.hosts), 'host')} · {commit}{tree}{only}"


def _way_back(way: WayBack, paint: Paint) -> str:
    text = (
        f"Back to generation {way.generation} of {way.host}: commit {way.source_commit[:12]}, "
        f"applied by {way.applied_by}; {way.from_generation} is committed now"
    )
    return paint(one_line(text), "magenta")


def host_lines(host: HostPlan, paint: Paint, *, diffs: bool) -> Iterator[str]:
    """Yield what would happen on one host."""
    if host.status == "unreachable":
        yield f"{paint(host.host, 'bold')}  {paint('unreachable', 'red', 'bold')}  {one_line(host.reason)}"
        return
    word = "" if host.status == "ok" else paint(host.status, "red", "bold")
    yield f"{paint(host.host, 'bold')}  {paint(f'now {_live(host)}', 'dim')}  {word}".rstrip()
    whose = _whose(host)
    for refusal in host.refusals:
        yield f"  {paint('✗', 'red')} {paint(f'[{refusal.code}]', 'red')} {one_line(refusal.summary)}"
        yield f"    why:  {one_line(refusal.detail)}"
        yield f"    hint: {paint(one_line(refusal.fix), 'cyan')}"
    for transition in host.transitions:
        yield from _transition(transition, paint, whose=whose[transition.cause], steps=not host.refusals)
    # What a transition does about covens and members stands above, with its reason.
    changes = [change for change in host.changes if change.kind not in {"coven", "member"}]
    if changes:
        yield f"  {paint('changes', 'bold')}"
    for group in _grouped(changes, apart=diffs):
        said = whose[group[0].cause]
        yield from _change(group[0], paint, said, diffs=diffs) if len(group) == 1 else _many(group, paint, said)
    for unknown in host.unknowns:
        yield f"  {paint('? unknown', 'red')} {one_line(unknown)}"
    for warning in host.warnings:
        yield f"  {paint('!', 'yellow')} {one_line(warning)}"


def _transition(move: Transition, paint: Paint, *, whose: str, steps: bool) -> Iterator[str]:
    route = f"{move.from_coven or 'nothing'} → {move.to_coven or 'nothing'}"
    if move.disruption == "restart":
        route = f"{move.to_coven}: {', '.join(move.members)}"
    yield (
        f"  {paint(move.disruption, _DISRUPTION[move.disruption], 'bold')} slot {move.slot}  "
        f"{paint(route, 'bold')}  {paint(f'({whose})', 'dim')}"
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
        failure = f"else {step.on_failure}" if step.on_failure not in {"-", ""} else ""
        yield (
            f"    {number:>2}. {step.step:<14} {one_line(step.text):<{width}}  {deadline:<8} {paint(failure, 'dim')}"
        ).rstrip()


def _budget(budget: Budget) -> str:
    if budget.capacity is None or budget.available is None:
        return f"unknown: {one_line(budget.reason)}"
    return (
        f"{format_size(budget.capacity)} - reserve {format_size(budget.reserve)} - shared {format_size(budget.shared)}"
        f" - residents {format_size(budget.residents)} = {format_size(budget.available)},"
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
    for line in textwrap.wrap(one_line(names), 100, break_on_hyphens=False):
        yield f"        {paint(line, 'dim')}"


def _sign(change: PlannedChange) -> tuple[str, str]:
    if change.action_reason == "file_new":
        return "+", "green"
    return _SIGNS.get(change.actions[0] if change.actions else "report", ("~", "yellow"))


def _change(change: PlannedChange, paint: Paint, whose: str, *, diffs: bool) -> Iterator[str]:
    sign, color = _sign(change)
    name = f"{change.kind}/{change.name}"
    yield f"    {paint(sign, color)} {name:<46} {one_line(change.reason)} {paint(f'({whose})', 'dim')}"
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
        said = "It runs what that generation was." if plan.way_back else "Every host runs what is declared."
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
