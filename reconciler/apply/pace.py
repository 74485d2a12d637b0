"""Time as `apply` sees it: a clock, and waiting that can be cut short.

Must not: decide how long anything takes.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Pace(Protocol):
    """A clock and a way to wait; tests bring one on which no time passes."""

    def monotonic(self) -> float:
        """Return seconds on a clock that never jumps."""
        ...

    def wall(self) -> float:
        """Return Unix seconds, for people."""
        ...

    def wait(self, seconds: float, wake: threading.Event) -> None:
        """Wait, or less when the event is set."""
        ...


class RealPace:
    """The clock of this computer."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def wait(self, seconds: float, wake: threading.Event) -> None:
        wake.wait(seconds)
