"""How the spiral of a host is shown in status: its guardrails, and the share it is in."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.model.observed import Fact, Known, Unknown
from reconciler.model.spiral_state import DownState, Guardrail, ShareState, SpiralState
from reconciler.views.paint import Paint
from reconciler.views.status import status_lines
from tests.builders import a_host, a_state

WELL = {
    "marker": "there",
    "text": "/srv/spiral/CLAIM_SAFE is there",
    "foreign": "",
    "lacks": "",
    "mounted": "192.0.2.10:/srv/spiral",
    "unexported": (),
    "unread": "",
}


@pytest.mark.parametrize(
    ("over", "line"),
    [
        ({}, "share 192.0.2.10:/srv/spiral is mounted; /srv/spiral/CLAIM_SAFE is there"),
        ({"mounted": None, "text": "nothing\x1b[31m"}, "share nothing\\x1b[31m"),
        (
            {"mounted": None, "unexported": ("recon-share-motion-a.service",)},
            "share /srv/spiral/CLAIM_SAFE is there; recon-share-motion-a.service is up and exports nothing",
        ),
        (
            {"mounted": None, "unread": "permission denied"},
            "share /srv/spiral/CLAIM_SAFE is there; what is mounted or exported is not known: permission denied",
        ),
    ],
)
def test_a_host_in_a_share_has_a_line_for_it(over: dict[str, Any], line: str) -> None:
    share = ShareState.model_validate({**WELL, **over})
    host = a_host()
    state = a_state(spiral=Known(value=SpiralState(guardrails=(), share=share)))

    shown = "\n".join(status_lines((host,), {host.name: state}, Paint(on=False), details=False))

    assert f"{host.name}: {line}" in shown.splitlines()


@pytest.mark.parametrize(
    "down", [Unknown(unknown="permission denied"), Known(value=DownState(spiral=None, coven=None, forced=None))]
)
def test_a_broken_guardrail_is_shown_also_when_what_people_have_down_is_not_known(down: Fact[DownState]) -> None:
    broken = Guardrail(name="reaper", state="broken", text="/srv/spiral/renders is not there", fix="mkdir it")
    host = a_host()
    state = a_state(down=down, spiral=Known(value=SpiralState(guardrails=(broken,))))

    shown = "\n".join(status_lines((host,), {host.name: state}, Paint(on=False), details=False))

    assert f"{host.name}: spiral guardrail reaper is broken: /srv/spiral/renders is not there" in shown.splitlines()
