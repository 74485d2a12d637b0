"""Frames between controller and agent, as this side sees them: requests out, replies in, nothing trusted.

A frame is `<magic> <length>` on a line of its own and that many bytes. What comes before the first magic is noise of a
login (a banner, a shell's start file) and is thrown away, but not without bound.

Must not: know how bytes travel, or what a reply means.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from reconciler.errors import HostError, Problem

PROTOCOL = 1
MAX_REPLY = 16 << 20
MAX_NOISE = 64 << 10
MAX_DEPTH = 40
_FRAME = re.compile(rb"(?:\A|\n)(?:RECON1 (\d{1,20})|RECON1-NEED ([0-9a-f]{64}))\n")
_CODE = re.compile(r"^REC\d{4}$")
_TEXT_LIMIT = 2000
_SURROGATE = b"\\ud"
"""How JSON begins the escape of half a pair; whole pairs begin so too."""


class Need:
    """The host does not have the agent of this digest and waits for the bundle."""


NEED = Need()


def request_frame(verb: str, args: dict[str, Any], digest: str, *, is_users: bool = False) -> bytes:
    """Return the request as the loader reads it; `is_users`: for the manager of the user who is logged in."""
    document = {"protocol": PROTOCOL, "verb": verb, "args": args, "digest": digest}
    if is_users:
        document["scope"] = "user"
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    return b"RECON1 %d\n%b" % (len(body), body)


def bundle_frame(packed: bytes) -> bytes:
    """Return the frame that carries the agent itself."""
    return b"RECON1-BUNDLE %d\n%b" % (len(packed), packed)


class ReplyReader:
    """Puts a reply together from the pieces in which it arrives.

    `feed` returns None while more is needed, `NEED` once when the host asks for the bundle, and then the reply.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._buffer = bytearray()
        self._length: int | None = None
        self.noise = b""

    def feed(self, data: bytes) -> Need | dict[str, Any] | None:
        """Take bytes as they came."""
        self._buffer += data
        if self._length is None:
            found = _FRAME.search(self._buffer)
            if not found:
                if len(self._buffer) > MAX_NOISE:
                    raise HostError(noise_problem(self._host, bytes(self._buffer)))
                return None
            self.noise += bytes(self._buffer[: found.start()])
            length, need = found[1], found[2]
            del self._buffer[: found.end()]
            if need is not None:
                return NEED
            self._length = int(length)
            if self._length > MAX_REPLY:
                raise HostError(_too_large(self._host, self._length))
        if len(self._buffer) < self._length:
            return None
        return parse_reply(bytes(self._buffer[: self._length]), self._host)

    @property
    def has_begun(self) -> bool:
        """Say whether the head of a reply has been seen."""
        return self._length is not None

    def end_of_output(self) -> Problem:
        """Say what it means that the output ended here, without a whole reply."""
        if self._length is not None:
            detail = f"{self._host} promised {self._length} bytes and sent {len(self._buffer)}"
            return _invalid(detail)
        return noise_problem(self._host, self.noise + bytes(self._buffer))


def parse_reply(body: bytes, host: str) -> dict[str, Any]:
    """Return the agent's reply, or raise what the agent said went wrong.

    Raises:
        HostError: REC5005 when it is no reply at all, REC5007 for another protocol, else the agent's own code.
    """
    try:
        document = json.loads(body.decode(), parse_constant=_refuse_constant, parse_float=_finite, parse_int=_countable)
    except (ValueError, RecursionError) as exc:
        raise HostError(_invalid(f"{host} sent something that is no JSON: {str(exc)[:200]}")) from exc
    _refuse_depth(document, host)
    if _SURROGATE in body.lower():
        document = _encodable(document)
    if not isinstance(document, dict) or not isinstance(document.get("ok"), bool):
        raise HostError(_invalid(f"{host} sent JSON without `ok`"))
    if not document["ok"]:
        raise HostError(_agent_problem(document, host))
    reply = document.get("reply")
    if not isinstance(reply, dict):
        raise HostError(_invalid(f"{host} sent no `reply` object"))
    protocol = reply.get("protocol", PROTOCOL)
    if protocol != PROTOCOL:
        raise HostError(
            Problem(
                "REC5007",
                "the host's agent speaks another protocol version",
                f"{host} answers with version {str(protocol)[:20]}, this recon knows {PROTOCOL}",
                "update recon here, or run recon apply so that the host gets the agent of this version",
            )
        )
    return reply


def noise_problem(host: str, noise: bytes) -> Problem:
    """Say that there was output but no reply in it, and show how it begins."""
    if not noise.strip():
        return _invalid(f"{host} ended the request without any output")
    shown = ascii(noise[:200].decode("utf-8", "replace"))
    return Problem(
        "REC5008",
        "the login prints something, and no reply follows it",
        f"{host} sent {len(noise)} bytes that are no reply, beginning with {shown}",
        "make the login silent for commands: no output from .bashrc, no ForceCommand, no menu shell",
    )


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    """Return a number that one can count with: JSON writes infinity also as 1e400."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is larger than any number")
    return value


def _countable(text: str) -> int:
    _finite(text)
    return int(text)


def _encodable(value: Any) -> Any:
    """Return the value with a replacement character for each half of a pair: no file and no terminal takes one."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_encodable(each) for each in value]
    if isinstance(value, dict):
        return {_encodable(key): _encodable(each) for key, each in value.items()}
    return value


def _refuse_depth(document: Any, host: str) -> None:
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, (dict, list))
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise HostError(_invalid(f"{host} sent JSON that is nested deeper than {MAX_DEPTH} levels"))


def _agent_problem(document: dict[str, Any], host: str) -> Problem:
    code = document.get("code")
    if not isinstance(code, str) or not _CODE.match(code):
        return _invalid(f"{host} refused without a proper code: {str(code)[:40]!a}")
    return Problem(
        code, _text(document, "summary") or "the agent refused", _text(document, "detail"), _text(document, "fix")
    )


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key)
    return value[:_TEXT_LIMIT] if isinstance(value, str) else ""


def _invalid(detail: str) -> Problem:
    return Problem(
        "REC5005", "the host's reply is not valid", detail, "run recon status; if it stays, report it with this text"
    )


def _too_large(host: str, length: int) -> Problem:
    return Problem(
        "REC5006",
        "the host's reply is too large",
        f"{host} wants to send {length} bytes, the limit is {MAX_REPLY}",
        "look at what fills the reply on the host: stray files in recon's directories, thousands of units",
    )
