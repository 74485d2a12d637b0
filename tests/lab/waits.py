"""Waiting for what a real host, or a program beside the test, gives no other sign of.

Must not: wait for ever; what never comes is a failure that says so.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable


def wait_until(what: str, holds: Callable[[], bool], *, at_most_s: float = 120.0, every_s: float = 0.5) -> None:
    end = time.monotonic() + at_most_s
    while not holds():
        assert time.monotonic() < end, f"it never came to this: {what}"
        time.sleep(every_s)


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for what its own line says well enough, with quick looks."""
    wait_until("the line above", holds, at_most_s=seconds, every_s=0.1)


def until_told(ran: subprocess.Popen[bytes], words: bytes) -> bytes:
    """Return what a program said up to the line with these words."""
    assert ran.stdout is not None
    seen = b""
    while words not in seen:
        line = ran.stdout.readline()
        assert line, seen
        seen += line
    return seen
