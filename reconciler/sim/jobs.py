"""Jobs and transactions of systemd: what a start or stop pulls in, in which order it runs, what fails with it.

The rules are systemd's own (`transaction.c`, `job.c`), as far as recon's units can meet them: stop goes before start
between ordered units, a transaction that contradicts a queued job is refused with `--job-mode=fail`, a failed start
fails what requires it.

Must not: know what a unit does when it starts; the manager does that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from reconciler.sim.state import Job, Run, SimState
from reconciler.sim.unitfile import is_true, last
from reconciler.sim.units import Units

Kind = Literal["start", "stop", "restart", "verify-active"]
Mode = Literal["replace", "fail"]
Result = Literal["done", "failed", "dependency", "canceled", "skipped", "assert", "timeout"]
Answer = Literal["running", "again", "done", "failed", "dependency", "skipped", "assert"]

_STARTING = ("start", "restart")
_LIVE = ("active", "activating")


class RefusedError(Exception):
    """systemd refuses a request; `rc` is what systemctl then ends with."""

    def __init__(self, text: str, rc: int = 1) -> None:
        super().__init__(text)
        self.rc = rc


class _Wish(NamedTuple):
    kind: Kind
    matters: bool


class Executor(Protocol):
    """What jobs need from the manager: begin to do a thing, and the state of a unit."""

    def begin_start(self, name: str) -> Answer: ...

    def begin_stop(self, name: str) -> Answer: ...

    def run_of(self, name: str) -> Run: ...


class Jobs:
    """The job queue of one host. `results` keeps how jobs of this command ended, for callers that wait."""

    def __init__(self, state: SimState, units: Units, executor: Executor, trace: Callable[[str], None]) -> None:
        self._state = state
        self._units = units
        self._executor = executor
        self._trace = trace
        self._busy = False
        self.results: dict[int, Result] = {}

    def of(self, name: str) -> Job | None:
        """Return the job of a unit, or None."""
        return next((job for job in self._state.jobs if job.unit == name), None)

    def enqueue(self, name: str, kind: Kind, mode: Mode = "replace") -> int:
        """Queue a job with everything it pulls in and return its id; RefusedError when systemd would refuse.

        0 when there is nothing to do for the unit.
        """
        wishes: dict[str, _Wish] = {}
        self._wish(wishes, name, kind, matters=True)
        self._drop_idle(wishes)
        self._check_destructive(wishes, name, kind, mode)
        for unit, wish in wishes.items():
            self._install(unit, wish.kind)
        job = self.of(name)
        self.run()
        return job.id if job is not None else 0

    def cancel_all(self) -> None:
        """Forget every job: the machine went down."""
        self._state.jobs.clear()

    def run(self) -> None:
        """Begin every job that may begin, until none can."""
        if self._busy:
            return
        self._busy = True
        try:
            while sum(self._try(job) for job in sorted(self._state.jobs, key=lambda job: job.id)):
                pass
        finally:
            self._busy = False

    def finish(self, name: str, result: Result) -> None:
        """End the job of a unit, and fail what cannot go on without it."""
        job = self.of(name)
        if job is None:
            return
        self._state.jobs.remove(job)
        self.results[job.id] = result
        self._trace(f"job {job.kind} {name}: {result}")
        if result != "done" and job.kind in ("start", "verify-active"):
            for relation in ("Requires", "Requisite", "BindsTo"):
                self._fail_dependants(sorted(self._units.into(relation, name)))
        self.run()

    def _fail_dependants(self, names: list[str]) -> None:
        for name in names:
            job = self.of(name)
            if job is not None and job.kind in ("start", "verify-active"):
                self.finish(name, "dependency")

    def _try(self, job: Job) -> bool:
        if job not in self._state.jobs or job.running or self._must_wait(job):
            return False
        answer = self._begin(job)
        if answer == "again":
            return False
        if answer == "running":
            job.running = True
            return True
        if job.kind == "restart" and answer == "done":
            job.kind = "start"
            return True
        self.finish(job.unit, answer)
        return True

    def _begin(self, job: Job) -> Answer:
        run = self._executor.run_of(job.unit)
        if job.kind == "verify-active":
            if run.active == "active":
                return "done"
            return "again" if run.active == "activating" else "skipped"
        if job.kind == "start":
            return self._executor.begin_start(job.unit)
        return self._executor.begin_stop(job.unit)

    def _must_wait(self, job: Job) -> bool:
        """Ordered units: a start waits for whatever its earlier unit does; anything waits for a later unit's stop."""
        for other in self._units.after(job.unit):
            theirs = self.of(other)
            if theirs is not None and job.kind not in ("stop", "restart"):
                return True
        for other in self._units.before(job.unit):
            theirs = self.of(other)
            if theirs is not None and theirs.kind in ("stop", "restart"):
                return True
        return False

    def _wish(self, wishes: dict[str, _Wish], name: str, kind: Kind, *, matters: bool) -> None:
        unit = self._units.get(name)
        if kind in _STARTING and unit.load != "loaded":
            self._check_loadable(name)
        merged = _merge(wishes.get(name), kind, matters=matters)
        if merged is None:
            # Inside a mere wish this drops the wish: so the later of two covens that both want to boot does not.
            raise RefusedError(f"Transaction contains conflicting jobs for {name}.", rc=4)
        if wishes.get(name) == merged:
            return
        wishes[name] = merged
        if kind in _STARTING:
            self._pull_in(wishes, name, matters=matters)
        if kind in ("stop", "restart"):
            self._propagate_stop(wishes, name, kind, matters=matters)

    def _pull_in(self, wishes: dict[str, _Wish], name: str, *, matters: bool) -> None:
        for relation in ("Requires", "BindsTo"):
            for other in sorted(self._units.out(relation, name)):
                self._wish(wishes, other, "start", matters=matters)
        for other in sorted(self._units.out("Wants", name)):
            trial = dict(wishes)
            try:
                self._wish(trial, other, "start", matters=False)
            except RefusedError:
                continue  # a wish is only a wish
            wishes.update(trial)
        for other in sorted(self._units.out("Requisite", name)):
            self._wish(wishes, other, "verify-active", matters=matters)
        for other in sorted(self._units.out("Conflicts", name) | self._units.into("Conflicts", name)):
            is_down = self._executor.run_of(other).active in ("inactive", "failed") and self.of(other) is None
            if is_down and wishes.get(other, _Wish("stop", matters=False)).kind == "stop":
                continue
            self._wish(wishes, other, "stop", matters=matters)

    def _propagate_stop(self, wishes: dict[str, _Wish], name: str, kind: Kind, *, matters: bool) -> None:
        for relation in ("Requires", "Requisite", "BindsTo", "PartOf"):
            for other in sorted(self._units.into(relation, name)):
                if kind == "stop":
                    self._wish(wishes, other, "stop", matters=matters)
                elif self._executor.run_of(other).active in _LIVE:
                    self._wish(wishes, other, "restart", matters=matters)

    def _check_loadable(self, name: str) -> None:
        unit = self._units.get(name)
        if unit.load == "masked":
            raise RefusedError(f"Unit {name} is masked.")
        if unit.load == "not-found":
            raise RefusedError(f"Unit {name} not found.", rc=5)
        if unit.load == "bad-setting":
            raise RefusedError(f"Unit {name} has a bad unit file setting.", rc=1)

    def check_manual(self, name: str, kind: Kind) -> None:
        """Refuse what a unit says nobody may ask for by hand."""
        sections = self._units.get(name).sections
        refused = ("RefuseManualStart",) if kind == "start" else ("RefuseManualStop",)
        for key in (*refused, "RefuseManualStart") if kind == "restart" else refused:
            if is_true(last(sections, "Unit", key, "no")):
                raise RefusedError(
                    f"Operation refused, unit {name} may be requested by dependency only"
                    " (it is configured to refuse manual start/stop).",
                    rc=4,
                )

    def _drop_idle(self, wishes: dict[str, _Wish]) -> None:
        """Leave out what is so already."""
        for name, wish in list(wishes.items()):
            if self.of(name) is not None:
                continue
            active = self._executor.run_of(name).active
            idle = {
                "stop": active in ("inactive", "failed"),
                "start": active == "active",
                "verify-active": active == "active",
                "restart": False,
            }
            if idle[wish.kind]:
                del wishes[name]

    def _check_destructive(self, wishes: dict[str, _Wish], anchor: str, kind: Kind, mode: Mode) -> None:
        if mode != "fail":
            return
        for name, wish in wishes.items():
            job = self.of(name)
            if job is not None and _merge(_Wish(job.kind, matters=True), wish.kind, matters=True) is None:
                raise RefusedError(
                    f"Transaction for {anchor}/{kind} is destructive ({name} has '{job.kind}' job queued,"
                    f" but '{wish.kind}' is included in transaction).",
                    rc=4,
                )

    def _install(self, name: str, kind: Kind) -> None:
        job = self.of(name)
        if job is not None:
            merged = _merge(_Wish(job.kind, matters=True), kind, matters=True)
            if merged is not None:
                job.kind = merged.kind
                return
            self._state.jobs.remove(job)
            self.results[job.id] = "canceled"
        self._state.serial += 1
        self._state.jobs.append(Job(id=self._state.serial, unit=name, kind=kind))
        self._trace(f"job {kind} {name}: queued")


def _merge(old: _Wish | None, kind: Kind, *, matters: bool) -> _Wish | None:
    """Return what two wishes for one unit come to; None when they contradict each other."""
    if old is None:
        return _Wish(kind, matters)
    both = {old.kind, kind}
    if "stop" in both and len(both) > 1:
        return None
    strongest: Kind = "restart" if "restart" in both else "start" if "start" in both else kind
    return _Wish(strongest, old.matters or matters)
