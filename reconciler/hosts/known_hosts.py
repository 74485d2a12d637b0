"""Host keys as OpenSSH keeps them: read once for a run, looked up by name.

Only the lines of the host that is asked for are taken apart, so a file of thousands costs nothing. Certificate
authorities are not used; a key marked `@revoked` is never accepted.

Must not: add a key, ever. Who wants a host trusted says so in git or in known_hosts.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DEFAULT_FILES = (Path("~/.ssh/known_hosts"), Path("~/.ssh/known_hosts2"), Path("/etc/ssh/ssh_known_hosts"))


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public key: its type and the decoded bytes."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """Say it the way `ssh-keygen -l` does."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    def __str__(self) -> str:
        return f"{self.kind} {base64.b64encode(self.blob).decode()}"


def parse_key(text: str) -> HostKey | None:
    """Read `ssh-ed25519 AAAA… [comment]`; None when it is not a public key."""
    words = text.split()
    if len(words) < 2:
        return None
    try:
        blob = base64.b64decode(words[1], validate=True)
    except binascii.Error:
        return None
    kind = words[0].encode()
    # The type stands in the blob again, with its length; a mismatch means a key that was cut or mixed up.
    if blob[: 4 + len(kind)] != len(kind).to_bytes(4, "big") + kind:
        return None
    return HostKey(words[0], blob)


@dataclass(frozen=True, slots=True)
class Trusted:
    """What is known about one host."""

    keys: tuple[HostKey, ...]
    revoked: tuple[HostKey, ...]


class KnownHosts:
    """The lines of some known_hosts files."""

    def __init__(self, text: str) -> None:
        self._plain: dict[str, list[tuple[str, str]]] = {}
        self._matched: list[tuple[str, str, str]] = []
        for line in text.splitlines():
            self._add(line.strip())

    @classmethod
    def read(cls, files: Iterable[Path] = DEFAULT_FILES) -> KnownHosts:
        """Read the files that are there; one that cannot be read knows nobody."""
        texts = []
        for file in files:
            try:
                texts.append(file.expanduser().read_text(encoding="utf-8", errors="replace"))
            except (OSError, RuntimeError):
                continue
        return cls("\n".join(texts))

    def _add(self, line: str) -> None:
        if not line or line.startswith("#"):
            return
        marker = ""
        if line.startswith("@"):
            marker, _, line = line.partition(" ")
            line = line.strip()
        names, _, key = line.partition(" ")
        if marker not in {"", "@revoked"}:
            return
        if names.startswith("|") or any(sign in names for sign in "*?!"):
            self._matched.append((marker, names, key))
            return
        for name in names.split(","):
            self._plain.setdefault(name.lower(), []).append((marker, key))

    def lookup(self, address: str, port: int = 22) -> Trusted:
        """Return the keys of an address; other ports than 22 are entries of their own, as for ssh."""
        name = address.lower() if port == 22 else f"[{address.lower()}]:{port}"
        found = list(self._plain.get(name, ()))
        found += [(marker, key) for marker, names, key in self._matched if _matches(names, name)]
        parsed = [(marker, parse_key(key)) for marker, key in found]
        return Trusted(
            keys=tuple(key for marker, key in parsed if key and not marker),
            revoked=tuple(key for marker, key in parsed if key and marker),
        )


def _matches(names: str, name: str) -> bool:
    if names.startswith("|1|"):
        return _matches_hash(names, name)
    words = [word.lower() for word in names.split(",")]
    if any(word.startswith("!") and _glob(word[1:], name) for word in words):
        return False
    return any(_glob(word, name) for word in words if not word.startswith("!"))


def _glob(pattern: str, name: str) -> bool:
    # In known_hosts only * and ? are special; a bracket is the bracket of `[name]:port`.
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def _matches_hash(names: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in names[3:].split("|", 1))
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)
