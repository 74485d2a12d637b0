"""Posting on a real machine: headers arrive as they are, nothing is followed, and everything has an end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from reconciler.agent.machine import Response
from reconciler.agent.real import RealMachine


class Peer:
    """A server that answers one connection after another with these pieces, and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.pieces: list[bytes] = []
        self.pause = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/hook?a=b"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(1 << 16))
                try:
                    for piece in self.pieces:
                        connection.sendall(piece)
                        self.pause.wait(0.05)
                except OSError:
                    continue

    def close(self) -> None:
        self.pause.set()
        self._socket.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.close()


def post(peer: Peer, timeout_s: float = 5.0) -> Response:
    return RealMachine().post(peer.url, timeout_s, b'{"a":1}', {"webhook-id": "evt_1"})


def test_the_headers_and_the_body_arrive_as_they_were_given(peer: Peer) -> None:
    peer.pieces = [b"HTTP/1.1 204 No Content\r\n\r\n"]
    assert post(peer) == Response(204, b"")
    head, _, body = peer.asked[0].partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"post /hook?a=b http/1.1"
    assert {b"webhook-id: evt_1", b"user-agent: recon", b"content-type: application/json"} <= set(lines)
    # The body may come in a packet of its own.
    assert b'{"a":1}'.startswith(body)


def test_a_redirect_is_an_answer_and_leads_nowhere(peer: Peer) -> None:
    peer.pieces = [b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"]
    assert post(peer).status == 302
    assert len(peer.asked) == 1


def test_an_answer_without_an_end_is_cut_at_its_limit(peer: Peer) -> None:
    peer.pieces = [b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000]
    assert post(peer) == Response(200, b"x" * 1024, cut=True)


def test_an_answer_that_drips_is_given_up_in_time(peer: Peer) -> None:
    peer.pieces = [b"HTTP/1.1 200 OK\r\nX-", *[b"a"] * 400]
    answer = post(peer, 0.5)
    assert (answer.status, answer.body) == (0, b"no answer within 0.5 s")
