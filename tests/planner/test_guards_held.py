"""Whose locks and holds keep a plan out, and how both show where they do not."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.model.observed import Hold, Known, Lock, NotApplicable
from reconciler.model.plan import HostPlan
from tests.builders import a_group, a_rendered, a_state, a_state_running, a_unit, unknown
from tests.planner.test_planner import codes, plan

REASONING = a_group("reasoning")
VISION = a_group("vision")
WANTS = a_rendered(REASONING, live={"all": "reasoning"})


def a_lock(**over: Any) -> Lock:
    values = {"id": "5f2c91ab", "slot": None, "owner": "ann", "reason": "measuring", "left_s": 1500.4, "ttl_s": 1800.0}
    return Lock.model_validate({**values, **over})


def with_locks(*locks: Lock, **over: Any) -> HostPlan:
    return plan(WANTS, a_state(locks=Known(value=locks), **over))


@pytest.mark.parametrize(
    ("slot", "what"), [(None, "spark-1"), ("all", "slot all of spark-1"), ("gone", "slot gone of spark-1")]
)
def test_a_lock_keeps_the_plan_out_and_says_whose_it_is_why_and_how_long(slot: str | None, what: str) -> None:
    planned = with_locks(a_lock(slot=slot))

    assert (codes(planned), planned.status, planned.order) == (["REC7300"], "locked", None)
    refusal = planned.refusals[0]
    assert refusal.summary == f"{what} is locked by ann"
    assert refusal.detail == "measuring; it frees itself in 25m at the latest"
    assert refusal.fix == "ask ann; who has the token sets RECON_LOCK_TOKEN, and types the same again"


def test_a_lock_whose_token_was_given_is_told_and_keeps_nobody_out() -> None:
    planned = with_locks(a_lock(yours=True))

    assert (codes(planned), planned.status) == ([], "ok")
    assert planned.order is not None
    assert "spark-1 is locked by ann, whose token was given for another 25m: measuring" in planned.warnings


def test_locks_that_cannot_be_read_count_as_locked() -> None:
    planned = plan(WANTS, a_state(locks=unknown("torn")))

    assert (codes(planned), planned.status) == (["REC7301"], "locked")
    assert planned.refusals[0].fix == "recon lock force-release spark-1 --lock unreadable --reason TEXT"


def test_an_agent_from_before_there_were_locks_has_none() -> None:
    assert codes(plan(WANTS, a_state(locks=NotApplicable(na="not told")))) == []


def test_what_holds_or_locks_a_host_shows_also_where_there_is_nothing_to_do() -> None:
    hold = Hold(owner="ada", reason="a new disk", since=1.0, until=1780000000.0)
    state = a_state_running(WANTS, locks=Known(value=(a_lock(slot="all"),)), hold=Known(value=hold))
    planned = plan(WANTS, state)

    assert (planned.refusals, planned.status) == ((), "ok")
    assert planned.warnings[:2] == (
        "spark-1 is held by ada until 2026-05-28 20:26Z: a new disk",
        "slot all of spark-1 is locked by ann for another 25m: measuring",
    )


def test_a_lock_of_a_slot_keeps_out_what_stops_a_left_over_unit_whose_slot_nobody_knows() -> None:
    stray = a_unit("recon-resident-parser.service")
    running = a_state_running(WANTS)
    units = (*(running.units.value if isinstance(running.units, Known) else ()), stray)
    state = a_state_running(WANTS, units=Known(value=units), locks=Known(value=(a_lock(slot="all"),)))

    assert codes(plan(WANTS, state)) == ["REC7300"]


def test_a_hold_says_when_it_ends_and_how_it_is_lifted() -> None:
    hold = Hold(owner="ada", reason="hardware test", since=1.0, until=1780000000.0)
    refusal = plan(WANTS, a_state(hold=Known(value=hold))).refusals[0]

    assert refusal.summary == "spark-1 is held by ada until 2026-05-28 20:26Z"
    assert refusal.fix == "ask ada, then: recon release spark-1 --reason TEXT"
