"""A real machine that was never a host: enrolled as root, planned and applied as the new account, looked at without any
privilege, named in what it lacks, and its own services adopted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.app import run
from reconciler.lab import labs, scaffold
from reconciler.lab.labs import Lab
from reconciler.lab.machines import Machine
from reconciler.load.fleet import load_fleet
from tests.lab.conftest import clean, progress

RULE = b"recon ALL=(root) NOPASSWD: /usr/bin/python3"


@dataclass
class Fresh:
    """One machine without an account or rule of recon's, and a repository without hosts."""

    root: Path
    lab: Lab
    machine: Machine
    capsys: pytest.CaptureFixture[str]

    def recon(self, *words: str) -> tuple[int, str, str]:
        code = run(["-C", str(self.root), *words])
        told = self.capsys.readouterr()
        return code, told.out, told.err

    def enroll(self, *words: str, name: str = "h-1") -> tuple[int, str, str]:
        address = self.machine.record.address
        return self.recon("enroll", address, "--name", name, "--host-key", self.fingerprint, *words)

    @property
    def fingerprint(self) -> str:
        done = self.machine.run(["ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub"])
        return done.stdout.decode().split()[1]

    @property
    def file(self) -> Path:
        return self.root / "desired/hosts/h-1.yaml"

    def settle(self) -> None:
        """Wait until the executor, and a first look of the watchdog, have left: a plan says so while they are there."""
        # Not is-active: the watchdog is a oneshot, which runs while it is "activating".
        units = "recon-executor.service recon-watchdog.service"
        self.shell(f"while systemctl show -P ActiveState {units} | grep -qE '^active|ing$'; do sleep 0.1; done")

    def shell(self, text: str) -> bytes:
        return self.machine.run(["sh", "-ec", text]).stdout


@pytest.fixture(scope="module")
def one(lab_ready: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with labs.running(tmp_path_factory.mktemp("enroll"), hosts=1, progress=progress) as booted:
        scaffold.write(booted)
        yield booted


@pytest.fixture
def fresh(one: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Fresh]:
    machine = one.machine("lab-1")
    root = tmp_path / "state"
    shutil.copytree(one.directory / "desired/covens", root / "desired/covens")
    shutil.copytree(one.directory / "schema", root / "schema")
    text = (one.directory / "desired/fleet.yaml").read_text().replace(".recon/lab_key", str(one.key))
    (root / "desired/fleet.yaml").write_text(text)
    forget(machine)
    yield Fresh(root, one, machine, capsys)
    forget(machine)


def forget(machine: Machine) -> None:
    clean(machine)
    machine.run(["sh", "-c", "pkill -KILL -u recon; userdel -rf recon; rm -f /etc/sudoers.d/recon*"], check=False)


def test_a_bare_machine_becomes_a_host_that_is_planned_applied_and_well(fresh: Fresh) -> None:
    code, out, _ = fresh.enroll("--user", "recon", "--check")
    assert (code, fresh.file.exists()) == (0, False)
    assert "would make on the host: the account recon\n" in out
    assert fresh.machine.run(["id", "recon"], check=False).returncode == 1
    assert fresh.shell("ls -d /var/lib/recon /etc/sudoers.d/recon || true") == b""

    code, out, told = fresh.enroll("--user", "recon")
    assert (code, out.splitlines()[-2]) == (0, "wrote desired/hosts/h-1.yaml")
    assert told.splitlines()[-1] == "proven: recon logs in and the agent runs as root"
    assert (
        fresh.shell("stat -c '%a %U' /etc/sudoers.d/recon; tail -n 1 /etc/sudoers.d/recon")
        == b"440 root\n" + RULE + b"\n"
    )
    assert fresh.shell("visudo -c >/dev/null; stat -c '%a %U' ~recon/.ssh ~recon/.ssh/authorized_keys") == (
        b"700 recon\n600 recon\n"
    )
    host = load_fleet(fresh.root).hosts["h-1"]
    assert (host.host_key, host.ssh.user, host.slots[0].coven) == (fresh.machine.host_key, "recon", None)

    account = fresh.shell("getent passwd recon; cat ~recon/.ssh/authorized_keys; find /var/lib/recon -type f | sort")
    code, out, told = fresh.enroll("--user", "recon")
    assert (code, out.splitlines()[-2]) == (0, "kept desired/hosts/h-1.yaml")
    assert "made on the host" not in told
    assert (
        fresh.shell("getent passwd recon; cat ~recon/.ssh/authorized_keys; find /var/lib/recon -type f | sort")
        == account
    )

    fresh.file.write_text(fresh.file.read_text().replace("# coven: NAME", "coven: reasoning"))
    assert fresh.recon("plan", "--detailed-exitcode")[0] == 2
    assert fresh.recon("apply", "--yes")[0] == 0
    fresh.settle()
    assert fresh.recon("plan", "--detailed-exitcode")[0] == 0
    code, out, _ = fresh.recon("doctor", "-o", "json")
    checks = json.loads(out)["hosts"]["h-1"]["checks"]
    assert (code, {check["name"] for check in checks if check["verdict"] != "ok"}) == (0, {"clock"})


def test_a_key_that_changed_is_refused_after_the_enrolment(fresh: Fresh) -> None:
    assert fresh.enroll("--user", "recon")[0] == 0
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFXkceiiL/U652d2dHK+sleAlx2eVwrktSWx48kLwGkA"
    fresh.file.write_text(fresh.file.read_text().replace(fresh.machine.host_key, other))

    code, out, _ = fresh.recon("doctor")

    assert (code, "[REC6002] the host's key is not the known one" in out) == (8, True)


def test_what_is_broken_is_named_and_nothing_is_changed(fresh: Fresh) -> None:
    fresh.shell("mv /etc/cdi/nvidia.yaml /etc/cdi/kept; mv /usr/bin/podman /usr/bin/kept-podman")
    fresh.shell("mkdir -p /var/lib/containers/storage; mount -t tmpfs -o size=16m small /var/lib/containers/storage")
    try:
        code, out, told = fresh.enroll("--user", "recon")
    finally:
        fresh.shell("umount /var/lib/containers/storage; mv /usr/bin/kept-podman /usr/bin/podman")
        fresh.shell("mv /etc/cdi/kept /etc/cdi/nvidia.yaml")

    assert (code, "error[REC7427]" in told, "podman, cdi, disk failed" in told) == (3, True, True)
    lines = out.splitlines()
    failed = {
        lines[at].split()[1]: lines[at + 1].strip() for at in range(len(lines)) if lines[at].startswith("  failed")
    }
    assert failed == {
        "podman": "apt install podman crun",
        "cdi": "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
        "disk": "podman image prune --all",
    }
    assert fresh.machine.run(["id", "recon"], check=False).returncode == 1
    assert (fresh.file.exists(), fresh.shell("ls -d /var/lib/recon || true")) == (False, b"")


def test_a_rule_of_somebody_else_is_refused_before_anything_is_made(fresh: Fresh) -> None:
    fresh.shell("echo 'recon ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/recon")

    code, _, told = fresh.enroll("--user", "recon")

    assert (code, "error[REC7425]" in told) == (3, True)
    assert fresh.machine.run(["id", "recon"], check=False).returncode == 1
    assert fresh.shell("cat /etc/sudoers.d/recon") == b"recon ALL=(ALL) NOPASSWD: ALL\n"


def test_a_login_without_privilege_looks_and_changes_nothing(fresh: Fresh) -> None:
    assert fresh.enroll("--user", "recon")[0] == 0
    fresh.file.write_text(fresh.file.read_text().replace("# coven: NAME", "coven: reasoning"))
    assert fresh.recon("apply", "--yes")[0] == 0
    fresh.settle()
    fresh.shell("rm /etc/sudoers.d/recon")

    code, out, _ = fresh.recon("doctor")
    assert (code, "  warning privilege    recon may not become root" in out) == (0, True)
    code, out, _ = fresh.recon("status", "-o", "json")
    state: dict[str, Any] = json.loads(out)["hosts"]["h-1"]
    assert (code, state["agent"]["mode"], state["damaged"]) == (0, "installed", [])
    assert state["notes"][-1].startswith("looked at without root")
    fresh.shell("chmod 0755 /run/containers")
    code, out, _ = fresh.recon("plan")
    assert "unknown which configuration recon-reasoning-vllm.service runs" in out
    assert (code, out) == (8, out)
    fresh.shell("chmod 0700 /run/containers")
    code, out, _ = fresh.recon("plan")
    assert (code, "[REC8008] managed files of h-1 are unknown" in out, "by hand" in out) == (3, True, False)
    assert fresh.recon("apply", "--yes")[0] == 3
    assert fresh.shell("systemctl is-active recon-reasoning-vllm.service") == b"active\n"


def test_what_runs_already_is_adopted_and_then_taken_over(fresh: Fresh) -> None:
    assert fresh.enroll("--user", "recon")[0] == 0
    image = fresh.lab.base.image
    quadlet = (
        f"[Container]\nImage={image}\nNetwork=host\nAddDevice=nvidia.com/gpu=all\nContainerName=embed\n"
        "Environment=LAB_GPU_BYTES=5368709120\nEnvironment=API_TOKEN=hidden\nExec=--runtime generic --port 9002\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
    fresh.machine.path("/etc/containers/systemd/embed.container").write_text(quadlet)
    try:
        fresh.shell("systemctl daemon-reload; systemctl start embed.service; sleep 2")
        code, out, _ = fresh.recon("adopt", "h-1")
        written = (fresh.root / "desired/covens/embed.yaml").read_text()

        assert code == 0
        assert out.splitlines()[0] == "embed: quadlet, embed.service, 5GiB, starts with the host"
        assert "  left out embed: API_TOKEN looks like a secret: its value stayed on the host; put it in a file" in out
        assert "hidden" not in out + written
        assert f'    image: "{image}"\n    memory: 5GiB\n' in written
        assert (
            '    args: ["--runtime", "generic", "--port", "9002"]\n    env: {"LAB_GPU_BYTES": "5368709120"}\n'
            in written
        )
        fresh.file.write_text(fresh.file.read_text().replace("# coven: NAME", "coven: embed"))
        assert fresh.recon("validate")[0] == 0
        assert fresh.recon("apply", "--yes")[0] == 0
        assert fresh.shell("systemctl is-enabled embed.service || true") == b"masked\n"
        assert fresh.shell("systemctl is-active recon-embed-embed.service") == b"active\n"
    finally:
        fresh.shell("systemctl stop embed.service || true; systemctl unmask embed.service; podman rm -f embed || true")
        fresh.shell("rm -f /etc/containers/systemd/embed.container; systemctl daemon-reload")
