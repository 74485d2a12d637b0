"""SSH, and nothing above this file knows how: connect, prove the host's key, log in, one exec per request.

Bytes go through raw channels in one piece. One `SshRun` is shared by all connections of a run: known hosts and private
keys are read once, handshakes are bounded, jump hosts are opened once. Every wait has a deadline. Only connecting is
tried again; a login that was refused never is, for hosts lock out who insists.

Must not: accept a key nobody vouched for, write a file, or know what a reply means.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.errors import HostError, Problem, ReconError, UnreachableError
from reconciler.hosts import loader, ssh_errors
from reconciler.hosts.bundle import Bundle
from reconciler.hosts.dial import CONNECT_TIMEOUT_S, Deadline, DroppedError, dial
from reconciler.hosts.known_hosts import HostKey, KnownHosts, Trusted, parse_key
from reconciler.hosts.lean import modules_absent
from reconciler.hosts.ssh_errors import Place
from reconciler.hosts.wire import Need, ReplyReader, bundle_frame, request_frame

# paramiko loads `invoke` for one option of ssh_config files, does without it when it is not there, and we read no such
# file. Not loading it is a third of the time of loading paramiko, which every plan on real hosts pays.
with modules_absent("invoke"):
    import paramiko

# Without a handler of its own paramiko's tracebacks reach the terminal; what they say comes back as an exception.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

HANDSHAKES = 32
RETRY_DELAYS_S = (0.2, 0.6)
MAX_IDENTITIES = 5
KEEPALIVE_S = 15
STDERR_LIMIT = 16 << 10
DEFAULT_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
READ_ONLY = frozenset({"observe", "survey", "strangers"})
"""What a user without privilege may ask too."""
_RECEIVE_WAIT_S = 0.5


@dataclass(frozen=True, slots=True)
class Target:
    """Where a connection goes and what it must prove; `host_key` None leaves it to known_hosts.

    `is_users`: the units there are those of the login's own manager, and nothing is asked as root.
    """

    place: Place
    host_key: str | None
    key: Path | None
    jump: Target | None = None
    is_jump: bool = False
    is_users: bool = False


class SshRun:
    """What the connections of one run share."""

    def __init__(self, bundle: Bundle, known_hosts: Callable[[], KnownHosts] = KnownHosts.read) -> None:
        self.bundle = bundle
        self._read_known_hosts = known_hosts
        self._known: KnownHosts | None = None
        self._keys: dict[Path, paramiko.PKey] = {}
        self._agent_keys: tuple[paramiko.PKey, ...] | None = None
        self._gateways: dict[Target, paramiko.Transport] = {}
        self._lock = threading.RLock()
        self._agent_lock = threading.Lock()
        self._gateway_locks: dict[Target, threading.Lock] = {}
        self._handshakes = threading.BoundedSemaphore(HANDSHAKES)

    def transport(self, target: Target) -> SshTransport:
        """Return a transport that connects when it is first asked."""
        return SshTransport(self, target)

    def close(self) -> None:
        """Close the jump hosts; connections through them end too."""
        with self._lock:
            gateways, self._gateways = list(self._gateways.values()), {}
        for gateway in gateways:
            gateway.close()

    def known_key(self, target: Target) -> Trusted:
        """Return which keys of a target this computer vouches for already."""
        return self._trusted(target)

    def shown_key(self, target: Target, *, kind: str | None = None, deadline_s: float = 30.0) -> HostKey | None:
        """Return the key that a host shows, without logging in or trusting it; of one kind when asked, None without.

        For a person to compare; a connection that is used goes through `open`, which checks it.
        """
        place, deadline = target.place, Deadline(deadline_s)
        sock: Any = None
        try:
            sock = self._through(place, target.jump, deadline) if target.jump else dial(place, deadline)
            transport = paramiko.Transport(sock)
        except DroppedError as exc:
            raise ssh_errors.refused(place, str(exc), deadline.elapsed_s) from exc
        except (paramiko.SSHException, EOFError, OSError) as exc:
            if sock is not None:
                sock.close()
            raise ssh_errors.refused(place, str(exc), deadline.elapsed_s) from exc
        try:
            transport.banner_timeout = transport.handshake_timeout = CONNECT_TIMEOUT_S
            if kind is not None:
                options = transport.get_security_options()
                wanted = tuple(
                    name for name in options.key_types if name == kind or (kind == "ssh-rsa" and "rsa" in name)
                )
                if not wanted:
                    return None
                options.key_types = wanted
            transport.start_client(timeout=CONNECT_TIMEOUT_S)
            key = transport.get_remote_server_key()
        except (paramiko.SSHException, EOFError, OSError) as exc:
            if kind is not None:
                return None
            raise ssh_errors.refused(place, f"no SSH handshake: {exc}", deadline.elapsed_s) from exc
        finally:
            transport.close()
            sock.close()  # a transport that never began does not close it
        return HostKey(key.get_name(), key.asbytes())

    def public_key(self, target: Target) -> HostKey:
        """Return the public half of the key that a login to a target is offered first."""
        for _, identity in self._identities(target):
            return HostKey(identity.get_name(), identity.asbytes())
        raise ssh_errors.authentication_failed(target.place, [], "there is none to give it either")

    def open(self, target: Target, deadline: Deadline) -> paramiko.Transport:
        """Connect, check the host's key and log in; the connection attempt alone is tried again."""
        for delay in (*RETRY_DELAYS_S, None):
            try:
                return self._open_once(target, deadline)
            except DroppedError as exc:
                # A busy sshd drops connections at random (MaxStartups); all coming back at once would make it worse.
                pause = delay and delay * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, guards nothing
                if not pause or deadline.elapsed_s + pause > deadline.allowed_s:
                    raise ssh_errors.refused(target.place, str(exc), deadline.elapsed_s) from exc
                time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _open_once(self, target: Target, deadline: Deadline) -> paramiko.Transport:
        place = target.place
        sock = self._through(place, target.jump, deadline) if target.jump else dial(place, deadline)
        if not self._handshakes.acquire(timeout=deadline.left(place, "waiting to connect")):
            sock.close()
            raise ssh_errors.timed_out(place, "waiting to connect", deadline.elapsed_s)
        try:
            return self._shake_hands(target, sock, deadline)
        except BaseException:
            sock.close()
            raise
        finally:
            self._handshakes.release()

    def _shake_hands(self, target: Target, sock: Any, deadline: Deadline) -> paramiko.Transport:
        place, trusted = target.place, self._trusted(target)
        left = min(deadline.left(place, "the handshake"), CONNECT_TIMEOUT_S)
        transport = paramiko.Transport(sock)
        transport.banner_timeout = transport.handshake_timeout = left
        _prefer_trusted(transport, trusted)
        try:
            try:
                transport.start_client(timeout=left)
                key = transport.get_remote_server_key()
            except (paramiko.SSHException, EOFError, OSError) as exc:
                if deadline.elapsed_s >= deadline.allowed_s or "timed out" in str(exc).lower():
                    raise ssh_errors.timed_out(place, "the handshake", deadline.elapsed_s) from exc
                raise DroppedError(f"no SSH handshake: {exc or type(exc).__name__}") from exc
            _check_host_key(target, trusted, HostKey(key.get_name(), key.asbytes()))
            self._log_in(transport, target, deadline)
            transport.set_keepalive(KEEPALIVE_S)
        except BaseException:
            transport.close()
            raise
        return transport

    def _trusted(self, target: Target) -> Trusted:
        """Return what is known of a target: the key that is pinned stands for those in known_hosts, not for revoked."""
        with self._lock:
            if self._known is None:
                self._known = self._read_known_hosts()
        known = self._known.lookup(target.place.address, target.place.port)
        return Trusted(keys=(_pinned(target),), revoked=known.revoked) if target.host_key else known

    def _log_in(self, transport: paramiko.Transport, target: Target, deadline: Deadline) -> None:
        place, tried, reason = target.place, [], "it has none of them"
        for label, identity in self._identities(target):
            tried.append(label)
            transport.auth_timeout = deadline.left(place, "the login")
            try:
                with self._agent_lock if isinstance(identity, paramiko.AgentKey) else nullcontext():
                    more = transport.auth_publickey(place.user, identity)
            except (paramiko.SSHException, EOFError, OSError) as exc:
                if "timeout" in str(exc).lower():
                    raise ssh_errors.timed_out(place, "the login", deadline.elapsed_s) from exc
                reason = str(exc) or type(exc).__name__
                if len(tried) == 1 and _is_cut(transport, exc):
                    raise DroppedError(f"the login was cut off: {reason}") from exc
                if transport.is_active() and not isinstance(exc, paramiko.BadAuthenticationType):
                    continue
                break
            if not more:
                return
            reason = f"it wants {', '.join(more)} as well"
        raise ssh_errors.authentication_failed(place, tried, reason)

    def _identities(self, target: Target) -> Iterator[tuple[str, paramiko.PKey]]:
        if target.key:
            yield str(target.key), self._key(target, target.key)
            return
        from_agent = self._from_agent()[:MAX_IDENTITIES]
        yield from ((f"agent key {key.fingerprint}", key) for key in from_agent)
        files = [path for path in (Path(name).expanduser() for name in DEFAULT_KEYS) if path.exists()]
        for path in files[: MAX_IDENTITIES - len(from_agent)]:
            yield str(path), self._key(target, path)

    def _key(self, target: Target, path: Path) -> paramiko.PKey:
        with self._lock:
            if path not in self._keys:
                self._keys[path] = self._read_key(target, path)
            return self._keys[path]

    def _read_key(self, target: Target, path: Path) -> paramiko.PKey:
        try:
            return paramiko.PKey.from_path(path)
        except (paramiko.PasswordRequiredException, TypeError) as exc:
            # cryptography says TypeError when a passphrase is missing. The agent may hold the very same key.
            public = path.with_name(path.name + ".pub")
            wanted = parse_key(public.read_text(encoding="utf-8")) if public.exists() else None
            for key in self._from_agent():
                if wanted and key.asbytes() == wanted.blob:
                    return key
            raise ssh_errors.key_needs_passphrase(target.place, path) from exc
        except (OSError, ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType) as exc:
            reason = f"the key file cannot be used: {str(exc)[:200] or type(exc).__name__}"
            raise ssh_errors.authentication_failed(target.place, [str(path)], reason) from exc

    def _from_agent(self) -> tuple[paramiko.PKey, ...]:
        with self._lock:
            if self._agent_keys is None:
                try:
                    self._agent_keys = tuple(paramiko.Agent().get_keys())
                except (paramiko.SSHException, OSError):
                    self._agent_keys = ()
            return self._agent_keys

    def _through(self, place: Place, jump: Target, deadline: Deadline) -> paramiko.Channel:
        gateway = self._gateway(jump, deadline)
        try:
            return gateway.open_channel(
                "direct-tcpip",
                (place.address, place.port),
                ("127.0.0.1", 0),
                timeout=min(deadline.left(place, "connecting through the jump host"), CONNECT_TIMEOUT_S),
            )
        except (paramiko.SSHException, EOFError, OSError) as exc:
            raise DroppedError(f"the jump host {jump.place.address} does not get there: {exc}") from exc

    def _gateway(self, jump: Target, deadline: Deadline) -> paramiko.Transport:
        with self._lock:
            lock = self._gateway_locks.setdefault(jump, threading.Lock())
        with lock:
            gateway = self._gateways.get(jump)
            if gateway is None or not gateway.is_active():
                gateway = self._gateways[jump] = self.open(jump, deadline)
            return gateway


class SshTransport:
    """A host over SSH: connected when first asked, kept until closed, one exec for every request."""

    def __init__(self, run: SshRun, target: Target) -> None:
        self._run = run
        self._target = target
        self._place = target.place
        self._connection: paramiko.Transport | None = None
        self._command = loader.command(sudo=target.place.user != "root" and not target.is_users)
        self._may_sudo = True

    def close(self) -> None:
        """Close the connection; a request that waits ends with REC6008."""
        connection, self._connection = self._connection, None
        if connection:
            connection.close()

    def ask(self, verb: str, args: dict[str, Any], *, deadline_s: float) -> dict[str, Any]:
        """Send a request and return the reply; see `Transport`.

        A host that does not let the user become root can still be looked at: what needs root is then unknown there.
        """
        deadline = Deadline(deadline_s)
        if verb in READ_ONLY and not self._may_sudo:
            return self._ask(verb, args, deadline, loader.command(sudo=False))
        try:
            return self._ask(verb, args, deadline, self._command)
        except HostError as exc:
            if verb not in READ_ONLY or exc.problems[0].code != "REC6009":
                raise
            self._may_sudo = False
            try:
                return self._ask(verb, args, deadline, loader.command(sudo=False))
            except HostError:
                raise exc from None

    def _ask(self, verb: str, args: dict[str, Any], deadline: Deadline, command: str) -> dict[str, Any]:
        channel = self._start(deadline, command)
        try:
            return self._converse(channel, self._request(verb, args), deadline)
        except ReconError:
            self.close()
            raise
        finally:
            # Closing says goodbye to the host, which may be gone.
            with suppress(OSError, EOFError):
                channel.close()

    def _request(self, verb: str, args: dict[str, Any]) -> bytes:
        return request_frame(verb, args, self._run.bundle.digest, is_users=self._target.is_users)

    def _start(self, deadline: Deadline, command: str) -> paramiko.Channel:
        if self._connection and self._connection.is_active():
            try:
                return self._exec(self._connection, deadline, command)
            except UnreachableError:
                # An idle connection that went away in the meantime: nothing was sent, so a new one is safe.
                self.close()
        self._connection = self._run.open(self._target, deadline)
        return self._exec(self._connection, deadline, command)

    def _exec(self, connection: paramiko.Transport, deadline: Deadline, command: str) -> paramiko.Channel:
        left = deadline.left(self._place, "starting the command")
        # exec_command waits for its answer without a limit of its own, so a clock closes the connection under it.
        watchdog = threading.Timer(left, connection.close)
        watchdog.daemon = True
        watchdog.start()
        try:
            channel = connection.open_session(timeout=left)
            # A constant line: every value travels on stdin.
            channel.exec_command(command)
        except (paramiko.SSHException, EOFError, OSError) as exc:
            if deadline.elapsed_s >= deadline.allowed_s:
                raise ssh_errors.timed_out(self._place, "starting the command", deadline.elapsed_s) from exc
            raise ssh_errors.lost(self._place, f"the command could not be started: {exc}", deadline.elapsed_s) from exc
        finally:
            watchdog.cancel()
        return channel

    def _converse(self, channel: paramiko.Channel, request: bytes, deadline: Deadline) -> dict[str, Any]:
        reader, stderr = ReplyReader(self._place.host), bytearray()
        self._send(channel, loader.program() + request, deadline)
        while True:
            piece = self._receive(channel, stderr, deadline)
            if not piece:
                raise self._ended(channel, reader, stderr, deadline)
            found = reader.feed(piece)
            if isinstance(found, Need):
                self._send(channel, bundle_frame(self._run.bundle.packed), deadline)
            elif found is not None:
                return found

    def _send(self, channel: paramiko.Channel, data: bytes, deadline: Deadline) -> None:
        channel.settimeout(deadline.left(self._place, "sending the request"))
        try:
            channel.sendall(data)
        except TimeoutError as exc:
            raise ssh_errors.timed_out(self._place, "sending the request", deadline.elapsed_s) from exc
        except (OSError, EOFError):
            # The other end closed early; why it did is in what it printed, which is read next.
            return

    def _receive(self, channel: paramiko.Channel, stderr: bytearray, deadline: Deadline) -> bytes:
        while True:
            left = deadline.left(self._place, "waiting for the reply")
            channel.settimeout(min(_RECEIVE_WAIT_S, left))
            piece: bytes | None = None
            try:
                with suppress(TimeoutError):
                    piece = channel.recv(1 << 20)
                # Taken along in the same loop: a host that fills stderr would otherwise wait for us for ever.
                _take_stderr(channel, stderr)
            except (OSError, EOFError):
                # Reading tells the host that there is room again; a connection that died meanwhile has ended.
                return b""
            if piece is not None:
                return piece

    def _ended(
        self, channel: paramiko.Channel, reader: ReplyReader, stderr: bytearray, deadline: Deadline
    ) -> ReconError:
        channel.status_event.wait(min(2.0, deadline.left(self._place, "waiting for the reply")))
        if not channel.exit_status_ready() or channel.exit_status == -1:
            return ssh_errors.lost(self._place, "the connection ended", deadline.elapsed_s)
        _take_stderr(channel, stderr)
        text = bytes(stderr).decode("utf-8", "replace")
        return ssh_errors.ended_without_reply(self._place, channel.exit_status, text, reader.end_of_output())


def _take_stderr(channel: paramiko.Channel, stderr: bytearray) -> None:
    while channel.recv_stderr_ready():
        stderr += channel.recv_stderr(1 << 16)[: max(0, STDERR_LIMIT - len(stderr))]


def _is_cut(transport: paramiko.Transport, exc: Exception) -> bool:
    """Say whether the connection went before the server had answered; one that refuses says so before it hangs up."""
    return not transport.is_active() and (isinstance(exc, (EOFError, OSError)) or "saw EOF" in str(exc))


def _pinned(target: Target) -> HostKey:
    key = parse_key(target.host_key or "")
    if key is None:
        raise UnreachableError(
            Problem(
                "REC6001",
                "host_key is not a public key",
                f"for {target.place}: {(target.host_key or '')[:60]!a}",
                f"take the line of: ssh-keyscan -p {target.place.port} {target.place.address}",
            )
        )
    return key


def _prefer_trusted(transport: paramiko.Transport, trusted: Trusted) -> None:
    # A server has several keys; asked in the usual order it may show one that nobody recorded.
    options = transport.get_security_options()
    kinds = {key.kind for key in trusted.keys}
    is_known = {kind: kind in kinds or (kind.startswith("rsa-") and "ssh-rsa" in kinds) for kind in options.key_types}
    options.key_types = tuple(sorted(options.key_types, key=lambda kind: not is_known[kind]))


def _check_host_key(target: Target, trusted: Trusted, offered: HostKey) -> None:
    if offered.blob in {key.blob for key in trusted.revoked}:
        raise ssh_errors.revoked_host_key(target.place, offered)
    if offered.blob in {key.blob for key in trusted.keys}:
        return
    if trusted.keys:
        raise ssh_errors.changed_host_key(target.place, offered, trusted.keys)
    raise ssh_errors.unknown_host_key(target.place, offered, is_jump=target.is_jump)
