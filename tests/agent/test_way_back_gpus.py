"""The way back measures the GPUs that the old coven had, whatever the commit that failed made of its slot."""

from __future__ import annotations

from typing import Literal

import pytest

from reconciler.agent import executor
from reconciler.model.outcome import Outcome
from reconciler.sim.faults import set_fault
from reconciler.sim.machine import SimMachine
from reconciler.sim.state import GiB, Process
from tests.agent.bench import Bench, a_coven, a_service, ending_before

OLD, NEW = "recon-reasoning-vllm.service", "recon-vision-llama.service"
Gpus = tuple[str, ...] | Literal["all"]


def a_bench(gpus: Gpus, size: str = "90GiB") -> Bench:
    """Return a host of two GPUs whose slot has some of them, and on which the new coven will crash."""
    old = a_coven("reasoning", vllm=a_service("vllm", 8001, memory=size))
    new = a_coven("vision", llama=a_service("llamacpp", 8003, memory="40GiB"))
    bench = Bench(old, new, slots={"main": gpus})
    bench.machine = SimMachine.new("h-1", "h200", gpus=2)
    assert bench.run("reasoning").state == "applied"
    set_fault(bench.machine.state, "crash-at-start", NEW)
    return bench


def uuids(bench: Bench, *indexes: int) -> list[str]:
    return [bench.machine.state.gpus[index].uuid for index in indexes]


def measured_last(bench: Bench, outcome: Outcome) -> str:
    """Return what the way back said of the memory, once it was free."""
    said = [event.text for event in bench.events(outcome.txid) if event.step == "rollback"]
    return next(text for text in said if text.startswith("free: "))


@pytest.mark.parametrize("before", [("0", "1"), "all"])
def test_an_old_coven_that_had_more_gpus_is_measured_on_all_of_them(before: Gpus) -> None:
    bench = a_bench(before, "200GiB")
    bench.slots = {"main": ("0",)}

    outcome = bench.run("vision")

    assert (outcome.state, outcome.code, bench.serving()) == ("rolled_back", "REC7105", ["recon-reasoning-vllm"])
    assert all(uuid in measured_last(bench, outcome) for uuid in uuids(bench, 0, 1))


@pytest.mark.parametrize("name", ["0", "its UUID"])
def test_an_old_coven_that_had_another_gpu_waits_for_that_one(name: str) -> None:
    bench = a_bench(("0",))
    if name != "0":
        bench.slots = {"main": (uuids(bench, 0)[0],)}
        assert bench.run("reasoning").state == "applied"
    bench.slots = {"main": ("1",)}
    set_fault(bench.machine.state, "slow-release", OLD, 45.0)

    outcome = bench.run("vision")

    assert (outcome.state, outcome.code, bench.serving()) == ("rolled_back", "REC7105", ["recon-reasoning-vllm"])
    (first, second) = uuids(bench, 0, 1)
    assert first in measured_last(bench, outcome)
    assert second not in measured_last(bench, outcome)


def test_the_holder_of_the_gpu_that_the_old_coven_had_is_named() -> None:
    bench = a_bench(("0",))
    bench.slots = {"main": ("1",)}
    intent = bench.intent("vision")
    txid = bench.submit(intent)
    bench.strike(txid, ending_before("run systemctl start"))
    state = bench.machine.state
    pid = bench.machine.clock.pid()
    state.processes[pid] = Process(pid=pid, comm="trainer", argv=["trainer"], cgroup="/user.slice", uid=1000)
    assert bench.machine.gpu.take(pid, "trainer", uuids(bench, 0), 100 * GiB)

    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))

    assert (outcome.state, bench.serving()) == ("held", [])
    assert "trainer" in outcome.reason


def test_a_reserve_that_the_commit_raises_is_not_asked_of_the_old_coven() -> None:
    old = a_coven("reasoning", vllm=a_service("vllm", 8001, memory="90GiB"))
    new = a_coven("vision", llama=a_service("llamacpp", 8003, memory="40GiB"))
    bench = Bench(old, new, kind="gb10")
    assert bench.run("reasoning").state == "applied"
    bench.reserve = 40 * GiB
    set_fault(bench.machine.state, "crash-at-start", NEW)

    outcome = bench.run("vision")

    assert (outcome.state, outcome.code, bench.serving()) == ("rolled_back", "REC7105", ["recon-reasoning-vllm"])
