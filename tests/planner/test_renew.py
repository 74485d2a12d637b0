"""A committed manifest that does not verify: refused with the way on, and the way on only where git tells all."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.diff import diff_host, ignored_facts
from reconciler.model.observed import Generation, HostState, Known, Unit
from reconciler.model.plan import HostPlan
from reconciler.model.subject import look_at
from reconciler.planner import plan_host
from tests.builders import a_group, a_host, a_member, a_rendered, a_state_running, a_unit, unknown

REASONING = a_group("reasoning", a_member("reasoning", "vllm"))
VISION = a_group("vision", a_member("vision", "vllm"))
WANTED = a_rendered(REASONING, VISION, live={"all": "reasoning"})
VLLM = "recon-reasoning-vllm.service"


def damaged(*more: Unit, **over: Any) -> HostState:
    """Return a host that runs reasoning as git says, and whose manifest was damaged; units of these names differ."""
    state = a_state_running(WANTED)
    assert isinstance(state.units, Known)
    units = {unit.name: unit for unit in (*state.units.value, *more)}
    lost = Generation(number=1, manifest=unknown("its sum is wrong"), boot=WANTED.boot)
    values: dict[str, Any] = {"units": Known(value=tuple(units.values())), "generation": Known(value=lost)}
    return a_state_running(WANTED, **(values | over))


def plan(state: HostState, *, renews_manifest: bool = True, live: str = "reasoning") -> HostPlan:
    rendered = a_rendered(REASONING, VISION, live={"all": live})
    subject = look_at(rendered, a_host(coven=live), state, renews_manifest=renews_manifest)
    return plan_host(subject, diff_host(subject), fleet="studio", ignored=ignored_facts(state))


def test_without_being_asked_to_nobody_goes_on_and_the_command_is_told() -> None:
    planned = plan(damaged(), renews_manifest=False)

    assert (planned.status, planned.order) == ("refused", None)
    assert [(refusal.code, refusal.fix) for refusal in planned.refusals] == [
        ("REC8008", "recon apply --host spark-1 --renew-manifest")
    ]


def test_a_new_generation_is_committed_and_nothing_is_restarted() -> None:
    planned = plan(damaged())

    assert (planned.refusals, planned.transitions) == ((), ())
    assert [(change.address, change.actions, change.action_reason) for change in planned.changes] == [
        ("spark-1/file/1/manifest.json", ("write",), "manifest_lost")
    ]
    assert planned.order is not None
    assert (planned.order.from_generation, planned.order.moves) == (1, ())


def test_a_switch_drains_what_runs_as_git_says() -> None:
    planned = plan(damaged(), live="vision")

    assert planned.refusals == ()
    assert planned.order is not None
    assert [(move.old, move.new) for move in planned.order.moves] == [(REASONING, VISION)]


@pytest.mark.parametrize(
    ("unit", "stops"),
    [
        (a_unit(VLLM, config_hash="ffff000000000001"), REASONING.gate),
        (a_unit(VLLM), REASONING.gate),
        (a_unit("recon-gate-all-old.service"), "recon-gate-all-old.service"),
        (a_unit("recon-old-one.service", config_hash="ffff000000000001"), "recon-old-one.service"),
    ],
)
def test_what_is_not_surely_what_git_describes_must_be_stopped_first(unit: Unit, stops: str) -> None:
    planned = plan(damaged(unit))

    assert planned.order is None
    assert ("REC7233", f"on the host, when it may stop: systemctl stop {stops}") in [
        (refusal.code, refusal.fix) for refusal in planned.refusals
    ]


def test_two_covens_at_once_are_refused_as_ever() -> None:
    planned = plan(damaged(a_unit(VISION.gate)))

    assert "REC8005" in [refusal.code for refusal in planned.refusals]
    assert planned.order is None


def moved(**over: Any) -> HostState:
    """Return a host that runs reasoning as git says, by a manifest that another machine wrote."""
    state = a_state_running(WANTED)
    assert isinstance(state.generation, Known)
    assert state.generation.value is not None
    assert isinstance(state.generation.value.manifest, Known)
    manifest = state.generation.value.manifest.value.model_copy(update={"machine_id": "0" * 32} | over)
    there = state.generation.value.model_copy(update={"manifest": Known(value=manifest)})
    return a_state_running(WANTED, generation=Known(value=there))


def test_another_machine_at_the_address_is_refused_with_both_ids() -> None:
    state = moved()

    planned = plan(state, renews_manifest=False)

    assert (planned.status, planned.order) == ("refused", None)
    assert [(refusal.code, refusal.detail, refusal.fix) for refusal in planned.refusals] == [
        (
            "REC5013",
            f"what is committed there was committed on machine {'0' * 32}; "
            f"192.0.2.11 is machine {state.identity.machine_id}",
            "check the address; if it is right: recon apply --host spark-1 --renew-manifest",
        )
    ]


def test_another_machine_that_a_person_vouches_for_gets_a_new_generation_and_no_restart() -> None:
    planned = plan(moved())

    assert (planned.refusals, planned.transitions) == ((), ())
    assert [(change.address, change.reason) for change in planned.changes] == [
        (
            "spark-1/file/1/manifest.json",
            "the manifest of generation 1 is of another machine; a new generation takes its place",
        )
    ]
    assert planned.order is not None


@pytest.mark.parametrize("noted", [None, a_state_running(WANTED).identity.machine_id])
def test_the_same_machine_and_one_whose_id_was_not_noted_plan_as_ever(noted: str | None) -> None:
    planned = plan(moved(machine_id=noted), renews_manifest=False)

    assert (planned.refusals, planned.changes) == ((), ())
