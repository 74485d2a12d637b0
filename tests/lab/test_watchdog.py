"""The watchdog on real hosts: its timer runs the installed agent, and what it does there is no drift."""

from __future__ import annotations

import json
import re
import time

from reconciler.lab.machines import Machine
from tests.lab.test_controller_gone import wait_for_end, wait_for_step
from tests.lab.test_fencing import begin
from tests.lab.test_scenarios import world
from tests.lab.waits import wait_until
from tests.scenarios.lab_world import PORTS, LabWorld
from tests.scenarios.scenarios import detailed, settle

__all__ = ["world"]

PORT = PORTS["reasoning"]
UNIT = "recon-executor.service"
PYTHON = "/usr/bin/python3.13"


def impatient(world: LabWorld, **more: object) -> None:
    """Let hosts look every few seconds, for nobody wants to wait in a test."""
    words = ", ".join(f"{key}: {value}" for key, value in {"every": "5s", "looks": 2, **more}.items())
    world.rewrite(world.root / "desired" / "fleet.yaml", r"(?m)^defaults:\n", f"defaults:\n  watchdog: {{{words}}}\n")


def said(world: LabWorld, host: str) -> str:
    """Return what the watchdog said at its last look; every question costs a second, so it is asked now and then."""
    return str(world.status(host)["watchdog"]["value"]["said"])


def _state(machine: Machine, unit: str) -> str:
    return machine.run(["systemctl", "is-active", unit], check=False).stdout.decode().strip()


def deeds(world: LabWorld, host: str) -> list[str]:
    text = world.lab.machine(host).path("/var/lib/recon/history.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [line["deed"] for line in lines if line.get("kind") == "watchdog"]


def test_a_stuck_server_is_restarted_by_its_host_and_the_plan_shows_no_drift(world: LabWorld) -> None:
    impatient(world)
    settle(world)
    host = world.hosts[0]
    machine = world.lab.machine(host)
    other, before = world.main_pid(world.hosts[1], "reasoning"), world.main_pid(host, "reasoning")
    wait_until("all is well", lambda: said(world, host) == "all is well", every_s=2.0)

    machine.fault(PORT, {"health-503": True})
    wait_until("the server was restarted", lambda: deeds(world, host) != [])
    machine.fault(PORT, {})
    planned = detailed(world)

    assert planned == 0, world.recon("plan").out
    wait_until("it serves again", lambda: world.serves(host, "reasoning"))
    assert detailed(world) == 0
    assert deeds(world, host) == [f"restarted {world.member_unit('reasoning')} (attempt 1 of 3)"]
    assert world.main_pid(host, "reasoning") not in (0, before)
    assert world.main_pid(world.hosts[1], "reasoning") == other
    log = machine.run(["journalctl", "--unit", "recon-watchdog.service", "-p", "err", "-o", "cat", "--no-pager"])
    assert b"recon watchdog restarted recon-reasoning-vllm.service" in log.stdout


def test_restarts_that_do_not_help_end_in_one_reset_and_an_alert_that_can_be_cleared(world: LabWorld) -> None:
    impatient(world, attempts=1, reset="{command: [/usr/bin/touch, /run/was-reset]}")
    # Longer than the grace of a reset, or the server would be gone before; what is not long is not waited for.
    world.rewrite(world.coven_file("reasoning"), r"stop: \{timeout: \w+\}", "stop: {timeout: 20s}")
    world.rewrite(world.coven_file("reasoning"), r"warm: \{timeout: \w+\}", "warm: {timeout: 40s}")
    settle(world)
    host = world.hosts[0]
    machine = world.lab.machine(host)
    gate = machine.run(["systemctl", "show", "-P", "InvocationID", "recon-gate-all-reasoning.service"]).stdout
    wait_until("all is well", lambda: said(world, host) == "all is well", every_s=2.0)
    machine.fault(PORT, {"health-503": True, "sigterm-ignore": True})

    wait_until("it was reset", lambda: "reset reasoning after 1 restarts" in deeds(world, host), at_most_s=240.0)
    machine.fault(PORT, {})

    wait_until("it serves again", lambda: world.serves(host, "reasoning"))
    assert machine.path("/run/was-reset").exists()
    assert "SIGKILL to their control groups" in machine.path("/var/lib/recon/watchdog.jsonl").read_text()
    now = machine.run(["systemctl", "show", "-P", "InvocationID", "recon-gate-all-reasoning.service"]).stdout
    assert now == gate
    shown = world.recon("alerts", "--host", host)
    assert re.search(r"alert \[REC7171\] reasoning: was reset", shown.out), shown.out
    assert "alert [REC7171]" in world.recon("plan", "--host", host).out
    assert detailed(world) == 0
    assert world.recon("alerts", "--clear", "--host", host).code == 0
    assert "No alerts" in world.recon("alerts", "--host", host).out


def test_a_held_host_is_left_alone_and_a_rebooted_one_has_its_watchdog(world: LabWorld) -> None:
    impatient(world)
    settle(world)
    host = world.hosts[0]
    machine = world.lab.machine(host)
    machine.path("/etc/recon/hold.json").write_text('{"owner": "ann", "reason": "benchmark", "since": 1}')
    before = world.main_pid(host, "reasoning")
    machine.fault(PORT, {"health-503": True})
    wait_until("it leaves the host alone", lambda: "held by ann" in said(world, host), every_s=2.0)
    time.sleep(20.0)

    assert world.main_pid(host, "reasoning") == before
    assert deeds(world, host) == []
    machine.path("/etc/recon/hold.json").unlink()
    machine.fault(PORT, {})
    machine.kill()
    machine.start()
    machine.wait_ready()

    wait_until("all is well", lambda: said(world, host) == "all is well", every_s=2.0)
    assert detailed(world) == 0


def test_a_transition_that_a_power_cut_interrupted_gets_its_outcome_by_itself(world: LabWorld) -> None:
    impatient(world)
    settle(world)
    host = world.hosts[0]
    machine = world.lab.machine(host)
    apply = begin(world, host, 60.0)
    try:
        txid = wait_for_step(world, host, "drain")
        machine.kill()
    finally:
        apply.kill()
        apply.communicate()
    machine.start()
    machine.wait_ready()

    wait_until("all is well", lambda: said(world, host) == "all is well", every_s=2.0)

    last = world.status(host)["executor"]["last"]["value"]
    assert (last["txid"], last["state"], last["code"]) == (txid, "aborted", "REC7116")
    text = machine.path("/var/lib/recon/history.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["state"] for line in lines if line.get("txid") == txid] == ["aborted"]
    assert world.serves(host, "reasoning")


def test_a_transition_whose_executors_are_all_killed_gets_another_one_by_the_host_itself(world: LabWorld) -> None:
    """No interpreter is there for whoever comes after the executor, as in the middle of an update of the host."""
    impatient(world)
    settle(world)
    host = world.hosts[0]
    machine = world.lab.machine(host)
    apply = begin(world, host, 120.0)
    try:
        txid = wait_for_step(world, host, "drain")
        machine.run(["chmod", "a-x", PYTHON])
        machine.run(["systemctl", "kill", "--signal=KILL", UNIT])
        wait_until("systemd has given up", lambda: _state(machine, UNIT) not in ("active", "activating"))
        time.sleep(5.0)
        assert not machine.path(f"/var/lib/recon/txn/{txid}/outcome.json").exists()
    finally:
        machine.run(["chmod", "a+x", PYTHON])
        apply.kill()
        apply.communicate()

    assert wait_for_end(world, host) == "aborted"
    log = machine.run(["journalctl", "--unit", "recon-watchdog.service", "-o", "cat", "--no-pager"]).stdout.decode()
    said = f"recon watchdog started an executor again for transaction {txid}, whose own had all died"
    assert log.count(said) == 1
    assert world.serves(host, "reasoning")
