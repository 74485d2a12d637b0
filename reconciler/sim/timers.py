"""Timers of systemd, in virtual time: when one elapses it starts its service, and counts again from the service's end.

Only the settings that recon's timers use are known: OnActiveSec=, OnBootSec=, OnUnitInactiveSec= and OnCalendar= with
days, a time of the day and a time zone.

Must not: start a unit in another way than through the job queue.
"""

from __future__ import annotations

from collections.abc import Callable

from reconciler.agent import week
from reconciler.sim.clock import Clock
from reconciler.sim.jobs import Jobs, RefusedError
from reconciler.sim.state import SimState, UnitFile
from reconciler.sim.unitfile import last, seconds, values
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
        """Count from now on to the first time, by every setting it has."""
        unit = self._units.get(name)
        self._forget(name)
        self._count(unit, "OnActiveSec")
        boot = seconds(last(unit.sections, "Timer", "OnBootSec"), _NEVER)
        if boot != _NEVER:
            # One that lies in the past when its timer begins elapses at once (systemd.timer(5)).
            self._due(unit, "OnBootSec", max(0.0, self._state.booted_at + boot - self._state.now))
        self._count_calendar(unit)

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
            self._due(unit, key, span)

    def _count_calendar(self, unit: UnitFile) -> None:
        now = self._state.epoch + self._state.now
        due = [at for line in values(unit.sections, "Timer", "OnCalendar") for at in _next(line, now)]
        if due:
            self._due(unit, "OnCalendar", min(due) - now)

    def _due(self, unit: UnitFile, key: str, span: float) -> None:
        """Elapse after a span; what the same setting counted before is forgotten."""
        self._forget(unit.name, key)
        turn = self._state.runs[unit.name].turn
        self._clock.schedule(span, "timer.elapsed", unit=unit.name, turn=turn, key=key)

    def _forget(self, name: str, key: str = "") -> None:
        self._state.events = [
            event
            for event in self._state.events
            if event.name != "timer.elapsed"
            or event.args.get("unit") != name
            or (key and event.args.get("key", key) != key)
        ]

    def _elapsed(self, name: str, turn: int) -> None:
        run = self._state.runs.get(name)
        if run is None or run.active != "active" or run.turn != turn:
            return
        self._count_calendar(self._units.get(name))
        try:
            self._jobs().enqueue(_service_of(self._units.get(name)), "start")
        except RefusedError as refused:
            self._clock.log(name, f"{name}: Failed to queue unit startup job: {refused}")


def _next(line: str, now: float) -> list[int]:
    """Return when a calendar line is due next: `Mon,Tue *-*-* 02:00:00 Europe/Berlin`, the days may be missing."""
    *days, date, clock, zone = line.split()
    if date != "*-*-*" or len(days) > 1 or not clock.endswith(":00"):
        raise ValueError(f"the simulator does not know this calendar line: {line}")
    due = week.times(clock[:5], days[0] if days else "Mon..Sun", zone, now, now + week.HORIZON_S)
    return list(due)[:1]


def _service_of(timer: UnitFile) -> str:
    return last(timer.sections, "Timer", "Unit", timer.name.removesuffix(".timer") + ".service")
