"""A whole lab: several hosts that come up together, go down together, and leave nothing.

    with labs.running(directory, hosts=3) as lab:        # for tests: ends with the process, whatever happens
        lab.machine("lab-1").run(["podman", "ps"])

Must not: write a state repository (`scaffold` does), print.
"""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from reconciler.errors import Problem
from reconciler.lab import base as bases
from reconciler.lab import registry, tools
from reconciler.lab.gpus import GpuKind
from reconciler.lab.machines import Machine
from reconciler.lab.tools import LabError, run_tool

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab on this computer and its machines."""

    record: registry.LabRecord

    @property
    def base(self) -> bases.Base:
        return self.record.base

    @property
    def directory(self) -> Path:
        return Path(self.record.directory)

    @property
    def key(self) -> Path:
        """Return the private SSH key that opens every host of this lab."""
        return self.directory / ".recon" / "lab_key"

    @property
    def machines(self) -> tuple[Machine, ...]:
        return tuple(Machine(record, self.base) for record in self.record.hosts)

    def machine(self, name: str) -> Machine:
        """Return the machine of that name; LabError names those there are."""
        for machine in self.machines:
            if machine.record.name == name:
                return machine
        known = ", ".join(host.name for host in self.record.hosts)
        raise LabError(Problem("REC0906", f"the lab has no host '{name}'", f"it has {known}", "recon lab status"))

    def ssh_argv(self, name: str, command: tuple[str, ...] = (), *, user: str = "recon") -> list[str]:
        """Return the argv that opens SSH to a host with its key pinned, as an operator's own client would."""
        machine = self.machine(name)
        known = self.directory / ".recon" / "lab_known_hosts"
        lines = [f"{item.record.address} {item.host_key}\n" for item in self.machines]
        known.write_text("".join(lines), encoding="ascii")
        options = ("StrictHostKeyChecking=yes", f"UserKnownHostsFile={known}", "IdentitiesOnly=yes", "LogLevel=ERROR")
        argv = ["ssh", "-i", str(self.key)]
        for option in options:
            argv += ["-o", option]
        # SSH hands the far shell one string: quoted here, so that the words arrive as they are.
        return [*argv, "--", f"{user}@{machine.record.address}", *([shlex.join(command)] if command else [])]

    def release(self) -> Lab:
        """Let the lab outlive this process."""
        return Lab(registry.release(self.record))

    def down(self) -> None:
        """Remove every host; nothing of the lab is left but the directory's own files."""
        _remove(self.record)


def up(
    directory: Path,
    *,
    hosts: int,
    gpu: GpuKind = "h200",
    gpus_per_host: int = 1,
    progress: Progress = lambda _text: None,
) -> Lab:
    """Boot a lab that belongs to this process until `release`; on any failure it is gone again.

    Raises:
        LabUnavailableError: this computer cannot hold lab hosts.
        LabError: there is a lab for this directory already, or a host did not come up.
    """
    tools.check()
    _remove_abandoned(progress)
    directory = directory.resolve()
    if registry.of_directory(directory):
        fix = f"recon lab down --dir {directory}"
        raise LabError(Problem("REC0907", "there is a lab for this directory already", str(directory), fix))
    base = bases.ensure(progress)
    (directory / ".recon").mkdir(parents=True, exist_ok=True)
    root = tools.cgroup_root()
    if root is None:
        raise tools.LabUnavailableError("no cgroup v2 hierarchy", "mount cgroup2")
    record = registry.claim(directory, gpu=gpu, gpus_per_host=gpus_per_host, base=base, cgroups=root, hosts=hosts)
    lab = Lab(record)
    try:
        _make_key(lab.key)
        progress(f"booting {hosts} host{'s' if hosts > 1 else ''} as lab {record.id}")
        _boot(lab, progress)
    except BaseException:
        lab.down()
        raise
    return lab


def _boot(lab: Lab, progress: Progress) -> None:
    public_key = lab.key.with_suffix(".pub").read_text(encoding="ascii")
    gpu, count = lab.record.gpu, lab.record.gpus_per_host

    def boot(machine: Machine) -> None:
        machine.prepare(gpu=gpu, gpus_per_host=count, public_key=public_key)
        machine.start()
        machine.wait_ready()
        progress(f"{machine.record.name} is up at {machine.record.address}")

    each(lab.machines, boot)


def each(machines: tuple[Machine, ...], act: Callable[[Machine], None]) -> None:
    """Do the same to all machines at once; the first failure is raised when all have ended."""
    with ThreadPoolExecutor(max_workers=max(1, len(machines))) as pool:
        for done in [pool.submit(act, machine) for machine in machines]:
            done.result()


def _make_key(key: Path) -> None:
    for path in (key, key.with_suffix(".pub")):
        path.unlink(missing_ok=True)
    run_tool(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "recon lab", "-f", str(key)])


def open_lab(directory: Path) -> Lab:
    """Return the lab that belongs to a state repository; LabError when there is none."""
    record = registry.of_directory(directory)
    if record is None or record.machine_boot != registry.boot_id():
        fix = f"recon lab up --dir {directory}"
        raise LabError(Problem("REC0908", "no lab is running for this directory", str(directory), fix))
    return Lab(record)


def down(directory: Path) -> bool:
    """Remove the lab of a state repository; False when there was none. Doing it twice is no error."""
    record = registry.of_directory(directory)
    if record is None:
        return False
    _remove(record)
    return True


def gc(progress: Progress) -> int:
    """Remove labs whose process died or whose directory is gone, and old layers; returns how many labs there were."""
    count = _remove_abandoned(progress)
    bases.prune(record.base for record in registry.everything())
    return count


def _remove_abandoned(progress: Progress) -> int:
    if not any(record.is_abandoned for record in registry.everything()):
        return 0
    abandoned = registry.take_over()
    for record in abandoned:
        progress(f"removing lab {record.id}, left behind for {record.directory}")
        _remove(record)
    return len(abandoned)


def listing() -> list[dict[str, Any]]:
    """Return every lab on this computer as plain data, for people and programs."""
    return [
        {
            "id": record.id,
            "directory": record.directory,
            "gpu": record.gpu,
            "owner": record.owner.pid if record.owner else None,
            "abandoned": record.is_abandoned,
            "hosts": [
                {"name": host.name, "address": host.address, "running": Machine(host, record.base).is_running}
                for host in record.hosts
            ],
        }
        for record in registry.everything()
    ]


def _remove(record: registry.LabRecord) -> None:
    """Take every host of a lab away, then its record: in this order, so that a crash in between is found again."""
    machines = tuple(Machine(host, record.base) for host in record.hosts)
    each(machines, Machine.remove)
    with suppress(OSError):
        Path(record.hosts[0].disk).parent.rmdir()
        Path(record.hosts[0].disk).parent.parent.rmdir()
    registry.forget(record)


@contextmanager
def running(
    directory: Path,
    *,
    hosts: int,
    gpu: GpuKind = "h200",
    gpus_per_host: int = 1,
    progress: Progress = lambda _text: None,
) -> Iterator[Lab]:
    """Hold a lab for the length of a block; SIGTERM and Ctrl-C end the block first."""
    with interruptible():
        lab = up(directory, hosts=hosts, gpu=gpu, gpus_per_host=gpus_per_host, progress=progress)
        try:
            yield lab
        finally:
            lab.down()


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt, so that `finally` runs; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
