"""The main job on hosts whose GPUs count memory differently: GB10 has no counter at all, GH200's free counts cache."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from reconciler.lab import labs, scaffold
from tests.scenarios.lab_world import LabWorld
from tests.scenarios.scenarios import settle


@pytest.mark.parametrize(("gpu", "memory_class"), [("gb10", "unified"), ("gh200", "gh200")])
def test_a_switch_on_other_memory_models(
    gpu: Literal["gb10", "gh200"], memory_class: str, lab_ready: None, tmp_path: Path
) -> None:
    with labs.running(tmp_path, hosts=1, gpu=gpu) as lab:
        scaffold.write(lab)
        world = LabWorld(lab)
        settle(world)
        host = world.hosts[0]
        state = world.status(host)
        world.set_coven(host, "vision")
        settle(world)

        assert state["memory_class"] == {"value": memory_class}
        assert ("na" in state["gpus"]["value"][0]["memory"]) == (gpu == "gb10")
        assert [p["unit"] for p in state["gpus"]["value"][0]["processes"]["value"]] == ["recon-reasoning-vllm.service"]
        assert world.serves(host, "vision")
        assert world.recon("plan", "--detailed-exitcode").code == 0


def test_a_unified_host_drops_its_page_cache_when_only_that_makes_the_room(lab_ready: None, tmp_path: Path) -> None:
    with labs.running(tmp_path, hosts=1, gpu="gb10") as lab:
        scaffold.write(lab)
        world = LabWorld(lab)
        host = world.hosts[0]
        world.rewrite(world.host_file(host), r"(?m)^coven: ", "memory: {drop_caches: true}\ncoven: ")
        settle(world)
        first = world.status(host)["executor"]["last"]["value"]["steps_s"]
        lab.machine(host).gpu({"faults": {"cache": 60 << 30}})
        world.set_coven(host, "vision")
        planned = [step["step"] for step in world.plan()["hosts"][0]["transitions"][0]["steps"]]
        settle(world)
        second = world.status(host)["executor"]["last"]["value"]["steps_s"]

        assert planned[4:6] == ["drop_caches", "verify_memory"]
        assert ("drop_caches" in first, "drop_caches" in second) == (False, True)
        assert "Cached:                    0 kB" in lab.machine(host).run(["cat", "/proc/meminfo"]).stdout.decode()
        assert world.serves(host, "vision")


def test_a_host_with_two_gpus_has_two_slots_that_move_apart(lab_ready: None, tmp_path: Path) -> None:
    with labs.running(tmp_path, hosts=1, gpus_per_host=2) as lab:
        scaffold.write(lab)
        world = LabWorld(lab)
        host = world.hosts[0]
        slots = 'slots:\n  left: {gpus: ["0"], coven: reasoning}\n  right: {gpus: ["1"], coven: vision}\n'
        world.rewrite(world.host_file(host), r"(?m)^coven: .*\n", slots)
        for coven in ("reasoning", "vision", "embeddings"):
            world.rewrite(world.coven_file(coven), r"memory: \w+", "memory: 80GiB")
            world.rewrite(world.coven_file(coven), r'LAB_GPU_BYTES: "\d+"', 'LAB_GPU_BYTES: "80000000000"')
        settle(world)
        before = world.main_pid(host, "reasoning")
        world.rewrite(world.host_file(host), r"coven: vision", "coven: embeddings")
        settle(world)

        assert (world.serves(host, "reasoning"), world.serves(host, "embeddings")) == (True, True)
        assert not world.serves(host, "vision")
        assert world.main_pid(host, "reasoning") == before
        assert world.recon("plan", "--detailed-exitcode").code == 0
