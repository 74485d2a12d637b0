"""The rules of systemd that exclusivity rests on, as they were seen on Debian 13 (systemd 257, podman 5.4.2)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from reconciler.sim.faults import clear_fault, set_fault
from reconciler.sim.machine import GENERATOR, SimMachine
from reconciler.sim.state import Node
from tests.sim.covens import active, container_text, gate, install, member, moments, put, shown, systemctl, target


@pytest.fixture
def machine() -> SimMachine:
    made = SimMachine.new("gpu-1")
    install(made)
    return made


def start(machine: SimMachine, coven: str) -> tuple[int, str]:
    return systemctl(machine, "start", "--job-mode=fail", target(coven))


def test_a_target_brings_up_its_gate_and_then_its_members(machine: SimMachine) -> None:
    assert start(machine, "a") == (0, "")

    assert active(machine, gate("a"), member("a"), target("a")) == ["active", "active", "active"]
    up = [
        moments(machine, f"{unit} active/{sub}")[0]
        for unit, sub in ((gate("a"), "exited"), (member("a"), "running"), (target("a"), "active"))
    ]
    assert up == sorted(up)


@pytest.mark.parametrize(("old", "new"), [("a", "b"), ("b", "a")])
def test_a_switch_never_overlaps_whichever_gate_sorts_first(machine: SimMachine, old: str, new: str) -> None:
    start(machine, old)
    machine.sleep(10.0)
    set_fault(machine.state, "ignores-sigterm", member(old))

    assert start(machine, new) == (0, "")

    gone = moments(machine, f"container recon-{old}-m ended with 137")[0]
    assert gone - moments(machine, f"{member(old)} deactivating/stop")[0] == pytest.approx(20.0)
    assert moments(machine, f"{gate(old)} inactive/dead")[0] >= gone
    assert moments(machine, f"container recon-{new}-m began")[0] > moments(machine, f"{gate(old)} inactive/dead")[0]
    assert active(machine, gate(old), target(old), gate(new), member(new), target(new)) == [
        "inactive",
        "inactive",
        "active",
        "active",
        "active",
    ]


def test_three_covens_rotate_without_an_overlap() -> None:
    machine = SimMachine.new("gpu-1")
    install(machine, ("a", "b", "c"))
    for coven in ("a", "b", "c", "a", "c", "b"):
        assert start(machine, coven) == (0, "")
        running = [container.name for container in machine.state.containers.values()]
        assert running == [f"recon-{coven}-m"]


def test_conflicts_alone_overlap_which_is_why_there_are_gates() -> None:
    machine = SimMachine.new("gpu-1")
    for coven, more in (("a", ""), ("b", "Conflicts=x-a.service\n")):
        text = f"[Unit]\n{more}[Container]\nContainerName=x-{coven}\nImage=docker.io/x/{coven}:1\n"
        put(machine, f"/etc/containers/systemd/x-{coven}.container", text)
    systemctl(machine, "daemon-reload")
    systemctl(machine, "start", "x-a.service")
    systemctl(machine, "start", "x-b.service")
    machine.sleep(5.0)

    assert moments(machine, "container x-b began")[0] < moments(machine, "container x-a ended with 143")[0]


def test_a_stray_start_of_a_member_fails_and_the_live_coven_stays(machine: SimMachine) -> None:
    start(machine, "b")

    assert systemctl(machine, "start", member("a")) == (
        1,
        f"A dependency job for {member('a')} failed. See 'journalctl -xe' for details.\n",
    )
    assert systemctl(machine, "start", "--no-block", "--job-mode=fail", member("a")) == (0, "")
    machine.sleep(5.0)
    assert active(machine, member("a"), gate("a"), member("b"), gate("b")) == [
        "inactive",
        "inactive",
        "active",
        "active",
    ]


def test_a_gate_cannot_be_started_by_hand(machine: SimMachine) -> None:
    assert systemctl(machine, "start", gate("a")) == (
        4,
        f"Failed to start {gate('a')}: Operation refused, unit {gate('a')} may be requested by dependency only"
        " (it is configured to refuse manual start/stop).\n"
        f"See system logs and 'systemctl status {gate('a')}' for details.\n",
    )


def test_stopping_the_gate_stops_the_members_first_and_stopping_the_target_does_not(machine: SimMachine) -> None:
    start(machine, "a")
    systemctl(machine, "stop", target("a"))
    assert active(machine, target("a"), gate("a"), member("a")) == ["inactive", "active", "active"]

    assert systemctl(machine, "stop", "--no-block", "--job-mode=fail", gate("a")) == (0, "")
    assert active(machine, gate("a"), member("a")) == ["active", "deactivating"]
    machine.sleep(2.0)

    assert active(machine, gate("a"), member("a")) == ["inactive", "inactive"]
    assert moments(machine, f"{member('a')} inactive/dead") <= moments(machine, f"{gate('a')} inactive/dead")


def test_job_mode_fail_refuses_what_contradicts_a_switch_on_its_way(machine: SimMachine) -> None:
    start(machine, "a")
    set_fault(machine.state, "ignores-sigterm", member("a"))
    systemctl(machine, "start", "--no-block", "--job-mode=fail", target("b"))
    machine.sleep(0.5)

    back = systemctl(machine, "start", "--no-block", "--job-mode=fail", target("a"))
    undo = systemctl(machine, "stop", "--no-block", "--job-mode=fail", gate("b"))
    same = systemctl(machine, "stop", "--no-block", "--job-mode=fail", gate("a"))

    assert (back[0], undo[0], same) == (4, 4, (0, ""))
    assert back[1].splitlines()[0] == (
        f"Failed to start {target('a')}: Transaction for {target('a')}/start is destructive"
        f" ({gate('a')} has 'stop' job queued, but 'start' is included in transaction)."
    )
    machine.sleep(30.0)
    assert active(machine, gate("a"), member("a"), member("b")) == ["inactive", "failed", "active"]


def test_a_failing_member_fails_neither_its_target_nor_the_start(machine: SimMachine) -> None:
    machine.state.images_missing.append("docker.io/vllm/vllm-openai@sha256:" + "a" * 64)

    assert start(machine, "a") == (0, "")
    assert active(machine, target("a"), member("a")) == ["active", "failed"]
    assert shown(machine, member("a"), "Result", "ExecMainStatus") == {"Result": "exit-code", "ExecMainStatus": "125"}


def test_a_member_whose_file_is_gone_runs_on_as_not_found(machine: SimMachine) -> None:
    start(machine, "a")
    machine.remove("/etc/recon/generations/1/recon-a-m.container")
    before = shown(machine, member("a"), "LoadState", "ActiveState", "NeedDaemonReload")
    systemctl(machine, "daemon-reload")

    assert before == {"LoadState": "loaded", "ActiveState": "active", "NeedDaemonReload": "yes"}
    assert shown(machine, member("a"), "LoadState", "ActiveState", "NeedDaemonReload") == {
        "LoadState": "not-found",
        "ActiveState": "active",
        "NeedDaemonReload": "no",
    }
    assert systemctl(machine, "restart", member("a"))[0] == 5
    assert systemctl(machine, "stop", member("a")) == (0, "")
    assert active(machine, member("a")) == ["inactive"]


def test_a_file_edited_by_hand_needs_a_reload_and_the_old_process_runs_on(machine: SimMachine) -> None:
    start(machine, "a")
    pid = shown(machine, member("a"), "MainPID")
    put(machine, "/etc/recon/generations/1/recon-a-m.container", container_text("a", more="Nice=1"))
    before = shown(machine, member("a"), "NeedDaemonReload")
    systemctl(machine, "daemon-reload")

    assert before == {"NeedDaemonReload": "yes"}
    assert shown(machine, member("a"), "NeedDaemonReload") == {"NeedDaemonReload": "no"}
    assert shown(machine, member("a"), "MainPID") == pid


def test_a_source_that_moves_from_run_to_etc_keeps_its_process(machine: SimMachine) -> None:
    put(machine, "/etc/recon/generations/2/recon-a-m.container", container_text("a", more="Nice=1"))
    machine.mkdir("/run/containers/systemd")
    machine.symlink("/etc/recon/generations/2", "/run/containers/systemd/recon-trial")
    systemctl(machine, "daemon-reload")
    start(machine, "a")
    wanted = ("LoadState", "SourcePath", "NeedDaemonReload", "MainPID", "InvocationID")
    before = shown(machine, member("a"), *wanted)

    machine.symlink("/etc/recon/generations/2", "/etc/containers/systemd/recon")
    machine.remove("/run/containers/systemd/recon-trial")
    systemctl(machine, "daemon-reload")

    assert shown(machine, member("a"), *wanted) == before
    assert before["SourcePath"] == "/etc/recon/generations/2/recon-a-m.container"


def test_a_mask_in_run_hides_a_generated_unit_until_it_is_taken_away(machine: SimMachine) -> None:
    machine.symlink("/dev/null", f"/run/systemd/system/{member('a')}")
    systemctl(machine, "daemon-reload")

    assert shown(machine, member("a"), "LoadState") == {"LoadState": "masked"}
    assert systemctl(machine, "start", member("a")) == (
        1,
        f"Failed to start {member('a')}: Unit {member('a')} is masked.\n",
    )
    assert start(machine, "a") == (0, "")
    assert active(machine, target("a"), member("a")) == ["active", "inactive"]

    systemctl(machine, "stop", gate("a"))
    machine.remove(f"/run/systemd/system/{member('a')}")
    systemctl(machine, "daemon-reload")
    assert shown(machine, member("a"), "LoadState") == {"LoadState": "loaded"}


def test_a_crash_loop_backs_off_in_steps_and_ends_at_the_start_limit() -> None:
    machine = SimMachine.new("gpu-1")
    more = "Restart=on-failure\nRestartSec=3\nRestartSteps=5\nRestartMaxDelaySec=600"
    install(machine, ("a",), more=more)
    text = container_text("a", more=more).replace("[Unit]", "[Unit]\nStartLimitIntervalSec=4h\nStartLimitBurst=5")
    put(machine, "/etc/recon/generations/1/recon-a-m.container", text)
    systemctl(machine, "daemon-reload")
    set_fault(machine.state, "crash-at-start", member("a"))
    systemctl(machine, "start", "--no-block", target("a"))

    machine.sleep(600.0)

    began = moments(machine, "container recon-a-m began")
    waits = [round(later - earlier, 1) for earlier, later in pairwise(began)]
    # 1 s alive and 0.3 s for podman, then 3 s · 200^(i/5).
    assert waits == [4.3, 10.0, 26.3, 73.4]
    machine.sleep(1200.0)
    assert shown(machine, member("a"), "ActiveState", "Result", "NRestarts") == {
        "ActiveState": "failed",
        "Result": "start-limit-hit",
        "NRestarts": "5",
    }

    assert systemctl(machine, "start", member("a"))[0] == 1
    assert systemctl(machine, "reset-failed", member("a")) == (0, "")
    clear_fault(machine.state)
    assert systemctl(machine, "start", member("a")) == (0, "")
    assert shown(machine, member("a"), "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}


def test_a_pending_restart_is_cancelled_by_a_switch_and_hurried_up_by_a_start() -> None:
    machine = SimMachine.new("gpu-1")
    install(machine, more="Restart=on-failure\nRestartSec=60")
    set_fault(machine.state, "crash-at-start", member("a"))
    start(machine, "a")
    machine.sleep(3.0)
    assert shown(machine, member("a"), "ActiveState", "SubState", "Job") == {
        "ActiveState": "activating",
        "SubState": "auto-restart",
        "Job": "",
    }
    clear_fault(machine.state)

    systemctl(machine, "start", member("a"))
    assert shown(machine, member("a"), "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "1"}

    set_fault(machine.state, "crash-after-ready", member("a"))
    systemctl(machine, "restart", member("a"))
    machine.sleep(5.0)
    assert active(machine, member("a")) == ["activating"]
    assert start(machine, "b") == (0, "")
    machine.sleep(120.0)
    assert active(machine, member("a"), member("b")) == ["inactive", "active"]


@pytest.mark.parametrize(("success", "state"), [("SuccessExitStatus=143", "inactive"), ("", "failed")])
def test_an_ordinary_stop_is_a_failure_unless_the_unit_says_otherwise(success: str, state: str) -> None:
    machine = SimMachine.new("gpu-1")
    install(machine)
    text = container_text("a").replace("SuccessExitStatus=143", success)
    put(machine, "/etc/recon/generations/1/recon-a-m.container", text)
    systemctl(machine, "daemon-reload")
    start(machine, "a")
    systemctl(machine, "stop", gate("a"))

    assert active(machine, member("a")) == [state]


def test_notify_healthy_is_activating_until_the_server_is_ready_and_ends_at_the_start_timeout() -> None:
    machine = SimMachine.new("gpu-1")
    install(machine, ("a",), memory=22 * 2**30)
    for timeout, state in (("60", "active"), ("5", "failed")):
        text = container_text("a", memory=22 * 2**30, more=f"TimeoutStartSec={timeout}")
        text = text.replace("Pull=never", "Pull=never\nNotify=healthy")
        put(machine, "/etc/recon/generations/1/recon-a-m.container", text)
        systemctl(machine, "daemon-reload")
        systemctl(machine, "start", "--no-block", target("a"))
        machine.sleep(3.0)
        assert active(machine, member("a")) == ["activating"]
        machine.sleep(60.0)
        assert active(machine, member("a")) == [state]
        systemctl(machine, "stop", gate("a"))
        machine.sleep(5.0)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("start", "no.service"), 5, "Failed to start no.service: Unit no.service not found.\n"),
        (("restart", "no.service"), 5, "Failed to restart no.service: Unit no.service not found.\n"),
        (("stop", "no.service"), 5, "Failed to stop no.service: Unit no.service not loaded.\n"),
        (
            ("reset-failed", "--", "no.service"),
            1,
            "Failed to reset failed state of unit no.service: Unit no.service not loaded.\n",
        ),
        (("reset-failed", "no-*"), 0, ""),
        (("is-active", "no.service"), 3, ""),
    ],
)
def test_what_systemctl_says_of_units_it_does_not_know(
    machine: SimMachine, words: tuple[str, ...], code: int, text: str
) -> None:
    assert systemctl(machine, *words) == (code, text)


def test_show_prints_what_systemd_prints(machine: SimMachine) -> None:
    start(machine, "a")
    pid = machine.manager.run_of(member("a")).main_pid
    properties = "Id,Job,MainPID,LoadState,ActiveState,SubState,NRestarts,Result,NeedDaemonReload,SourcePath"

    done = machine.run(
        ["systemctl", "show", f"--property={properties}", "--", member("a"), target("a"), "no.service"], 5
    )

    assert done.out.decode() == (
        f"MainPID={pid}\nResult=success\nNRestarts=0\nId={member('a')}\nLoadState=loaded\nActiveState=active\n"
        "SubState=running\nSourcePath=/etc/recon/generations/1/recon-a-m.container\nJob=\nNeedDaemonReload=no\n"
        f"\nId={target('a')}\nLoadState=loaded\nActiveState=active\nSubState=active\nSourcePath=\nJob=\n"
        "NeedDaemonReload=no\n"
        "\nMainPID=0\nResult=success\nNRestarts=0\nId=no.service\nLoadState=not-found\nActiveState=inactive\n"
        "SubState=dead\nSourcePath=\nJob=\nNeedDaemonReload=no\n"
    )


def test_a_pattern_shows_only_units_that_are_not_just_inactive(machine: SimMachine) -> None:
    start(machine, "a")

    done = machine.run(["systemctl", "show", "--property=Id", "--", "recon-*"], 5.0)

    assert done.out.decode() == f"Id={member('a')}\n\nId={target('a')}\n\nId={gate('a')}\n"
    assert machine.run(["systemctl", "show", "--property=Id", "--", "no-*"], 5.0)[:2] == (0, b"")


def test_a_transient_unit_has_its_name_alone_and_is_forgotten_when_it_ends(machine: SimMachine) -> None:
    argv = ["systemd-run", "--unit=recon-executor.service", "--collect", "--no-block", "/usr/bin/python3", "x", "t1"]
    first, second = machine.run(argv, 5.0), machine.run(argv, 5.0)

    assert (first.rc, second) == (
        0,
        (
            1,
            b"",
            b"Failed to start transient service unit: Unit recon-executor.service was already loaded or has a"
            b" fragment file.\n",
        ),
    )
    assert machine.state.launched == ["recon-executor.service t1"]
    assert shown(machine, "recon-executor.service", "ActiveState", "FragmentPath") == {
        "ActiveState": "active",
        "FragmentPath": "/run/systemd/transient/recon-executor.service",
    }
    machine.manager.finish_transient("recon-executor.service", 1)
    assert shown(machine, "recon-executor.service", "LoadState") == {"LoadState": "not-found"}
    assert machine.run(argv, 5.0).rc == 0


def test_a_transient_unit_is_the_same_after_a_daemon_reload(machine: SimMachine) -> None:
    machine.run(["systemd-run", "--unit=recon-executor.service", "--collect", "--description=the order", "x"], 5.0)
    before = shown(machine, "recon-executor.service", "LoadState", "ActiveState", "Description", "FragmentPath")
    machine.run(["systemctl", "daemon-reload"], 5.0)

    assert before["Description"] == "the order"
    assert shown(machine, "recon-executor.service", *before) == before


def test_a_reload_that_is_refused_reads_nothing_again(machine: SimMachine) -> None:
    put(machine, "/etc/systemd/system/x.service", "[Service]\nExecStart=/bin/a\n")
    assert shown(machine, "x.service", "Description") == {"Description": "x.service"}
    put(machine, "/etc/systemd/system/x.service", "[Unit]\nDescription=new\n[Service]\nExecStart=/bin/a\n")
    set_fault(machine.state, "reload")

    assert machine.run(["systemctl", "daemon-reload"], 5.0).rc == 1
    clear_fault(machine.state)
    assert machine.run(["systemctl", "daemon-reload"], 5.0).rc == 0
    assert shown(machine, "x.service", "Description") == {"Description": "new"}


def test_with_a_broken_generator_no_unit_comes_of_a_quadlet(machine: SimMachine) -> None:
    put(machine, "/etc/containers/systemd/a.container", "[Container]\nImage=x\n")
    set_fault(machine.state, "generator")
    machine.run(["systemctl", "daemon-reload"], 5.0)

    assert shown(machine, "a.service", "LoadState") == {"LoadState": "not-found"}
    assert machine.run([GENERATOR, "--dryrun"], 5.0).rc == 1
    clear_fault(machine.state)
    machine.run(["systemctl", "daemon-reload"], 5.0)
    assert shown(machine, "a.service", "LoadState") == {"LoadState": "loaded"}


def test_a_program_that_was_started_goes_on_when_its_unit_is_gone_the_moment_after(machine: SimMachine) -> None:
    put(machine, "/etc/containers/systemd/a.container", "[Container]\nImage=x\n")
    machine.state.images.append("x")
    machine.run(["systemctl", "daemon-reload"], 5.0)
    machine.run(["systemctl", "start", "--no-block", "a.service"], 5.0)
    set_fault(machine.state, "generator")

    machine.run(["systemctl", "daemon-reload"], 5.0)
    machine.clock.advance(5.0)

    assert [container.unit for container in machine.state.containers.values()] == ["a.service"]
    assert shown(machine, "a.service", "ActiveState") == {"ActiveState": "active"}


def boot_links(machine: SimMachine, *covens: str) -> None:
    put(machine, "/etc/systemd/system/recon-boot.target", "[Unit]\nDefaultDependencies=no\n")
    machine.symlink(
        "/etc/systemd/system/recon-boot.target", "/etc/systemd/system/multi-user.target.wants/recon-boot.target"
    )
    machine.symlink("/etc/containers/systemd/recon/boot.wants", "/etc/systemd/system/recon-boot.target.wants")
    machine.mkdir("/etc/recon/generations/1/boot.wants")
    for coven in covens:
        link = Node(kind="link", target=f"/etc/systemd/system/{target(coven)}")
        machine.files.put(f"/etc/recon/generations/1/boot.wants/{target(coven)}", link)


def test_the_boot_starts_what_the_committed_generation_says_through_two_links(machine: SimMachine) -> None:
    boot_links(machine, "b")
    boot_id = machine.read("/proc/sys/kernel/random/boot_id")
    start(machine, "a")
    machine.reboot()

    assert active(machine, target("a"), member("a"), target("b"), member("b")) == [
        "inactive",
        "inactive",
        "active",
        "active",
    ]
    assert machine.read("/proc/sys/kernel/random/boot_id") != boot_id


def test_of_two_covens_enabled_at_boot_one_is_dropped_in_silence(machine: SimMachine) -> None:
    boot_links(machine, "a", "b")
    machine.reboot()

    assert active(machine, target("a"), target("b"), "recon-boot.target") == ["active", "inactive", "active"]
    assert [container.name for container in machine.state.containers.values()] == ["recon-a-m"]


def test_a_trial_in_run_does_not_survive_a_reboot(machine: SimMachine) -> None:
    boot_links(machine, "a")
    put(machine, "/etc/recon/generations/2/recon-a-m.container", container_text("a"))
    machine.mkdir("/run/containers/systemd")
    machine.symlink("/etc/recon/generations/2", "/run/containers/systemd/recon-trial")
    systemctl(machine, "daemon-reload")
    on_trial = shown(machine, member("a"), "SourcePath")
    machine.reboot()

    assert on_trial == {"SourcePath": "/etc/recon/generations/2/recon-a-m.container"}
    assert shown(machine, member("a"), "SourcePath") == {"SourcePath": "/etc/recon/generations/1/recon-a-m.container"}
    assert machine.stat("/run/containers/systemd/recon-trial") is None


def test_drop_ins_are_read_and_their_coming_needs_a_reload(machine: SimMachine) -> None:
    start(machine, "a")
    put(machine, f"/etc/systemd/system/{member('a')}.d/x.conf", "[Service]\nNice=5\n")

    assert shown(machine, member("a"), "NeedDaemonReload", "DropInPaths") == {
        "NeedDaemonReload": "yes",
        "DropInPaths": "",
    }
    systemctl(machine, "daemon-reload")
    assert shown(machine, member("a"), "NeedDaemonReload", "DropInPaths") == {
        "NeedDaemonReload": "no",
        "DropInPaths": f"/etc/systemd/system/{member('a')}.d/x.conf",
    }


def test_verify_complains_about_typos_and_missing_units(machine: SimMachine) -> None:
    put(machine, "/run/v/recon-x.service", "[Unit]\nAftr=a\nBindsTo=gone.service\n[Servcie]\nExecStart=/usr/bin/true\n")
    put(machine, "/run/v/recon-y.target", f"[Unit]\nBindsTo={gate('a')} recon-x.service\n")
    argv = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes"]
    env = {"SYSTEMD_UNIT_PATH": "/run/v:"}

    bad = machine.run([*argv, "/run/v/recon-x.service"], 5.0, env=env)

    assert (bad.rc, bad.err.decode().splitlines()) == (
        1,
        [
            "/run/v/recon-x.service: Unknown key 'Aftr' in section [Unit], ignoring.",
            "/run/v/recon-x.service: Unknown section 'Servcie'. Ignoring.",
            "recon-x.service: Service has no ExecStart=, ExecStop=, or SuccessAction=. Refusing.",
            "recon-x.service: Failed to load BindsTo unit gone.service: Unit gone.service not found.",
        ],
    )
    assert machine.run([*argv, "/run/v/recon-y.target"], 5.0, env=env)[:2] == (0, b"")


def test_a_gate_that_is_kept_from_closing_keeps_the_other_coven_out() -> None:
    machine = SimMachine.new("h-1")
    install(machine)
    assert systemctl(machine, "start", target("a")) == (0, "")
    set_fault(machine.state, "ignores-sigterm", member("a"))

    assert systemctl(machine, "start", "--no-block", target("b")) == (0, "")
    machine.sleep(0.1)
    assert active(machine, gate("a"), member("a"), gate("b")) == ["active", "deactivating", "inactive"]
    assert systemctl(machine, "start", "--no-block", member("a")) == (0, "")
    machine.sleep(60.0)

    assert active(machine, gate("a"), member("a"), gate("b"), member("b")) == [
        "active",
        "active",
        "inactive",
        "inactive",
    ]


def test_a_target_does_not_wait_for_what_it_wants_and_is_ordered_after_it(machine: SimMachine) -> None:
    put(machine, "/etc/systemd/system/t.target", "[Unit]\nWants=l.service\n")
    put(
        machine,
        "/etc/systemd/system/l.service",
        "[Unit]\nBindsTo=t.target\nAfter=t.target\n[Service]\nExecStart=/bin/l\n",
    )
    systemctl(machine, "daemon-reload")

    assert systemctl(machine, "start", "t.target") == (0, "")
    assert active(machine, "t.target", "l.service") == ["active", "active"]
