"""An open directory as an executor may use it: looked at freely, changed only while the claim is proven.

Must not: decide what to do when the claim is lost.
"""

from __future__ import annotations

from typing import Callable, Iterator, Optional

from .machine import Directory, Entry


class FencedDirectory(Directory):
    """A directory whose changes need a claim; `prove` raises without one."""

    def __init__(self, inner: Directory, prove: Callable[[], None]) -> None:
        self._inner = inner
        self._prove = prove

    @property
    def mount(self) -> int:
        return self._inner.mount

    def entries(self) -> Iterator[Entry]:
        return self._inner.entries()

    def entry(self, name: bytes) -> Optional[Entry]:
        return self._inner.entry(name)

    def open(self, name: bytes) -> Directory:
        return FencedDirectory(self._inner.open(name), self._prove)

    def read(self, name: bytes, limit: int = 1 << 20) -> bytes:
        return self._inner.read(name, limit)

    def is_written(self, name: bytes) -> Optional[bool]:
        return self._inner.is_written(name)

    def unlink(self, name: bytes) -> None:
        self._prove()
        self._inner.unlink(name)

    def close(self) -> None:
        self._inner.close()
