"""Locks and holds on a real host: who has the token passes, and the host's own clock frees what nobody gives back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from typing import Any

from reconciler.apply.events import HostEvent
from reconciler.errors import ExitCode
from reconciler.workflow.applying import run_plan
from reconciler.workflow.planning import make_plan
from tests.lab.test_scenarios import world
from tests.scenarios.lab_world import LabWorld
from tests.scenarios.scenarios import settle
from tests.scenarios.world import Ran

__all__ = ["world"]
WHY = ("--owner", "ann", "--reason", "measuring the new card")


def acquire(world: LabWorld, target: str, ttl: str) -> str:
    ran = world.recon("lock", "acquire", target, "--ttl", ttl, *WHY)
    assert ran.code == 0, ran.err
    return ran.out.strip()


def apply(world: LabWorld, host: str, token: str = "") -> Ran:
    """Apply with a token where `ps` does not show it."""
    done = subprocess.run(
        world.argv("apply", "--yes", "--host", host),
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "RECON_LOCK_TOKEN": token},
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def told(world: LabWorld, host: str, kind: str) -> list[dict[str, Any]]:
    text = world.lab.machine(host).path("/var/lib/recon/history.jsonl").read_text(encoding="utf-8")
    return [line for line in map(json.loads, text.splitlines()) if line.get("kind") == kind]


def test_a_locked_host_refuses_and_the_token_passes_and_a_wrong_one_does_not(world: LabWorld) -> None:
    settle(world)
    host = world.hosts[0]
    token = acquire(world, f"{host}/all", "30m")
    pid = world.main_pid(host, "reasoning")
    world.set_coven(host, "vision")

    without, wrong = apply(world, host), apply(world, host, token[:-3] + "abc")
    status = world.recon("status", "--host", host).out

    for ran in (without, wrong):
        assert ran.code == ExitCode.LOCKED, ran.out + ran.err
        assert f"[REC7300] slot all of {host} is locked by ann" in ran.out
        assert re.search(r"why: +measuring the new card; it frees itself in (30m|29m\d+s) at the latest", ran.out)
    assert re.search(r"slot all locked by ann for another (30m|29m\d+s)", status)
    assert world.main_pid(host, "reasoning") == pid
    passed = apply(world, host, token)
    assert passed.code == ExitCode.OK, passed.out + passed.err
    assert world.serves(host, "vision")
    state = world.lab.machine(host).run(
        ["grep", "-r", "-l", token.partition(":")[2], "/var/lib/recon", "/run/recon"], check=False
    )
    assert state.stdout == b""
    assert [line["deed"] for line in told(world, host, "lock")] == ["acquired"]


def test_the_claim_of_the_host_refuses_what_was_planned_before_it_was_locked(world: LabWorld) -> None:
    settle(world)
    host = world.hosts[0]
    world.set_coven(host, "vision")
    repository, made = make_plan(world.root, [host], now=time.time())
    assert made.applyable
    acquire(world, host, "30m")
    seen: list[HostEvent] = []

    outcome = run_plan(
        repository, made, owner="bob", on_event=seen.append, stop=threading.Event(), detach=threading.Event()
    )[0]

    assert (outcome.state, outcome.code) == ("locked", "REC7300")
    assert re.fullmatch(rf"{host}: locked by ann for another (30m|29m\d+s): measuring the new card", outcome.reason)
    assert world.serves(host, "reasoning")


def test_a_lock_frees_itself_is_renewed_by_its_holder_and_taken_away_by_a_person(world: LabWorld) -> None:
    settle(world)
    host = world.hosts[0]
    world.set_coven(host, "vision")
    token = acquire(world, host, "5m")
    renewed = world.recon("lock", "renew", host, "--ttl", "2s", "--token", token)
    assert renewed.code == 0, renewed.err
    time.sleep(2.5)
    assert world.recon("lock", "release", host, "--token", token).code == ExitCode.REFUSED
    assert world.recon("lock", "list", "--host", host).out == f"Not locked: {host}\n"
    assert apply(world, host).code == ExitCode.OK

    acquire(world, host, "1h")
    lock = json.loads(world.recon("lock", "list", "--host", host, "-o", "json").out)["hosts"][host]["value"][0]["id"]
    taken = world.recon("lock", "force-release", host, "--lock", lock, "--reason", "she is on leave")

    assert taken.code == 0, taken.err
    assert [line["deed"] for line in told(world, host, "lock")] == ["acquired", "renewed", "acquired", "forced"]
    assert world.recon("lock", "list", "--host", host).out == f"Not locked: {host}\n"


def test_a_lock_stands_across_a_reboot_of_its_host(world: LabWorld) -> None:
    settle(world)
    host = world.hosts[0]
    token = acquire(world, host, "1h")
    machine = world.lab.machine(host)
    machine.kill()
    machine.start()
    machine.wait_ready()
    world.set_coven(host, "vision")

    assert apply(world, host).code == ExitCode.LOCKED
    assert world.recon("lock", "release", host, "--token", token).code == ExitCode.OK


def test_a_hold_keeps_everybody_out_until_it_is_released_or_has_ended(world: LabWorld) -> None:
    settle(world)
    host = world.hosts[0]
    world.set_coven(host, "vision")
    held = world.recon("hold", host, "--reason", "a new disk", "--until", "2h")
    assert held.code == 0, held.err
    refused, status = apply(world, host), world.recon("status", "--host", host).out
    released = world.recon("release", host, "--reason", "the disk is in")
    short = world.recon("hold", host, "--reason", "a moment", "--until", "2s")
    time.sleep(2.5)
    after = apply(world, host)

    assert refused.code == ExitCode.LOCKED
    assert re.search(rf"\[REC8012\] {host} is held by \S+ until ", refused.out)
    assert re.search(rf"{host}: held by \S+ until .*: a new disk", status)
    assert (released.code, short.code, after.code) == (0, 0, 0), after.out + after.err
    assert world.serves(host, "vision")
    assert [line["deed"] for line in told(world, host, "hold")] == ["held", "released", "held"]
