"""A TCP connection within a deadline: look the name up, try its addresses, say how long it took.

Must not: know SSH.
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from reconciler.hosts import ssh_errors
from reconciler.hosts.ssh_errors import Place

CONNECT_TIMEOUT_S = 10.0
UNANSWERED_S = 28
"""How long sent bytes may go unacknowledged before the system ends the connection. With a keepalive every 15 seconds a
connection whose other end is gone is noticed within 45, also while nobody waits for anything on it."""


@dataclass(slots=True)
class Deadline:
    """How much of an allowed time is left."""

    allowed_s: float
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.began

    def left(self, place: Place, phase: str) -> float:
        """Return the seconds that are left, raise REC6006 when none are."""
        left = self.allowed_s - self.elapsed_s
        if left <= 0:
            raise ssh_errors.timed_out(place, phase, self.elapsed_s)
        return left


class DroppedError(Exception):
    """The connection was not accepted, or closed before the login: worth another try."""


def dial(place: Place, deadline: Deadline) -> socket.socket:
    """Return a connected socket to the first address that accepts.

    Raises:
        DroppedError: no address accepts.
        UnreachableError: REC6005 no such name, REC6006 no answer in time.
    """
    reason = "no address"
    for family, kind, protocol, _, address in _resolve(place, deadline):
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(min(deadline.left(place, "connecting"), CONNECT_TIMEOUT_S))
        try:
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _bound_silence(sock)
        except TimeoutError as exc:
            sock.close()
            raise ssh_errors.timed_out(place, "connecting", deadline.elapsed_s) from exc
        except OSError as exc:
            sock.close()
            reason = exc.strerror or str(exc)
        else:
            return sock
    raise DroppedError(reason)


def _bound_silence(sock: socket.socket) -> None:
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux has it; elsewhere the deadlines of requests must do
    if option is not None:
        sock.setsockopt(socket.IPPROTO_TCP, option, UNANSWERED_S * 1000)


def _resolve(place: Place, deadline: Deadline) -> list[Any]:
    try:
        return socket.getaddrinfo(place.address, place.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    # A resolver cannot be given a deadline, so it gets a thread that may be left behind.
    found: list[Any] = []

    def look_up() -> None:
        try:
            found.append(socket.getaddrinfo(place.address, place.port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as exc:
            found.append(exc)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(min(deadline.left(place, "the name look-up"), CONNECT_TIMEOUT_S))
    if not found:
        raise ssh_errors.name_not_found(place, "the resolver does not answer", deadline.elapsed_s)
    if isinstance(found[0], Exception):
        raise ssh_errors.name_not_found(place, str(found[0]), deadline.elapsed_s) from found[0]
    return list(found[0])
