"""Guards about a schedule: whoever approves a plan approves every switch it will make, so all of them must be possible.

Pure. Must not: judge what is in force now; that is a transition like any other.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model.base import format_size
from reconciler.model.intent import Group
from reconciler.model.intent_schedule import ScheduleSpec
from reconciler.model.observed import Known
from reconciler.model.plan import Refusal
from reconciler.planner.budget import budget_of
from reconciler.planner.case import Case


def schedule_can_be_carried_out(case: Case) -> Iterator[Refusal]:
    """A window that could not begin at night is refused by day, while somebody looks."""
    spec = case.subject.rendered.schedule
    if spec is None:
        return
    yield from _zones_are_there(case)
    yield from _idleness_can_be_told(case, spec)
    if case.changes or case.moves:
        yield from _covens_fit(case, spec)


def _zones_are_there(case: Case) -> Iterator[Refusal]:
    seen = case.state.schedule
    for name, why in sorted(seen.value.unread.items()) if isinstance(seen, Known) else ():
        yield Refusal(
            code="REC7342",
            summary=f"{case.host.name} cannot read time zone {name}",
            detail=f"{why}; its windows would never begin",
            fix="on the host: apt install tzdata",
        )


def _covens_fit(case: Case, spec: ScheduleSpec) -> Iterator[Refusal]:
    """The coven that is to run now is judged by its own guard; here are those that come later."""
    groups = case.subject.rendered.groups
    for slot in case.host.slots:
        for coven in spec.covens_of(slot.name):
            group = groups.get(coven)
            if group is None:
                yield Refusal(
                    code="REC8007",
                    summary=f"{case.host.name} may not run {coven}",
                    detail=f"its schedule names it; may_run: [{', '.join(case.host.may_run)}]",
                    fix=f"add {coven} to may_run: of {case.host.name}, or name another coven in the window",
                )
            elif coven != slot.coven:
                yield from _fits(case, slot.name, group)


def _fits(case: Case, slot: str, group: Group) -> Iterator[Refusal]:
    budget = budget_of(case.subject, slot, group)
    if budget.available is None:
        yield Refusal(
            code="REC7343",
            summary=f"whether {group.coven} of the schedule fits slot {slot} of {case.host.name} is unknown",
            detail=budget.reason,
            fix="repair the driver, or declare memory: {kind: …} if the GPU cannot tell",
        )
    elif budget.need > budget.available:
        yield Refusal(
            code="REC7343",
            summary=f"{group.coven} of the schedule does not fit slot {slot} of {case.host.name}",
            detail=f"{format_size(budget.available)} can be had, needed are {format_size(budget.need)}",
            fix="lower memory: of its services, or name another coven in the window",
        )


def _idleness_can_be_told(case: Case, spec: ScheduleSpec) -> Iterator[Refusal]:
    """What cannot say how busy it is is never idle: a window that waits for that would never begin."""
    groups = case.subject.rendered.groups
    for window in spec.windows:
        if window.require is None and window.yields_s is None:
            continue
        for coven in spec.covens_of(window.slot):
            group = groups.get(coven)
            blind = [member.service for member in group.members if not member.in_flight] if group else []
            if blind and coven != window.coven:
                key = "require: drained" if window.require else "yields:"
                yield Refusal(
                    code="REC7344",
                    summary=f"the window of {window.coven} on {case.host.name} waits for idleness that nobody can tell",
                    detail=f"{', '.join(blind)} of {coven} cannot say how busy it is, so {key} would never be met",
                    fix=f"remove {key} from the window, or declare how busy {blind[0]} is (http.in_flight)",
                )
