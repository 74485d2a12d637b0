"""The machine as an executor may use it: before every change the claim is proven.

A holder that was believed dead (stopped, swapped out, its host suspended) and wakes up must not finish anyway. So the
proof is not left to the steps: whatever they do goes through here, and a change outside recon's own books is made only
while the epoch on the disk is the holder's. The way back and the tidying after a commit are safety deeds and may be
finished without (`lowered`).

The holder also renews its lease from here, for this is where it waits.

Must not: decide what to do when the claim is lost; `LeaseError` says that it is.
"""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from . import places
from .fence_directory import FencedDirectory
from .lease import Lease, LeaseError
from .machine import Begun, Completed, Directory, Machine, Response, Stat

_BOOKS = (places.STATE, places.RUN)
_LOOKS = (
    ("systemctl", "show"),
    ("systemctl", "is-active"),
    ("systemctl", "--version"),
    ("podman", "--version"),
    ("podman", "image", "exists"),
    ("podman", "image", "inspect"),
    ("podman", "inspect"),
    ("podman", "ps"),
    ("journalctl",),
    ("systemd-analyze", "verify"),
    ("nvidia-smi", "-q"),
    ("nft", "-c"),
    ("podman-system-generator", "--dryrun"),
)


class Fenced(Machine):
    """A machine whose changes need a claim. Everything else is passed on."""

    def __init__(self, inner: Machine) -> None:
        self._inner = inner
        self._lease: Optional[Lease] = None
        self._lowered = 0
        self._apart = False

    def hold(self, lease: Optional[Lease]) -> None:
        """Use this claim from now on; without one nothing is changed."""
        self._lease = lease

    @property
    def is_lowered(self) -> bool:
        """Say whether changes are made without a proof just now."""
        return self._lowered > 0

    @contextlib.contextmanager
    def lowered(self) -> Iterator[None]:
        """Let a safety deed finish whoever has the claim by now."""
        self._lowered += 1
        try:
            yield
        finally:
            self._lowered -= 1

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """Prove the claim again before every change, also inside a safety deed: this one is none, and may be left."""
        before, self._lowered = self._lowered, 0
        try:
            yield
        finally:
            self._lowered = before

    def prove(self) -> None:
        """Raise `LeaseError` unless the claim is ours, or a safety deed is under way."""
        if self._lowered:
            return
        if self._lease is None:
            raise LeaseError("the host was never claimed")
        self._lease.check()

    def _prove_for(self, path: str) -> None:
        if not any(path == place or path.startswith(place + "/") for place in _BOOKS):
            self.prove()

    def _renew(self, busy_s: float = 0.0) -> None:
        # From one thread only: what runs beside others is short.
        if self._lease is not None and not self._apart:
            self._lease.renew(busy_s)

    @property
    def own_manager(self) -> str:
        return self._inner.own_manager

    @property
    def own_login(self) -> str:
        return self._inner.own_login

    @property
    def own_uid(self) -> int:
        return self._inner.own_uid

    def here(self, path: str) -> str:
        return self._inner.here(path)

    # -- looks ------------------------------------------------------------------------------------------------------

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        return self._inner.read(path, limit)

    def read_link(self, path: str) -> str:
        return self._inner.read_link(path)

    def listdir(self, path: str) -> List[str]:
        return self._inner.listdir(path)

    def stat(self, path: str) -> Optional[Stat]:
        return self._inner.stat(path)

    def open_directory(self, path: str) -> Directory:
        return FencedDirectory(self._inner.open_directory(path), lambda: self._prove_for(path))

    def free_bytes(self, path: str) -> int:
        return self._inner.free_bytes(path)

    def gpu_facts(self, timeout_s: float) -> Dict[str, Any]:
        return self._inner.gpu_facts(timeout_s)

    def begin_gpu_facts(self, timeout_s: float) -> Callable[[], Dict[str, Any]]:
        return self._inner.begin_gpu_facts(timeout_s)

    def log_error(self, text: str) -> None:
        self._inner.log_error(text)

    def lock(self, path: str) -> "AbstractContextManager[None]":
        return self._inner.lock(path)

    def monotonic(self) -> float:
        return self._inner.monotonic()

    def boottime(self) -> float:
        return self._inner.boottime()

    def wall(self) -> float:
        return self._inner.wall()

    def secret(self) -> str:
        return self._inner.secret()

    # -- waits ------------------------------------------------------------------------------------------------------

    def sleep(self, seconds: float) -> None:
        self._renew(seconds)
        self._inner.sleep(seconds)

    def parallel(self, calls: Sequence[Any]) -> List[Any]:
        self._renew()
        before, self._apart = self._apart, True
        try:
            return self._inner.parallel(calls)
        finally:
            self._apart = before

    def begin(self, call: Callable[[], Any]) -> Begun:
        # What it sends is proven when it is sent: without the claim, a call that was left behind sends nothing.
        return self._inner.begin(call)

    # -- changes ----------------------------------------------------------------------------------------------------

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        # One proof for each directory that is made, also for those above it.
        parent = os.path.dirname(path)
        if self._inner.stat(parent) is None:
            self.mkdir(parent)
        self._prove_for(path)
        self._inner.mkdir(path, mode)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._prove_for(path)
        self._inner.write(path, data, mode)

    def poke(self, path: str, data: bytes) -> None:
        self._prove_for(path)
        self._inner.poke(path, data)

    def append(self, path: str, data: bytes) -> None:
        self._prove_for(path)
        self._inner.append(path, data)

    def symlink(self, target: str, path: str) -> None:
        self._prove_for(path)
        self._inner.symlink(target, path)

    def rename(self, old: str, new: str) -> None:
        self._prove_for(old)
        self._prove_for(new)
        self._inner.rename(old, new)

    def rewrite(self, path: str, change: Callable[[bytes], Optional[bytes]]) -> bool:
        self._prove_for(path)
        return self._inner.rewrite(path, change)

    def remove(self, path: str) -> None:
        self._prove_for(path)
        self._inner.remove(path)

    def remove_tree(self, path: str) -> None:
        self._prove_for(path)
        self._inner.remove_tree(path)

    def run(
        self, argv: Sequence[str], timeout_s: float, stdin: bytes = b"", env: Optional[Dict[str, str]] = None
    ) -> Completed:
        # Renewed first: that takes a write and a sync, and nothing may come between the proof and the deed.
        self._renew(timeout_s)
        if not only_looks(argv):
            self.prove()
        return self._inner.run(argv, timeout_s, stdin, env)

    def http(
        self, method: str, url: str, timeout_s: float, body: Optional[bytes] = None, limit: int = 1 << 20
    ) -> Response:
        if method != "GET":
            self.prove()
        return self._inner.http(method, url, timeout_s, body, limit)

    def post(self, url: str, timeout_s: float, body: bytes, headers: Dict[str, str], limit: int = 1 << 10) -> Response:
        self.prove()
        return self._inner.post(url, timeout_s, body, headers, limit)


def only_looks(argv: Sequence[str]) -> bool:
    """Say whether a command changes nothing; one that is not known here is taken for a change."""
    words = (argv[0].rpartition("/")[2], *argv[1:])
    return any(words[: len(look)] == look for look in _LOOKS)
