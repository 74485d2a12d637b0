"""What this computer needs before it can hold lab hosts, and how the lab runs its tools.

Must not: install anything, start a host.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from reconciler.errors import Problem, ReconError

PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "cc": "gcc",
    "/usr/include/stdio.h": "libc6-dev",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "git": "git",
}
"""Command or file to the Debian package that brings it; all are in Debian 12 main."""

_LAUNCH = Path(__file__).with_name("launch.py")


class LabError(ReconError):
    """The lab could not do what was asked; the computer is as it was before."""


class LabUnavailableError(LabError):
    """This computer cannot hold lab hosts; the one-line reason is in `reason`."""

    def __init__(self, reason: str, fix: str) -> None:
        self.reason = f"lab unavailable: {reason}" + (f"; {fix}" if fix else "")
        super().__init__(
            Problem(code="REC0901", summary="this computer cannot run the lab", detail=reason, fix=fix),
        )


def cache_dir() -> Path:
    """Return where root file systems and the disks of running hosts lie; `RECON_LAB_CACHE` moves it."""
    return Path(os.environ.get("RECON_LAB_CACHE", "/var/cache/recon-lab"))


def check() -> None:
    """Raise LabUnavailableError with the first thing that is missing here."""
    if os.geteuid() != 0:
        raise LabUnavailableError("it needs root for namespaces and mounts", "run it as root")
    if not Path("/etc/debian_version").exists():
        raise LabUnavailableError("it is made for Debian", "use a Debian 12 machine or container")
    missing = missing_packages()
    if missing:
        packages = " ".join(missing)
        raise LabUnavailableError("programs are missing", f"install with: apt-get install {packages}")
    if "overlay" not in Path("/proc/filesystems").read_text(encoding="ascii"):
        raise LabUnavailableError("the kernel has no overlay file system", "modprobe overlay")
    root = cgroup_root()
    if root is None or not os.access(root, os.W_OK):
        raise LabUnavailableError("no writable cgroup v2 hierarchy", "mount cgroup2, or run a privileged container")
    if _mount_kind(cache_dir()) == "overlay":
        fix = "set RECON_LAB_CACHE to a directory on ext4, xfs, btrfs or tmpfs"
        raise LabUnavailableError(f"{cache_dir()} lies on an overlay, and hosts are overlays themselves", fix)


def missing_packages() -> list[str]:
    """Return the Debian packages that this computer lacks for the lab, in a fixed order."""
    return list(dict.fromkeys(package for thing, package in PACKAGES.items() if find(thing) is None))


def find(command: str) -> str | None:
    """Return the path of a command or file; sbin counts, for a plain `su` leaves it out of PATH."""
    if command.startswith("/"):
        return command if Path(command).exists() else None
    return shutil.which(command, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def cgroup_root() -> Path | None:
    """Return where the cgroup v2 hierarchy is mounted, on a pure or a hybrid system; None when it is not."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    return next((Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"), None)


def _mount_kind(path: Path) -> str:
    """Return the file system type that `path` is or will be on."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    mounts = {Path(fields[1]): fields[2] for fields in (line.split() for line in lines)}
    for place in (path, *path.parents):
        if place in mounts:
            return mounts[place]
    return "unknown"


def launch_argv(command: Sequence[str], *options: str) -> list[str]:
    """Return the argv that runs `command` through launch.py with these options."""
    return [sys.executable, "-I", "-S", str(_LAUNCH), *options, "--", *command]


def run_tool(argv: Sequence[str], *, stdin: bytes | None = None, what: str = "") -> bytes:
    """Run a tool of this computer to its end and return its output; LabError with its last lines when it fails."""
    env = dict(os.environ, LC_ALL="C.UTF-8", PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    done = subprocess.run(list(argv), capture_output=True, env=env, check=False, input=stdin or b"")
    if done.returncode != 0:
        tail = "\n".join(done.stderr.decode("utf-8", "replace").strip().splitlines()[-8:])
        raise LabError(
            Problem(
                code="REC0902",
                summary="a tool of the lab failed",
                detail=f"{what or argv[0]} ended with {done.returncode}: {tail}",
                fix="read the lines above; `recon lab gc` clears what a broken run left",
            )
        )
    return done.stdout


def make_directory(path: Path) -> None:
    """Make a directory and its parents with the modes of a root file system, whatever this process's umask is."""
    for place in reversed((path, *path.parents)):
        if not place.exists():
            place.mkdir(exist_ok=True)  # hosts are made in parallel below the same parents
            place.chmod(0o755)


def write_file(path: Path, data: str | bytes) -> None:
    """Write a file of a root file system, readable by all."""
    make_directory(path.parent)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    path.chmod(0o644)
