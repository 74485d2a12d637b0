"""The laptop lid closes in the middle of an apply: the host finishes by itself and says so."""

from __future__ import annotations

import json
import subprocess
import time

from reconciler.agent import places
from tests.lab.test_scenarios import world
from tests.scenarios.lab_world import LabWorld
from tests.scenarios.scenarios import settle

__all__ = ["world"]


def wait_for_step(world: LabWorld, host: str, step: str) -> str:
    """Return the transaction that has come to a step.

    The host's own record is read: on a busy machine `recon status` takes as long as some steps do.
    """
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        shown = world.lab.machine(host).run(["cat", places.LEASE], check=False).stdout
        lease = json.loads(shown)["body"] if shown else {}
        if lease.get("step") == step:
            return str(lease["txid"])
        time.sleep(0.1)
    raise AssertionError(f"{host} never came to {step}")


def wait_for_end(world: LabWorld, host: str) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        executor = world.status(host)["executor"]
        if not executor["active"] and "value" in executor["last"]:
            return str(executor["last"]["value"]["state"])
    raise AssertionError(f"the transition on {host} never ended")


def test_killing_recon_in_the_middle_leaves_a_host_that_finishes_by_itself(world: LabWorld) -> None:
    settle(world)
    host = world.hosts[0]
    request = world.request(host, "reasoning", 15.0)  # A busy machine asks for a status in several seconds.
    world.set_coven(host, "vision")
    apply = subprocess.Popen(
        world.argv("apply", "--yes", "--host", host), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        txid = wait_for_step(world, host, "drain")
    finally:
        apply.kill()
        apply.wait()

    shown = world.recon("status", "--host", host)

    assert f"transition running {txid}" in shown.out
    assert wait_for_end(world, host) == "applied"
    assert request.answer_is_whole()
    assert world.serves(host, "vision")
    assert world.recon("plan", "--detailed-exitcode").code == 0


def test_an_apply_of_something_else_is_told_who_holds_the_host_and_can_join(world: LabWorld) -> None:
    settle(world)
    host = world.hosts[0]
    request = world.request(host, "reasoning", 12.0)
    world.set_coven(host, "vision")
    apply = subprocess.Popen(
        world.argv("apply", "--yes", "--host", host), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        txid = wait_for_step(world, host, "drain")
        world.set_coven(host, "reasoning")
        second = world.recon("apply", "--yes", "--host", host)
        world.set_coven(host, "vision")
        joined = world.recon("apply", "--attach", txid, "--host", host)
    finally:
        first = apply.wait()

    assert (second.code, first, joined.code) == (4, 0, 0)
    assert txid in second.out
    assert request.answer_is_whole()
