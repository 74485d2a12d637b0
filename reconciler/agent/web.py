"""Makes one HTTP call: no proxy, no redirect, a bounded answer, and an end.

Must not: retry, or know what an answer means.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Dict, Optional, Type

from .bounded import within
from .machine import Response
from .places import OWN_ADDRESS

if TYPE_CHECKING:
    from http.client import HTTPConnection

_LOOPBACK = "127.0.0.1"
_SLACK_S = 0.25


def call(
    method: str,
    url: str,
    timeout_s: float,
    body: Optional[bytes],
    limit: int,
    headers: Optional[Dict[str, str]] = None,
) -> Response:
    """Make the call; no answer is status 0 with the reason as body."""

    def ask() -> Response:
        return _ask(method, url, timeout_s, body, limit, headers or {})

    # A socket's timeout starts again with every byte, so the whole call has its own end.
    try:
        return within(ask, timeout_s + _SLACK_S)
    except TimeoutError:
        return Response(0, f"no answer within {timeout_s:g} s".encode())


def _ask(method: str, url: str, timeout_s: float, body: Optional[bytes], limit: int, extra: Dict[str, str]) -> Response:
    # Imported here: it takes longer than the rest of an observation, and many hosts have no health to ask for.
    from http.client import HTTPConnection, HTTPException, HTTPSConnection
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return Response(0, b"not an http address")
    make = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    path = (parts.path or "/") + ("?" + parts.query if parts.query else "")
    headers = {"Connection": "close", "Accept": "*/*", "User-Agent": "recon", **extra}
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        connection = _connected(make, parts.hostname, parts.port, timeout_s)
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            # One more than anybody is given: what has no length of its own tells only so that it went on.
            said = answer.read(limit + 1)
            if len(said) <= limit and answer.length:
                # The library hands out what came; half a list of figures reads like all of it.
                return Response(0, b"the other end closed the connection before its answer was whole")
            return Response(answer.status, said[:limit], cut=len(said) > limit)
        finally:
            connection.close()
    except (OSError, HTTPException, ValueError) as error:
        return Response(0, str(error or type(error).__name__).encode("utf-8", "backslashreplace"))


def _connected(make: "Type[HTTPConnection]", host: str, port: Optional[int], timeout_s: float) -> "HTTPConnection":
    """Connect, to this host from the agent's own address: a firewall that keeps everybody else out lets that in."""
    if host == _LOOPBACK:
        connection = make(host, port, timeout=timeout_s, source_address=(OWN_ADDRESS, 0))
        try:
            connection.connect()
        except OSError as error:
            # A host whose loopback has one address only: then the agent is like anybody else.
            if error.errno != errno.EADDRNOTAVAIL:
                raise
        else:
            return connection
    connection = make(host, port, timeout=timeout_s)
    connection.connect()
    return connection
