"""Virtual time, and what is numbered: events in their order, process ids, identifiers, log lines.

Time moves only when somebody waits. What is due then happens, in the order of its time and then of its making, so a
run depends on nothing but the state and the calls.

Must not: read a real clock, or draw random numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from reconciler.sim.state import Event, SimState

Handler = Callable[[dict[str, str | int | float]], None]

_LOG_LINES = 200


def _order(event: Event) -> tuple[float, int]:
    return event.due, event.seq


class Clock:
    """The time of one host. `trace` lists everything that happened since it was loaded, for tests that compare runs.

    `watch` is called after everything that happened by itself.
    """

    def __init__(self, state: SimState) -> None:
        self._state = state
        self._handlers: dict[str, Handler] = {}
        self.trace: list[str] = []
        self.watch: Callable[[], None] | None = None

    @property
    def now(self) -> float:
        """Virtual seconds since the simulation began; never goes back, also not over a reboot."""
        return self._state.now

    def on(self, name: str, handler: Handler) -> None:
        """Say what happens when an event of this name is due."""
        self._handlers[name] = handler

    def schedule(self, delay: float, name: str, **args: str | int | float) -> None:
        """Let an event happen after some seconds."""
        self._state.events.append(Event(due=self.now + delay, seq=self.serial(), name=name, args=args))

    def drop(self, prefix: str = "") -> None:
        """Forget the events whose name begins so."""
        self._state.events = [event for event in self._state.events if not event.name.startswith(prefix)]

    def advance(self, duration: float) -> None:
        """Let time pass."""
        end = self.now + max(0.0, duration)
        while self._step(end):
            pass
        # What happened meanwhile may have taken its own time.
        self._state.now = max(self.now, end)

    def wait_for(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Let time pass until a condition holds, at most so long; says whether it does."""
        end = self.now + timeout
        while not condition():
            if not self._step(end):
                self._state.now = max(self.now, end)
                return condition()
        return True

    def _step(self, end: float) -> bool:
        due = min((event for event in self._state.events if event.due <= end), key=_order, default=None)
        if due is None:
            return False
        self._state.events.remove(due)
        self._state.now = max(self.now, due.due)
        self._handlers[due.name](due.args)
        if self.watch is not None:
            self.watch()
        return True

    def serial(self) -> int:
        """Return the next number."""
        self._state.serial += 1
        return self._state.serial

    def tick(self) -> int:
        """Return a modification time in nanoseconds; two changes never have the same."""
        at = int((self._state.epoch + self.now) * 1e9)
        self._state.mtime = max(at, self._state.mtime + 1)
        return self._state.mtime

    def pid(self) -> int:
        """Return a process id nobody had before."""
        self._state.next_pid += 7
        return self._state.next_pid

    def ident(self, length: int, what: str = "") -> str:
        """Return hexadecimal digits that are the same in every run of the same seed."""
        text = f"{self._state.seed}:{self._state.host}:{self.serial()}:{what}"
        return (hashlib.sha256(text.encode()).hexdigest() * 2)[:length]

    def note(self, text: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self.now:.3f} {text}")

    def log(self, unit: str, line: str) -> None:
        """Add a line to the journal of a unit."""
        lines = self._state.logs.setdefault(unit, [])
        times = self._state.log_times.setdefault(unit, [])
        lines.append(line)
        times.append(round(self._state.now, 3))
        del lines[:-_LOG_LINES], times[:-_LOG_LINES]
