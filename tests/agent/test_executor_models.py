"""Models in a transition: what cannot be loaded is refused before anybody is disturbed, with the command that helps."""

from __future__ import annotations

import pytest

from reconciler.agent import observe
from reconciler.hosts.observe import observe_request
from reconciler.model.observed import HostState, Known
from reconciler.sim.deeds import missing
from reconciler.sim.files import Files
from reconciler.sim.state import Node
from tests.agent.bench import CONTEXT, Bench, a_coven, a_service

HUB = a_coven("hub", vllm=a_service("vllm", 8004, memory="80GiB", model={"hub": "org/name"}))
OLD = a_coven("old", vllm=a_service("vllm", 8001, memory="80GiB"))
SNAPSHOT = "/srv/huggingface/hub/models--org--name/snapshots"


def a_bench() -> Bench:
    bench = Bench(HUB, OLD)
    assert bench.run("old").state == "applied"
    return bench


def drop(files: Files, path: str) -> None:
    files.drop_tree(path)


def test_a_hub_model_in_the_cache_is_served_from_there() -> None:
    bench = a_bench()

    assert bench.run("hub").state == "applied"
    assert bench.serving() == ["recon-hub-vllm"]


def test_one_that_is_not_there_is_refused_with_the_command_and_nothing_is_changed() -> None:
    bench = a_bench()
    intent = bench.intent("hub")
    drop(bench.machine.files, SNAPSHOT)
    before = bench.disk(), bench.pid("recon-old-vllm.service")

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("refused", "REC7410")
    assert outcome.reason == (
        "org/name is not in the cache /srv/huggingface/hub of the host: revision main is not (vllm)"
    )
    assert outcome.fix == "hf download org/name --cache-dir /srv/huggingface/hub"
    assert outcome.committed == 1
    assert before[1] == bench.pid("recon-old-vllm.service")
    assert before[0] == bench.disk()


def test_weights_that_do_not_fit_what_is_declared_are_refused() -> None:
    bench = a_bench()
    intent = bench.intent("hub")
    index = b'{"metadata": {"total_size": 99999999999999}, "weight_map": {"a": "model.safetensors"}}'
    for name in bench.machine.files.listdir(SNAPSHOT):
        bench.machine.files.put(f"{SNAPSHOT}/{name}/model.safetensors.index.json", Node.of(index))

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("refused", "REC7408")


def test_a_path_that_is_empty_is_refused() -> None:
    bench = a_bench()
    assert bench.run("hub").state == "applied"
    intent = bench.intent("old")
    drop(bench.machine.files, "/srv/models/8001")
    bench.machine.files.make_dirs("/srv/models/8001")

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code, outcome.reason) == ("refused", "REC7406", "/srv/models/8001 is empty (vllm)")


def test_a_split_model_without_one_of_its_parts_is_refused_before_anything_is_stopped() -> None:
    parts = [f"/srv/models/best-of-n-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    model = {"path": parts[0]}
    bench = Bench(a_coven("split", cpp=a_service("llamacpp", 8005, memory="80GiB", model=model)), OLD)
    assert bench.run("split").state == "applied"
    assert bench.run("old").state == "applied"
    intent = bench.intent("split")
    drop(bench.machine.files, parts[2])

    outcome = bench.execute(intent)

    reason = f"{parts[0]} is not whole: missing or empty: best-of-n-00003-of-00003.gguf (1 in all) (cpp)"
    assert (outcome.state, outcome.code, outcome.reason) == ("refused", "REC7406", reason)
    assert bench.serving() == ["recon-old-vllm"]


@pytest.mark.parametrize("is_there", [True, False])
def test_an_observation_says_which_models_of_what_should_run_cannot_be_loaded(is_there: bool) -> None:
    bench = a_bench()
    rendered, host = bench.rendered("hub")
    bench.intent("hub")
    if not is_there:
        missing(bench.machine, "path", SNAPSHOT)
    args = observe_request(host, rendered)

    state = HostState.model_validate(observe.observe(bench.machine, args, CONTEXT))

    assert isinstance(state.models, Known)
    assert [(fault.unit, fault.code) for fault in state.models.value] == (
        [] if is_there else [("recon-hub-vllm.service", "REC7410")]
    )
