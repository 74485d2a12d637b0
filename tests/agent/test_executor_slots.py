"""Several slots move in one transaction: one after the other, one commit, and back in reverse."""

from __future__ import annotations

import pytest

from reconciler.agent import executor
from reconciler.model.outcome import Outcome
from reconciler.sim.faults import set_fault
from tests.agent.bench import Bench, a_coven, a_service

A = a_coven("a", one=a_service("llamacpp", 8001, memory="90GiB"))
B = a_coven("b", two=a_service("llamacpp", 8002, memory="90GiB"))
C = a_coven("c", three=a_service("llamacpp", 8003, memory="90GiB"))
D = a_coven("d", four=a_service("llamacpp", 8004, memory="90GiB"))
BEFORE = ["recon-a-one", "recon-b-two"]
AFTER = ["recon-c-three", "recon-d-four"]


@pytest.fixture
def bench() -> Bench:
    """A host with two slots: a runs on the left one, b on the right one."""
    bench = Bench(A, B, C, D, slots={"left": ("0",), "right": ("1",)})
    assert bench.run("a", "b").state == "applied"
    assert bench.serving() == BEFORE
    return bench


def test_both_slots_move_one_after_the_other_with_one_commit(bench: Bench) -> None:
    outcome = bench.run("c", "d")

    assert (outcome.state, outcome.committed, outcome.live) == ("applied", 2, {"left": "c", "right": "d"})
    move = ["drain", "stop", "verify_memory", "trial", "start", "warm"]
    assert bench.steps(outcome.txid) == ["claim", "stage", *move, *move, "commit", "finish"]
    assert bench.serving() == AFTER


def test_a_second_move_that_fails_takes_the_first_one_back_too(bench: Bench) -> None:
    before = bench.disk()
    txid = bench.submit(bench.intent("c", "d"))
    set_fault(bench.machine.state, "crash-at-start", "recon-d-four.service")

    seen = bench.doing(lambda: executor.execute(bench.machine, txid))

    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))
    assert (outcome.state, outcome.code, outcome.live) == ("rolled_back", "REC7105", {"left": "a", "right": "b"})
    assert bench.serving() == BEFORE
    assert bench.disk() == before
    starts = [what.rpartition(" ")[2] for what in seen if what.startswith("run systemctl start")]
    assert starts == [f"recon-coven-{coven}.target" for coven in ("c", "d", "b", "a")]


def test_a_second_drain_that_is_given_up_leaves_its_own_slot_alone(bench: Bench) -> None:
    kept = bench.pid("recon-b-two.service")
    intent = bench.intent("c", "d")
    bench.busy(8002, 1000.0)

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code, outcome.live) == ("rolled_back", "REC7101", {"left": "a", "right": "b"})
    assert bench.serving() == BEFORE
    assert bench.pid("recon-b-two.service") == kept
    assert bench.machine.state.cut == []


def test_a_slot_that_does_not_move_is_not_touched(bench: Bench) -> None:
    kept = bench.pid("recon-a-one.service")

    outcome = bench.run("a", "c")

    assert bench.pid("recon-a-one.service") == kept
    assert (outcome.state, outcome.live) == ("applied", {"left": "a", "right": "c"})
    assert bench.serving() == ["recon-a-one", "recon-c-three"]
