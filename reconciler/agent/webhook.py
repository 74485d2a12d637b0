"""Standard Webhooks 1.0, as far as bytes go: keys, signatures, and whether a message is one of ours.

    webhook-id, webhook-timestamp, webhook-signature: v1,<base64 of HMAC-SHA256(key, "id.timestamp.body")> …

Several keys in a file make a change of keys without a gap: each signs, and a receiver takes whichever it knows.

Must not: touch a file or a clock, or say anything of a key. Pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Dict, List, Mapping

PREFIX = "whsec_"
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
SHORTEST, LONGEST = 24, 64
TOLERANCE_S = 300.0
_VERSION = "v1"
_MOST_KEYS = 8
_SECONDS = re.compile(r"\A[0-9]{1,12}\Z")


class SecretError(ValueError):
    """A file of keys that is none; the text never says what stands in it."""


class MessageError(ValueError):
    """A message that is not to be believed; `code` says why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def read_keys(data: bytes) -> List[bytes]:
    """Return the keys in a file: `whsec_` and base64 of 24 to 64 bytes in each line, but for empty ones and #."""
    keys: List[bytes] = []
    for number, line in enumerate(data.splitlines(), 1):
        text = line.strip().decode("ascii", "replace")
        if not text or text.startswith("#"):
            continue
        try:
            key = base64.b64decode(text[len(PREFIX) :], validate=True) if text.startswith(PREFIX) else b""
        except (binascii.Error, ValueError):
            key = b""
        if not SHORTEST <= len(key) <= LONGEST:
            raise SecretError(f"line {number} is not {PREFIX} and base64 of {SHORTEST} to {LONGEST} bytes")
        keys.append(key)
    if not keys:
        raise SecretError("there is no key in it")
    if len(keys) > _MOST_KEYS:
        raise SecretError(f"there are more than {_MOST_KEYS} keys in it")
    return keys


def sign(keys: List[bytes], name: str, timestamp: int, body: bytes) -> Dict[str, str]:
    """Return the three headers of a message."""
    made = " ".join(f"{_VERSION},{_mac(key, name, str(timestamp), body)}" for key in keys)
    return {ID: name, TIMESTAMP: str(timestamp), SIGNATURE: made}


def check(keys: List[bytes], headers: Mapping[str, str], body: bytes, now: float, tolerance_s: float) -> str:
    """Return the id of a message that one of the keys signed lately; MessageError says what is wrong with another.

    Every key is compared with every signature, whichever comes first, each in constant time.
    """
    given = {name.strip().lower(): value.strip() for name, value in headers.items()}
    missing = [name for name in (ID, TIMESTAMP, SIGNATURE) if not given.get(name)]
    if missing:
        raise MessageError("REC7328", f"there is no {' and no '.join(missing)}")
    name, stamp = given[ID], given[TIMESTAMP]
    if not _SECONDS.match(stamp):
        raise MessageError("REC7328", f"{TIMESTAMP} is not a time in whole seconds")
    offered = [word[len(_VERSION) + 1 :] for word in given[SIGNATURE].split(" ") if word.startswith(_VERSION + ",")]
    found = False
    for key in keys:
        wanted = _mac(key, name, stamp, body).encode()
        for each in offered:
            found |= hmac.compare_digest(wanted, each.encode("utf-8", "backslashreplace"))
    if not found:
        raise MessageError("REC7329", "none of its signatures is made with one of the keys over this body")
    away = now - int(stamp)
    if abs(away) > tolerance_s:
        when = "old" if away > 0 else "in the future"
        raise MessageError("REC7330", f"it is {abs(away):.0f} s {when}; {tolerance_s:.0f} s are tolerated")
    return name


def _mac(key: bytes, name: str, stamp: str, body: bytes) -> str:
    signed = name.encode("utf-8", "backslashreplace") + b"." + stamp.encode() + b"." + body
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
