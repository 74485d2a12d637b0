"""Containers have the name that git gives them, and nobody else's container is removed for it."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.agent import ours
from reconciler.model.desired import Service
from reconciler.sim.state import GiB, Node
from tests.agent.bench import IMAGES, Bench, a_coven, a_service
from tests.agent.test_takeover import QUADLET, planned


def a_bench(**over: Any) -> Bench:
    service: Service = a_service("llamacpp", 8003, memory="100GiB", container_name="llama", **over)
    bench = Bench(a_coven("vision", llama=service))
    bench.machine.state.images.append(IMAGES["llamacpp"])
    return bench


def somebodys(bench: Bench, *, keeps: bool = True) -> None:
    bench.machine.podman.stray("llama", IMAGES["llamacpp"], ["--port", "9"], GiB, [], keeps=keeps)


def test_a_container_has_the_name_that_git_gives_it_and_its_unit_keeps_its_own() -> None:
    bench = a_bench()

    assert bench.run("vision").state == "applied"
    assert bench.serving() == ["llama"]
    assert bench.active("recon-vision-llama.service") == "active"
    assert planned(bench, "vision").changes == ()
    assert ours.unit_of(ours.manifest(bench.machine), "llama") == "recon-vision-llama.service"


def test_a_name_that_changes_restarts_the_service_under_the_new_one() -> None:
    bench = a_bench()
    assert bench.run("vision").state == "applied"
    bench.covens["vision"] = a_coven(
        "vision", llama=a_service("llamacpp", 8003, memory="100GiB", container_name="other")
    )

    assert bench.run("vision").state == "applied"
    assert bench.serving() == ["other"]


@pytest.mark.parametrize("is_running", [True, False])
def test_a_container_of_somebody_else_with_that_name_refuses_the_plan(*, is_running: bool) -> None:
    bench = a_bench()
    somebodys(bench)
    if not is_running:
        assert bench.machine.run(["podman", "stop", "--", "llama"], 60.0).rc == 0

    (refusal,) = planned(bench, "vision").refusals

    status = "running" if is_running else "exited"
    assert (refusal.code, refusal.summary) == ("REC7494", "the container llama of h-1 is not recon's")
    assert refusal.detail == (
        f"it is {status}, podman runs it by itself, and it keeps its name when it is stopped;"
        " starting llama would remove it"
    )


def test_one_that_came_after_the_plan_refuses_in_staging_and_is_left_alone() -> None:
    bench = a_bench()
    intent = bench.intent("vision")
    somebodys(bench)
    assert bench.machine.run(["podman", "stop", "--", "llama"], 60.0).rc == 0

    outcome = bench.execute(bench.looked_at(intent))

    assert (outcome.state, outcome.code) == ("refused", "REC7494")
    assert [each.name for each in bench.machine.state.containers.values()] == ["llama"]


def test_one_that_came_after_staging_ends_the_transaction_and_is_left_alone() -> None:
    bench = a_bench()
    intent = bench.intent("vision")

    def hook(when: str, what: str) -> None:
        if when == "before" and what.endswith("/boot.wants/recon-coven-vision.target"):
            somebodys(bench)
            assert bench.machine.run(["podman", "stop", "--", "llama"], 60.0).rc == 0

    bench.machine.hook = hook
    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("aborted", "REC7494"), outcome
    assert [each.name for each in bench.machine.state.containers.values()] == ["llama"]


def test_what_is_taken_over_may_have_the_name_that_it_gives_up() -> None:
    bench = a_bench(adopts=("llama.service",))
    bench.machine.files.put("/etc/containers/systemd/llama.container", Node.of(QUADLET.encode()))
    bench.machine.reboot()
    bench.machine.sleep(60.0)
    assert bench.active("llama.service") == "active"

    assert bench.run("vision").state == "applied"
    (container,) = bench.machine.state.containers.values()
    assert (bench.active("llama.service"), container.name) == ("failed", "llama")
    assert container.unit == "recon-vision-llama.service"
