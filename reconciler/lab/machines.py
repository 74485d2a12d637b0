"""One lab host: its disk, its network, its life, and a way in that needs no SSH.

A host is a control group. Everything it is made of (nspawn, its own init, all it started) lies in there, and its mounts
in a private namespace; so killing the group removes the host whatever state it was in.

Must not: know the registry or a state repository.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.errors import Problem
from reconciler.lab import gpus
from reconciler.lab.base import Base
from reconciler.lab.image import STORE_ON_HOST
from reconciler.lab.registry import HostRecord
from reconciler.lab.tools import LabError, launch_argv, make_directory, run_tool, write_file

BOOT_TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True)
class Machine:
    """One lab host on this computer, running or not."""

    record: HostRecord
    base: Base

    # -- before the first boot -------------------------------------------------------------------------------------

    def prepare(self, *, gpu: gpus.GpuKind, gpus_per_host: int, public_key: str) -> None:
        """Make the host's disk: identity, network, keys and GPUs are files before anything runs."""
        disk = Path(self.record.disk)
        upper = disk / "upper"
        for place in (upper, disk / "work", disk / "root", disk / "containers"):
            make_directory(place)
        network = f"[Match]\nName=host0\n[Network]\nAddress={self.record.address}/30\n"
        files: dict[str, str | bytes] = {
            "etc/hostname": self.record.name + "\n",
            "etc/hosts": f"127.0.0.1 localhost {self.record.name}\n::1 localhost\n",
            "etc/machine-id": os.urandom(16).hex() + "\n",
            "etc/systemd/network/10-host0.network": network + "LinkLocalAddressing=no\nIPv6AcceptRA=no\n",
            "etc/lab-gpu.json": gpus.daemon_config(gpu, host_index=self.record.index, count=gpus_per_host),
            "etc/cdi/nvidia.yaml": gpus.cdi_spec(host_index=self.record.index, count=gpus_per_host),
        }
        for name, text in files.items():
            write_file(upper / name, text)
        for home, owner in (("root", 0), ("home/recon", 1000)):
            _authorize(upper / home, public_key, owner)
        key = upper / "etc/ssh/ssh_host_ed25519_key"
        make_directory(key.parent)
        run_tool(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.record.name, "-f", str(key)])

    @property
    def host_key(self) -> str:
        """Return the public host key as `ssh-ed25519 AAAA…`, read from the disk and not over the network."""
        text = (Path(self.record.disk) / "upper/etc/ssh/ssh_host_ed25519_key.pub").read_text(encoding="ascii")
        return " ".join(text.split()[:2])

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the host; `wait_ready` says when it can be used."""
        disk, cgroup = Path(self.record.disk), Path(self.record.cgroup)
        lower = ":".join(str(layer) for layer in self.base.layers)
        overlay = ("--overlay", lower, str(disk / "upper"), str(disk / "work"), str(disk / "root"))
        cgroup.mkdir(exist_ok=True)
        # /run/systemd is covered for nspawn alone, so that its lock files do not outlive it.
        options = ("--cgroup", str(cgroup), "--detach", str(disk / "console.log"), *overlay, "--tmpfs", "/run/systemd")
        run_tool(launch_argv(self._nspawn(), *options), what="systemd-nspawn")
        self._connect()

    def _nspawn(self) -> list[str]:
        disk, veth = Path(self.record.disk), self.record.veth
        argv = [
            "env",
            "-i",
            "LC_ALL=C.UTF-8",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1",
        ]
        argv += ["systemd-nspawn", "--quiet", "--boot", f"--directory={disk / 'root'}"]
        argv += [f"--machine={veth}", f"--hostname={self.record.name}", f"--network-veth-extra={veth}:host0"]
        argv += ["--register=no", "--keep-unit", "--settings=no", "--resolv-conf=off", "--timezone=off"]
        # There is one clock for all: `date --set` on a lab host must not set that of the computer it runs on.
        argv += ["--link-journal=no", "--console=read-only", "--capability=all", "--drop-capability=CAP_SYS_TIME"]
        argv += ["--system-call-filter=add_key keyctl bpf"]
        # podman's overlays cannot lie on the host's own: its store is a plain directory, and the shared one too.
        argv += [f"--bind={disk / 'containers'}:/var/lib/containers"]
        return [*argv, f"--bind-ro={self.base.image_store}:{STORE_ON_HOST}"]

    def _connect(self) -> None:
        """Give our end of the host's cable its address; nspawn makes the cable a moment after it starts."""
        deadline = time.monotonic() + 20
        while not Path(f"/sys/class/net/{self.record.veth}").exists():
            if time.monotonic() > deadline or not self._is_populated():
                raise self._failed("its network cable never appeared")
            time.sleep(0.02)
        run_tool(["ip", "address", "replace", f"{self.record.gateway}/30", "dev", self.record.veth])
        run_tool(["ip", "link", "set", self.record.veth, "up"])

    def wait_ready(self) -> None:
        """Wait until the host has finished booting and its SSH server greets."""
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while not self._greets():
            if time.monotonic() > deadline or not self._is_populated():
                raise self._failed("its SSH server never answered")
            time.sleep(0.05)
        state = self.run(["systemctl", "is-system-running", "--wait"], check=False).stdout.decode().strip()
        if state != "running":
            units = self.run(["systemctl", "--failed", "--plain", "--no-legend"], check=False).stdout.decode().strip()
            raise self._failed(f"systemd says {state}: {units}")

    def _greets(self) -> bool:
        try:
            with socket.create_connection((self.record.address, 22), timeout=1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    @property
    def is_running(self) -> bool:
        """Say whether the host has an init."""
        return self._leader() is not None

    def kill(self) -> None:
        """Cut the power: every process of the host dies at once."""
        cgroup = Path(self.record.cgroup)
        with contextlib.suppress(FileNotFoundError):
            (cgroup / "cgroup.kill").write_text("1")
        deadline = time.monotonic() + 30
        while self._is_populated():
            if time.monotonic() > deadline:
                raise self._failed("its processes do not end")
            time.sleep(0.02)
        # A group that was killed once must not be used again: Linux 6.18 kills what is cloned into it for ever after.
        for group in _hierarchies(cgroup):
            _remove_cgroup(group)
        _wait_gone(Path(f"/sys/class/net/{self.record.veth}"))

    def shut_down(self, *, timeout_s: float = 60.0) -> None:
        """Let the host end in order, as `poweroff` does; its disk stays."""
        self.run(["systemctl", "poweroff", "--no-block"], check=False)
        deadline = time.monotonic() + timeout_s
        while self._is_populated() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.kill()

    def remove(self) -> None:
        """Leave nothing of the host; works on a host that is half made, running, or gone already."""
        self.kill()
        shutil.rmtree(self.record.disk, ignore_errors=True)

    # -- a way in --------------------------------------------------------------------------------------------------

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Run a command on the host as root, without SSH; LabError when it fails and `check` is set."""
        leader = self._leader()
        if leader is None:
            raise self._failed("it is not running")
        inside = [
            "setpriv",
            "--bounding-set=-sys_time",
            "nsenter",
            "--target",
            str(leader),
            "--all",
            "--root",
            "--wd",
            "--",
            "/usr/bin/env",
            "-i",
            *_ENV,
            *argv,
        ]
        command = launch_argv(inside, "--cgroup", str(self._inner_cgroup()))
        done = subprocess.run(command, input=stdin, capture_output=True, check=False)
        if check and done.returncode != 0:
            tail = done.stderr.decode("utf-8", "replace").strip()[-2000:]
            raise self._failed(f"`{' '.join(argv)}` ended with {done.returncode}: {tail}")
        return done

    def gpu(self, request: Mapping[str, object]) -> dict[str, Any]:
        """Steer the GPU daemon of the host, or ask it; `Gpud.control` in hostfiles/lab_gpud.py says what it takes."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(30)
            client.connect(str(self.path("/run/lab-gpud/control.sock")))
            client.sendall(json.dumps(request).encode() + b"\n")
            reply: dict[str, Any] = json.loads(client.makefile().readline())
        if "error" in reply:
            raise self._failed(f"the GPU daemon refused {request}: {reply['error']}")
        return reply

    def fault(self, port: int, faults: Mapping[str, float | bool]) -> None:
        """Make the model server on a port of the host misbehave from now on; an empty mapping ends that."""
        self.path(f"/run/lab-gpu/faults/{port}.json").write_text(json.dumps(dict(faults)), encoding="ascii")

    def heal(self) -> None:
        """End every fault of the host's GPUs and model servers."""
        for path in self.path("/run/lab-gpu/faults").glob("*.json"):
            path.unlink()
        self.gpu({"reset": True})

    def path(self, inside: str) -> Path:
        """Return where a file of the running host can be read and written from here."""
        leader = self._leader()
        if leader is None:
            raise self._failed("it is not running")
        return Path(f"/proc/{leader}/root") / inside.lstrip("/")

    def _leader(self) -> int | None:
        """Return the process here that is process 1 there."""
        for pid in _pids(Path(self.record.cgroup) / "payload/init.scope"):
            return pid
        return None

    def _inner_cgroup(self) -> Path:
        """Return a group inside the host's own tree, so that what runs in it counts as the host's."""
        group = Path(self.record.cgroup) / "payload/lab.scope"
        group.mkdir(exist_ok=True)
        return group

    def _is_populated(self) -> bool:
        """Say whether any process of the host lives; the kernel keeps count of the whole group."""
        try:
            return "populated 1" in (Path(self.record.cgroup) / "cgroup.events").read_text(encoding="ascii")
        except OSError:
            return False

    def _failed(self, what: str) -> LabError:
        log = Path(self.record.disk) / "console.log"
        last = log.read_text(encoding="utf-8", errors="replace")[-1500:] if log.exists() else ""
        detail = f"{what}\n{last}".strip()
        return LabError(Problem("REC0905", f"lab host {self.record.name} failed", detail, "recon lab status"))


_ENV = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LANG=C.UTF-8")


def _authorize(home: Path, public_key: str, owner: int) -> None:
    write_file(home / ".ssh/authorized_keys", public_key)
    for path in (home, home / ".ssh", home / ".ssh/authorized_keys"):
        os.chown(path, owner, owner)
        path.chmod(0o600 if path.is_file() else 0o700)


def _pids(group: Path) -> list[int]:
    try:
        return [int(line) for line in (group / "cgroup.procs").read_text(encoding="ascii").split()]
    except (FileNotFoundError, OSError):
        return []


def _hierarchies(cgroup: Path) -> list[Path]:
    """Return the group in every hierarchy it may be in: nspawn mirrors it in the named v1 one on a hybrid system."""
    mirror = Path("/sys/fs/cgroup/systemd") / cgroup.name
    return [cgroup, mirror]


def _remove_cgroup(top: Path) -> None:
    """Remove a control group and all below; the kernel needs a moment after the last process."""
    for _attempt in range(100):
        for group, _below, _files in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                Path(group).rmdir()
        if not top.exists():
            return
        time.sleep(0.02)


def _wait_gone(path: Path) -> None:
    deadline = time.monotonic() + 10
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
