"""The guard about models: what would start must have its weights on the host, or the plan says so before anybody waits.

Pure. Must not: take "not asked" or "unknown" for fine or for missing; the host looks again before it disturbs anybody.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model.observed import Known
from reconciler.model.plan import Refusal
from reconciler.planner.case import Case


def models_are_there(case: Case) -> Iterator[Refusal]:
    """A swap must not begin with a download, nor end one model for another that cannot load."""
    if not isinstance(case.state.models, Known) or not case.state.models.value:
        return
    starting = {
        member.unit: f"{group.coven}/{member.service}"
        for move in case.moves
        for group in ([move.new] if move.new else [])
        for member in group.members
        if move.kind == "switch" or member.service in move.restart
    }
    touched = {change.service for change in case.changes if change.kind == "resident"}
    starting |= {each.unit: each.service for each in case.subject.rendered.residents if each.service in touched}
    for fault in case.state.models.value:
        if fault.unit in starting:
            yield Refusal(
                code=fault.code,
                summary=f"the model of {starting[fault.unit]} cannot be loaded on {case.host.name}",
                detail=fault.reason,
                fix=fault.fix,
            )
