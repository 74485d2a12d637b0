"""The jobs of other programs: whoever registered one may change it, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.agent import damage, dispatch, observe, places, registry
from reconciler.agent.record import RecordError
from reconciler.agent.wire import RequestError
from reconciler.model.observed import HostState, Known, Unknown
from reconciler.model.observed_schedule import Job
from reconciler.sim.machine import SimMachine
from tests.agent.bench import CONTEXT

NIGHTLY = {
    "name": "nightly",
    "owner": "ann",
    "lasts_s": 900.0,
    "clock": "02:00",
    "days": "Mon..Fri",
    "timezone": "Europe/Berlin",
}
ONCE = {"name": "demo", "owner": "bob", "lasts_s": 60.0, "at": 1_800_000_000.0}


@pytest.fixture
def machine() -> SimMachine:
    return SimMachine.new("h-1")


def register(machine: SimMachine, job: dict[str, Any]) -> list[str]:
    found = dispatch.handle(machine, "registry", {"do": "register", "job": job}, CONTEXT)
    return [each["name"] for each in found["jobs"]]


def remove(machine: SimMachine, name: str, owner: str) -> list[str]:
    found = dispatch.handle(machine, "registry", {"do": "remove", "name": name, "owner": owner}, CONTEXT)
    return [each["name"] for each in found["jobs"]]


def state(machine: SimMachine) -> HostState:
    return HostState.model_validate(observe.observe(machine, {}, CONTEXT))


def test_a_registered_job_is_observed_as_it_was_registered_and_makes_no_plan_stale(machine: SimMachine) -> None:
    before = state(machine).fingerprint

    assert register(machine, NIGHTLY) == ["nightly"]
    assert register(machine, ONCE) == ["demo", "nightly"]
    fact = state(machine).registry

    assert isinstance(fact, Known)
    assert [job.model_copy(update={"registered": 0.0}) for job in fact.value] == [
        Job.model_validate(ONCE),
        Job.model_validate(NIGHTLY),
    ]
    assert state(machine).fingerprint == before


def test_a_job_is_changed_and_removed_by_its_owner_alone(machine: SimMachine) -> None:
    register(machine, NIGHTLY)

    assert register(machine, {**NIGHTLY, "lasts_s": 60.0}) == ["nightly"]
    with pytest.raises(RequestError, match="ann, who alone") as caught:
        register(machine, {**NIGHTLY, "owner": "bob"})
    with pytest.raises(RequestError, match="ann, who alone") as again:
        remove(machine, "nightly", "bob")
    assert (caught.value.code, again.value.code) == ("REC7345", "REC7345")

    assert registry.jobs(machine)[0]["lasts_s"] == 60.0
    assert remove(machine, "nightly", "ann") == []
    with pytest.raises(RequestError) as gone:
        remove(machine, "nightly", "ann")
    assert gone.value.code == "REC7346"


@pytest.mark.parametrize(
    "over",
    [
        {"name": "../x"},
        {"name": None},
        {"owner": ""},
        {"owner": None},
        {"lasts_s": 0},
        {"lasts_s": "1h"},
        {"lasts_s": float("inf")},
        {"clock": "25:00"},
        {"days": "Mo"},
        {"timezone": "Europe/Atlantis"},
        {"timezone": "../../etc/passwd"},
        {"at": 1.0},
        {"clock": None},
        {"clock": None, "every_s": 1.0, "since": 0.0},
        {"clock": None, "every_s": 600.0, "since": True},
    ],
    ids=str,
)
def test_what_is_no_job_is_refused_and_nothing_is_written(machine: SimMachine, over: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        register(machine, {**NIGHTLY, **over})

    assert caught.value.code == "REC7347"
    assert registry.jobs(machine) == []


def test_a_registry_is_no_heap(machine: SimMachine) -> None:
    for number in range(registry.LIMIT):
        register(machine, {**ONCE, "name": f"job-{number}"})

    with pytest.raises(RequestError, match="200 jobs already"):
        register(machine, NIGHTLY)
    assert register(machine, {**ONCE, "name": "job-7", "lasts_s": 1.0})


def test_jobs_that_are_over_leave_the_book_with_the_next_one_and_count_no_more(machine: SimMachine) -> None:
    register(machine, NIGHTLY)
    for number in range(registry.LIMIT + 1):
        once = {**ONCE, "name": f"backup-{number}", "at": machine.wall() + 60.0}
        assert register(machine, once) == [once["name"], "nightly"]
        machine.clock.advance(119.0)
        assert register(machine, NIGHTLY) == [once["name"], "nightly"]
        machine.clock.advance(86400.0)

    assert register(machine, {**ONCE, "name": "backup-0", "owner": "eve", "at": machine.wall()}) == [
        "backup-0",
        "nightly",
    ]


def test_a_registry_that_does_not_verify_is_unknown_named_and_kept(machine: SimMachine) -> None:
    register(machine, NIGHTLY)
    torn = machine.read(places.REGISTRY)[:-9]
    machine.write(places.REGISTRY, torn)

    assert isinstance(state(machine).registry, Unknown)
    assert [found["path"] for found in damage.survey(machine)] == [places.REGISTRY]
    with pytest.raises(RequestError) as caught:
        register(machine, ONCE)
    assert (caught.value.code, machine.read(places.REGISTRY)) == ("REC7348", torn)
    with pytest.raises(RecordError):
        registry.jobs(machine)


def test_who_writes_at_the_same_time_waits_and_is_told(machine: SimMachine) -> None:
    machine.mkdir(places.RUN)
    machine.state.locked.append(places.REGISTRY_LOCK)

    with pytest.raises(RequestError) as caught:
        register(machine, NIGHTLY)

    assert caught.value.code == "REC7348"
