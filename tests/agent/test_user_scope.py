"""One user's own manager and directories: every place and every command is said as it is there."""

from __future__ import annotations

import pytest

from reconciler.agent import executor_unit, holders, lease, observe, places, processes, rivals, systemd
from reconciler.agent.fence import Fenced, only_looks
from reconciler.agent.launch import launch_argv
from reconciler.agent.machine import Completed, Machine
from reconciler.agent.user_scope import Account, UserMachine
from tests.agent.fakehost import Content, FakeHost, Link

SOLO = Account("solo", 1001, "/home/solo", "/run/user/1001")
MANAGER = "/user.slice/user-1001.slice/user@1001.service"


def a_user(files: dict[str, Content] | None = None, **more: Completed) -> tuple[UserMachine, FakeHost]:
    host = FakeHost(files or {}, programs={tuple(words.split(" ")): done for words, done in more.items()})
    return UserMachine(host, SOLO), host


@pytest.mark.parametrize(
    ("place", "there"),
    [
        (places.EPOCH, "/home/solo/.local/state/recon/epoch"),
        (places.HOLD, "/home/solo/.config/recon/hold.json"),
        (places.LOCK, "/run/user/1001/recon/lock"),
        (places.RUN, "/run/user/1001/recon"),
        ("/run/recon-gate-all-vision", "/run/user/1001/recon-gate-all-vision"),
        (places.COMMITTED, "/home/solo/.config/containers/systemd/recon"),
        (places.TRIAL, "/run/user/1001/containers/systemd/recon-trial"),
        (f"{places.NATIVE}/recon-boot.target", "/home/solo/.config/systemd/user/recon-boot.target"),
        (
            f"{places.NATIVE}/multi-user.target.wants/recon-boot.target",
            "/home/solo/.config/systemd/user/default.target.wants/recon-boot.target",
        ),
        (f"{places.MASKS}/recon-a.service", "/run/user/1001/systemd/user/recon-a.service"),
        ("/usr/lib/systemd/system/recon-a.service", "/usr/lib/systemd/user/recon-a.service"),
        ("/var/lib/containers/storage/libpod", "/home/solo/.local/share/containers/storage/libpod"),
        (
            "/sys/fs/cgroup/system.slice/recon-executor.service/cgroup.procs",
            f"/sys/fs/cgroup{MANAGER}/app.slice/recon-executor.service/cgroup.procs",
        ),
        ("/etc/machine-id", "/etc/machine-id"),
        ("/etc/reconsider", "/etc/reconsider"),
        ("/proc/1/maps", "/proc/1/maps"),
        ("/srv/models/etc/recon", "/srv/models/etc/recon"),
    ],
)
def test_a_place_of_the_system_is_the_users_own(place: str, there: str) -> None:
    user, _ = a_user()

    assert user.here(place) == there


def test_a_link_leads_to_where_it_really_lies_and_reads_as_it_was_written() -> None:
    user, host = a_user()

    user.symlink(places.generation(3), places.COMMITTED)

    assert host.files["/home/solo/.config/containers/systemd/recon"] == Link("/home/solo/.config/recon/generations/3")
    assert user.read_link(places.COMMITTED) == "/etc/recon/generations/3"


def test_a_directory_that_every_system_has_is_made_in_a_home_that_lacks_it() -> None:
    user, host = a_user()

    user.write(f"{places.NATIVE}/recon-boot.target", b"[Unit]\n")

    assert "/home/solo/.config/systemd/user" in host.directories


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["systemctl", "stop", "recon-a.service"], ["systemctl", "--user", "stop", "recon-a.service"]),
        # With --user only files of the user's own are opened, and a journal in memory has none for users.
        (["journalctl", "-u", "recon-a.service"], ["journalctl", "--user-unit", "recon-a.service"]),
        (["journalctl", "--unit=recon-a.service", "-n5"], ["journalctl", "--user-unit=recon-a.service", "-n5"]),
        (
            ["systemd-analyze", "verify", "--man=no", "/run/recon/verify/recon-a.service"],
            ["systemd-analyze", "--user", "verify", "--man=no", "/run/user/1001/recon/verify/recon-a.service"],
        ),
        (
            ["/usr/lib/systemd/system-generators/podman-system-generator", "--dryrun"],
            ["/usr/lib/systemd/user-generators/podman-user-generator", "--dryrun"],
        ),
        (
            ["systemd-run", "--scope", "--slice=system.slice", "--", "/srv/etc/recon"],
            ["systemd-run", "--user", "--scope", "--slice=app.slice", "--", "/srv/etc/recon"],
        ),
        (["podman", "image", "exists", "a/etc/recon"], ["podman", "image", "exists", "a/etc/recon"]),
    ],
)
def test_a_command_is_said_to_the_users_manager(argv: list[str], said: list[str]) -> None:
    user, _ = a_user()

    assert user.words(argv) == said


def test_the_executor_is_a_unit_of_the_user_and_so_is_whoever_follows_it() -> None:
    user, _ = a_user()
    agent = "/home/solo/.local/state/recon/agent/d"

    said = user.words(launch_argv("/var/lib/recon/agent/d", "t-1"))

    assert said[:3] == ["systemd-run", "--user", "--unit=recon-executor.service"]
    assert [word for word in said if word.startswith("--property=ExecStopPost=")] == [
        f"--property=ExecStopPost=-/usr/bin/python3 -I -S {agent} recover t-1",
        f"--property=ExecStopPost=/usr/bin/python3 -I -S {agent} recover t-1",
    ]
    assert said[-5:] == ["-I", "-S", agent, "execute", "t-1"]


def test_what_systemd_shows_of_a_users_unit_reads_like_that_of_the_system() -> None:
    shown = (
        b"Id=recon-a.service\nActiveState=active\nFragmentPath=/run/user/1001/systemd/generator/recon-a.service\n"
        b"SourcePath=/home/solo/.config/recon/generations/2/recon-a.container\n"
    )
    host = FakeHost()
    user = UserMachine(host, SOLO)
    host.run = lambda argv, timeout_s, stdin=b"", env=None: Completed(0, shown, b"")  # type: ignore[method-assign]

    unit = systemd.show_units(user, ["recon-a.service"])["recon-a.service"]

    assert unit.fragment == "/run/systemd/generator/recon-a.service"
    assert unit.source == "/etc/recon/generations/2/recon-a.container"


def test_programs_get_the_users_home_and_runtime_directory_and_places_in_their_variables() -> None:
    host = FakeHost()
    user = UserMachine(host, SOLO)
    seen: list[dict[str, str]] = []

    def run(argv: object, timeout_s: float, stdin: bytes = b"", env: dict[str, str] | None = None) -> Completed:
        seen.append(env or {})
        return Completed(0, b"", b"")

    host.run = run  # type: ignore[method-assign]
    user.run(["systemd-analyze", "verify"], 1.0, env={"SYSTEMD_UNIT_PATH": "/run/recon/verify:"})

    assert seen == [
        {
            "HOME": "/home/solo",
            "XDG_RUNTIME_DIR": "/run/user/1001",
            "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/1001/bus",
            "SYSTEMD_UNIT_PATH": "/run/user/1001/recon/verify:",
        }
    ]


@pytest.mark.parametrize(
    ("group", "unit"),
    [
        (f"{MANAGER}/app.slice/recon-vision-llama.service/libpod-payload-x", "recon-vision-llama.service"),
        ("/system.slice/recon-vision-llama.service", "system/recon-vision-llama.service"),
        (
            "/user.slice/user-1002.slice/user@1002.service/app.slice/recon-vision-llama.service",
            "user@1002.service/recon-vision-llama.service",
        ),
        ("/user.slice/user-1001.slice/session-3.scope", None),
    ],
)
def test_only_the_units_of_the_own_manager_go_by_their_names_alone(group: str, unit: str | None) -> None:
    assert processes.place_of(group, SOLO.manager).unit == unit


def test_an_executor_of_the_user_is_seen_by_its_processes() -> None:
    group = f"/sys/fs/cgroup{MANAGER}/app.slice/recon-executor.service"
    files: dict[str, Content] = {
        "/sys/fs/cgroup/cgroup.procs": "",
        f"{group}/cgroup.events": "populated 1\nfrozen 0\n",
        f"{group}/cgroup.procs": "",
    }
    user, _ = a_user(files)

    assert systemd.is_populated(user, "/system.slice/recon-executor.service") is True
    assert executor_unit.stuck(user) == holders.in_group(user, "/system.slice/recon-executor.service") == []


def test_a_claim_lies_in_the_users_own_directories() -> None:
    user, host = a_user()

    lease.take(user, owner="solo@desk", txid="t-1", boot_id="b")

    assert {path for path in host.files if "recon" in path} == {
        "/home/solo/.local/state/recon/epoch",
        "/run/user/1001/recon/lease.json",
    }


BARE: dict[str, Content] = {
    "/etc/machine-id": "m\n",
    "/proc/sys/kernel/random/boot_id": "b\n",
    "/proc/sys/kernel/hostname": "h\n",
    "/proc/sys/kernel/osrelease": "6\n",
}
"""What tells a host from others, and nothing else."""


@pytest.mark.parametrize(("linger", "fact"), [(True, {"value": True}), (False, {"value": False})])
def test_whether_the_user_lingers_is_observed(linger: bool, fact: dict[str, bool]) -> None:
    user, _ = a_user({**BARE, f"/var/lib/systemd/linger/{'solo' if linger else 'other'}": ""})

    assert observe.observe(user, {}, {"digest": "", "mode": "streamed"})["lingers"] == fact


@pytest.mark.parametrize(("bus", "fact"), [(True, {"value": True}), (False, {"value": False})])
def test_whether_the_manager_of_the_user_has_a_bus_is_observed(bus: bool, fact: dict[str, bool]) -> None:
    user, _ = a_user({**BARE, **({"/run/user/1001/bus": ""} if bus else {})})

    assert observe.observe(user, {}, {"digest": "", "mode": "streamed"})["bus"] == fact


def test_a_host_of_the_system_is_not_asked_whether_its_user_lingers() -> None:
    assert "lingers" not in observe.observe(FakeHost(dict(BARE)), {}, {"digest": "", "mode": "streamed"})


def test_the_fence_sees_commands_before_they_are_turned() -> None:
    assert only_looks(["systemctl", "show", "--property=Id", "--", "recon-a.service"])
    assert not only_looks(["systemctl", "stop", "recon-a.service"])


def test_everything_the_agent_may_do_to_a_machine_is_said_for_a_user_and_for_a_claim() -> None:
    deeds = {name for name, value in vars(Machine).items() if not name.startswith("_") and callable(value)}
    deeds |= {name for name, value in vars(Machine).items() if isinstance(value, property)}

    assert deeds - vars(UserMachine).keys() == set()
    assert deeds - vars(Fenced).keys() == set()


def test_the_spirals_own_units_are_no_rivals_of_themselves() -> None:
    files: dict[str, Content] = {
        "/proc/7/cmdline": "/usr/bin/python3\0-m\0spiral.worker\0",
        "/proc/7/cgroup": f"0::{MANAGER}/app.slice/recon-spiral-worker.service\n",
        "/proc/8/cmdline": "/usr/bin/python3\0-m\0spiral.worker\0",
        "/proc/8/cgroup": "0::/system.slice/recon-spiral-worker.service\n",
    }
    user, _ = a_user(files)

    found = rivals.running(user, ["/usr/bin/python3", "-m", "spiral.worker"])

    assert [each.split(" ")[:2] for each in found] == [["process", "8"]]
