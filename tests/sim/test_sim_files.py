from __future__ import annotations

import errno

import pytest

from reconciler.agent.machine import Stat
from reconciler.sim.machine import SimMachine


@pytest.fixture
def machine() -> SimMachine:
    made = SimMachine.new("gpu-1")
    made.mkdir("/etc/recon/generations/1")
    made.write("/etc/recon/generations/1/recon-a-m.container", b"one")
    made.symlink("/etc/recon/generations/1", "/etc/containers/systemd/recon")
    return made


def test_a_file_is_read_through_the_committed_symlink(machine: SimMachine) -> None:
    assert machine.read("/etc/containers/systemd/recon/recon-a-m.container") == b"one"
    assert machine.listdir("/etc/containers/systemd/recon") == ["recon-a-m.container"]
    assert machine.read_link("/etc/containers/systemd/recon") == "/etc/recon/generations/1"


def test_stat_does_not_follow_the_last_link_but_those_before_it(machine: SimMachine) -> None:
    link = machine.stat("/etc/containers/systemd/recon")
    file = machine.stat("/etc/containers/systemd/recon/recon-a-m.container")

    assert link is not None
    assert (link.kind, link.size) == ("link", len("/etc/recon/generations/1"))
    assert file is not None
    assert file._replace(mtime_ns=0) == Stat("file", 3, 0o644, 0)
    assert machine.stat("/nothing") is None


def test_writing_where_a_link_stands_replaces_the_link_and_not_what_it_points_to(machine: SimMachine) -> None:
    machine.symlink("/etc/recon/generations/1/recon-a-m.container", "/etc/recon/link")
    machine.write("/etc/recon/link", b"two", 0o600)

    assert machine.read("/etc/recon/generations/1/recon-a-m.container") == b"one"
    assert machine.stat("/etc/recon/link") is not None
    assert machine.read("/etc/recon/link") == b"two"


def test_a_tree_is_removed_without_following_the_links_in_it(machine: SimMachine) -> None:
    machine.mkdir("/run/x")
    machine.symlink("/etc/recon/generations/1", "/run/x/link")
    machine.remove_tree("/run/x")
    machine.remove_tree("/etc/containers/systemd/recon")

    assert machine.stat("/run/x") is None
    assert machine.stat("/etc/containers/systemd/recon") is None
    assert machine.read("/etc/recon/generations/1/recon-a-m.container") == b"one"


def test_relative_links_and_dots_are_resolved(machine: SimMachine) -> None:
    machine.symlink("../generations/./1", "/etc/recon/generations/latest")

    assert machine.files.resolve("/etc/recon/generations/latest/../1") == "/etc/recon/generations/1"
    assert machine.files.resolve("/var/run/lock") == "/run/lock"


@pytest.mark.parametrize(
    ("act", "number"),
    [
        (lambda m: m.read("/nothing"), errno.ENOENT),
        (lambda m: m.read("/etc"), errno.EISDIR),
        (lambda m: m.read("/etc/hostname/x"), errno.ENOTDIR),
        (lambda m: m.listdir("/etc/hostname"), errno.ENOTDIR),
        (lambda m: m.listdir("/nothing"), errno.ENOENT),
        (lambda m: m.read_link("/etc/hostname"), errno.EINVAL),
        (lambda m: m.read_link("/nothing"), errno.ENOENT),
        (lambda m: m.write("/nothing/here", b""), errno.ENOENT),
        (lambda m: m.write("/etc", b""), errno.EISDIR),
        (lambda m: m.remove("/etc"), errno.EISDIR),
        (lambda m: m.mkdir("/etc/hostname"), errno.EEXIST),
        (lambda m: m.free_bytes("/nothing"), errno.ENOENT),
    ],
)
def test_errors_carry_the_number_the_system_gives(machine: SimMachine, act: object, number: int) -> None:
    with pytest.raises(OSError) as raised:
        act(machine)  # type: ignore[operator]  # the parameters above are calls

    assert raised.value.errno == number


def test_links_that_go_in_a_circle_are_an_error(machine: SimMachine) -> None:
    machine.symlink("/etc/b", "/etc/a")
    machine.symlink("/etc/a", "/etc/b")

    with pytest.raises(OSError) as raised:
        machine.read("/etc/a")

    assert raised.value.errno == errno.ELOOP


def test_a_full_disk_refuses_and_leaves_the_old_file(machine: SimMachine) -> None:
    machine.state.disk_free = 2
    with pytest.raises(OSError) as raised:
        machine.write("/etc/recon/generations/1/recon-a-m.container", b"longer")

    assert raised.value.errno == errno.ENOSPC
    assert machine.read("/etc/recon/generations/1/recon-a-m.container") == b"one"


def test_bytes_that_are_no_text_survive_and_append_adds_to_them(machine: SimMachine) -> None:
    machine.write("/etc/x", b"\xff\x00")
    machine.append("/etc/x", b"\xfe")
    machine.append("/etc/new", b"a")

    assert machine.read("/etc/x") == b"\xff\x00\xfe"
    assert machine.read("/etc/x", 1) == b"\xff"
    assert machine.read("/etc/new") == b"a"


def test_what_lay_in_a_tree_that_was_removed_does_not_come_back_without_it() -> None:
    machine = SimMachine.new("h")
    machine.mkdir("/etc/recon/x/y")
    machine.write("/etc/recon/x/y/f", b"1")
    machine.remove_tree("/etc/recon/x")

    machine.reboot(luck=lambda: 0.9)

    assert [path for path in machine.state.files if path.startswith("/etc/recon/")] == []


def test_what_was_made_in_a_directory_that_is_gone_does_not_come_back_in_another_of_that_name() -> None:
    machine = SimMachine.new("h-1")

    def fail(call: str) -> None:
        if call == "fsync /srv/a/b":
            raise OSError(errno.EIO, "Input/output error")

    machine.mkdir("/srv/a/b")
    machine.on_call = fail
    with pytest.raises(OSError, match="Input/output error"):
        machine.symlink("/etc", "/srv/a/b/link")
    machine.on_call = None
    machine.remove_tree("/srv/a")
    machine.mkdir("/srv/a/b")

    machine.reboot(luck=lambda: 0.9)

    assert machine.listdir("/srv/a/b") == []
