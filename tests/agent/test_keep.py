"""Images of the generation before stay on the host until the next commit, whoever cleans up there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from reconciler.agent import executor, keep, places
from reconciler.agent.machine import Completed
from reconciler.model.outcome import Outcome
from reconciler.sim.faults import set_fault
from tests.agent.bench import DIGEST, IMAGES, Bench, a_coven, a_service

VLLM, LLAMA = IMAGES["vllm"], IMAGES["llamacpp"]
OTHER = f"docker.io/vllm/vllm-openai-next@{DIGEST}"
REASONING = a_coven("reasoning", vllm=a_service("vllm", 8001))
VISION = a_coven("vision", llama=a_service("llamacpp", 8003))
NEXT = a_coven("next", vllm=a_service("vllm", 8002, image=OTHER))


@pytest.fixture
def bench() -> Bench:
    """A host that runs reasoning, each of whose three covens has an image of its own."""
    bench = Bench(REASONING, VISION, NEXT)
    assert bench.run("reasoning").state == "applied"
    bench.machine.state.images.append(OTHER)
    return bench


def held(bench: Bench) -> list[str]:
    return sorted(bench.machine.state.held_images.values())


def not_held(bench: Bench, outcome: Outcome) -> list[str]:
    return [event.text for event in bench.events(outcome.txid) if "not held" in event.text]


def podman(bench: Bench, live: str) -> list[str]:
    """Switch, and return what podman was told to do meanwhile."""
    txid = bench.submit(bench.intent(live))
    seen = bench.doing(lambda: executor.execute(bench.machine, txid))
    assert Outcome.model_validate(executor.execute(bench.machine, txid)).state == "applied"
    return [what for what in seen if what.startswith("run podman")]


def test_an_image_is_held_before_its_coven_is_stopped_and_let_go_when_two_commits_no_longer_run_it(
    bench: Bench,
) -> None:
    create = "run podman volume create --ignore --driver=image"
    label = "--label=io.recon.keep=1"

    assert podman(bench, "vision") == [f"{create} --opt=image={VLLM} {label} {keep.volume_of(VLLM)}"]
    assert held(bench) == [VLLM]
    assert podman(bench, "next") == [
        f"{create} --opt=image={LLAMA} {label} {keep.volume_of(LLAMA)}",
        f"run podman volume rm {keep.volume_of(VLLM)}",
    ]
    assert held(bench) == [LLAMA]


def test_two_covens_that_take_turns_cost_podman_nothing_after_the_second_turn(bench: Bench) -> None:
    assert len(podman(bench, "vision") + podman(bench, "reasoning")) == 2
    assert podman(bench, "vision") + podman(bench, "reasoning") == []
    assert held(bench) == sorted([VLLM, LLAMA])


def a_way_back_beside_a_clean_up(bench: Bench) -> Outcome:
    """Let vision crash, and somebody clean up while nothing of the old coven runs."""
    txid = bench.submit(bench.intent("vision"))
    set_fault(bench.machine.state, "crash-at-start", "recon-vision-llama.service")

    def clean_up(when: str, what: str) -> None:
        if when == "after" and what == "run systemctl start --no-block --job-mode=fail recon-coven-vision.target":
            bench.machine.podman.prune_images()

    bench.machine.hook = clean_up
    return Outcome.model_validate(executor.execute(bench.machine, txid))


def test_a_clean_up_while_nothing_of_the_old_coven_runs_does_not_take_the_way_back(bench: Bench) -> None:
    outcome = a_way_back_beside_a_clean_up(bench)

    assert (outcome.state, bench.serving()) == ("rolled_back", ["recon-reasoning-vllm"])


def test_the_generation_before_can_be_gone_back_to_after_a_clean_up(bench: Bench) -> None:
    assert bench.run("vision").state == "applied"

    bench.machine.podman.prune_images()

    assert sorted(bench.machine.state.images) == sorted([LLAMA, VLLM])
    assert bench.run("reasoning").state == "applied"


def test_what_a_clean_up_of_volumes_let_go_of_is_held_again(bench: Bench) -> None:
    assert bench.run("vision").state == bench.run("reasoning").state == "applied"
    bench.machine.state.held_images.clear()
    outcome = a_way_back_beside_a_clean_up(bench)

    assert (outcome.state, bench.serving()) == ("rolled_back", ["recon-reasoning-vllm"])
    assert held(bench) == sorted([VLLM, LLAMA])


def test_an_image_that_a_clean_up_took_with_its_volume_is_told(bench: Bench) -> None:
    assert bench.run("vision").state == "applied"
    intent = bench.intent("next")
    bench.machine.state.held_images.clear()
    bench.machine.state.images_missing.append(VLLM)

    outcome = bench.execute(intent)

    assert outcome.state == "applied"
    assert not_held(bench, outcome) == [
        f"{VLLM} is not held: Error: {VLLM}: image not known; a clean-up could take the way back"
    ]
    assert held(bench) == [LLAMA]


def test_what_is_held_is_believed_and_told_where_podman_does_not_say(bench: Bench) -> None:
    assert bench.run("vision").state == bench.run("reasoning").state == "applied"
    run = bench.machine.run

    def deaf(argv: Sequence[str], timeout_s: float, *rest: Any, **more: Any) -> Completed:
        if list(argv[:3]) == ["podman", "volume", "ls"]:
            return Completed(125, b"", b"Error: database is locked")
        return run(argv, timeout_s, *rest, **more)

    bench.machine.run = deaf  # type: ignore[method-assign]
    outcome = bench.run("vision")

    assert outcome.state == "applied"
    assert [event.text for event in bench.events(outcome.txid) if "podman does not say" in event.text] == [
        "podman does not say which images are held: Error: database is locked"
    ]
    assert held(bench) == sorted([VLLM, LLAMA])


def test_an_image_that_cannot_be_held_is_told_and_does_not_end_the_transition(bench: Bench) -> None:
    intent = bench.intent("vision")
    bench.machine.state.images_missing.append(VLLM)

    outcome = bench.execute(intent)

    assert outcome.state == "applied"
    assert not_held(bench, outcome) == [
        f"{VLLM} is not held: Error: {VLLM}: image not known; a clean-up could take the way back"
    ]


def test_a_damaged_record_of_what_is_held_is_written_anew(bench: Bench) -> None:
    assert bench.run("vision").state == "applied"
    bench.machine.write(places.KEPT, b"{")

    assert bench.run("reasoning").state == "applied"
    assert held(bench) == sorted([VLLM, LLAMA])
