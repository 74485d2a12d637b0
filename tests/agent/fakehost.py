"""A host made of a dictionary: files, links, what programs and addresses answer. Nothing runs at the same time."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Any

from reconciler.agent.machine import Begun, Completed, Machine, Response, Stat

Content = bytes | str


class Link(str):
    """A symlink, with its target."""

    __slots__ = ()


class Denied(str):
    """A file that must not be read."""

    __slots__ = ()


def error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


class FakeHost(Machine):
    """`files` maps paths to bytes, text, `Link` or `Denied`; directories are there because something is in them."""

    def __init__(
        self,
        files: dict[str, Content] | None = None,
        *,
        programs: dict[tuple[str, ...], Completed] | None = None,
        addresses: dict[str, Response] | None = None,
        nvml: dict[str, Any] | None = None,
        directories: Sequence[str] = (),
    ) -> None:
        self.files: dict[str, Content] = dict(files or {})
        self.directories = set(directories)
        self.programs = programs or {}
        self.addresses = addresses or {}
        self.nvml = nvml
        self.ran: list[tuple[str, ...]] = []
        self.now = 100.0

    def _real(self, path: str) -> str:
        """Follow links in the directories of a path, and at its end."""
        for _ in range(10):
            for place, content in self.files.items():
                if isinstance(content, Link) and (path == place or path.startswith(place + "/")):
                    path = content + path[len(place) :]
                    break
            else:
                return path
        raise error(errno.ELOOP, path)

    def _parent_resolved(self, path: str) -> str:
        head, _, tail = path.rpartition("/")
        return f"{self._real(head)}/{tail}" if head else path

    def _is_dir(self, path: str) -> bool:
        return path in self.directories or any(name.startswith(path + "/") for name in self.files)

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        content = self.files.get(self._real(path))
        if content is None:
            raise error(errno.EISDIR if self._is_dir(self._real(path)) else errno.ENOENT, path)
        if isinstance(content, Denied):
            raise error(errno.EACCES, path)
        return (content.encode() if isinstance(content, str) else content)[:limit]

    def read_link(self, path: str) -> str:
        content = self.files.get(self._parent_resolved(path))
        if not isinstance(content, Link):
            raise error(errno.EINVAL if content is not None else errno.ENOENT, path)
        return str(content)

    def listdir(self, path: str) -> list[str]:
        real = self._real(path)
        if real in self.files:
            raise error(errno.ENOTDIR, path)
        if not self._is_dir(real):
            raise error(errno.ENOENT, path)
        inside = [name for name in (*self.files, *self.directories) if name.startswith(real + "/")]
        return sorted({name[len(real) + 1 :].split("/")[0] for name in inside})

    def stat(self, path: str) -> Stat | None:
        real = self._parent_resolved(path)
        content = self.files.get(real)
        if content is None:
            return Stat("dir", 0, 0o755, 0) if self._is_dir(real) else None
        return Stat("link" if isinstance(content, Link) else "file", len(content), 0o644, 0, 1)

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        self.directories.add(path)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self.files[path] = data

    def symlink(self, target: str, path: str) -> None:
        self.files[path] = Link(target)

    def remove(self, path: str) -> None:
        self.files.pop(path, None)

    def run(
        self, argv: Sequence[str], timeout_s: float, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> Completed:
        self.ran.append(tuple(argv))
        return self.programs.get(tuple(argv), Completed(127, b"", f"{argv[0]}: No such file or directory".encode()))

    def http(
        self, method: str, url: str, timeout_s: float, body: bytes | None = None, limit: int = 1 << 20
    ) -> Response:
        return self.addresses.get(url, Response(0, b"Connection refused"))

    def gpu_facts(self, timeout_s: float) -> dict[str, Any]:
        if self.nvml is None:
            raise OSError("no NVML in this test")
        return self.nvml

    def monotonic(self) -> float:
        return self.now

    def boottime(self) -> float:
        return 4000.5

    def wall(self) -> float:
        return 1_700_000_000.0

    def parallel(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        return [call() for call in calls]

    def begin(self, call: Callable[[], Any]) -> Begun:
        return Begun(lambda: True, call)
