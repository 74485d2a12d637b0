"""Who has a real host: races, a claim that is taken away, an executor that dies, connections that go half-open."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from reconciler.lab.labs import Lab
from reconciler.lab.machines import Machine
from tests.lab import races
from tests.lab.test_controller_gone import wait_for_end, wait_for_step
from tests.lab.test_scenarios import world
from tests.lab.waits import until_told
from tests.scenarios.lab_world import LabWorld
from tests.scenarios.scenarios import settle

__all__ = ["world"]
ROUNDS = 20
STUBBORN = (
    "trap '' TERM; sleep 300 > /dev/null 2>&1 & "
    "echo $! > /sys/fs/cgroup/system.slice/recon-executor.service/cgroup.procs"
)


def history(machine: Machine) -> list[dict[str, Any]]:
    text = machine.path("/var/lib/recon/history.jsonl").read_text(encoding="utf-8")
    # By `txid`: how transactions ended, and claims that were taken away.
    return [line for line in map(json.loads, text.splitlines()) if "txid" in line]


def begin(world: LabWorld, host: str, seconds: float) -> subprocess.Popen[bytes]:
    """Begin a switch that waits in its drain for a request of so many seconds."""
    world.request(host, "reasoning", seconds)
    world.set_coven(host, "vision")
    return beside(world, host)


def begin_in_vain(world: LabWorld, host: str) -> subprocess.Popen[bytes]:
    """Begin a switch to a coven that is never healthy: it is judged for as long as its time lasts."""
    world.set_fault(host, "vision", "never-healthy")
    world.set_coven(host, "vision")
    return beside(world, host)


def beside(world: LabWorld, host: str) -> subprocess.Popen[bytes]:
    """Apply beside the test."""
    return subprocess.Popen(
        world.argv("apply", "--yes", "--host", host), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def test_of_sixteen_controllers_exactly_one_gets_the_host(lab: Lab, machine: Machine, capsys: Any) -> None:
    score = races.race(lab, machine, ROUNDS)

    with capsys.disabled():
        sys.stdout.write(f"\nraces: {score.line()}\n")
    assert score.winners == [1] * ROUNDS
    assert score.wrongly_told == []


def test_a_claim_is_taken_from_an_executor_that_is_stopped_dead(world: LabWorld) -> None:
    settle(world)
    host = world.hosts[0]
    machine = world.lab.machine(host)
    apply = begin(world, host, 25.0)
    try:
        txid = wait_for_step(world, host, "drain")
        epoch = world.status(host)["epoch"]["value"]
        machine.run(["systemctl", "kill", "--kill-whom=main", "--signal=STOP", "recon-executor.service"])
        wrong = world.recon("lock", "force-release", host, "--epoch", str(epoch - 1), "--reason", "a test")
        done = world.recon("lock", "force-release", host, "--epoch", str(epoch), "--reason", "it was stopped dead")
    finally:
        apply.communicate(timeout=120)

    assert (wrong.code, "REC7152" in wrong.err) == (5, True)
    assert (done.code, f"transaction {txid} was ended" in done.out) == (0, True), done
    assert apply.returncode in (3, 6)
    lines = history(machine)[-2:]
    assert [(line["state"], line["epoch"] - epoch) for line in lines] == [(lines[0]["state"], 1), ("released", 2)]
    assert lines[0]["state"] in ("aborted", "rolled_back")
    assert (lines[1]["reason"], lines[1]["stopped"]) == ("it was stopped dead", txid)
    assert world.serves(host, "reasoning")
    assert not world.status(host)["damaged"]
    assert world.recon("apply", "--yes", "--host", host).code == 0
    assert world.serves(host, "vision")


@pytest.mark.parametrize("step", ["drain", "warm"])
def test_an_executor_that_is_killed_is_followed_at_once_by_one_that_ends_it(
    world: LabWorld, step: str, capsys: Any
) -> None:
    settle(world)
    host = world.hosts[0]
    machine = world.lab.machine(host)
    apply = begin(world, host, 20.0) if step == "drain" else begin_in_vain(world, host)
    try:
        txid = wait_for_step(world, host, step)
        # A child that will not go when it is asked to, as a hook or a pull may be, must not keep the successor waiting.
        machine.run(["sh", "-c", STUBBORN])
        killed = time.clock_gettime(time.CLOCK_BOOTTIME)
        machine.run(["systemctl", "kill", "--kill-whom=main", "--signal=KILL", "recon-executor.service"])
        state = wait_for_end(world, host)
    finally:
        apply.communicate(timeout=180)

    text = machine.path(f"/var/lib/recon/txn/{txid}/journal.jsonl").read_text(encoding="utf-8")
    events = [json.loads(line) for line in text.splitlines()]
    # Seconds since boot in both places: when it was killed, and when the next executor wrote its first line.
    first = next(event for event in events if "looking at what is there" in event["text"])
    waited_s = first["boottime_s"] - killed
    with capsys.disabled():
        sys.stdout.write(
            f"\nkilled in {step}: the next executor wrote its first line {waited_s:.2f} s later, {state}\n"
        )
    assert waited_s < 2.0
    assert state == ("aborted" if step == "drain" else "rolled_back")
    assert world.serves(host, "reasoning")
    assert apply.returncode == (3 if step == "drain" else 6)


def test_an_executor_that_is_killed_with_all_that_follows_it_is_started_again(world: LabWorld) -> None:
    """`systemctl kill` kills what runs in the unit, and what ExecStopPost= starts right after."""
    settle(world)
    host = world.hosts[0]
    machine = world.lab.machine(host)
    apply = begin_in_vain(world, host)
    try:
        wait_for_step(world, host, "warm")
        machine.run(["systemctl", "kill", "--signal=KILL", "recon-executor.service"])
        state = wait_for_end(world, host)
    finally:
        apply.communicate(timeout=180)

    assert (state, apply.returncode) == ("rolled_back", 6)
    assert world.serves(host, "reasoning")


def test_a_second_apply_of_the_same_joins_and_of_another_is_told_who_was_first(world: LabWorld) -> None:
    # Three programs begin one after another while the request lasts: on a busy computer that takes its time.
    drain = "drain: {timeout: 90s, on_timeout: abort}\nservices:"
    world.rewrite(world.coven_file("reasoning"), r"(?m)^services:", drain)
    settle(world)
    host = world.hosts[0]
    apply = begin(world, host, 45.0)
    try:
        txid = wait_for_step(world, host, "drain")
        joined = beside(world, host)
        head = until_told(joined, b"following it, ")  # it has read its files now
        world.set_coven(host, "reasoning")
        other = world.recon("apply", "--yes", "--host", host)
    finally:
        apply.communicate(timeout=120)
    first = apply.returncode
    out = (head + joined.communicate(timeout=120)[0]).decode()

    assert (first, joined.returncode) == (0, 0), out
    assert "already does this: following it, " in out
    assert f"runs transaction {txid} for " in out
    assert other.code == 4
    assert txid in other.out
    assert " for " in other.out


def test_a_connection_that_goes_half_open_is_noticed_and_the_host_is_followed_on(world: LabWorld) -> None:
    settle(world)
    host = world.hosts[0]
    machine = world.lab.machine(host)
    cut = ["nft", "add rule inet cut input tcp dport 22 drop"]
    apply = begin(world, host, 26.0)
    try:
        wait_for_step(world, host, "drain")
        machine.run(["nft", "add table inet cut"])
        machine.run(["nft", "add chain inet cut input { type filter hook input priority 0; }"])
        machine.run(cut)
        time.sleep(24.0)
        machine.run(["nft", "delete table inet cut"])
        out = apply.communicate(timeout=180)[0].decode()
    finally:
        machine.run(["nft", "delete table inet cut"], check=False)
        if apply.poll() is None:
            apply.send_signal(signal.SIGTERM)
            apply.communicate(timeout=120)

    assert "connection lost, the host goes on" in out
    assert apply.returncode == 0, out
    assert world.serves(host, "vision")


def test_sessions_that_are_killed_on_the_host_are_made_anew(world: LabWorld) -> None:
    settle(world)
    host = world.hosts[0]
    machine = world.lab.machine(host)
    apply = begin(world, host, 15.0)
    try:
        wait_for_step(world, host, "drain")
        for _ in range(3):
            machine.run(["pkill", "-KILL", "-f", "^sshd-session: recon|^sshd: recon"], check=False)
            time.sleep(1.0)
        out = apply.communicate(timeout=180)[0].decode()
    finally:
        if apply.poll() is None:
            apply.kill()
            apply.communicate()

    assert apply.returncode == 0, out
    assert "connection lost, the host goes on" in out


def books(machine: Machine) -> dict[str, bytes]:
    """Return every file that recon keeps on a host, its agents left out."""
    found = {}
    for place in ("/var/lib/recon", "/etc/recon", "/run/recon"):
        root = machine.path(place)
        for path in root.rglob("*") if root.is_dir() else ():
            if path.is_file() and not path.is_symlink() and "agent" not in path.parts:
                found[str(path).partition("/root")[2]] = path.read_bytes()
    return found


def test_a_host_that_loses_power_boots_what_was_committed_and_its_watchdog_says_what_was_cut(
    world: LabWorld,
) -> None:
    settle(world)
    host = world.hosts[0]
    machine = world.lab.machine(host)
    apply = begin_in_vain(world, host)
    try:
        txid = wait_for_step(world, host, "warm")
        machine.kill()
    finally:
        apply.kill()
        apply.communicate()
    machine.start()
    machine.wait_ready()
    booted = books(machine)
    deadline = time.monotonic() + 120
    ended: dict[str, str] = {}
    while not (txid in ended and world.serves(host, "reasoning")) and time.monotonic() < deadline:
        time.sleep(0.5)
        ended = {line["txid"]: line["state"] for line in history(machine)}
    shown = world.recon("status", "--host", host)

    assert world.serves(host, "reasoning")
    assert ended[txid] == "aborted"
    assert (
        "last transaction aborted: interrupted by a power cut or reboot; the committed generation booted" in shown.out
    )
    now = books(machine)
    changed = {name for name in {**booted, **now} if booted.get(name) != now.get(name)}
    told = ("/run/recon/", "/var/lib/recon/history.", "/var/lib/recon/watchdog.jsonl", f"/var/lib/recon/txn/{txid}/")
    committed = machine.path("/etc/containers/systemd/recon").readlink().name
    half_made = f"/etc/recon/generations/{int(committed) + 1}/"
    assert {name for name in changed if not name.startswith((*told, half_made))} == set()
    assert [name for name in now if name.startswith(half_made)] == []
    assert machine.run(["journalctl", "-b", "-u", "recon-executor.service", "-q", "-o", "cat"]).stdout == b""
    assert world.recon("apply", "--yes", "--host", host).code == 0
    ended = {line["txid"]: line["state"] for line in history(machine)}
    assert ended[txid] == "aborted"
    assert world.serves(host, "vision")


def test_ctrl_c_once_follows_to_the_end_and_twice_lets_go_of_a_host_that_goes_on(world: LabWorld) -> None:
    settle(world)
    host = world.hosts[0]
    apply = begin(world, host, 20.0)
    try:
        txid = wait_for_step(world, host, "drain")
        apply.send_signal(signal.SIGINT)
        time.sleep(1.0)
        still = apply.poll()
        apply.send_signal(signal.SIGINT)
        out = apply.communicate(timeout=60)[0].decode()
    finally:
        if apply.poll() is None:
            apply.kill()
            apply.communicate()

    assert (still, apply.returncode) == (None, 8)
    assert f"recon apply --attach {txid} --host {host}" in out
    assert world.recon("apply", "--attach", txid, "--host", host).code == 0
    assert world.serves(host, "vision")
