"""A plan as a pull-request comment: what happens first, details folded, hostile text inert, never above the limit.

Must not: print, or say anything the plan document does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model.plan import HostPlan, Plan
from reconciler.views.escape import fenced, inert
from reconciler.views.paint import Paint
from reconciler.views.plan_text import host_lines, incomplete

LIMIT = 60_000
"""Characters of one comment; forges cut at 65,536 and a cut comment must not be taken for a whole one."""


def plan_markdown(plan: Plan) -> str:
    """Return the comment; when it would be too long, hosts lose their details and the marker says `truncated=true`."""
    telling = [host for host in plan.hosts if host.changes or host.transitions or host.warnings or host.unknowns]
    details = [("\n".join(_details(host)), host) for host in telling]
    head = "\n".join(_head(plan))
    foot = "\n".join(_foot(plan))
    kept: list[str] = []
    room = LIMIT - len(head) - len(foot) - 400
    for text, _host in details:
        if len(text) + 2 > room:
            break
        kept.append(text)
        room -= len(text) + 2
    left_out = len(details) - len(kept)
    note = [f"_Details of {left_out} more host(s) left out: this comment cannot approve the plan._"] if left_out else []
    if len(head) > LIMIT - 1000:
        head, left_out = head[: LIMIT - 1000].rsplit("\n", 1)[0], max(1, left_out)
        kept, note = [], ["_Table cut: this comment cannot approve the plan._"]
    return "\n\n".join([_marker(plan, truncated=bool(left_out)), head, *kept, *note, foot]) + "\n"


def _marker(plan: Plan, *, truncated: bool) -> str:
    commit = (plan.source.commit or "none")[:12]
    flag = str(truncated).lower()
    return f"<!-- recon:comment v1 fleet={plan.fleet} digest={plan.plan_digest} commit={commit} truncated={flag} -->"


def _head(plan: Plan) -> Iterator[str]:
    total = plan.summary
    yield (
        f"## recon plan: {inert(plan.fleet)} — {total.switch} switch, {total.start} start, {total.stop} stop, "
        f"{total.restart} restart, {total.files} files"
    )
    for host in plan.hosts:
        for move in host.transitions:
            if move.disruption in {"switch", "stop", "restart"} and not host.refusals:
                yield f":warning: **{inert(host.host)}**: {inert(move.cuts_off)}"
    yield ""
    yield "| host | now | planned | disruption | why |"
    yield "|---|---|---|---|---|"
    for host in plan.hosts:
        yield from _rows(host)


def _rows(host: HostPlan) -> Iterator[str]:
    name = inert(host.host)
    if host.status == "unreachable":
        yield f"| {name} | ? | ? | – | unreachable: {inert(host.reason)} |"
        return
    if host.refusals:
        yield f"| {name} | {_now(host)} | – | **refused** | {inert(host.reason)} |"
        return
    for move in host.transitions:
        yield (
            f"| {name} | {inert(move.from_coven or '–')} | {inert(move.to_coven or '–')} | **{move.disruption}** "
            f"| {inert(move.reason)} |"
        )
    touched = [change for change in host.changes if change.is_beside_slots]
    beside = sorted({f"{action} {change.name}" for change in touched for action in change.actions})
    if not host.transitions and beside:
        yield f"| {name} | {_now(host)} | same | **restart** | {inert(', '.join(beside))} |"
    elif not host.transitions and (host.changes or host.order):
        yield f"| {name} | {_now(host)} | same | none | {len(host.changes)} change(s), nothing restarts |"
    elif not host.transitions and (host.unknowns or host.warnings):
        yield f"| {name} | {_now(host)} | same | none | {inert('; '.join((*host.unknowns, *host.warnings)))} |"


def _now(host: HostPlan) -> str:
    return inert(", ".join(sorted({coven or "–" for coven in host.live.values()})) or "–")


def _details(host: HostPlan) -> Iterator[str]:
    lines = list(host_lines(host, Paint(on=False), diffs=True))
    yield f"<details><summary>{inert(host.host)}: steps and unit differences</summary>"
    yield ""
    yield from fenced([_to_column_zero(line) for line in lines])
    yield ""
    yield "</details>"


def _to_column_zero(line: str) -> str:
    """Move the sign of a difference to the first column, where a `diff` block colours it."""
    bare = line.lstrip()
    return bare if bare[:1] in {"+", "-"} and line.startswith("        ") else " " + line


def _foot(plan: Plan) -> Iterator[str]:
    parts = [f"{plan.ignored_drift_count} ignored difference(s)"]
    if not plan.complete:
        parts.append(f"**incomplete: {incomplete(plan)}**")
    parts += [inert(warning) for warning in plan.warnings]
    if plan.summary.refused:
        parts.append(f"**{plan.summary.refused} host(s) refused**")
    inside = [host.host for host in plan.hosts if any(not now.is_declared for now in host.schedule)]
    if inside:
        parts.append(f"inside a window of their schedule: {inert(', '.join(inside[:8]))}{' …' * (len(inside) > 8)}")
    if plan.targeted:
        parts.append(f"only {inert(', '.join(plan.targeted))}")
    yield " · ".join(parts)
    yield ""
    yield f"Plan digest: `{plan.plan_digest}`"
