"""An open directory of a simulated host: by its node, not by its path, as a descriptor is.

Must not: follow a link, or know why anybody looks.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from reconciler.agent.machine import Directory, Entry
from reconciler.sim.disk import SimSystem
from reconciler.sim.files import Files, error
from reconciler.sim.state import Node

_DEVICE = 1
_MOUNT = 1
_BLOCK = 4096


class SimDirectory(Directory):
    """See `agent.machine.Directory`. There is one mount in a simulated host, and nobody holds a file open."""

    def __init__(
        self,
        path: str,
        node: Node,
        files: Files,
        disk: SimSystem,
        changing: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._path = path
        self._node = node
        self._files = files
        self._disk = disk
        self._changing = changing

    @classmethod
    def at(
        cls, path: str, files: Files, disk: SimSystem, changing: Callable[[str], AbstractContextManager[None]]
    ) -> SimDirectory:
        """Open a directory by its path; a link anywhere in it is an error."""
        if files.resolve(path) != path:
            raise error(errno.ELOOP, path)
        return cls._of(path, files, disk, changing)

    @classmethod
    def _of(
        cls, path: str, files: Files, disk: SimSystem, changing: Callable[[str], AbstractContextManager[None]]
    ) -> SimDirectory:
        node = files.at(path)
        if node is None:
            raise error(errno.ENOENT, path)
        if node.kind != "dir":
            raise error(errno.ELOOP if node.kind == "link" else errno.ENOTDIR, path)
        return cls(path, node, files, disk, changing)

    @property
    def mount(self) -> int:
        return _MOUNT

    def entries(self) -> Iterator[Entry]:
        for name in self._files.listdir(self._here()):
            found = self.entry(name.encode("utf-8", "surrogateescape"))
            if found is not None:
                yield found

    def entry(self, name: bytes) -> Entry | None:
        node = self._files.at(self._below(name))
        if node is None:
            return None
        size = -(-len(node.data) // _BLOCK) * _BLOCK if node.kind == "file" else 0
        return Entry(name, node.kind, size, node.mtime, _DEVICE, id(node), 1)

    def open(self, name: bytes) -> SimDirectory:
        return self._of(self._below(name), self._files, self._disk, self._changing)

    def read(self, name: bytes, limit: int = 1 << 20) -> bytes:
        path = self._below(name)
        node = self._files.at(path)
        if node is None or node.kind != "file":
            raise error(errno.ENOENT if node is None else errno.ELOOP, path)
        return node.data[:limit]

    def is_written(self, name: bytes) -> bool | None:
        del name
        return False

    def unlink(self, name: bytes) -> None:
        path = self._below(name)
        with self._changing(f"unlink {path}"):
            self._disk.unlink(path)

    def close(self) -> None:
        """Nothing is held."""

    def _here(self) -> str:
        if self._files.at(self._path) is not self._node:
            raise error(errno.ENOENT, self._path)
        return self._path

    def _below(self, name: bytes) -> str:
        return f"{self._here().rstrip('/')}/{name.decode('utf-8', 'surrogateescape')}"
