"""Runs one program without a shell: bounded in time, output and consequences.

The program gets its own process group, so that at the deadline its children die with it. A child that cannot be killed
(stuck in the kernel, as programs that touch a wedged GPU get) is left behind rather than waited for.

Must not: interpret what a program says.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from typing import IO, Dict, List, Mapping, Optional, Sequence

from .machine import Completed

OUTPUT_LIMIT = 8 << 20
TIMED_OUT = 124
NOT_THERE = 127
_AFTER_EXIT_S = 0.2
_PIECE = 1 << 16

# Fixed, not inherited: what a login's start files put there must not decide which podman runs. HOME is for podman.
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
}


def run(
    argv: Sequence[str], timeout_s: float, stdin: bytes = b"", env: Optional[Mapping[str, str]] = None
) -> Completed:
    """Run a program to its end or its deadline; see `machine.Machine.run`."""
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**_ENVIRONMENT, **(env or {})},
            start_new_session=True,
            bufsize=0,
        )
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        return Completed(NOT_THERE, b"", f"{argv[0]}: {error.strerror}".encode())
    talk = _Talk(process, stdin, time.monotonic() + timeout_s)
    if not talk.to_the_end():
        _kill_group(process)
        return Completed(TIMED_OUT, talk.out, talk.err + b"\nrecon: killed at its deadline")
    return Completed(process.returncode, talk.out, talk.err)


class _Talk:
    """Feeds a program its stdin and gathers what it says, until it is gone or the deadline has passed."""

    def __init__(self, process: "subprocess.Popen[bytes]", stdin: bytes, ends: float) -> None:
        self._process = process
        self._waiting = memoryview(stdin)
        self._ends = ends
        self._gone_at: Optional[float] = None
        self._pieces: Dict[str, List[bytes]] = {"out": [], "err": []}
        self._sizes = {"out": 0, "err": 0}

    @property
    def out(self) -> bytes:
        return b"".join(self._pieces["out"])

    @property
    def err(self) -> bytes:
        return b"".join(self._pieces["err"])

    def to_the_end(self) -> bool:
        """Talk; False when the deadline came first."""
        streams = {"in": self._process.stdin, "out": self._process.stdout, "err": self._process.stderr}
        with selectors.DefaultSelector() as selector:
            for name, stream in streams.items():
                if stream is not None:
                    os.set_blocking(stream.fileno(), False)
                    event = selectors.EVENT_WRITE if name == "in" else selectors.EVENT_READ
                    selector.register(stream, event, (name, stream))
            while selector.get_map() and not self._is_over():
                for key, _ in selector.select(max(0.0, min(0.1, self._ends - time.monotonic()))):
                    name, stream = key.data
                    if not (self._feed(stream) if name == "in" else self._gather(name, stream)):
                        selector.unregister(stream)
                        stream.close()
        for stream in streams.values():
            if stream is not None:
                stream.close()
        return self._has_ended()

    def _is_over(self) -> bool:
        now = time.monotonic()
        if self._gone_at is None and self._process.poll() is not None:
            self._gone_at = now
        # Something the program started may keep the pipe open for ever: it is not waited for.
        return now >= self._ends or (self._gone_at is not None and now >= self._gone_at + _AFTER_EXIT_S)

    def _feed(self, stream: IO[bytes]) -> bool:
        """Write a piece; False when all is written, or nobody reads it."""
        try:
            written = os.write(stream.fileno(), self._waiting[:_PIECE])
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._waiting = self._waiting[written:]
        return bool(self._waiting)

    def _gather(self, name: str, stream: IO[bytes]) -> bool:
        """Read a piece; what is over the limit is dropped, so that the program does not block. False at the end."""
        try:
            piece = os.read(stream.fileno(), _PIECE)
        except BlockingIOError:
            return True
        kept = piece[: OUTPUT_LIMIT - self._sizes[name]]
        if kept:
            self._pieces[name].append(kept)
            self._sizes[name] += len(kept)
        return bool(piece)

    def _has_ended(self) -> bool:
        try:
            self._process.wait(max(0.0, self._ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.0)
