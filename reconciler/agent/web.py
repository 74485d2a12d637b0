"""Makes one HTTP call: no proxy, no redirect, a bounded answer, and an end.

Must not: retry, or know what an answer means.
"""

from __future__ import annotations

from typing import Optional

from .bounded import within
from .machine import Response

_SLACK_S = 0.25


def call(method: str, url: str, timeout_s: float, body: Optional[bytes], limit: int) -> Response:
    """Make the call; no answer is status 0 with the reason as body."""

    def ask() -> Response:
        return _ask(method, url, timeout_s, body, limit)

    # A socket's timeout starts again with every byte, so the whole call has its own end.
    try:
        return within(ask, timeout_s + _SLACK_S)
    except TimeoutError:
        return Response(0, f"no answer within {timeout_s:g} s".encode())


def _ask(method: str, url: str, timeout_s: float, body: Optional[bytes], limit: int) -> Response:
    # Imported here: it takes longer than the rest of an observation, and many hosts have no health to ask for.
    from http.client import HTTPConnection, HTTPException, HTTPSConnection
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return Response(0, b"not an http address")
    make = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    path = (parts.path or "/") + ("?" + parts.query if parts.query else "")
    headers = {"Connection": "close", "Accept": "*/*", "User-Agent": "recon"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        connection = make(parts.hostname, parts.port, timeout=timeout_s)
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            said = answer.read(limit)
            if len(said) < limit and answer.length:
                # The library hands out what came; half a list of figures reads like all of it.
                return Response(0, b"the other end closed the connection before its answer was whole")
            return Response(answer.status, said)
        finally:
            connection.close()
    except (OSError, HTTPException, ValueError) as error:
        return Response(0, str(error or type(error).__name__).encode("utf-8", "backslashreplace"))
