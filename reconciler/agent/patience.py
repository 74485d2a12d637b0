"""Waits for a lock that somebody else holds, for a while.

Must not: wait without an end, or say who has it.
"""

from __future__ import annotations

import contextlib
from typing import Iterator

from .machine import BusyError, Machine

_POLL_S = 0.25


@contextlib.contextmanager
def locked(machine: Machine, path: str, patience_s: float) -> Iterator[None]:
    """Hold a lock for the length of a block; `BusyError` when it is not free within the time."""
    ends = machine.monotonic() + patience_s
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(machine.lock(path))
                break
            except BusyError:
                if machine.monotonic() >= ends:
                    raise
                machine.sleep(_POLL_S)
        yield
