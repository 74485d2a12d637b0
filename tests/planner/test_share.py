"""Shares in a plan: what a hub says of the marker to a worker that has mounted nothing yet."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.model.observed import HostState, Known, Unreachable
from reconciler.model.rendered import RenderedHost
from reconciler.model.spiral_state import Guardrail, ShareState, SpiralState
from reconciler.planner.guards_share import as_the_hub_says
from tests.builders import a_state
from tests.render.test_share import a_fleet, rendered

REAPER = Guardrail(name="reaper", state="ok", text="on the hub, gh-1", fix="")
NOT_MOUNTED = Guardrail(name="claim-safe", state="unknown", text="it cannot be told: not mounted", fix="mount first")


def said(marker: str, *guardrails: Guardrail, **over: Any) -> HostState:
    values = {"text": "/srv/spiral/CLAIM_SAFE is " + marker, "foreign": "", "lacks": "", "mounted": None}
    share = ShareState.model_validate({**values, "marker": marker, "unexported": (), "unread": "", **over})
    return a_state(spiral=Known(value=SpiralState(guardrails=guardrails, share=share)))


def worker() -> RenderedHost:
    return rendered(a_fleet(), "spark-1")


def rails(answer: object) -> tuple[Guardrail, ...]:
    assert isinstance(answer, HostState)
    assert isinstance(answer.spiral, Known)
    return answer.spiral.value.guardrails


def test_what_nobody_has_mounted_yet_the_hub_tells() -> None:
    asked = said("unknown", REAPER, NOT_MOUNTED)

    there, missing = as_the_hub_says(asked, worker(), said("there")), as_the_hub_says(asked, worker(), said("missing"))

    text = "/srv/spiral/CLAIM_SAFE is there on the hub, gh-1"
    assert rails(there) == (REAPER, Guardrail(name="claim-safe", state="ok", text=text, fix=""))
    assert rails(missing)[1].state == "broken"
    assert rails(missing)[1].fix == "when claiming is safe between hosts, on gh-1: touch /srv/spiral/CLAIM_SAFE"


@pytest.mark.parametrize(
    ("answer", "hub"),
    [
        (said("unknown", NOT_MOUNTED), None),
        (said("unknown", NOT_MOUNTED), Unreachable(code="REC6007", reason="no answer", elapsed_s=1.0)),
        (said("unknown", NOT_MOUNTED), said("unknown")),
        (said("unknown", NOT_MOUNTED, mounted="192.0.2.10:/srv/spiral"), said("there")),
        (said("unknown", NOT_MOUNTED, unread="permission denied"), said("there")),
        (said("missing", NOT_MOUNTED), said("there")),
        (a_state(), said("there")),
        (Unreachable(code="REC6007", reason="no answer", elapsed_s=1.0), said("there")),
    ],
    ids=["not asked", "away", "does not know", "hangs", "unread", "seen here", "an older agent", "itself away"],
)
def test_the_hub_says_nothing_for_a_worker_that_could_tell_or_must_not_guess(answer: Any, hub: Any) -> None:
    assert as_the_hub_says(answer, worker(), hub) == answer


def test_a_host_that_is_no_worker_is_told_nothing_by_anybody() -> None:
    asked = said("unknown", NOT_MOUNTED)

    assert as_the_hub_says(asked, rendered(a_fleet(), "gh-1"), said("there")) == asked
    assert as_the_hub_says(asked, rendered(a_fleet(), "other"), said("there")) == asked
