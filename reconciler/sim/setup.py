"""A machine that was just installed: its directories, its identity, the units every host has.

Must not: put anything of recon on it.
"""

from __future__ import annotations

import hashlib

from reconciler.sim.files import Files
from reconciler.sim.gpu import gpus_of
from reconciler.sim.state import Kind, Node, SimState

EPOCH = 1_767_225_600.0
"""The wall clock when a simulation begins: 2026-01-01 00:00 UTC."""

_DIRECTORIES = (
    "/etc/cdi",
    "/etc/containers/systemd",
    "/etc/systemd/system/multi-user.target.wants",
    "/srv/models",
    "/root",
    "/tmp",  # noqa: S108 - of the simulated host
    "/usr/bin",
    "/usr/lib/systemd/system",
    "/usr/share/containers/systemd",
    "/var/lib/containers/storage/overlay-images",
)
_RUN_DIRECTORIES = ("/run/containers", "/run/systemd/system", "/run/systemd/transient", "/run/lock")
_UNITS = {
    "sysinit.target": "[Unit]\nDescription=System Initialization\n",
    "basic.target": "[Unit]\nDescription=Basic System\nRequires=sysinit.target\nAfter=sysinit.target\n",
    "network-online.target": "[Unit]\nDescription=Network is Online\n",
    "shutdown.target": "[Unit]\nDescription=System Shutdown\nDefaultDependencies=no\nRefuseManualStart=yes\n",
    "multi-user.target": "[Unit]\nDescription=Multi-User System\nRequires=basic.target\nAfter=basic.target\n"
    "AllowIsolate=yes\n",
    "nvidia-persistenced.service": "[Unit]\nDescription=NVIDIA Persistence Daemon\n"
    "[Service]\nExecStart=/usr/bin/nvidia-persistenced\n",
}
_CDI = """cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
{devices}"""


def fresh(host: str, kind: Kind, *, seed: int, gpus: int) -> SimState:
    """Return the state of a machine without any file."""
    return SimState(host=host, kind=kind, seed=seed, epoch=EPOCH, gpus=gpus_of(kind, host, gpus))


def install(files: Files, state: SimState) -> None:
    """Put on the disk what a fresh installation has."""
    for path in (*_DIRECTORIES, "/dev"):
        files.make_dirs(path)
    files.make_dirs("/run")
    make_run(files)
    files.make_dirs("/var")
    files.put("/var/run", Node(kind="link", target="/run", mode=0o777))
    machine_id = hashlib.sha256(f"{state.seed}:{state.host}".encode()).hexdigest()[:32]
    names = [name for gpu in state.gpus for name in (str(gpu.index), gpu.uuid)] + ["all"]
    texts = {
        "/etc/machine-id": f"{machine_id}\n",
        "/etc/hostname": f"{state.host}\n",
        "/etc/os-release": 'ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n',
        "/etc/cdi/nvidia.yaml": _CDI.format(devices="".join(f"- name: {name!r}\n" for name in names)),
        "/usr/bin/podman": "podman\n",
        "/usr/bin/python3": "python3\n",
        "/var/lib/containers/storage/overlay-images/images.json": "[]",
        **{f"/usr/lib/systemd/system/{name}": text for name, text in _UNITS.items()},
    }
    for path, text in texts.items():
        files.put(path, Node.of(text.encode()))
    wants = "/etc/systemd/system/multi-user.target.wants/nvidia-persistenced.service"
    files.put(wants, Node(kind="link", target="/usr/lib/systemd/system/nvidia-persistenced.service"))


def make_run(files: Files) -> None:
    """Make what is in /run right after the kernel came up."""
    for path in _RUN_DIRECTORIES:
        files.make_dirs(path)
