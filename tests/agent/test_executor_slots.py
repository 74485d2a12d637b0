"""Several slots move in one transaction: drained and stopped together, brought up one by one, and back in reverse."""

from __future__ import annotations

import errno
from typing import Literal

import pytest

from reconciler.agent import executor
from reconciler.model.desired import Hooks
from reconciler.model.outcome import Outcome
from reconciler.sim.faults import set_fault
from reconciler.sim.services import add_requests
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


def test_both_slots_are_drained_together_and_move_with_one_commit(bench: Bench) -> None:
    outcome = bench.run("c", "d")

    assert (outcome.state, outcome.committed, outcome.live) == ("applied", 2, {"left": "c", "right": "d"})
    up = ["verify_memory", "trial", "start", "warm"]
    assert bench.steps(outcome.txid) == ["claim", "stage", "drain", "stop", "stop", *up, *up, "commit", "finish"]
    assert bench.serving() == AFTER


def test_every_slot_can_be_emptied_and_filled_again(bench: Bench) -> None:
    outcome = bench.run(None, None)

    assert (outcome.state, outcome.live) == ("applied", {"left": None, "right": None})
    assert bench.serving() == []
    assert bench.run("a", "b").state == "applied"
    assert bench.serving() == BEFORE


def test_masks_that_could_not_be_taken_away_go_with_the_next_apply(bench: Bench) -> None:
    def full(when: Literal["before", "after"], what: str) -> None:
        if when == "before" and what == "remove /run/systemd/system/recon-a-one.service":
            raise OSError(errno.ENOSPC, "no space left on device")

    bench.machine.hook = full
    outcome = bench.run("c", "d")
    bench.machine.hook = None
    assert (outcome.state, "left to tidy up" in outcome.reason) == ("applied", True)

    assert bench.run("c", "d").state == "applied"

    assert [path for path in bench.machine.state.files if path.startswith("/run/systemd/system/recon-")] == []
    assert bench.run("a", "b").state == "applied"
    assert bench.serving() == BEFORE


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
    assert starts == [f"recon-coven-{coven}.target" for coven in ("c", "d", "d", "d", "b", "a")]


def test_a_drain_that_is_given_up_on_one_slot_leaves_every_slot_alone(bench: Bench) -> None:
    kept = bench.pid("recon-a-one.service"), bench.pid("recon-b-two.service")
    intent = bench.intent("c", "d")
    bench.busy(8002, 1000.0)

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code, outcome.live) == ("aborted", "REC7101", {"left": "a", "right": "b"})
    assert bench.serving() == BEFORE
    assert (bench.pid("recon-a-one.service"), bench.pid("recon-b-two.service")) == kept
    assert bench.machine.state.cut == []


def test_work_that_comes_to_one_slot_while_the_other_drains_is_not_cut(bench: Bench) -> None:
    intent = bench.intent("c", "d")
    bench.busy(8002, 20.0)
    (server,) = bench.machine.podman.servers.matching(":8001")
    add_requests(server, bench.machine.clock.now, 8.0, 1, 15.0)

    outcome = bench.execute(intent)

    assert outcome.state == "applied"
    assert bench.machine.state.cut == []


def test_services_of_one_name_on_two_slots_are_told_apart() -> None:
    env = {"VLLM_SERVER_DEV_MODE": "1"}
    left, right = (
        a_coven(name, vllm=a_service("vllm", port, memory="90GiB", env=env))
        for name, port in (("a", 8001), ("b", 8002))
    )
    bench = Bench(left, right, C, D, slots={"left": ("0",), "right": ("1",)})
    assert bench.run("a", "b").state == "applied"
    intent = bench.intent("c", "d")
    bench.busy(8001, 1000.0)

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("aborted", "REC7101")
    assert bench.serving() == ["recon-a-vllm", "recon-b-vllm"]
    assert [bench.machine.podman.servers.matching(f":{port}")[0].paused for port in (8001, 8002)] == [False, False]
    assert bench.machine.state.cut == []


def test_a_slot_that_does_not_move_is_not_touched(bench: Bench) -> None:
    kept = bench.pid("recon-a-one.service")

    outcome = bench.run("a", "c")

    assert bench.pid("recon-a-one.service") == kept
    assert (outcome.state, outcome.live) == ("applied", {"left": "a", "right": "c"})
    assert bench.serving() == ["recon-a-one", "recon-c-three"]


def test_a_stop_that_fails_on_one_slot_lets_the_other_serve_again() -> None:
    gate = "/usr/local/bin/gateway"
    hooks = {
        event: {"argv": (gate, event), "timeout": "10s", "on_timeout": "continue"}
        for event in ("before_drain", "on_rollback")
    }
    env = {"VLLM_SERVER_DEV_MODE": "1"}
    left, right = (
        a_coven(
            name,
            hooks=Hooks.model_validate({event: {**hook, "argv": (gate, name, event)} for event, hook in hooks.items()}),
            vllm=a_service("vllm", port, memory="90GiB", env=env),
        )
        for name, port in (("a", 8001), ("b", 8002))
    )
    bench = Bench(left, right, C, D, slots={"left": ("0",), "right": ("1",)})
    bench.program(gate, "exit 0")
    assert bench.run("a", "b").state == "applied"
    bench.machine.state.hooks.clear()
    set_fault(bench.machine.state, "unkillable", "recon-a-vllm.service", text="D")

    outcome = bench.run("c", "d")

    assert (outcome.state, outcome.live["right"]) == ("held", "b")
    assert [server.paused for server in bench.machine.podman.servers.matching(":8002")] == [False]
    assert bench.machine.state.hooks == [
        f"{gate} a before_drain",
        f"{gate} b before_drain",
        f"{gate} b on_rollback",
    ]
