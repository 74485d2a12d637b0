"""A host where nothing of recon runs as root: plan, apply, a switch, a reboot, a rollback, in one user's manager."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reconciler.lab.labs import Lab
from reconciler.lab.machines import Machine
from tests.lab.test_events import FILE, SECRET, Receiver
from tests.lab.waits import until

USER = "solo"
HOME = f"/home/{USER}"
PLACE = "/srv/solo"
LIMITS = "limits: {memory: 256MiB, tasks: 64}"
RECON = str(Path(sys.executable).with_name("recon"))
STORAGE = """\
[storage]
driver = "vfs"
runroot = "{runtime}/containers"
graphroot = "/var/lib/containers/{user}"
"""
"""The kernel of a nested host has no overlays for users."""


OF_THE_SYSTEM = ("/etc/recon", "/var/lib/recon", "/run/recon", "/etc/containers/systemd/recon")


def lay_out(root: Path, source: Path) -> None:
    """Write a repository without covens and hosts, which logs in as the user."""
    for part in ("desired/covens", "desired/hosts", ".recon"):
        (root / part).mkdir(parents=True)
    for name in ("lab_key", "lab.json"):
        (root / ".recon" / name).write_bytes((source / ".recon" / name).read_bytes())
    (root / ".recon/lab_key").chmod(0o600)
    fleet = (source / "desired/fleet.yaml").read_text().replace("user: recon", f"user: {USER}")
    (root / "desired/fleet.yaml").write_text(fleet)


class World:
    """A lab host with a user who lingers, and a state repository that declares it `scope: user`."""

    def __init__(self, machine: Machine, lab: Lab, root: Path) -> None:
        self.machine = machine
        self.uid = int(self.as_root("id", "-u", USER))
        self.runtime = f"/run/user/{self.uid}"
        self.root = root
        source = lab.directory
        lay_out(root, source)
        image = self._image()
        for coven in ("reasoning", "vision"):
            text = (source / f"desired/covens/{coven}.yaml").read_text().replace(lab.base.image, image)
            (root / f"desired/covens/{coven}.yaml").write_text(text)
        self.declare("reasoning")

    def declare(self, coven: str) -> None:
        text = f"address: {self.machine.record.address}\nhost_key: {self.machine.host_key}\nscope: user\n"
        text += f"reserve: 2GiB\ncoven: {coven}\nmay_run: [reasoning, vision]\n"
        (self.root / "desired/hosts/lab-1.yaml").write_text(text)

    def as_root(self, *argv: str) -> str:
        return self.machine.run(list(argv)).stdout.decode().strip()

    def as_user(self, *argv: str) -> str:
        variables = [f"XDG_RUNTIME_DIR={self.runtime}", f"HOME={HOME}", "PATH=/usr/bin:/usr/sbin:/bin"]
        return self.as_root("runuser", "-u", USER, "--", "env", "-C", HOME, *variables, *argv)

    def _image(self) -> str:
        """Give the user the lab's image, as a pull from a registry would; its digest is another one there."""
        storage = STORAGE.format(runtime=self.runtime, user=USER)
        self.as_user("mkdir", "-p", f"{HOME}/.config/containers")
        self.machine.run(["tee", f"{HOME}/.config/containers/storage.conf"], stdin=storage.encode())
        self.as_root("sh", "-c", "podman save -q --format oci-archive -o /tmp/image.tar $(podman images -q | head -1)")
        self.as_root("chmod", "644", "/tmp/image.tar")
        self.as_user("podman", "load", "-q", "-i", "/tmp/image.tar")
        name = "localhost/recon-lab/model-server"
        self.as_user("sh", "-c", f"podman tag $(podman images -q | head -1) {name}:lab")
        return self.as_user("podman", "images", "--format", "{{.Repository}}@{{.Digest}}", name).split("\n")[0]

    def recon(self, *argv: str) -> tuple[int, str]:
        return recon(self.root, *argv)

    def status(self) -> dict[str, Any]:
        code, out = self.recon("status", "--output", "json")
        assert code == 0, out
        host: dict[str, Any] = json.loads(out)["hosts"]["lab-1"]
        return host

    def step(self) -> str:
        """Return the step of the executor that has the host, nothing when there is none."""
        try:
            text = self.machine.path(f"{self.runtime}/recon/lease.json").read_text()
        except FileNotFoundError:
            return ""
        return str(json.loads(text)["body"]["step"])

    def owners(self) -> set[str]:
        """Return who owns a process with anything of recon in its words, beside the login's own."""
        lines = self.as_root("ps", "-eo", "user:20,args").splitlines()
        beside = ("ps -eo", "sshd", "lab_gpud")
        return {line.split()[0] for line in lines if "recon" in line and not any(word in line for word in beside)}


@pytest.fixture
def login(machine: Machine) -> Iterator[Machine]:
    """A host on which a user may log in with a key, and no more."""
    machine.run(["useradd", "--create-home", "--shell", "/bin/bash", USER])
    machine.run(["install", "-d", "-m", "700", "-o", USER, "-g", USER, f"{HOME}/.ssh"])
    keys = ("/root/.ssh/authorized_keys", f"{HOME}/.ssh/authorized_keys")
    machine.run(["install", "-m", "600", "-o", USER, "-g", USER, *keys])
    machine.run(["install", "-d", "-o", USER, "-g", USER, f"/var/lib/containers/{USER}"])
    machine.run(["systemctl", "start", "network-online.target"])
    try:
        yield machine
    finally:
        machine.run(["loginctl", "disable-linger", USER], check=False)
        machine.run(["systemctl", "stop", "--", "user-*.slice"], check=False)
        machine.run(["userdel", "--remove", "--force", USER], check=False)
        machine.run(["rm", "-rf", PLACE])
        machine.run(["rm", "-rf", f"/var/lib/containers/{USER}", "/tmp/image.tar"])


@pytest.fixture
def world(login: Machine, lab: Lab, tmp_path: Path) -> World:
    login.run(["loginctl", "enable-linger", USER])
    return World(login, lab, tmp_path)


def test_a_host_is_enrolled_from_nothing_but_a_login_and_serves(login: Machine, lab: Lab, tmp_path: Path) -> None:
    login.run(["usermod", "--del-subuids", "0-4294967294", "--del-subgids", "0-4294967294", USER])
    fingerprint = login.run(["ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout.decode().split()[1]
    words = ["enroll", login.record.address, "--name", "lab-1", "--scope", "user", "--ssh-user", USER]
    words += ["--host-key", fingerprint]
    lay_out(tmp_path / "bare", lab.directory)

    refused = recon(tmp_path / "bare", *words)
    assert (refused[0], "REC7427" in refused[1]) == (3, True), refused
    for what in (
        f"on the host: loginctl enable-linger {USER}",
        f"as root on the host: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {USER}",
    ):
        assert what in refused[1]
    assert login.run(["find", HOME, "-name", "*recon*"]).stdout == b""
    assert not (tmp_path / "bare/desired/hosts/lab-1.yaml").exists()

    login.run(["usermod", "--add-subuids", "100000-165535", "--add-subgids", "100000-165535", USER])
    socket = f"{HOME}/.config/systemd/user/dbus.socket"
    login.run(["runuser", "-u", USER, "--", "mkdir", "-p", f"{HOME}/.config/systemd/user"])
    login.run(["ln", "-s", "/dev/null", socket])
    login.run(["loginctl", "enable-linger", USER])
    install = "apt install dbus-user-session; then as solo: systemctl --user start dbus.socket"
    until(lambda: install in recon(tmp_path / "bare", *words)[1])
    login.run(["rm", socket])
    login.run(["systemctl", "restart", f"user@{login.run(['id', '-u', USER]).stdout.decode().strip()}.service"])
    world = World(login, lab, tmp_path / "state")
    file = world.root / "desired/hosts/lab-1.yaml"
    file.unlink()

    code, out = world.recon(*words)
    assert code == 0, out
    assert f"proven: {USER} logs in and the agent runs in its own manager, without root" in out
    text = file.read_text()
    assert "\nscope: user " in text
    assert f"\nhost_key: {login.host_key}\n" in text
    assert world.recon("doctor", "--host", "lab-1")[0] == 0
    again = world.recon(*words)[1]
    assert ("kept desired/hosts/lab-1.yaml\n" in again, "made on the host" in again) == (True, False)

    file.write_text(text.replace("# coven: NAME", "coven: reasoning"))
    assert world.recon("plan", "--detailed-exitcode")[0] == 2
    applied = world.recon("apply", "--yes")
    assert applied[0] == 0, applied
    assert [place for place in OF_THE_SYSTEM if login.path(place).exists()] == []
    assert (world.owners(), login.run(["sudo", "-l", "-U", USER]).stdout.decode().find("NOPASSWD")) == ({USER}, -1)
    health = login.run(["curl", "-sf", "http://127.0.0.1:8001/health"], check=False)
    assert health.returncode == 0
    assert world.recon("plan", "--detailed-exitcode")[0] == 0


def test_a_host_is_moved_without_root_and_boots_what_was_committed(world: World) -> None:
    applied = world.recon("apply", "--yes")
    nothing = world.recon("plan", "--detailed-exitcode")
    world.declare("vision")
    switched = world.recon("apply", "--yes")

    assert (applied[0], nothing[0], switched[0]) == (0, 0, 0), (applied, nothing, switched)
    assert [place for place in OF_THE_SYSTEM if world.machine.path(place).exists()] == []
    assert world.owners() == {USER}
    assert "recon-vision-llama.service" in world.as_user("systemctl", "--user", "list-units", "--no-legend", "recon-*")

    world.machine.shut_down()
    world.machine.start()
    world.machine.wait_ready()
    world.machine.run(["systemctl", "start", "network-online.target"])
    until(lambda: world.recon("plan", "--detailed-exitcode")[0] == 0)

    assert world.owners() == {USER}
    back = world.recon("rollback", "lab-1", "--yes")
    assert back[0] == 0, back
    assert "runs reasoning" in back[1]


def test_what_the_user_ran_before_is_taken_over_by_his_own_manager(world: World) -> None:
    image = next(
        line.partition("image: ")[2]
        for line in (world.root / "desired/covens/reasoning.yaml").read_text().splitlines()
        if "image: " in line
    )
    quadlet = (
        f"[Container]\nImage={image}\nNetwork=host\nAddDevice=nvidia.com/gpu=all\nContainerName=chat\n"
        "Environment=LAB_GPU_BYTES=5368709120\nExec=--runtime generic --port 9002\n[Install]\nWantedBy=default.target\n"
    )
    place = f"{HOME}/.config/containers/systemd"
    world.as_user("mkdir", "-p", place)
    world.machine.run(["tee", f"{place}/chat.container"], stdin=quadlet.encode())
    world.as_user("systemctl", "--user", "daemon-reload")
    world.as_user("systemctl", "--user", "start", "chat.service")
    running = ("podman", "ps", "--format", "{{.Names}}")
    until(lambda: world.as_user(*running) == "chat")
    world.declare("vision")
    time.sleep(2.0)

    adopted = world.recon("adopt", "lab-1", "chat")
    assert adopted[0] == 0, adopted
    world.declare("chat")
    file = world.root / "desired/hosts/lab-1.yaml"
    file.write_text(file.read_text().replace("may_run: [reasoning, vision]", "may_run: [chat]"))
    plan = world.recon("plan", "--detailed-exitcode")
    applied = world.recon("apply", "--yes")

    assert (plan[0], "takes over chat.service: stopped, and kept from starting with the host" in plan[1]) == (2, True)
    assert applied[0] == 0, applied
    shown = world.as_user("systemctl", "--user", "show", "-P", "UnitFileState,ActiveState", "chat.service").split()
    assert shown == ["inactive", "masked"]
    assert world.as_user("systemctl", "--user", "is-active", "recon-chat-chat.service") == "active"
    assert world.recon("plan", "--detailed-exitcode")[0] == 0
    assert world.as_root("systemctl", "show", "-P", "LoadState", "recon-chat-chat.service") == "not-found"


def test_a_server_that_does_not_come_up_is_rolled_back_and_a_killed_executor_followed(world: World) -> None:
    coven = world.root / "desired/covens/vision.yaml"
    coven.write_text(coven.read_text().replace("warm: {timeout: 60s}", "warm: {timeout: 60s, attempts: 1}"))
    assert world.recon("apply", "--yes")[0] == 0
    world.declare("vision")
    world.machine.fault(8002, {"crash-at-start": True})
    failed = world.recon("apply", "--yes")
    world.machine.heal()
    apply = subprocess.Popen([RECON, "apply", "--yes"], cwd=world.root, stdout=subprocess.PIPE, text=True)
    try:
        until(lambda: world.step() == "warm")
        world.as_user("systemctl", "--user", "kill", "--signal=SIGKILL", "--kill-whom=main", "recon-executor.service")
    finally:
        out = apply.communicate(timeout=120)[0]

    assert (failed[0], "REC7105" in failed[1]) == (6, True), failed
    assert (apply.returncode, "REC7116" in out) == (6, True), out
    assert world.recon("apply", "--yes")[0] == 0
    assert world.recon("plan", "--detailed-exitcode")[0] == 0


def test_a_user_who_does_not_linger_is_refused(world: World) -> None:
    world.machine.run(["rm", f"/var/lib/systemd/linger/{USER}"])

    code, out = world.recon("plan")

    assert code == 3
    assert "REC7440" in out
    assert f"loginctl enable-linger {USER}" in out


def recon(root: Path, *argv: str) -> tuple[int, str]:
    done = subprocess.run([RECON, *argv], cwd=root, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


LOOP = f"""root: {PLACE}
units:
  worker: {{argv: [{PLACE}/worker], lane: gpu, {LIMITS}, stop: {{timeout: 5s}}}}
  feeder: {{argv: [{PLACE}/feeder], lane: cpu, producer: true, {LIMITS}, stop: {{timeout: 5s}}}}
jobs:
  refill: {{argv: [{PLACE}/refill], timeout: 1m, {LIMITS}}}
control: {{file: {PLACE}/control.json, keys: {{jobs_per_hour: limits.jobs_per_hour}}}}
convergence: {{file: {PLACE}/state.json, key: converged}}
backoff: {{gpu: 90%, memory: 99%, for: 1s, factor: 0.5, least: 0.1}}
reaper: {{paths: [{PLACE}/renders], keep: {{count: 2}}}}
"""
FOREVER = "while :; do sleep 1; done"
LOOPS = ["recon-spiral-feeder.service", "recon-spiral-worker.service"]


def declare_the_rest(world: World, begins: int, port: int) -> None:
    """Declare a loop, a webhook and a window, and put what they need on the host, all of it the user's."""
    machine, gateway = world.machine, world.machine.record.gateway
    machine.run(["install", "-d", "-o", USER, "-g", USER, PLACE, f"{PLACE}/renders"])
    for name, text in (("worker", FOREVER), ("feeder", FOREVER), ("refill", "echo filled up")):
        machine.run(["tee", f"{PLACE}/{name}"], stdin=f"#!/bin/sh\n{text}\n".encode())
        machine.run(["chmod", "755", f"{PLACE}/{name}"])
    world.as_user("sh", "-c", f'echo \'{{"prompt": "a river"}}\' > {PLACE}/control.json')
    secrets = f"{HOME}/.config/recon/secrets"
    world.as_user("mkdir", "-p", "-m", "700", secrets)
    world.as_user("sh", "-c", f"umask 077; echo {SECRET} > {secrets}/ops")
    workloads = world.root / "desired/workloads"
    workloads.mkdir()
    (workloads / "spiral.yaml").write_text(LOOP)
    edges = [f"{datetime.fromtimestamp(at, UTC):%H:%M}" for at in (begins, begins + 1800)]
    own = world.root / "desired/hosts/lab-1.yaml"
    own.write_text(
        own.read_text()
        + "spiral: {enabled: true, rate_caps: {jobs_per_hour: 12}}\n"
        + f'schedule: [{{coven: vision, from: "{edges[0]}", to: "{edges[1]}", timezone: UTC}}]\n'
        + f"events: {{webhooks: {{ops: {{url: 'http://{gateway}:{port}/x', secret_file: {FILE}, timeout: 3s}}}}}}\n"
    )


def loops_up(world: World) -> list[str]:
    shown = world.as_user("systemctl", "--user", "show", "-P", "ActiveState", *LOOPS).split()
    return [unit for unit, state in zip(LOOPS, shown, strict=True) if state == "active"]


def test_loop_locks_webhooks_and_schedule_work_without_root(world: World) -> None:
    receiver = Receiver(world.machine.record.gateway)
    begins = int((time.time() + 50) // 60 + 1) * 60
    try:
        declare_the_rest(world, begins, receiver.port)
        applied = world.recon("apply", "--yes")
        assert applied[0] == 0, applied
        until(lambda: loops_up(world) == LOOPS)
        assert world.recon("plan", "--detailed-exitcode")[0] == 0, world.recon("plan")
        until(lambda: [kind for kind, _ in receiver.told()] == ["transition.started", "transition.completed"])
        backs_off_and_reaps(world)
        takes_down_and_up(world)
        switches_by_the_clock(world, begins)
        is_locked(world)
        until(lambda: [kind for kind, _ in receiver.told()].count("transition.completed") >= 3)
        assert receiver.forged == []
        assert [place for place in OF_THE_SYSTEM if world.machine.path(place).exists()] == []
        assert world.owners() == {USER}
    finally:
        receiver.stop()


def backs_off_and_reaps(world: World) -> None:
    """The tick of the user's own timer lowers the caps; a job runs; the reaper takes the oldest files away."""

    def cap() -> int:
        world.as_user("systemctl", "--user", "reset-failed", "recon-spiral.service")
        world.as_user("systemctl", "--user", "start", "recon-spiral.service")
        document = json.loads(world.machine.path(f"{PLACE}/control.json").read_text())
        assert document["prompt"] == "a river"
        return int(document["limits"]["jobs_per_hour"])

    assert cap() == 12
    world.machine.gpu({"faults": {"extra": {"gpu.0.util": "97 10"}}})
    until(lambda: cap() < 12)
    status = world.recon("status")[1]
    assert "spiral backs off to 0." in status, status
    world.machine.gpu({"faults": {"extra": {"gpu.0.util": "1 1"}}})
    until(lambda: cap() == 12)
    # The journal of a lab host is in memory, where lines of users lie in the system's file, and only a group reads it.
    ran, logs = world.recon("run", "lab-1", "refill"), world.recon("logs", "lab-1", "refill")
    assert (ran[0], "its lines cannot be shown" in ran[1]) == (0, True), ran
    assert (logs[0], f"usermod --append --groups systemd-journal {USER}" in logs[1]) == (1, True), logs
    world.as_root("usermod", "--append", "--groups", "systemd-journal", USER)
    ran, logs = world.recon("run", "lab-1", "refill"), world.recon("logs", "lab-1", "refill")
    assert (ran[0], logs[0], "filled up" in ran[1], "filled up" in logs[1]) == (0, 0, True, True), (ran, logs)
    for age in (9, 8, 7):
        world.as_user("touch", "-d", f"{age} days ago", f"{PLACE}/renders/{age}")
    dry, done = world.recon("reap"), world.recon("reap", "--go")
    left = sorted(each.name for each in world.machine.path(f"{PLACE}/renders").iterdir())
    assert (dry[0], done[0], left) == (0, 0, ["7", "8"]), (dry, done)


def takes_down_and_up(world: World) -> None:
    """What a person took down stays down whoever starts it, and comes back when that is lifted."""
    down = world.recon("down", "spiral", "--host", "lab-1", "--reason", "a look")
    assert (down[0], loops_up(world)) == (0, []), down
    world.as_user("systemctl", "--user", "start", *LOOPS, "recon-spiral.target")
    assert loops_up(world) == []
    assert "spiral is down by" in world.recon("status")[1]
    up = world.recon("up", "spiral", "--host", "lab-1", "--reason", "seen")
    assert up[0] == 0, up
    until(lambda: loops_up(world) == LOOPS)


def switches_by_the_clock(world: World, begins: int) -> None:
    """The user's timer begins the window at its minute, with no controller around, and the loop comes back."""
    time.sleep(max(0.0, begins - time.time()))

    def last() -> dict[str, Any]:
        found: dict[str, Any] = world.status()["executor"]["last"].get("value") or {}
        return found

    until(lambda: (last().get("owner"), last().get("state")) == ("schedule", "applied"), 90.0)
    assert last()["live"] == {"all": "vision"}
    until(lambda: world.recon("plan", "--detailed-exitcode")[0] == 0)
    assert "recon-vision-llama.service" in world.as_user("systemctl", "--user", "list-units", "--no-legend", "recon-*")
    history = world.recon("history", "lab-1")[1]
    assert "all reasoning → vision" in history, history
    until(lambda: loops_up(world) == LOOPS)


def is_locked(world: World) -> None:
    """A lock keeps others out, and lets its token pass."""
    taken = world.recon("lock", "acquire", "lab-1", "--ttl", "30m", "--owner", "ann", "--reason", "measuring")
    assert taken[0] == 0, taken
    token = taken[1].strip().splitlines()[0]
    host = world.root / "desired/hosts/lab-1.yaml"
    host.write_text(re.sub(r"(?m)^schedule:.*\n", "", host.read_text()))
    without = world.recon("apply", "--yes")
    assert without[0] == 4, without
    passed = world.recon("apply", "--yes", "--lock-token", token)
    assert passed[0] == 0, passed
    assert world.recon("lock", "release", "lab-1", "--token", token)[0] == 0
