"""What a host says of its spiral's tick, and how a person reads it."""

from __future__ import annotations

import pytest

from reconciler.agent import dispatch, places, tend, wire
from reconciler.model.observed import HostState
from reconciler.sim.machine import SimMachine
from reconciler.sim.state import Node
from reconciler.views.loop import loop_lines
from reconciler.views.paint import Paint
from tests.agent.ticks import CONTROL, HOST, ROOT, STATE, commit, spec
from tests.builders import a_host

CONTEXT = {"digest": "simulated", "mode": "simulated", "bundle": None}


def observed(machine: SimMachine) -> HostState:
    return HostState.model_validate(dispatch.handle(machine, "observe", {}, CONTEXT))


def lines(machine: SimMachine, *, details: bool = False) -> list[str]:
    return list(loop_lines(a_host(), observed(machine), Paint(on=False), details=details))


def test_what_holds_is_told_and_what_is_other_in_the_file_is_drift_of_the_owned_keys_alone() -> None:
    machine = SimMachine.new(HOST, "h200", seed=3)
    machine.files.make_dirs(ROOT)
    machine.files.put(CONTROL, Node.of(b'{"prompt": "secret"}'))
    machine.files.put(STATE, Node.of(b'{"converged": true}'))
    commit(machine, spec())
    before = observed(machine)
    unknown = lines(machine)
    tend.tend(machine)
    fine = lines(machine, details=True)
    machine.files.put(CONTROL, Node.of(b'{"prompt": "other", "limits": {"jobs_per_hour": 99, "queue_depth": 40}}'))
    drifted = lines(machine)

    assert unknown == ["spark-1: spiral unknown: the spiral's timer has not run yet"]
    assert fine == [
        "spark-1: spiral at its declared rate caps: jobs_per_hour 12, queue_depth 40",
        "spark-1: spiral has converged: its producers are stopped",
    ]
    assert drifted[1:] == [
        "spark-1: drift jobs_per_hour is 99 in the control file, 12 holds; the spiral's timer writes it again"
    ]
    assert "secret" not in observed(machine).model_dump_json()
    assert observed(machine).fingerprint == before.fingerprint


@pytest.mark.parametrize("value", ["NaN", "1e999", "1" + "0" * 400])
def test_a_number_that_is_none_in_the_control_file_is_told_as_drift(value: str) -> None:
    machine = SimMachine.new(HOST, "h200", seed=3)
    machine.files.make_dirs(ROOT)
    machine.files.put(CONTROL, Node.of(b"{}"))
    machine.files.put(STATE, Node.of(b'{"converged": false}'))
    commit(machine, spec())
    tend.tend(machine)
    machine.files.put(CONTROL, Node.of(b'{"limits": {"jobs_per_hour": %b, "queue_depth": 40}}' % value.encode()))

    assert wire.reply(dispatch.handle(machine, "observe", {}, CONTEXT))
    assert [line for line in lines(machine) if "drift jobs_per_hour is" in line]


def test_a_host_without_an_enabled_spiral_says_nothing_of_it() -> None:
    machine = SimMachine.new(HOST, "h200", seed=3)
    commit(machine, spec(enabled=False))

    assert (lines(machine), "na" in observed(machine).loop.model_dump()) == ([], True)


def test_a_record_that_does_not_verify_is_unknown_and_named() -> None:
    machine = SimMachine.new(HOST, "h200", seed=3)
    commit(machine, spec())
    machine.files.put(places.LOOP, Node.of(b"{}"))

    state = observed(machine)

    assert "unknown" in state.loop.model_dump()
    assert [damage.path for damage in state.damaged] == [places.LOOP]
