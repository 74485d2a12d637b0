"""Guards about the spiral and about what people have down, and the lines that say so in a plan.

Pure. Must not: judge a guardrail; the host does, with the same rules whenever it is asked.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model import live
from reconciler.model.observed import Known
from reconciler.model.plan import Refusal
from reconciler.model.spiral_state import Guardrail, Mark
from reconciler.model.subject import Subject
from reconciler.planner.budget import why
from reconciler.planner.case import Case


def guardrails_hold(case: Case) -> Iterator[Refusal]:
    """A spiral once ran away for want of every one of these; it is not started without any of them.

    Who has it down, or has started it all the same, has decided already: then they are shown, and refuse nothing.
    """
    spiral, state, name = case.subject.rendered.spiral, case.state, case.host.name
    if spiral is None or not spiral.enabled or _is_decided(case.subject):
        return
    if case.is_way_back or any(change.word == "restart_asked" for change in case.changes):
        return  # neither starts anything of it, and a coven must be able to come back whatever became of the loop
    if not isinstance(state.spiral, Known):
        yield Refusal(
            code="REC8020",
            summary=f"the guardrails of the spiral of {name} are unknown",
            detail=why(state.spiral),
            fix=f"recon status --host {name}, or write 'spiral: {{enabled: false}}'",
        )
        return
    for guardrail in state.spiral.value.broken():
        word = "does not hold" if guardrail.state == "broken" else "is unknown"
        yield Refusal(
            code="REC8020",
            summary=f"guardrail {guardrail.name} of the spiral {word} on {name}",
            detail=guardrail.text,
            fix=f"{guardrail.fix}; or write 'spiral: {{enabled: false}}'",
        )


def nobody_has_it_down(case: Case) -> Iterator[Refusal]:
    """What a person took down stays down until a person lifts it, whatever git says."""
    down, name = case.state.down, case.host.name
    starts = any(move.new is not None for move in case.moves)
    if isinstance(down, Known) and down.value.coven is not None and starts:
        mark = down.value.coven
        yield Refusal(
            code="REC8021",
            summary=f"the covens of {name} are held down by {mark.owner}",
            detail=mark.reason,
            fix=f"recon up coven --host {name} --reason TEXT",
        )


def guardrails_of(subject: Subject) -> tuple[Guardrail, ...]:
    """Return how the guardrails stand, none where there is no spiral."""
    state = subject.state.spiral
    return state.value.guardrails if subject.rendered.spiral and isinstance(state, Known) else ()


def held_lines(subject: Subject) -> Iterator[str]:
    """Yield what people have down on the host, and what they started all the same."""
    down, name = subject.state.down, subject.host.name
    if not isinstance(down, Known):
        return
    for what, mark in (("spiral", down.value.spiral), ("coven", down.value.coven)):
        if mark is not None:
            yield f"{what} is down {_by(mark)}; recon up {what} --host {name} --reason TEXT"
    if down.value.forced is not None:
        mark = down.value.forced
        yield f"the spiral was started {_by(mark)}, against {'; '.join(mark.against)}; recon up --clear --host {name}"
        yield from live.unattended(subject.state)


def _is_decided(subject: Subject) -> bool:
    down = subject.state.down
    return isinstance(down, Known) and (down.value.spiral is not None or down.value.forced is not None)


def _by(mark: Mark) -> str:
    return f"by {mark.owner}: {mark.reason}"
