"""What systemd left of a closed gate goes before another one opens; an open gate keeps what is its own."""

from __future__ import annotations

from reconciler.agent import gates
from reconciler.sim.machine import SimMachine
from tests.sim import covens
from tests.sim.covens import gate, member, systemctl, target


def a_host() -> SimMachine:
    machine = SimMachine.new("h-1")
    covens.install(machine)
    return machine


def test_only_the_directories_of_closed_gates_go() -> None:
    machine = a_host()
    assert systemctl(machine, "start", target("a")) == (0, "")
    machine.files.make_dirs("/run/recon-gate-all-b")
    machine.files.make_dirs("/run/recon-gate-all-gone")
    machine.files.make_dirs("/run/recon-other")

    gates.sweep(machine)

    assert [name for name in machine.listdir("/run") if name.startswith("recon-")] == [
        "recon-gate-all-a",
        "recon-other",
    ]


def test_a_directory_that_outlived_its_unit_file_keeps_nobody_out() -> None:
    machine = a_host()
    assert systemctl(machine, "start", target("a")) == (0, "")
    machine.files.drop(f"/etc/systemd/system/{gate('a')}")
    assert systemctl(machine, "daemon-reload")[0] == 0
    assert systemctl(machine, "stop", gate("a"), member("a"))[0] == 0
    assert machine.stat("/run/recon-gate-all-a") is not None

    gates.sweep(machine)

    assert systemctl(machine, "start", target("b")) == (0, "")
    assert covens.active(machine, gate("b"), member("b")) == ["active", "active"]
