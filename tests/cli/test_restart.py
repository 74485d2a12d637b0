"""`recon restart`: one service by name, as a plan like any other; what must not be restarted is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import ExitCode
from reconciler.sim.deeds import stop_unit
from reconciler.sim.faults import set_fault
from tests.scenarios.sim_world import SimWorld

SECOND = """\
  helper:
    runtime: bot
    image: registry.example.net/helper@sha256:{digit}
    memory: 0B
    gpu: false
"""
HOST = """
shared:
  - {unit: qdrant.service, memory: 0B, health: "http://127.0.0.1:6333/healthz"}
residents:
  parser: {runtime: none, image: "registry.example.net/parser@sha256:DIGIT", memory: 0B, gpu: false}
"""


@pytest.fixture
def world(tmp_path: Path) -> SimWorld:
    """Host h-1 runs a server and a bot, a resident, and a service of others."""
    made = SimWorld(tmp_path)
    coven = made.coven_file("reasoning")
    coven.write_text(coven.read_text() + SECOND.format(digit="b" * 64), encoding="utf-8")
    host = made.host_file("h-1")
    host.write_text(host.read_text() + HOST.replace("DIGIT", "c" * 64), encoding="utf-8")
    ran = made.recon("apply", "--yes")
    assert ran.code == 0, ran.out + ran.err
    return made


def dry(world: SimWorld, service: str) -> Any:
    return json.loads(world.recon("restart", "h-1", service, "--dry-run", "-o", "json").out)


def pids(world: SimWorld) -> dict[str, int]:
    with world.fleet.open("h-1") as machine:
        names = ("recon-reasoning-vllm", "recon-reasoning-helper", "recon-resident-parser", "qdrant")
        return {name: machine.manager.run_of(f"{name}.service").main_pid for name in names}


def moved(before: dict[str, int], after: dict[str, int]) -> list[str]:
    return [name for name in before if before[name] != after[name]]


@pytest.mark.parametrize("name", ["vllm", "reasoning/vllm", "recon-reasoning-vllm", "recon-reasoning-vllm.service"])
def test_the_plan_restarts_that_service_and_no_other(world: SimWorld, name: str) -> None:
    order = dry(world, name)["hosts"][0]["order"]

    assert [(move["kind"], move["restart"]) for move in order["moves"]] == [("restart", ["vllm"])]
    assert (order["restart_residents"], order["stop_units"], order["asked"]) == ([], [], "restart reasoning/vllm")


def test_the_plan_says_what_is_done_and_why(world: SimWorld) -> None:
    ran = world.recon("restart", "h-1", "vllm", "--dry-run")

    assert ran.code == ExitCode.OK
    assert "restart slot all  reasoning: vllm  (asked)" in ran.out
    assert "a restart of reasoning/vllm is asked for" in ran.out
    assert "wait until nothing is in flight or waiting on vllm" in ran.out


def test_it_is_drained_stopped_and_started_and_nothing_else_is_touched(world: SimWorld) -> None:
    before = pids(world)

    ran = world.recon("restart", "h-1", "vllm", "--yes")

    assert ran.code == ExitCode.OK, ran.out + ran.err
    assert moved(before, pids(world)) == ["recon-reasoning-vllm"]
    assert world.committed("h-1") == 2
    assert world.recon("plan", "--detailed-exitcode").code == ExitCode.OK
    with world.fleet.open("h-1") as machine:
        lines = machine.read("/var/lib/recon/history.jsonl").decode().splitlines()
    assert [json.loads(line).get("asked") for line in lines][-1] == "restart reasoning/vllm"


def test_a_resident_is_restarted_alone(world: SimWorld) -> None:
    before = pids(world)

    ran = world.recon("restart", "h-1", "parser", "--yes")

    assert ran.code == ExitCode.OK, ran.out + ran.err
    assert moved(before, pids(world)) == ["recon-resident-parser"]


def test_what_was_committed_is_restarted_whatever_git_says_now(world: SimWorld) -> None:
    world.rewrite(world.coven_file("reasoning"), r"stop: \{timeout: \w+\}", "stop: {timeout: 11s}")
    world.set_coven("h-1", "vision")

    ran = world.recon("restart", "h-1", "vllm", "--yes")

    assert ran.code == ExitCode.OK, ran.out + ran.err
    assert world.serves("h-1", "reasoning")


def test_one_that_does_not_come_up_again_ends_as_every_apply_does(world: SimWorld) -> None:
    with world.fleet.open("h-1") as machine:
        set_fault(machine.state, "crash-at-start", "recon-reasoning-vllm.service")

    ran = world.recon("restart", "h-1", "vllm", "--yes")

    assert ran.code == ExitCode.HELD, ran.out + ran.err
    assert "crash loop" in ran.out + ran.err


def test_one_that_is_stopped_is_started(world: SimWorld) -> None:
    with world.fleet.open("h-1") as machine:
        stop_unit(machine, "recon-reasoning-helper.service")

    planned = dry(world, "helper")["hosts"][0]

    assert planned["transitions"][0]["disruption"] == "start"
    assert world.recon("restart", "h-1", "helper", "--yes").code == ExitCode.OK


@pytest.mark.parametrize(
    ("service", "code", "words"),
    [
        ("qdrant.service", "REC7400", "on the host, if it is yours: systemctl restart qdrant.service"),
        ("qdrant", "REC7400", "recon never acts on it"),
        ("nobody", "REC7401", "h-1 runs reasoning/vllm, reasoning/helper, resident/parser"),
        ("llama", "REC7401", "it is of vision, which h-1 does not run"),
        ("*", "REC7401", "recon status --host h-1"),
        ("spiral", "REC7402", "recon down spiral --host h-1 --reason TEXT"),
        ("recon-spiral-worker.service", "REC7402", "recon up spiral --host h-1"),
        ("spiral/worker", "REC7402", "all together"),
    ],
)
def test_what_must_not_be_restarted_is_refused_with_what_to_type(
    world: SimWorld, service: str, code: str, words: str
) -> None:
    before = pids(world)

    ran = world.recon("restart", "h-1", service, "--yes")

    assert ran.code == ExitCode.REFUSED
    assert code in ran.err
    assert words in ran.err
    assert pids(world) == before


def test_a_name_that_two_services_have_must_be_told_apart(world: SimWorld) -> None:
    world.rewrite(world.host_file("h-1"), r"  parser:", "  vllm:")
    assert world.recon("apply", "--yes").code == ExitCode.OK

    ran = world.recon("restart", "h-1", "vllm", "--yes")

    assert "error[REC7401]: more than one service has that name" in ran.err
    assert "'vllm' is reasoning/vllm and resident/vllm" in ran.err
    assert dry(world, "resident/vllm")["hosts"][0]["order"]["restart_residents"] == ["recon-resident-vllm.service"]


def test_a_host_that_is_not_as_it_was_committed_is_brought_there_first(world: SimWorld) -> None:
    with world.fleet.open("h-1") as machine:
        stop_unit(machine, "recon-reasoning-helper.service")

    ran = world.recon("restart", "h-1", "vllm", "--yes")

    assert ran.code == ExitCode.REFUSED
    assert "REC7403" in ran.err
    assert "recon apply --host h-1" in ran.err


def test_a_host_on_which_nothing_was_committed_has_nothing_to_restart(tmp_path: Path) -> None:
    ran = SimWorld(tmp_path).recon("restart", "h-1", "vllm", "--yes")

    assert ran.code == ExitCode.REFUSED
    assert "REC7034" in ran.err


def test_a_held_host_is_left_alone(world: SimWorld) -> None:
    with world.fleet.open("h-1") as machine:
        machine.write("/etc/recon/hold.json", b'{"owner": "ann", "reason": "benchmark", "since": 1}')

    ran = world.recon("restart", "h-1", "vllm", "--yes")

    assert ran.code == ExitCode.LOCKED, ran.out + ran.err
