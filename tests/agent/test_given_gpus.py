"""A GPU is the same one by its index and by its UUID, to whoever asks whether two covens would meet on it."""

from __future__ import annotations

import pytest

from reconciler.agent import fact, given_gpus, places
from reconciler.agent.journal import Journal
from reconciler.agent.txn import Run
from tests.agent.bench import Bench, a_coven, a_service

FIRST, SECOND = (f"GPU-682d3100-5d1a-4c0e-9f00-00000000000{index}" for index in (0, 1))


def would_meet(had: str, has: str, *, knows_gpus: bool) -> bool:
    """Ask about a coven that had one GPU and another one whose slot is given one in its place."""
    old, new = (a_coven(name, llama=a_service("llamacpp", port)) for name, port in (("a", 8001), ("c", 8003)))
    bench = Bench(old, new, slots={"left": (had,), "right": (SECOND if had in ("0", FIRST) else FIRST,)})
    assert [gpu.uuid for gpu in bench.machine.state.gpus] == [FIRST, SECOND]
    assert bench.run("a", None).state == "applied"
    bench.slots = {"left": (has,)}
    intent = bench.intent("c")
    run = Run(bench.machine, intent, Journal(bench.machine, f"{places.transaction(intent['txid'])}/journal.jsonl"))
    run.old_generation = 1
    listed = [{"uuid": gpu.uuid, "index": index} for index, gpu in enumerate(bench.machine.state.gpus)]
    run.state = {"gpus": fact.value(listed) if knows_gpus else fact.unknown("NVML error 999")}
    (move,) = intent["moves"]
    return given_gpus.would_meet(run, move, move)


@pytest.mark.parametrize(
    ("had", "has", "meet"),
    [
        ("0", "0", True),
        ("0", FIRST, True),
        (FIRST, "0", True),
        ("0", "1", False),
        ("0", SECOND, False),
        (SECOND, "0", False),
        (FIRST, SECOND, False),
    ],
)
def test_two_covens_meet_on_the_same_gpu_alone_however_git_names_it(had: str, has: str, meet: bool) -> None:
    assert would_meet(had, has, knows_gpus=True) is meet


@pytest.mark.parametrize(
    ("had", "has", "meet"), [("0", "0", True), ("0", "1", False), (FIRST, SECOND, False), ("0", SECOND, True)]
)
def test_an_index_and_a_uuid_may_be_the_same_gpu_where_the_host_cannot_tell(had: str, has: str, meet: bool) -> None:
    assert would_meet(had, has, knows_gpus=False) is meet
