"""A host of one user is planned for only while the user's manager outlives every login and has a bus."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.model.observed import Known, NotApplicable, Unknown
from tests.builders import a_state
from tests.planner.test_planner import WANTS_REASONING, codes, plan


@pytest.mark.parametrize(
    ("lingers", "detail"),
    [
        (Known(value=False), "its units end with its last login, and nothing starts at boot"),
        (Unknown(unknown="permission denied"), "permission denied"),
        (NotApplicable(na="not a user's"), "not a user's"),
    ],
)
def test_a_user_who_does_not_linger_is_refused_with_the_command(lingers: Any, detail: str) -> None:
    planned = plan(WANTS_REASONING, a_state(lingers=lingers), scope="user")

    assert [(each.code, each.summary, each.detail, each.fix) for each in planned.refusals] == [
        (
            "REC7440",
            "user recon does not linger on spark-1",
            detail,
            "once, as root on the host: loginctl enable-linger recon",
        )
    ]
    assert planned.order is None


@pytest.mark.parametrize(
    ("bus", "detail"),
    [
        (
            Known(value=False),
            "the manager of recon has no message bus, so the end of one container can leave podman unusable",
        ),
        (Unknown(unknown="permission denied"), "permission denied"),
    ],
)
def test_a_user_whose_manager_has_no_bus_is_refused_with_the_command(bus: Any, detail: str) -> None:
    planned = plan(WANTS_REASONING, a_state(lingers=Known(value=True), bus=bus), scope="user")

    fix = "once, as root on the host: apt install dbus-user-session; then as recon: systemctl --user start dbus.socket"
    assert [(each.code, each.summary, each.detail, each.fix) for each in planned.refusals] == [
        ("REC7441", "the manager of recon has no message bus on spark-1", detail, fix)
    ]
    assert planned.order is None


def test_a_user_who_lingers_and_has_a_bus_is_planned_for() -> None:
    state = a_state(lingers=Known(value=True), bus=Known(value=True))
    assert codes(plan(WANTS_REASONING, state, scope="user")) == []


def test_a_host_of_the_system_needs_nobody_who_lingers() -> None:
    assert codes(plan(WANTS_REASONING, a_state())) == []
