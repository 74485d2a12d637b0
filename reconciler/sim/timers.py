"""Timers of systemd, in virtual time: when one elapses it starts its service, and counts again from the service's end.

Only the two settings that recon's timer uses are known: OnActiveSec= and OnUnitInactiveSec=.

Must not: start a unit in another way than through the job queue.
"""

from __future__ import annotations

from collections.abc import Callable

from reconciler.sim.clock import Clock
from reconciler.sim.jobs import Jobs, RefusedError
from reconciler.sim.state import SimState, UnitFile
from reconciler.sim.unitfile import last, seconds
from reconciler.sim.units import Units

_NEVER = float("inf")


class Timers:
    """All timers of one host. `wake` is called by the manager when a timer begins, `ended` when a service has ended."""

    def __init__(self, state: SimState, clock: Clock, units: Units, jobs: Callable[[], Jobs]) -> None:
        self._state = state
        self._clock = clock
        self._units = units
        self._jobs = jobs
        clock.on("timer.elapsed", lambda args: self._elapsed(str(args["unit"]), int(args["turn"])))

    def wake(self, name: str) -> None:
        """Count from now on to the first time."""
        self._count(self._units.get(name), "OnActiveSec")

    def ended(self, service: str) -> None:
        """Count from now on to the next time for every timer of a service."""
        for name, run in list(self._state.runs.items()):
            if name.endswith(".timer") and run.active == "active":
                unit = self._units.get(name)
                if _service_of(unit) == service:
                    self._count(unit, "OnUnitInactiveSec")

    def _count(self, unit: UnitFile, key: str) -> None:
        span = seconds(last(unit.sections, "Timer", key), _NEVER)
        if span != _NEVER:
            turn = self._state.runs[unit.name].turn
            self._clock.schedule(span, "timer.elapsed", unit=unit.name, turn=turn)

    def _elapsed(self, name: str, turn: int) -> None:
        run = self._state.runs.get(name)
        if run is None or run.active != "active" or run.turn != turn:
            return
        try:
            self._jobs().enqueue(_service_of(self._units.get(name)), "start")
        except RefusedError as refused:
            self._clock.log(name, f"{name}: Failed to queue unit startup job: {refused}")


def _service_of(timer: UnitFile) -> str:
    return last(timer.sections, "Timer", "Unit", timer.name.removesuffix(".timer") + ".service")
