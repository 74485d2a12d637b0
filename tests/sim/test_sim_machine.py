"""The seam itself: time, persistence, determinism, crash points, and what the kernel shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.agent.machine import BusyError
from reconciler.sim.deeds import hold_memory
from reconciler.sim.machine import KilledError, PowerCutError, SimMachine
from reconciler.sim.podman import UnknownArgvError
from reconciler.sim.state import GiB, SimState
from tests.sim.covens import active, install, member, systemctl, target


def played(seed: int) -> SimMachine:
    machine = SimMachine.new("gpu-1", "gb10", seed=seed)
    install(machine, memory=40 * GiB)
    systemctl(machine, "start", target("a"))
    machine.sleep(12.5)
    systemctl(machine, "start", target("b"))
    hold_memory(machine, GiB)
    machine.sleep(60.0)
    machine.reboot()
    return machine


def test_the_same_seed_gives_the_same_state_and_trace_byte_for_byte() -> None:
    one, two, other = played(7), played(7), played(8)

    assert one.state.model_dump_json() == two.state.model_dump_json()
    assert one.clock.trace == two.clock.trace
    assert other.state.model_dump_json() != one.state.model_dump_json()


def test_a_saved_machine_goes_on_as_one_that_was_never_saved(tmp_path: Path) -> None:
    file = tmp_path / "sim" / "gpu-1.json"
    kept, saved = SimMachine.new("gpu-1"), SimMachine.new("gpu-1")
    for machine in (kept, saved):
        install(machine, memory=40 * GiB)
        machine.write("/etc/x", b"\xff")
        systemctl(machine, "start", "--no-block", target("a"))
    saved.save(file)
    loaded = SimMachine.load(file)
    for machine in (kept, loaded):
        machine.sleep(30.0)
        systemctl(machine, "start", target("b"))

    assert loaded.state == kept.state
    assert sorted(path.name for path in file.parent.iterdir()) == ["gpu-1.json"]


def test_saving_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    machine = played(1)
    machine.save(tmp_path / "a.json")
    SimMachine.load(tmp_path / "a.json").save(tmp_path / "b.json")

    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_state_file_that_is_not_one_is_refused() -> None:
    with pytest.raises(ValueError, match="extra_forbidden"):
        SimState.model_validate({"host": "h", "kind": "h200", "seed": 1, "epoch": 0, "surprise": 1})


def test_time_passes_only_by_waiting() -> None:
    machine = SimMachine.new("gpu-1")
    before = (machine.monotonic(), machine.boottime(), machine.wall())
    machine.sleep(40.0)

    assert tuple(
        round(now - then, 6)
        for now, then in zip((machine.monotonic(), machine.boottime(), machine.wall()), before, strict=True)
    ) == (40.0, 40.0, 40.0)


def test_a_reboot_sets_boottime_back_and_never_the_monotonic_clock() -> None:
    machine = SimMachine.new("gpu-1")
    machine.sleep(1000.0)
    before = machine.monotonic()
    machine.reboot()

    assert machine.monotonic() > before
    assert machine.boottime() == pytest.approx(5.0)


def test_calls_made_at_the_same_time_take_as_long_as_the_longest() -> None:
    machine = SimMachine.new("gpu-1")
    before = machine.monotonic()

    def look() -> int:
        return machine.run(["systemctl", "show", "--property=Version"], 5.0).rc

    assert machine.parallel([look, look, lambda: machine.run(["podman", "--version"], 5.0).rc]) == [0, 0, 0]
    assert machine.monotonic() - before == pytest.approx(0.05)


def test_a_call_that_was_begun_is_done_when_its_time_has_passed() -> None:
    machine = SimMachine.new("gpu-1")
    before = machine.monotonic()

    def long() -> str:
        machine.pass_time(3.0)
        return "answered"

    (begun,) = machine.parallel([lambda: machine.begin(long)])

    assert (machine.monotonic() - before, begun.done()) == (0.0, False)
    machine.sleep(2.5)
    assert not begun.done()
    machine.sleep(0.75)
    assert (begun.done(), begun.result()) == (True, "answered")


def test_what_a_call_that_was_begun_raises_is_raised_by_its_result() -> None:
    begun = SimMachine.new("gpu-1").begin(lambda: 1 // 0)

    assert begun.done()
    with pytest.raises(ZeroDivisionError):
        begun.result()


def test_the_first_error_of_parallel_calls_is_raised_after_all_of_them_ran() -> None:
    machine = SimMachine.new("gpu-1")
    ran = []

    def fail(text: str) -> None:
        ran.append(text)
        raise ValueError(text)

    with pytest.raises(ValueError, match="one"):
        machine.parallel([lambda: fail("one"), lambda: fail("two")])
    assert ran == ["one", "two"]


@pytest.mark.parametrize(
    "argv",
    [
        ["rm", "-rf", "/"],
        ["systemctl", "isolate", "multi-user.target"],
        ["systemctl", "start", "--no-such-option", "x.service"],
        ["systemctl", "show", "--property=NoSuchProperty", "--", "multi-user.target"],
        ["systemctl", "show", "multi-user.target"],
        ["podman", "kill", "x"],
        ["podman", "ps", "--format", "{{.Names}}"],
        ["journalctl", "-b"],
        ["systemd-run", "--pipe", "--unit=x.service", "true"],
        ["systemd-analyze", "plot"],
        ["/usr/lib/systemd/system-generators/podman-system-generator", "--user"],
    ],
)
def test_a_command_that_is_not_known_is_loud_and_is_remembered(argv: list[str]) -> None:
    machine = SimMachine.new("gpu-1")
    with pytest.raises(UnknownArgvError):
        machine.run(argv, 5.0)

    assert len(machine.unknown) == 1


def test_a_program_that_blocks_past_its_deadline_ends_with_124() -> None:
    machine = SimMachine.new("gpu-1")
    install(machine, memory=GiB)
    systemctl(machine, "start", target("a"))

    assert machine.run(["systemctl", "start", target("b")], 0.2).rc == 124
    machine.sleep(10.0)
    assert active(machine, member("b")) == ["active"]


def test_a_lock_that_is_taken_says_so_and_is_free_after_the_block() -> None:
    machine = SimMachine.new("gpu-1")
    with machine.lock("/run/lock/x"), pytest.raises(BusyError), machine.lock("/run/lock/x"):
        pass
    with machine.lock("/run/lock/x"):
        pass
    machine.state.locked.append("/run/lock/x")
    with pytest.raises(BusyError), machine.lock("/run/lock/x"):
        pass


def test_the_hook_sees_every_change_before_and_after_and_no_look() -> None:
    machine = SimMachine.new("gpu-1")
    seen: list[tuple[str, str]] = []
    machine.hook = lambda when, what: seen.append((when, what))
    machine.mkdir("/etc/recon")
    machine.mkdir("/etc/recon")
    machine.write("/etc/recon/x", b"")
    machine.append("/etc/recon/x", b"1")
    machine.symlink("x", "/etc/recon/y")
    machine.remove("/etc/recon/y")
    machine.remove_tree("/etc/recon")
    machine.run(["systemctl", "daemon-reload"], 5.0)
    machine.run(["systemctl", "show", "--property=Version"], 5.0)
    machine.run(["podman", "image", "exists", "x"], 5.0)
    machine.read("/etc/hostname")

    changes = ["mkdir /etc/recon", "write /etc/recon/x", "append /etc/recon/x", "symlink /etc/recon/y"]
    changes += ["remove /etc/recon/y", "remove_tree /etc/recon", "run systemctl daemon-reload"]
    assert seen == [(when, what) for what in changes for when in ("before", "after")]


@pytest.mark.parametrize(("when", "there"), [("before", False), ("after", True)])
def test_a_power_cut_lets_nothing_happen_after_it_until_the_machine_boots(when: str, there: bool) -> None:
    machine = SimMachine.new("gpu-1")

    def cut(now: str, what: str) -> None:
        if (now, what) == (when, "write /etc/x"):
            raise PowerCutError

    def change() -> None:
        try:
            machine.write("/etc/x", b"1")
        finally:
            machine.write("/etc/y", b"1")

    machine.hook = cut
    with pytest.raises(PowerCutError):
        change()
    machine.hook = None
    with pytest.raises(PowerCutError):
        machine.write("/etc/z", b"1")

    machine.reboot()
    machine.write("/etc/z", b"1")
    assert [machine.stat(path) is not None for path in ("/etc/x", "/etc/y", "/etc/z")] == [there, False, True]


def test_a_killed_program_lets_go_of_its_locks() -> None:
    machine = SimMachine.new("gpu-1")

    def kill(_when: str, _what: str) -> None:
        raise KilledError

    machine.hook = kill
    with pytest.raises(KilledError), machine.lock("/run/lock/x"):
        machine.write("/etc/x", b"1")
    machine.hook = None
    machine.revive()
    with machine.lock("/run/lock/x"):
        machine.write("/etc/x", b"2")


def test_a_container_is_found_by_its_control_group_environment_and_process() -> None:
    machine = SimMachine.new("gpu-1")
    install(machine)
    systemctl(machine, "start", target("a"))
    container = machine.podman.of_unit(member("a"))
    assert container is not None
    group = f"/system.slice/{member('a')}"
    pid = machine.manager.run_of(member("a")).main_pid

    assert b"RECON_CONFIG_HASH=hash-of-a\0" in machine.read(f"/proc/{pid}/environ")
    assert machine.read(f"/proc/{pid}/cgroup") == f"0::{group}/runtime\n".encode()
    assert machine.read(f"/proc/{container.pid}/cgroup") == f"0::{group}/libpod-payload-{container.id}\n".encode()
    assert machine.read(f"/sys/fs/cgroup{group}/cgroup.events") == b"populated 1\nfrozen 0\n"
    assert machine.listdir(f"/sys/fs/cgroup{group}") == [
        "cgroup.events",
        "cgroup.procs",
        f"libpod-payload-{container.id}",
        "runtime",
    ]

    systemctl(machine, "stop", f"recon-gate-all-{'a'}.service")
    assert machine.stat(f"/sys/fs/cgroup{group}") is None
    with pytest.raises(FileNotFoundError):
        machine.read(f"/proc/{pid}/environ")


def test_meminfo_moves_with_the_gpu_only_where_the_two_share_memory() -> None:
    moved = {}
    for kind in ("gb10", "gh200", "h200"):
        machine = SimMachine.new("gpu-1", kind)
        before = machine.gpu.meminfo()["MemAvailable"]
        hold_memory(machine, 10 * GiB)
        moved[kind] = before - machine.gpu.meminfo()["MemAvailable"]

    assert moved == {"gb10": 10 * GiB, "gh200": 0, "h200": 0}
