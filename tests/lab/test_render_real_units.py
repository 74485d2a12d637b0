"""Rendered units on a real host: covens exclude each other by systemd alone, whatever recon does or does not do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.lab.labs import Lab
from reconciler.lab.machines import Machine
from reconciler.model.desired import (
    ALL_GPUS,
    Coven,
    Drain,
    Fleet,
    Host,
    MemorySpec,
    Platform,
    Policy,
    Service,
    Slot,
    Spiral,
    Ssh,
)
from reconciler.model.rendered import RenderedHost
from reconciler.render import render_host
from reconciler.render.headers import with_header

GENERATION = "/etc/recon/generations/1"
NATIVE = "/etc/systemd/system"


def render(image: str) -> RenderedHost:
    def a_service(port: int, **over: Any) -> Service:
        values = {
            "runtime": "vllm",
            "image": image,
            "port": port,
            "memory": "1GiB",
            "limits": {"tasks": 512, "cpus": 2.0},
        }
        env = {"LAB_GPU_BYTES": str(2**30), "LAB_LOAD_S": "0.1", "SAID": 'a "b" $HOME %h \\'}
        return Service.model_validate({**values, "env": env, "stop": {"timeout": "5s"}, "shm": "64MiB", **over})

    covens = {
        name: Coven(
            name=name,
            description=None,
            services={"late": a_service(port + 1, after=("early",)), "early": a_service(port)},
            drain=Drain(),
        )
        for name, port in (("alpha", 8101), ("beta", 8103))
    }
    host = Host(
        name="lab-1",
        address="192.0.2.1",
        host_key=None,
        ssh=Ssh(),
        reserve=None,
        memory=MemorySpec(),
        platform=Platform(),
        slots=(Slot(name=ALL_GPUS, gpus="all", coven="alpha"),),
        may_run=("alpha", "beta"),
        shared=(),
        residents={"helper": a_service(8105)},
        spiral=Spiral(),
        schedule=(),
    )
    fleet = Fleet(name="lab", transport="ssh", policy=Policy(), covens=covens, hosts={"lab-1": host})
    return render_host(fleet, host, {})


@pytest.fixture
def host(machine: Machine, lab: Lab) -> Iterator[RenderedHost]:
    """Everything rendered for a host, installed as a first generation and loaded."""
    rendered = render(lab.base.image)
    machine.run(["mkdir", "-p", f"{GENERATION}/boot.wants", "/etc/containers/systemd"])
    natives = [f"{NATIVE}/{file.name}" for file in rendered.files if file.kind == "native"]
    for file in rendered.files:
        directory = GENERATION if file.kind == "quadlet" else NATIVE
        machine.run(["tee", f"{directory}/{file.name}"], stdin=with_header(file, "lab/lab-1", "0" * 40).encode())
    machine.run(["ln", "-sfn", GENERATION, "/etc/containers/systemd/recon"])
    for target in rendered.boot:
        machine.run(["ln", "-s", f"{NATIVE}/{target}", f"{GENERATION}/boot.wants/{target}"])
    machine.run(["ln", "-s", "/etc/containers/systemd/recon/boot.wants", f"{NATIVE}/recon-boot.target.wants"])
    machine.run(["systemctl", "daemon-reload"])
    yield rendered
    machine.run(["systemctl", "stop", "recon-*"], check=False)
    machine.run(["rm", "-f", *natives, f"{NATIVE}/recon-boot.target.wants"])
    machine.run(["systemctl", "daemon-reload"])


def start(machine: Machine, unit: str) -> int:
    return machine.run(["systemctl", "start", "--job-mode=fail", unit], check=False).returncode


def states(machine: Machine) -> dict[str, str]:
    """Return which services of ours are in which state."""
    units = machine.run(["systemctl", "list-units", "--all", "--output=json", "recon-*.service"]).stdout
    return {unit["unit"]: unit["active"] for unit in json.loads(units) if "executor" not in unit["unit"]}


def active(machine: Machine) -> set[str]:
    return {unit for unit, state in states(machine).items() if state == "active"}


def units_of(host: RenderedHost, coven: str) -> set[str]:
    group = host.groups[coven]
    return {group.gate, *(member.unit for member in group.members)}


def test_the_boot_target_brings_up_the_coven_and_the_residents(machine: Machine, host: RenderedHost) -> None:
    assert start(machine, "recon-boot.target") == 0
    # What boots does not wait for containers; these two starts join the jobs that are already under way.
    machine.run(["systemctl", "start", host.groups["alpha"].target, "recon-resident-helper.service"])

    assert active(machine) == units_of(host, "alpha") | {"recon-resident-helper.service"}
    members = [*host.groups["alpha"].members, *host.residents]
    for member in members:
        pid = machine.run(["systemctl", "show", "--value", "-p", "MainPID", member.unit]).stdout.decode().strip()
        environment = machine.run(["cat", f"/proc/{pid}/environ"]).stdout.decode().split("\0")
        assert f"RECON_CONFIG_HASH={member.config_hash}" in environment
        inspected = json.loads(machine.run(["podman", "inspect", member.container]).stdout)[0]["Config"]
        assert inspected["Labels"]["io.recon.config-hash"] == member.config_hash
        assert 'SAID=a "b" $HOME %h \\' in inspected["Env"]
        assert tuple(inspected["Cmd"] or ()) == member.argv


def test_one_coven_gives_way_to_another_and_a_stray_start_of_a_member_evicts_nobody(
    machine: Machine, host: RenderedHost
) -> None:
    assert start(machine, host.groups["alpha"].target) == 0
    assert active(machine) == units_of(host, "alpha")

    assert start(machine, "recon-beta-early.service") != 0
    assert start(machine, host.groups["beta"].gate) != 0
    assert active(machine) == units_of(host, "alpha")

    assert start(machine, host.groups["beta"].target) == 0
    assert active(machine) == units_of(host, "beta")

    machine.run(["systemctl", "stop", "--job-mode=fail", host.groups["beta"].gate])
    assert active(machine) == set()
    assert "failed" not in states(machine).values()


def test_a_gate_that_is_kept_from_closing_keeps_the_other_coven_out(machine: Machine, host: RenderedHost) -> None:
    """By hand: start the other coven, and while this one stops, start one of its members again.

    That start needs the gate up, so systemd drops the stop that the other gate waits for, and would open both.
    """
    alpha, beta = host.groups["alpha"], host.groups["beta"]
    early = next(member.unit for member in alpha.members if "early" in member.unit)
    assert start(machine, alpha.target) == 0
    machine.run(["mkdir", "-p", "/run/lab-gpu/faults"])
    machine.run(["tee", "/run/lab-gpu/faults/8101.json"], stdin=b'{"sigterm-ignore": true}')
    try:
        machine.run(["systemctl", "start", "--no-block", beta.target])
        wait_stopping(machine, early)
        machine.run(["systemctl", "start", "--no-block", early])
        settled(machine)
    finally:
        machine.run(["rm", "-f", "/run/lab-gpu/faults/8101.json"])

    up = active(machine)
    assert len({alpha.gate, beta.gate} & up) == 1, up
    assert not (up & units_of(host, "alpha") and up & units_of(host, "beta")), up


def wait_stopping(machine: Machine, unit: str) -> None:
    deadline = time.monotonic() + 20
    while states(machine).get(unit) != "deactivating":
        assert time.monotonic() < deadline, states(machine)
        time.sleep(0.1)


def settled(machine: Machine) -> None:
    """Wait until systemd has no job left."""
    deadline = time.monotonic() + 60
    while machine.run(["systemctl", "list-jobs", "--no-legend"]).stdout.strip():
        assert time.monotonic() < deadline, machine.run(["systemctl", "list-jobs"]).stdout
        time.sleep(0.2)
