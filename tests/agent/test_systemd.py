"""What systemd says, and the exact words it is told."""

from __future__ import annotations

import pytest

from reconciler.agent import places, systemd
from reconciler.agent.machine import Completed
from reconciler.agent.systemd import SystemdError, UnitState
from tests.agent.fakehost import Denied, FakeHost, Link

PROPERTIES = (
    "--property=Id,LoadState,ActiveState,SubState,Result,NRestarts,Job,NeedDaemonReload,"
    "FragmentPath,SourcePath,InvocationID,MainPID,ControlGroup,ExecMainCode,ExecMainStatus"
)

SHOWN = b"""\
Result=success
NRestarts=2
MainPID=324
ControlGroup=/system.slice/recon-reasoning-vllm.service
Id=recon-reasoning-vllm.service
LoadState=loaded
ActiveState=active
SubState=running
FragmentPath=/run/systemd/generator/recon-reasoning-vllm.service
SourcePath=/etc/recon/generations/1/recon-reasoning-vllm.container
Job=0
NeedDaemonReload=no
InvocationID=9e15a6eb904744b4bafc3aef5ce4888b

Id=recon-coven-reasoning.target
LoadState=loaded
ActiveState=activating
SubState=dead
FragmentPath=/etc/systemd/system/recon-coven-reasoning.target
Job=118
NeedDaemonReload=yes
InvocationID=
ControlGroup=
"""

SERVICE = UnitState(
    name="recon-reasoning-vllm.service",
    load="loaded",
    active="active",
    sub="running",
    result="success",
    restarts=2,
    job="",
    need_reload=False,
    fragment="/run/systemd/generator/recon-reasoning-vllm.service",
    source="/etc/recon/generations/1/recon-reasoning-vllm.container",
    invocation="9e15a6eb904744b4bafc3aef5ce4888b",
    main_pid=324,
    cgroup="/system.slice/recon-reasoning-vllm.service",
)
TARGET = UnitState(
    name="recon-coven-reasoning.target",
    load="loaded",
    active="activating",
    sub="dead",
    result="",
    restarts=0,
    job="118",
    need_reload=True,
    fragment="/etc/systemd/system/recon-coven-reasoning.target",
    source="",
    invocation="",
    main_pid=0,
    cgroup="",
)


def test_units_are_asked_for_in_one_call_and_read_whole() -> None:
    argv = ("systemctl", "show", PROPERTIES, "--", "recon-*", "qdrant.service")
    host = FakeHost(programs={argv: Completed(0, SHOWN, b"")})

    found = systemd.show_units(host, ["recon-*", "qdrant.service"])

    assert found == {SERVICE.name: SERVICE, TARGET.name: TARGET}
    assert host.ran == [argv]


def test_a_unit_that_is_shown_twice_counts_once_and_control_characters_are_escaped() -> None:
    twice = b"Id=recon-a.service\nSubState=run\x1b[31mning\n\nId=recon-a.service\nSubState=dead\n"

    assert [(name, unit.sub) for name, unit in systemd.parse_show(twice).items()] == [("recon-a.service", "dead")]
    assert systemd.parse_show(twice[:45])["recon-a.service"].sub == "run\\x1b[31mning"


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("1", "3", "exit status 3"),
        ("1", "0", "exit status 0"),
        ("2", "9", "SIGKILL"),
        ("3", "11", "SIGSEGV"),
        ("2", "99", "signal 99"),
        ("0", "0", ""),
        ("", "", ""),
    ],
)
def test_how_a_process_ended_last_is_a_status_or_a_signal(code: str, status: str, said: str) -> None:
    shown = f"Id=recon-a.service\nExecMainCode={code}\nExecMainStatus={status}\n".encode()

    assert systemd.parse_show(shown)["recon-a.service"].last_exit == said


def test_a_value_that_holds_an_equals_sign_is_kept_whole() -> None:
    assert systemd.parse_show(b"Id=a.service\nSourcePath=/x=y\n")["a.service"].source == "/x=y"


def test_a_failed_question_is_an_error_and_not_an_empty_answer() -> None:
    argv = ("systemctl", "show", PROPERTIES, "--", "recon-*")
    host = FakeHost(programs={argv: Completed(1, b"", b"Failed to connect to bus: Connection refused\n")})

    with pytest.raises(SystemdError, match=r"^systemctl show: Failed to connect to bus: Connection refused$"):
        systemd.show_units(host, ["recon-*"])


@pytest.mark.parametrize(
    "path",
    [
        "/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-257.so",
        "/usr/lib/systemd/libsystemd-shared-257.9-1.fc42.so",
        "/usr/lib/systemd/libsystemd-shared-257.so (deleted)",
    ],
)
def test_the_version_is_that_of_the_library_that_process_1_has_loaded(path: str) -> None:
    part = "7f7e8f400000-7f7e8f45f000 r--p 00000000 00:2b 8404                       "
    core = f"{part}/usr/lib/x86_64-linux-gnu/systemd/libsystemd-core-257.so\n"
    host = FakeHost({"/proc/1/maps": f"{part}/usr/lib/systemd/systemd\n{core}{part}{path}\n{part}{path}\n"})

    assert systemd.version(host) == 257
    assert host.ran == []


@pytest.mark.parametrize(
    "maps",
    [
        "",
        "r-xp /usr/lib/systemd/libsystemd-shared-git.so\n",
        "r-xp /usr/lib/systemd/libsystemd-shared-257.so\nr-xp /opt/libsystemd-shared-258.so\n",
        Denied("not for you"),
    ],
)
def test_where_process_1_does_not_tell_its_version_systemd_is_asked(maps: str) -> None:
    argv = ("systemctl", "show", "--property=Version")
    host = FakeHost({"/proc/1/maps": maps}, programs={argv: Completed(0, b"Version=256\n", b"")})

    assert systemd.version(host) == 256
    assert host.ran == [argv]


def test_the_version_is_that_of_the_manager_that_runs() -> None:
    argv = ("systemctl", "show", "--property=Version")

    assert systemd.version(FakeHost(programs={argv: Completed(0, b"Version=257.8-1~deb13u2\n", b"")})) == 257
    with pytest.raises(SystemdError):
        systemd.version(FakeHost(programs={argv: Completed(0, b"Version=\n", b"")}))


@pytest.mark.parametrize(
    ("told", "argv"),
    [
        (systemd.daemon_reload, "systemctl daemon-reload"),
        (
            lambda host: systemd.start_target(host, "recon-coven-vision.target"),
            "systemctl start --no-block --job-mode=fail recon-coven-vision.target",
        ),
        (
            lambda host: systemd.stop_gate(host, "recon-gate-main-vision.service"),
            "systemctl stop --no-block --job-mode=fail recon-gate-main-vision.service",
        ),
        (
            lambda host: systemd.reset_failed(host, ["recon-a.service", "recon-b.service"]),
            "systemctl reset-failed -- recon-a.service recon-b.service",
        ),
    ],
)
def test_systemd_is_told_in_exactly_these_words(told: object, argv: str) -> None:
    words = tuple(argv.split())
    host = FakeHost(programs={words: Completed(0, b"", b"")})

    assert callable(told)
    told(host)

    assert host.ran == [words]


def test_a_refused_start_is_an_error_with_systemds_reason() -> None:
    argv = ("systemctl", "start", "--no-block", "--job-mode=fail", "recon-coven-vision.target")
    host = FakeHost(programs={argv: Completed(1, b"", b"Transaction is destructive.\n")})

    with pytest.raises(SystemdError, match=r"^systemctl start: Transaction is destructive.$"):
        systemd.start_target(host, "recon-coven-vision.target")


def test_resetting_nothing_runs_nothing_and_an_unloaded_unit_is_no_error() -> None:
    argv = ("systemctl", "reset-failed", "--", "recon-a.service")
    host = FakeHost(programs={argv: Completed(1, b"", b"Unit recon-a.service not loaded.\n")})

    systemd.reset_failed(host, [])
    systemd.reset_failed(host, ["recon-a.service"])

    assert host.ran == [argv]


def test_a_mask_is_a_link_in_run_and_only_a_mask_is_taken_away() -> None:
    host = FakeHost({"/run/systemd/system/recon-b.service": "[Service]\n"})

    systemd.mask(host, "recon-a.service")

    assert host.files["/run/systemd/system/recon-a.service"] == Link("/dev/null")

    for unit in ("recon-a.service", "recon-b.service", "recon-c.service"):
        systemd.unmask(host, unit)

    assert host.files == {"/run/systemd/system/recon-b.service": "[Service]\n"}


def test_masks_of_ours_are_links_of_a_units_name_to_nothing() -> None:
    names = ["recon-a.service", "recon-b.service", "recon-c d.service", "other.service"]
    host = FakeHost({f"{places.MASKS}/{name}": Link("/dev/null") for name in names})
    host.files[f"{places.MASKS}/recon-b.service"] = Link("/srv/recon-b.service")

    assert systemd.masked(host) == ["recon-a.service"]
    assert systemd.masked(FakeHost({})) == []


GROUP = "/system.slice/recon-a.service"


@pytest.mark.parametrize(
    ("files", "populated"),
    [
        ({f"/sys/fs/cgroup{GROUP}/cgroup.events": "populated 1\nfrozen 0\n"}, True),
        ({f"/sys/fs/cgroup{GROUP}/cgroup.events": "populated 0\nfrozen 0\n"}, False),
        ({}, False),
        ({f"/sys/fs/cgroup{GROUP}/cgroup.procs": "12\n"}, None),
        ({f"/sys/fs/cgroup{GROUP}/cgroup.events": "nonsense\n"}, None),
    ],
)
def test_whether_a_control_group_is_populated_is_yes_no_or_not_known(
    files: dict[str, str], populated: bool | None
) -> None:
    host = FakeHost({"/sys/fs/cgroup/cgroup.procs": "", **files})

    assert systemd.is_populated(host, GROUP) is populated


def test_on_a_hybrid_host_the_unified_hierarchy_is_asked() -> None:
    host = FakeHost(
        {
            "/sys/fs/cgroup/unified/cgroup.procs": "",
            f"/sys/fs/cgroup/unified{GROUP}/cgroup.events": "populated 1\n",
        }
    )

    assert systemd.is_populated(host, GROUP) is True


def test_a_unit_without_a_group_is_empty_and_a_host_without_groups_cannot_tell() -> None:
    assert systemd.is_populated(FakeHost(), "") is False
    assert systemd.is_populated(FakeHost(), GROUP) is None
