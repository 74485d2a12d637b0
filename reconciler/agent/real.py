"""This computer, behind the agent's seam: durable files, bounded programs, bounded HTTP, the GPU in a child.

How a write survives a power cut is in `durable`. What may hang (programs, HTTP, NVML, /proc of a stuck process) has a
deadline and is left behind when it cannot be stopped.

Must not: hold any decision.
"""

import contextlib
import fcntl
import os
import re
import stat as stat_bits
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Callable, Dict, List, Optional, Sequence

from . import bounded, descent, exchange, gpu_child, programs, web
from .durable import DurableMachine
from .machine import Begun, BusyError, Completed, Directory, Response, Stat

_MAY_HANG = re.compile(r"^/proc/(\d+|driver)/")
_HANG_S = 2.0
_PIECE = 1 << 20


class RealMachine(DurableMachine):
    """See `machine.Machine` for what each call promises."""

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        if _MAY_HANG.match(path):
            return bounded.within(lambda: _read(path, limit), _HANG_S)
        return _read(path, limit)

    def read_link(self, path: str) -> str:
        return os.readlink(path)

    def listdir(self, path: str) -> List[str]:
        return sorted(os.listdir(path))

    def stat(self, path: str) -> Optional[Stat]:
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        mode = stat_bits.S_IMODE(found.st_mode)
        return Stat(_kind(found.st_mode), found.st_size, mode, found.st_uid, found.st_mtime_ns)

    def free_bytes(self, path: str) -> int:
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def poke(self, path: str, data: bytes) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._write_all(fd, data)
        finally:
            os.close(fd)

    def open_directory(self, path: str) -> Directory:
        return descent.open_directory(path)

    def rewrite(self, path: str, change: Callable[[bytes], Optional[bytes]]) -> bool:
        return exchange.rewrite(path, change)

    def run(
        self, argv: Sequence[str], timeout_s: float, stdin: bytes = b"", env: Optional[Dict[str, str]] = None
    ) -> Completed:
        return programs.run(argv, timeout_s, stdin, env)

    def http(
        self, method: str, url: str, timeout_s: float, body: Optional[bytes] = None, limit: int = 1 << 20
    ) -> Response:
        return web.call(method, url, timeout_s, body, limit)

    def post(self, url: str, timeout_s: float, body: bytes, headers: Dict[str, str], limit: int = 1 << 10) -> Response:
        return web.call("POST", url, timeout_s, body, limit, headers)

    def gpu_facts(self, timeout_s: float) -> Dict[str, Any]:
        return self.begin_gpu_facts(timeout_s)()

    def begin_gpu_facts(self, timeout_s: float) -> Callable[[], Dict[str, Any]]:
        return gpu_child.begin(timeout_s)

    def log_error(self, text: str) -> None:
        # Units of ours have their stderr in the journal, and systemd reads the priority off the line.
        sys.stderr.write(f"<3>{text}\n")
        sys.stderr.flush()

    def lock(self, path: str) -> "AbstractContextManager[None]":
        return _locked(path)

    def monotonic(self) -> float:
        return time.monotonic()

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        return time.time()

    def secret(self) -> str:
        import secrets  # an observation never needs it

        return secrets.token_urlsafe(32)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def parallel(self, calls: Sequence[Any]) -> List[Any]:
        return bounded.parallel(list(calls))

    def begin(self, call: Callable[[], Any]) -> Begun:
        return bounded.begin(call)


def _read(path: str, limit: int) -> bytes:
    # O_NONBLOCK: opening a FIFO that somebody put in a directory of ours must not wait for its other end.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat_bits.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(22, "not a regular file", path)
        pieces: List[bytes] = []
        left = limit
        while left > 0:
            piece = os.read(fd, min(left, _PIECE))
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(fd)


def _kind(mode: int) -> str:
    for test, kind in ((stat_bits.S_ISREG, "file"), (stat_bits.S_ISDIR, "dir"), (stat_bits.S_ISLNK, "link")):
        if test(mode):
            return kind
    return "other"


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(path) from error
        yield
    finally:
        os.close(fd)
