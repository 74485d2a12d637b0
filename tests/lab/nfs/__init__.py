"""A stand-in for NFS on lab hosts, whose kernel has none: what a hub exports by and a worker mounts by.

It is no NFS. The programs have the names, words and exit statuses of Debian's (`exportfs` as version 2.6.2 was seen to
behave), the table is where the real one is, and a mount is a real mount that the kernel shows with its source; but the
bytes go over a small protocol of our own, users are squashed only where a file is made, and nothing is cached.

    hub       /usr/sbin/exportfs, nfs-server.service, /var/lib/nfs/etab
    worker    /usr/sbin/mount.nfs4: a file system in user space; it waits for a hub that is away, as `hard` does
    between   lab hosts have no road to each other: a relay here passes connections on, as a router with NAT would
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from reconciler.lab.machines import Machine

HERE = Path(__file__).parent
PORT = 2049
SERVICE = """[Unit]
Description=stand-in of the lab for the NFS server
After=network.target

[Service]
Type=exec
ExecStartPre=-/usr/sbin/exportfs -r
ExecStart=/usr/bin/python3 /usr/lib/recon-lab-nfs/nfsd.py
ExecReload=-/usr/sbin/exportfs -r
ExecStopPost=/usr/sbin/exportfs -au

[Install]
WantedBy=multi-user.target
"""
UNIT = "/usr/lib/systemd/system/nfs-server.service"


def install_hub(machine: Machine) -> None:
    """Give a host what the package nfs-kernel-server would."""
    machine.run(["mkdir", "-p", "/usr/lib/recon-lab-nfs", "/var/lib/nfs"])
    for name, path, mode in (
        ("exportfs.py", "/usr/sbin/exportfs", "0755"),
        ("nfsd.py", "/usr/lib/recon-lab-nfs/nfsd.py", "0644"),
    ):
        machine.run(["install", "-m", mode, "/dev/stdin", path], stdin=(HERE / name).read_bytes())
    machine.run(["install", "-m", "0644", "/dev/stdin", "/etc/exports"], stdin=b"")
    machine.run(["install", "-m", "0644", "/dev/stdin", "/var/lib/nfs/etab"], stdin=b"")
    machine.run(["install", "-m", "0644", "/dev/stdin", UNIT], stdin=SERVICE.encode())
    machine.run(["systemctl", "daemon-reload"])
    machine.run(["systemctl", "enable", "--now", "nfs-server.service"])


def install_worker(machine: Machine) -> None:
    """Give a host what the package nfs-common would; the device is made again after each boot by the helper itself."""
    body = (HERE / "mount_nfs4.py").read_bytes()
    machine.run(["install", "-m", "0755", "/dev/stdin", "/usr/sbin/mount.nfs4"], stdin=body)


def remove(machine: Machine) -> None:
    """Take both away again."""
    machine.run(["systemctl", "disable", "--now", "nfs-server.service"], check=False)
    paths = [
        "/usr/sbin/mount.nfs4",
        "/usr/sbin/exportfs",
        "/usr/lib/recon-lab-nfs",
        UNIT,
        "/var/lib/nfs",
        "/etc/exports",
    ]
    machine.run(["rm", "-rf", *paths])
    machine.run(["systemctl", "daemon-reload"])


@contextlib.contextmanager
def road(worker: Machine, hub: Machine) -> Iterator[None]:
    """Pass connections of a worker to its gateway on to the hub; whoever cannot be reached is told at once."""
    listener = socket.create_server((worker.record.gateway, PORT), reuse_port=True)
    threading.Thread(target=_accept, args=(listener, hub.record.address), daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # a thread that waits in accept would hear nothing of a mere close
        listener.close()


def _accept(listener: socket.socket, address: str) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(near, address), daemon=True).start()


def _serve(near: socket.socket, address: str) -> None:
    with near, contextlib.suppress(OSError), socket.create_connection((address, PORT), timeout=2) as far:
        far.settimeout(None)
        back = threading.Thread(target=_pass_on, args=(far, near), daemon=True)
        back.start()
        _pass_on(near, far)
        back.join()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    """Pass bytes on until one end is done; then both are."""
    with contextlib.suppress(OSError):
        while data := one.recv(1 << 16):
            other.sendall(data)
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
