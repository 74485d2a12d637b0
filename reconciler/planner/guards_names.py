"""The rule about names that git gives to containers: nobody else's is removed for one.

Pure. Must not: know how a name is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model.intent import Member
from reconciler.model.observed import Known, NotApplicable
from reconciler.model.plan import Refusal
from reconciler.planner.budget import why
from reconciler.planner.case import Case


def names_are_free(case: Case) -> Iterator[Refusal]:
    """Quadlet starts a container with --replace: whoever has its name is removed, running or not."""
    named = {member.container: member for member in _to_start(case) if member.is_named}
    names = case.state.names
    if not named or isinstance(names, NotApplicable):
        return
    if not isinstance(names, Known):
        yield Refusal(
            code="REC7494",
            summary=f"who has the name {', '.join(sorted(named))} on {case.host.name} cannot be told",
            detail=why(names),
            fix="on the host: podman ps --all",
        )
        return
    taken = {each.name for move in case.moves for each in move.takes_over}
    for holder in names.value:
        member = named.get(holder.name)
        if member is None or (holder.is_removed and holder.unit in taken):
            continue
        who = f"{holder.unit} runs it" if holder.unit else "podman runs it by itself"
        kept = "" if holder.is_removed else ", and it keeps its name when it is stopped"
        yield Refusal(
            code="REC7494",
            summary=f"the container {holder.name} of {case.host.name} is not recon's",
            detail=f"it is {holder.status}, {who}{kept}; starting {member.service} would remove it",
            fix=f"on the host, if nobody needs it: podman rm {holder.name}; or give {member.service} another"
            " container_name",
        )


def _to_start(case: Case) -> Iterator[Member]:
    for move in case.moves:
        yield from move.starting()
    residents = {change.name for change in case.changes if change.kind == "resident"}
    yield from (member for member in case.subject.rendered.residents if member.service in residents)
