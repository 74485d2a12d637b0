"""Guards about shares, and what a hub says of the marker to a worker that has not mounted anything yet.

Pure. Must not: judge a guardrail that a host could tell.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model.observed import HostState, Known, Observation
from reconciler.model.plan import Refusal
from reconciler.model.rendered import RenderedHost
from reconciler.model.spiral_state import Guardrail, ShareState, SpiralState
from reconciler.planner.case import Case

CLAIM_SAFE = "claim-safe"


def share_can_be_made(case: Case) -> Iterator[Refusal]:
    """What somebody else mounts is never replaced, and without the programs of NFS nothing can be mounted."""
    spiral, name = case.subject.rendered.spiral, case.host.name
    state = _share_of(case.state)
    if spiral is None or spiral.share is None or state is None or not case.has_deeds:
        return
    root = spiral.share.marker.rpartition("/")[0]
    if state.foreign:
        yield Refusal(
            code="REC7480",
            summary=f"the place of the mount is taken on {name}",
            detail=state.foreign,
            fix=f"on {name}, take it away (umount {root}; {spiral.share.mount}; /etc/fstab), then: recon plan",
        )
    if state.lacks:
        yield Refusal(
            code="REC7481",
            summary=f"{name} has no NFS",
            detail=state.lacks.partition(":")[0],
            fix=f"on {name}: {state.lacks.partition(': ')[2]}",
        )


def as_the_hub_says(answer: Observation, rendered: RenderedHost, hub: Observation | None) -> Observation:
    """Return a worker's answer with the marker as its hub sees it, where nothing is mounted yet."""
    share = rendered.spiral.share if rendered.spiral else None
    if share is None or share.role != "worker" or not isinstance(answer, HostState):
        return answer
    seen, state = _share_of(hub) if isinstance(hub, HostState) else None, _share_of(answer)
    if seen is None or state is None or not isinstance(answer.spiral, Known):
        return answer
    if state.marker != "unknown" or state.mounted is not None or state.unread or seen.marker == "unknown":
        return answer
    said = (
        Guardrail(name=CLAIM_SAFE, state="ok", text=f"{seen.text} on the hub, {share.hub}", fix="")
        if seen.marker == "there"
        else Guardrail(
            name=CLAIM_SAFE,
            state="broken",
            text=f"{seen.text} on the hub: nobody has said that two hosts never claim the same job",
            fix=f"when claiming is safe between hosts, on {share.hub}: touch {share.marker}",
        )
    )
    found = answer.spiral.value
    rails = tuple(said if each.name == CLAIM_SAFE else each for each in found.guardrails)
    spiral = Known[SpiralState](value=found.model_copy(update={"guardrails": rails}))
    return answer.model_copy(update={"spiral": spiral})


def _share_of(state: HostState) -> ShareState | None:
    return state.spiral.value.share if isinstance(state.spiral, Known) else None
