"""The file tree of a simulated host: paths, symlinks, owners and modes, in memory.

Nodes are kept by their absolute path; a link anywhere in a path is followed as the kernel does. `put`, `make_dirs` and
`drop` are for what others do to the host, and are on the disk at once; what the agent does goes through `pages`.

Must not: know units, containers or what a path is for.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Callable

from reconciler.sim.state import Node

_LINKS = 40


def error(code: int, path: str) -> OSError:
    """Return the exception that the system raises for this error number, with its words."""
    return OSError(code, os.strerror(code), path)


def _place(path: str) -> str:
    return path.rpartition("/")[0] or "/"


class Files:
    """A tree of nodes. Errors are OSError with the number a real system gives."""

    def __init__(self, nodes: dict[str, Node], tick: Callable[[], int]) -> None:
        self._nodes = nodes
        self._tick = tick
        self._names: dict[str, set[str]] = {}
        # Where paths lead as long as the directories and links on the way stay (with a link at their end followed, and
        # kept), and which of them each one is part of.
        self._followed: dict[str, str] = {}
        self._kept: dict[str, str] = {}
        self._passing: dict[str, set[tuple[str, bool]]] = {}
        self.shape = 0
        """Counts what became of directories and links: while it stands still, there are the same ones."""
        for path in nodes:
            self._names.setdefault(_place(path), set()).add(posixpath.basename(path))

    def resolve(self, path: str, *, last: bool = True) -> str:
        """Return the path with every link followed; the last component only when `last`. It need not exist."""
        resolved = self._followed if last else self._kept
        known = resolved.get(path)
        if known is not None:
            return known
        real = self._beside(path, last=last) or self._resolve(path, last=last)
        place = _place(real)
        parent = self._nodes.get(place)
        if parent is not None and parent.kind == "dir":
            resolved[path] = real
            for part in (real, place):
                passing = self._passing.get(part)
                if passing is None:
                    passing = self._passing[part] = set()
                passing.add((path, last))
        return real

    def _beside(self, path: str, *, last: bool) -> str:
        """Return where a path leads whose directory was found before without a link on the way; empty when unknown."""
        place, _, name = path.rpartition("/")
        if not name or name in (".", "..") or self._followed.get(place) != place:
            return ""
        node, parent = self._nodes.get(path), self._nodes.get(place)
        if parent is None or parent.kind != "dir" or (node is not None and node.kind == "link" and last):
            return ""
        return path

    def _resolve(self, path: str, *, last: bool) -> str:
        if not path.startswith("/"):
            raise ValueError(f"not an absolute path: {path}")
        todo = path.split("/")[::-1]
        done = "/"
        links = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                done = _place(done)
                continue
            here = f"/{part}" if done == "/" else f"{done}/{part}"
            node = self._nodes.get(here)
            if node is not None and node.kind == "link" and (last or any(todo)):
                self._passing.setdefault(here, set()).add((path, last))
                links += 1
                if links > _LINKS:
                    raise error(errno.ELOOP, path)
                todo += node.target.split("/")[::-1]
                done = "/" if node.target.startswith("/") else done
                continue
            if node is not None and node.kind == "file" and any(todo):
                raise error(errno.ENOTDIR, path)
            done = here
        return done

    def lstat(self, path: str) -> Node | None:
        """Return what is at a path without following a link there, or None."""
        known = self._kept.get(path)
        if known is not None:
            return self._nodes.get(known)
        return self._at(path, last=False)

    def stat(self, path: str) -> Node | None:
        """Return what a path leads to, or None."""
        known = self._followed.get(path)
        if known is not None:
            return self._nodes.get(known)
        return self._at(path, last=True)

    def read(self, path: str) -> bytes:
        """Return the bytes of a file."""
        node = self.stat(path)
        if node is None:
            raise error(errno.ENOENT, path)
        if node.kind == "dir":
            raise error(errno.EISDIR, path)
        return node.data

    def read_link(self, path: str) -> str:
        """Return the target of a link."""
        node = self.lstat(path)
        if node is None:
            raise error(errno.ENOENT, path)
        if node.kind != "link":
            raise error(errno.EINVAL, path)
        return node.target

    def listdir(self, path: str) -> list[str]:
        """Return the names in a directory, sorted."""
        node = self.stat(path)
        if node is None:
            raise error(errno.ENOENT, path)
        if node.kind != "dir":
            raise error(errno.ENOTDIR, path)
        return sorted(self._names.get(self.resolve(path), ()))

    def put(self, path: str, node: Node, *, follow: bool = False) -> None:
        """Put a node at a path, in place of a file or link there; its directory must exist."""
        real = self.resolve(path, last=follow)
        parent = self._nodes.get(_place(real))
        if parent is None or parent.kind != "dir":
            raise error(errno.ENOENT if parent is None else errno.ENOTDIR, path)
        old = self._nodes.get(real)
        if old is not None and old.kind == "dir":
            raise error(errno.EISDIR, path)
        self._set(real, node)

    def make_dirs(self, path: str, mode: int = 0o755) -> None:
        """Make a directory and its parents."""
        real = "/"
        if not self._nodes:
            self._nodes["/"] = Node(kind="dir", mode=0o755)
        for part in path.split("/"):
            if not part:
                continue
            real = self.resolve(f"/{part}" if real == "/" else f"{real}/{part}")
            node = self._nodes.get(real)
            if node is None:
                self._set(real, Node(kind="dir", mode=mode))
            elif node.kind != "dir":
                raise error(errno.EEXIST, path)

    def drop(self, path: str) -> None:
        """Remove a file or link; no error when absent."""
        real = self.resolve(path, last=False)
        node = self._nodes.get(real)
        if node is None:
            return
        if node.kind == "dir":
            raise error(errno.EISDIR, path)
        self._unset(real)

    def drop_tree(self, path: str) -> None:
        """Remove a path and everything below it, never through a link; no error when absent."""
        real = self.resolve(path, last=False)
        for below in [name for name in self._nodes if name == real or name.startswith(real.rstrip("/") + "/")]:
            self._unset(below)

    def has(self, directory: str, name: str) -> bool:
        """Say whether a directory, by its path without links, has a name in it."""
        return name in self._names.get(directory, ())

    def walk(self, path: str) -> list[str]:
        """Return every path of a file or link below a directory, links not followed, sorted."""
        real = self.resolve(path)
        prefix = real.rstrip("/") + "/"
        return sorted(name for name, node in self._nodes.items() if name.startswith(prefix) and node.kind != "dir")

    # -- by resolved path -------------------------------------------------------------------------------------------

    def at(self, real: str) -> Node | None:
        """Return what is at a path that has no link in it, or None."""
        return self._nodes.get(real)

    def place(self, real: str, node: Node | None) -> None:
        """Put a node at a path that has no link in it, as it is; None takes away what is there."""
        if node is not None:
            old = self._nodes.get(real)
            if node.kind != "file" or (old is not None and old.kind != "file"):
                self._forget(real)
            self._nodes[real] = node
            place, _, name = real.rpartition("/")
            self._names.setdefault(place or "/", set()).add(name)
        elif real in self._nodes:
            self._unset(real)

    def tree(self, real: str) -> list[str]:
        """Return a path and all paths below it, those in a directory before the directory."""
        prefix = real.rstrip("/") + "/"
        return sorted((name for name in self._nodes if name == real or name.startswith(prefix)), reverse=True)

    def drop_below(self, real: str) -> None:
        """Take away what lies below a path where no directory is any more."""
        for below in self.tree(real):
            self._unset(below)

    def touch(self, node: Node) -> None:
        """Give a node a time of change that nothing had before."""
        node.mtime = self._tick()

    def touched(self) -> int:
        """Return a time of change that nothing has."""
        return self._tick()

    def _at(self, path: str, *, last: bool) -> Node | None:
        try:
            return self._nodes.get(self.resolve(path, last=last))
        except OSError:
            return None

    def _set(self, real: str, node: Node) -> None:
        self.touch(node)
        self.place(real, node)

    def _unset(self, real: str) -> None:
        if self._nodes.pop(real).kind != "file":
            self._forget(real)
        place, _, name = real.rpartition("/")
        self._names.get(place or "/", set()).discard(name)
        self._names.pop(real, None)

    def _forget(self, real: str) -> None:
        """Forget where paths lead that end at, lie in or go through a directory or link that came or went."""
        self.shape += 1
        for path, last in self._passing.pop(real, ()):
            (self._followed if last else self._kept).pop(path, None)
