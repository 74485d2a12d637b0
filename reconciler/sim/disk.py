"""The calls of the system that change a simulated disk, one by one: what `agent.durable` is made of.

Each call is announced before it happens, so that a test can let it fail, or let the power go between any two.

Must not: put calls together; that is the agent's own code, the same as on a real host.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
from collections.abc import Callable
from typing import NamedTuple

from reconciler.agent.durable import System
from reconciler.sim.files import Files, error
from reconciler.sim.pages import Pages
from reconciler.sim.state import Node, SimState


class _Open(NamedTuple):
    """An open file, or a directory by its path."""

    path: str
    node: Node


class SimSystem(System):
    """The disk of one simulated host, as the program on it calls it. `announce` may raise."""

    def __init__(self, state: SimState, files: Files, announce: Callable[[str], None]) -> None:
        self._state = state
        self._files = files
        self._announce = announce
        self._open: dict[int, _Open] = {}
        self._next = 3
        self.pages = Pages(files)

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        self._announce(f"open {path}")
        real = self._files.resolve(path, last=not flags & (os.O_NOFOLLOW | os.O_EXCL))
        node = self._files.at(real)
        if flags & os.O_DIRECTORY:
            if node is None or node.kind != "dir":
                raise error(errno.ENOENT if node is None else errno.ENOTDIR, path)
        elif node is None:
            node = Node(kind="file", text="", mode=mode)
            self._make(real, node, path)
        elif flags & os.O_EXCL:
            raise error(errno.EEXIST, path)
        elif node.kind != "file":
            raise error(errno.ELOOP if node.kind == "link" else errno.EISDIR, path)
        self._next += 1
        self._open[self._next] = _Open(real, node)
        return self._next

    def write(self, fd: int, data: memoryview) -> int:
        path, node = self._open[fd]
        self._announce(f"write {path}")
        if len(data) > self._state.disk_free:
            raise error(errno.ENOSPC, path)
        before = node.data
        self.pages.dirty(node, before + bytes(data), len(before))
        self._files.touch(node)
        return len(data)

    def fchmod(self, fd: int, mode: int) -> None:
        path, node = self._open[fd]
        self._announce(f"fchmod {path}")
        self.pages.chmod(node, mode)

    def fsync(self, fd: int) -> None:
        path, node = self._open[fd]
        try:
            self._announce(f"fsync {path}")
        except OSError:
            if node.kind == "file":
                self.pages.fail(node, self.luck().random)
            raise
        if node.kind == "dir":
            self.pages.sync_directory(path)
        else:
            self.pages.sync(node)

    def close(self, fd: int) -> None:
        self._announce(f"close {self._open[fd].path}")
        del self._open[fd]

    def rename(self, old: str, new: str) -> None:
        self._announce(f"rename {new}")
        source, target = self._files.resolve(old, last=False), self._files.resolve(new, last=False)
        node, there = self._files.at(source), self._files.at(target)
        if node is None:
            raise error(errno.ENOENT, old)
        if there is not None and there.kind == "dir":
            raise error(errno.EISDIR, new)
        self._check_parent(target, new)
        if node.kind != "dir":
            self.pages.change({source: None, target: node})
            return
        tree = self._files.tree(source)
        there_now = {target + below[len(source) :]: self._files.at(below) for below in reversed(tree)}
        self.pages.change({**there_now, **dict.fromkeys(tree)})

    def unlink(self, path: str) -> None:
        self._announce(f"unlink {path}")
        real = self._files.resolve(path, last=False)
        node = self._files.at(real)
        if node is None:
            raise error(errno.ENOENT, path)
        if node.kind == "dir":
            raise error(errno.EISDIR, path)
        self.pages.change({real: None})

    def symlink(self, target: str, path: str) -> None:
        self._announce(f"symlink {path}")
        self._make(self._files.resolve(path, last=False), Node(kind="link", target=target, mode=0o777), path)

    def mkdir(self, path: str, mode: int) -> None:
        self._announce(f"mkdir {path}")
        real = self._files.resolve(path, last=False)
        if self._files.at(real) is not None:
            raise error(errno.EEXIST, path)
        self._make(real, Node(kind="dir", mode=mode), path)

    def rmtree(self, path: str) -> None:
        real = self._files.resolve(path, last=False)
        for below in self._files.tree(real):
            self._announce(f"unlink {below}")
            self.pages.change({below: None})

    def lexists(self, path: str) -> bool:
        return self._files.lstat(path) is not None

    def isdir(self, path: str) -> bool:
        node = self._files.stat(path)
        return node is not None and node.kind == "dir"

    def token(self) -> str:
        """Return digits nobody had before, the same in every run of the same seed."""
        return hashlib.sha256(self._fresh().encode()).hexdigest()[:12]

    def luck(self) -> random.Random:
        """Return what decides on pages here and now, the same in every run of the same seed."""
        return random.Random(self._fresh())  # noqa: S311  # no secret

    def _fresh(self) -> str:
        """Return words nobody had before; the wall clock is not in them, so that it changes no luck."""
        state = self._state
        state.serial += 1
        return f"{state.seed}:{state.host}:{state.boots}:{state.serial}"

    def end_program(self) -> None:
        """Close what a program that is no more had open; what it wrote is still in memory."""
        self._open.clear()

    def _make(self, real: str, node: Node, path: str) -> None:
        if self._files.at(real) is not None:
            raise error(errno.EEXIST, path)
        self._check_parent(real, path)
        self._files.touch(node)
        self.pages.change({real: node})

    def _check_parent(self, real: str, path: str) -> None:
        parent = self._files.at(real.rpartition("/")[0] or "/")
        if parent is None or parent.kind != "dir":
            raise error(errno.ENOENT if parent is None else errno.ENOTDIR, path)
