"""A real SSH server on loopback, with faults: the fixed command runs here as a child, or something else does."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from reconciler.hosts import loader
from reconciler.hosts.bundle import Bundle, pack

ECHO_AGENT: Bundle = pack(
    {
        "recon_agent/__init__.py": "",
        "recon_agent/dispatch.py": (
            "class RefusedError(Exception):\n"
            "    code, summary, detail, fix = 'REC5016', 'refused', 'as asked', 'ask again'\n\n\n"
            "def handle(machine, verb, args, ctx):\n"
            "    print('a stray print')\n"
            "    if verb == 'refuse':\n"
            "        raise RefusedError\n"
            "    if verb == 'fail':\n"
            "        raise ValueError('no luck')\n"
            "    if verb == 'weights':\n"
            "        import pynvml\n\n"
            "        return {'pynvml': pynvml.NAME}\n"
            "    if verb == 'note':\n"
            "        open(args['path'], 'a').write('done\\n')\n"
            "    return {'machine': machine.name, 'verb': verb, 'args': args, 'mode': ctx['mode'],\n"
            "            'files': sorted(ctx['bundle'] or {})}\n"
        ),
        "recon_agent/real.py": "class RealMachine:\n    name = 'real'\n",
        "recon_agent/user_scope.py": (
            "class UserMachine:\n    def __init__(self, inner):\n        self.name = 'the user of ' + inner.name\n"
        ),
        "pynvml.py": "NAME = 'the binding'\n",
    }
)


@dataclass
class Script:
    """What the server does instead of running the fixed command; None runs it."""

    output: bytes | None = None
    stderr: bytes = b""
    status: int = 0
    hang: bool = False
    drop: bool = False
    cut_in: int | None = None
    """Run the command, but let it have only so many bytes before the connection ends."""
    cut_out: int | None = None
    """Run the command, but let only so many bytes of its answer through before the connection ends."""
    deny_sudo: bool = False
    """Run what asks for no privilege; what does ends as sudo ends without a rule."""


@dataclass
class Sshd:
    """A running server and what it saw."""

    port: int
    host_key: paramiko.PKey
    script: Script = field(default_factory=Script)
    commands: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    connections: int = 0
    drop_first: int = 0
    drop_logins: int = 0
    forwarded: list[tuple[str, int]] = field(default_factory=list)

    @property
    def pinned(self) -> str:
        return f"{self.host_key.get_name()} {self.host_key.get_base64()}"


class _Server(paramiko.ServerInterface):
    def __init__(self, sshd: Sshd, allowed: paramiko.PKey, sock: socket.socket) -> None:
        self._sshd = sshd
        self._allowed = allowed
        self._sock = sock

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self._sshd.logins.append(username)
        if len(self._sshd.logins) <= self._sshd.drop_logins:
            self._sock.shutdown(socket.SHUT_RDWR)
        return AUTH_SUCCESSFUL if key.asbytes() == self._allowed.asbytes() else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        self._sshd.forwarded.append(destination)
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._sshd.commands.append(command.decode())
        sudo = b"sudo -n" in command
        threading.Thread(target=_execute, args=(self._sshd, channel, sudo), daemon=True).start()
        return True


def _execute(sshd: Sshd, channel: paramiko.Channel, sudo: bool) -> None:
    script = sshd.script
    if script.deny_sudo:
        script = Script(stderr=b"sudo: a password is required\n", status=1) if sudo else Script()
    if script == Script(cut_in=script.cut_in, cut_out=script.cut_out):
        _run_command(channel, script)
        return
    # The client speaks once it knows that the command was started; ending before that is another kind of failure.
    channel.recv(1)
    if script.drop:
        channel.get_transport().close()
    if script.drop or script.hang:
        return
    with contextlib.suppress(OSError, EOFError):
        channel.sendall_stderr(script.stderr)
        channel.sendall(script.output or b"")
        channel.send_exit_status(script.status)
        channel.close()


def _run_command(channel: paramiko.Channel, script: Script) -> None:
    words = [sys.executable, "-I", "-S", "-c", loader._READER]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin
        assert child.stdout
        threading.Thread(target=_copy_in, args=(channel, child, script.cut_in), daemon=True).start()
        left = script.cut_out
        with contextlib.suppress(OSError, EOFError):
            while data := os.read(child.stdout.fileno(), 1 << 16):
                channel.sendall(data if left is None else data[:left])
                left = None if left is None else left - len(data)
                if left is not None and left <= 0:
                    channel.get_transport().close()
            channel.send_exit_status(child.wait())
            channel.close()


def _copy_in(channel: paramiko.Channel, child: subprocess.Popen[bytes], left: int | None) -> None:
    assert child.stdin
    with contextlib.suppress(OSError, ValueError, EOFError):
        while (left is None or left > 0) and (data := channel.recv(1 << 16 if left is None else left)):
            left = None if left is None else left - len(data)
            child.stdin.write(data)
            child.stdin.flush()
        child.stdin.close()
        if left is not None:
            channel.get_transport().close()


def _forward(channel: paramiko.Channel, destination: tuple[str, int]) -> None:
    with contextlib.suppress(OSError, EOFError), socket.create_connection(destination) as sock:
        threading.Thread(target=_pump_back, args=(sock, channel), daemon=True).start()
        while data := channel.recv(1 << 16):
            sock.sendall(data)


def _pump_back(sock: socket.socket, channel: paramiko.Channel) -> None:
    with contextlib.suppress(OSError, EOFError):
        while data := sock.recv(1 << 16):
            channel.sendall(data)
        channel.close()


def _serve(sshd: Sshd, listener: socket.socket, allowed: paramiko.PKey, open_ones: list[paramiko.Transport]) -> None:
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        sshd.connections += 1
        if sshd.connections <= sshd.drop_first:
            sock.close()
            continue
        transport = paramiko.Transport(sock)
        open_ones.append(transport)
        transport.add_server_key(sshd.host_key)
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            transport.start_server(event=threading.Event(), server=_Server(sshd, allowed, sock))
        threading.Thread(target=_accept_forwards, args=(sshd, transport), daemon=True).start()


def _accept_forwards(sshd: Sshd, transport: paramiko.Transport) -> None:
    while transport.is_active():
        channel = transport.accept(0.2)
        if channel is not None and sshd.forwarded:
            threading.Thread(target=_forward, args=(channel, sshd.forwarded[-1]), daemon=True).start()


@contextlib.contextmanager
def running(allowed: paramiko.PKey, *, drop_first: int = 0) -> Iterator[Sshd]:
    """Serve on a free loopback port until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    open_ones: list[paramiko.Transport] = []
    sshd = Sshd(listener.getsockname()[1], paramiko.ECDSAKey.generate(), drop_first=drop_first)
    threading.Thread(target=_serve, args=(sshd, listener, allowed, open_ones), daemon=True).start()
    try:
        yield sshd
    finally:
        # shutdown and not only close: a thread that waits in accept keeps a closed listener alive.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for transport in open_ones:
            transport.close()


def a_key(path: Path, password: str | None = None) -> paramiko.PKey:
    """Write a new private key, readable by its owner alone, and return it."""
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(path), password=password)
    path.chmod(0o600)
    return key
