"""The manager: what a unit does when it starts, stops, or its process ends. PID 1 of a simulated host.

Follows systemd in what recon rests on: readiness of Quadlet services is the container's start, PartOf members go before
their gate, restarts are delayed and limited, a unit whose file is gone keeps running without its ExecStop.

Must not: parse commands of people (`systemctl.py` does), or know what runs in a container.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase

from reconciler.sim.clock import Clock
from reconciler.sim.files import Files
from reconciler.sim.jobs import Answer, Jobs, RefusedError
from reconciler.sim.podman import Podman
from reconciler.sim.state import Active, Node, Process, Run, SimState, UnitFile
from reconciler.sim.timers import Timers
from reconciler.sim.unitfile import command, expand, is_true, last, seconds, split, values, words
from reconciler.sim.units import TRANSIENT, Units

BOOT_TARGET = "multi-user.target"
RELOAD_S = 0.15

_SPAWN_S = 0.3
_ONESHOT_S = 0.02
_TERM_S = 0.05
_KILLED = 137
_START_LIMIT_S, _START_LIMIT_BURST = 10.0, 5
_PATH_CHECKS: dict[str, Answer] = {"AssertPathExists": "assert", "ConditionPathExists": "skipped"}
_RUNTIME = "/run"
_RUNNING = ("active", "activating", "deactivating")


_NEVER_RAN = Run()
"""For looking at only."""


class Manager:
    """systemd on one host."""

    def __init__(self, state: SimState, clock: Clock, files: Files, podman: Podman) -> None:
        self._state = state
        self._clock = clock
        self._files = files
        self._podman = podman
        self.units = Units(state, files)
        self.jobs = Jobs(state, self.units, self, clock.note)
        podman.on_exit = self.main_exited
        podman.on_healthy = self._healthy
        self._timers = Timers(state, clock, self.units, lambda: self.jobs)
        # What a oneshot service runs, when the simulator can run it; returns its exit status.
        self.program: Callable[[list[str]], int] | None = None
        self._on("spawn", self._spawned)
        self._on("oneshot", self._oneshot_ended)
        self._on("restart", self._restart_due)
        self._on("start-timeout", self._start_timed_out)
        self._on("terminated", self._terminated)

    def run_of(self, name: str) -> Run:
        """Return the state of a unit; of one that never ran, that of a unit that is not running."""
        return self._state.runs.get(name) or _NEVER_RAN

    def boot(self) -> None:
        """Do what PID 1 does when the machine comes up: generators, then the boot target and all it wants."""
        self.units.forget_all()
        self._state.runs.clear()
        self.jobs.cancel_all()
        self.units.run_generators()
        self.jobs.enqueue(BOOT_TARGET, "start")

    def daemon_reload(self) -> None:
        """Run the generators and read all units again."""
        for complaint in self.units.reload():
            self._clock.log("systemd", f"quadlet-generator: {complaint}")
        self._clock.note("daemon-reload")

    def reset_failed(self, name: str) -> None:
        """Forget that a unit failed, how often it was restarted and when it was started."""
        run = self._state.runs.get(name)
        if run is None:
            return
        run.restarts, run.result = 0, "success"
        run.starts.clear()
        if run.active == "failed":
            run.active, run.sub = "inactive", "dead"

    def start_transient(self, name: str, argv: list[str], *, collect: bool, description: str = "") -> None:
        """Make and start a service that has no file; RefusedError when there is one of that name."""
        if self.units.get(name).load != "not-found" or self.run_of(name).active in _RUNNING:
            raise RefusedError(f"Unit {name} was already loaded or has a fragment file.")
        # systemd writes it down, or a daemon-reload would lose it.
        text = f"[Unit]\nDescription={description or name}\n[Service]\nType=exec\n"
        self._files.put(f"{TRANSIENT}/{name}", Node.of(text.encode()))
        self.units.add(name)
        run = Run(collect=collect, invocation=self._clock.ident(32, name))
        run.main_pid = self._process(name, argv[0].rpartition("/")[2], argv, {})
        run.active, run.sub, run.since = "active", "running", self._clock.now
        self._state.runs[name] = run
        self._state.launched.append(" ".join([name, *argv[-1:]]))
        self._clock.note(f"transient {name} started")

    def control_group(self, name: str) -> str:
        """Return the control group of a unit that runs, empty when it has none."""
        run = self.run_of(name)
        if not name.endswith(".service") or (not run.main_pid and not self._processes(name)):
            return ""
        return self._cgroup(name)

    def begin_start(self, name: str) -> Answer:
        """Begin to start a unit; see `jobs.Executor`."""
        run = self._known(name)
        if run.active == "active":
            return "done"
        if run.active == "deactivating":
            return "again"
        if run.active == "activating" and run.sub != "auto-restart":
            return "running"
        unit = self.units.get(name)
        if run.sub == "auto-restart":
            # Who starts a unit that waits for its restart only hurries it up; it counts as one.
            run.restarts += 1
            run.is_restart = True
        obstacle = self._obstacle(unit)
        if obstacle is not None:
            return obstacle
        if name.endswith(".timer"):
            run.turn += 1
            self._become(name, "active", "waiting")
            self._timers.wake(name)
            return "done"
        if not name.endswith(".service"):
            self._become(name, "active", "active")
            return "done"
        return self._start_service(name, unit, run)

    def begin_stop(self, name: str) -> Answer:
        """Begin to stop a unit; see `jobs.Executor`."""
        run = self._state.runs.get(name)
        if run is None or run.active in ("inactive", "failed"):
            return "done"
        if run.active == "deactivating":
            return "running"
        run.turn += 1
        container = self._podman.of_unit(name)
        if container is not None:
            self._become(name, "deactivating", "stop")
            self._podman.stop(container)
            return "running"
        if run.main_pid:
            self._become(name, "deactivating", "stop-sigterm")
            self._clock.schedule(_TERM_S, "unit.terminated", unit=name, turn=run.turn)
            return "running"
        self._become(name, "inactive", "dead")
        self._stop_bound(name)
        return "done"

    def main_exited(self, name: str, code: int) -> None:
        """Take note that the main process of a unit ended."""
        run = self._state.runs.get(name)
        if run is None:
            return
        unit = self.units.get(name)
        run.main_pid, run.main_code, run.main_status = 0, 1, code
        is_clean = code == 0 or str(code) in words(unit.sections, "Service", "SuccessExitStatus")
        if unit.load == "not-found" and run.active == "deactivating":
            is_clean = True  # without its ExecStop it gets a plain SIGTERM, and to die of that is clean
        result = "success" if is_clean else "exit-code"
        if code:
            word = "FAILURE" if code == 1 else "n/a"
            self._clock.log(name, f"{name}: Main process exited, code=exited, status={code}/{word}")
        if not is_clean:
            self._clock.log(name, f"{name}: Failed with result '{result}'.")
        if run.active == "deactivating":
            self._dead(name, result)
            return
        if run.active == "activating" and is_clean:
            result = "protocol"
        policy = last(unit.sections, "Service", "Restart", "no")
        again = policy == "always" or (policy == "on-failure" and result != "success")
        self._dead(name, result, restart=again and unit.load == "loaded")

    def kill(self, name: str) -> None:
        """Send SIGKILL to everything in the control group of a unit."""
        container = self._podman.of_unit(name)
        if container is not None:
            self._podman.exited(container.id, _KILLED)
            return
        run = self.run_of(name)
        if run.main_pid:
            self._state.processes.pop(run.main_pid, None)
            self.main_exited(name, _KILLED)

    def finish_transient(self, name: str, code: int) -> None:
        """Let the program of a transient service end."""
        run = self._state.runs.get(name)
        if run is not None:
            self._state.processes.pop(run.main_pid, None)
            self.main_exited(name, code)

    def names_like(self, pattern: str) -> list[str]:
        """Return the loaded units whose name matches and that are not just inactive."""
        self.units.forget_unused()
        return [
            name
            for name in sorted(self._state.loaded)
            if fnmatchcase(name, pattern) and (self.run_of(name).active != "inactive" or self.jobs.of(name))
        ]

    def _obstacle(self, unit: UnitFile) -> Answer | None:
        if unit.load != "loaded":
            return "failed"
        for other in self.units.out("BindsTo", unit.name) & self.units.after(unit.name):
            if self.run_of(other).active != "active":
                return "dependency"
        for key, answer in _PATH_CHECKS.items():
            checks = (expand(check, unit.name, self._specifiers) for check in words(unit.sections, "Unit", key))
            if not all(self._is_so(check) for check in checks):
                return answer
        return None

    def _is_so(self, check: str) -> bool:
        return (self._files.stat(check.lstrip("!")) is None) == check.startswith("!")

    @property
    def _specifiers(self) -> dict[str, str]:
        """Return the ones of the system's manager (systemd.unit(5)) that units of ours use."""
        return {"t": _RUNTIME, "S": "/var/lib", "E": "/etc", "H": self._state.host}

    def _on(self, event: str, handler: Callable[[str, int], None]) -> None:
        self._clock.on(f"unit.{event}", lambda args: handler(str(args["unit"]), int(args["turn"])))

    def _start_service(self, name: str, unit: UnitFile, run: Run) -> Answer:
        run.turn += 1
        run.restarts = run.restarts if run.is_restart else 0
        run.is_restart = False
        if self._over_start_limit(unit, run):
            run.result = "start-limit-hit"
            self._become(name, "failed", "failed")
            self._clock.log(name, f"{name}: Start request repeated too quickly.")
            return "failed"
        run.invocation = self._clock.ident(32, name)
        run.result, run.main_status, run.main_code = "success", 0, 0
        argv = self._argv(unit)
        for directory in words(unit.sections, "Service", "RuntimeDirectory"):
            self._files.make_dirs(f"{_RUNTIME}/{directory}")
        self._become(name, "activating", "start")
        if argv[:1] and argv[0].endswith("/podman"):
            # Its program runs from now on: what becomes of its file meanwhile does not change it.
            run.argv, run.env = argv, self._environment(unit)
            self._clock.schedule(_SPAWN_S, "unit.spawn", unit=name, turn=run.turn)
            limit = seconds(last(unit.sections, "Service", "TimeoutStartSec"), 90.0)
            if limit not in (0.0, float("inf")):
                self._clock.schedule(limit, "unit.start-timeout", unit=name, turn=run.turn)
            return "running"
        if last(unit.sections, "Service", "Type") == "oneshot":
            self._clock.schedule(_ONESHOT_S, "unit.oneshot", unit=name, turn=run.turn)
            return "running"
        run.main_pid = self._process(name, argv[0].rpartition("/")[2], argv, self._environment(unit))
        self._become(name, "active", "running")
        return "done"

    def _spawned(self, name: str, turn: int) -> None:
        run = self._state.runs.get(name)
        if run is None or run.turn != turn:
            return
        argv, env = run.argv, run.env
        run.argv, run.env = [], {}
        made = self._podman.start(name, argv, env, self._cgroup(name))
        if isinstance(made, int):
            self.main_exited(name, made)
            return
        run.main_pid = made.conmon
        if "--sdnotify=healthy" not in argv:
            self._started(name)

    def _healthy(self, name: str) -> None:
        run = self.run_of(name)
        if run.active == "activating" and run.sub == "start":
            self._started(name)

    def _started(self, name: str) -> None:
        self._become(name, "active", "running")
        self.jobs.finish(name, "done")

    def _oneshot_ended(self, name: str, turn: int) -> None:
        run = self._state.runs.get(name)
        if run is None or run.turn != turn:
            return
        unit = self.units.get(name)
        code = self._run_program(self._argv(unit))
        if code:
            self.main_exited(name, code)
        elif is_true(last(unit.sections, "Service", "RemainAfterExit", "no")):
            self._become(name, "active", "exited")
            self.jobs.finish(name, "done")
        else:
            self._clock.log(name, f"Finished {name}.")
            self._become(name, "inactive", "dead")
            self.jobs.finish(name, "done")

    def _run_program(self, argv: list[str]) -> int:
        if argv[0].endswith("/false"):
            return 1
        return self.program(argv) if self.program is not None and argv[0].endswith("/python3") else 0

    def _start_timed_out(self, name: str, turn: int) -> None:
        run = self._state.runs.get(name)
        if run is None or run.turn != turn or run.active != "activating":
            return
        container = self._podman.of_unit(name)
        self._clock.log(name, f"{name}: start operation timed out. Terminating.")
        if container is not None:
            self._podman.exited(container.id, 137)
        run.result = "timeout"

    def _terminated(self, name: str, turn: int) -> None:
        run = self._state.runs.get(name)
        if run is not None and run.turn == turn:
            self._state.processes.pop(run.main_pid, None)
            self.main_exited(name, 0)

    def _restart_due(self, name: str, turn: int) -> None:
        run = self._state.runs.get(name)
        if run is None or run.turn != turn or run.sub != "auto-restart":
            return
        run.restarts += 1
        run.is_restart = True
        self._clock.log(name, f"{name}: Scheduled restart job, restart counter is at {run.restarts}.")
        try:
            self.jobs.enqueue(name, "restart")
        except RefusedError:
            self._dead(name, "resources")

    def _dead(self, name: str, result: str, *, restart: bool = False) -> None:
        run = self._state.runs[name]
        run.turn += 1
        run.result = result if run.result == "success" else run.result
        job = self.jobs.of(name)
        unit = self.units.get(name)
        if restart:
            self._become(name, "activating", "auto-restart")
            self._clock.schedule(_restart_delay(unit, run), "unit.restart", unit=name, turn=run.turn)
            if job is not None and job.running and last(unit.sections, "Service", "RestartMode") != "direct":
                self.jobs.finish(name, "failed")
            return
        failed = run.result != "success"
        self._become(name, "failed" if failed else "inactive", "failed" if failed else "dead")
        if job is not None and job.kind == "restart":
            job.kind, job.running = "start", False
        elif job is not None and job.running:
            self.jobs.finish(name, "done" if job.kind == "stop" else "failed")
        self._stop_bound(name)
        if run.collect:
            self._state.runs.pop(name, None)
            self.units.forget(name)
            self._files.drop(f"{TRANSIENT}/{name}")
        self.jobs.run()

    def _stop_bound(self, name: str) -> None:
        for other in sorted(self.units.into("BindsTo", name)):
            if self.run_of(other).active in ("active", "activating"):
                self.jobs.enqueue(other, "stop")

    def _known(self, name: str) -> Run:
        run = self._state.runs.get(name)
        if run is None:
            run = self._state.runs[name] = Run()
        return run

    def _become(self, name: str, active: Active, sub: str) -> None:
        run = self._known(name)
        if (run.active, run.sub) != (active, sub):
            self._clock.note(f"{name} {active}/{sub}")
        run.active, run.sub, run.since = active, sub, self._clock.now
        if active in ("inactive", "failed") and name.endswith(".service"):
            self._timers.ended(name)
            # Of a unit whose file is gone systemd does not know any more that it has one.
            for directory in words(self.units.get(name).sections, "Service", "RuntimeDirectory"):
                self._files.drop_tree(f"{_RUNTIME}/{directory}")

    def _over_start_limit(self, unit: UnitFile, run: Run) -> bool:
        span = seconds(last(unit.sections, "Unit", "StartLimitIntervalSec"), _START_LIMIT_S)
        burst = int(last(unit.sections, "Unit", "StartLimitBurst", str(_START_LIMIT_BURST)))
        run.starts[:] = [at for at in run.starts if at > self._clock.now - span]
        if span > 0 and len(run.starts) >= burst:
            return True
        run.starts.append(self._clock.now)
        return False

    def _argv(self, unit: UnitFile) -> list[str]:
        return command(last(unit.sections, "Service", "ExecStart"), unit.name, self._specifiers)

    def _environment(self, unit: UnitFile) -> dict[str, str]:
        pairs = [word for value in values(unit.sections, "Service", "Environment") for word in split(value)]
        return {
            key: expand(value, unit.name, self._specifiers) for key, _, value in (pair.partition("=") for pair in pairs)
        }

    def _process(self, name: str, comm: str, argv: list[str], env: dict[str, str]) -> int:
        pid = self._clock.pid()
        self._state.processes[pid] = Process(
            pid=pid, comm=comm[:15], argv=argv, cgroup=self._cgroup(name), env=env, started=self._clock.now
        )
        return pid

    def _processes(self, name: str) -> bool:
        prefix = self._cgroup(name)
        return any((process.cgroup + "/").startswith(prefix + "/") for process in self._state.processes.values())

    def _cgroup(self, name: str) -> str:
        slice_name = last(self.units.get(name).sections, "Service", "Slice", "system.slice")
        parts = slice_name.removesuffix(".slice").split("-")
        path = "".join("/" + "-".join(parts[: index + 1]) + ".slice" for index in range(len(parts)))
        return f"{path}/{name}"


def _restart_delay(unit: UnitFile, run: Run) -> float:
    """Return the pause before the next restart: constant, or growing in steps (systemd 254 and later)."""
    first = seconds(last(unit.sections, "Service", "RestartSec"), 0.1)
    longest = seconds(last(unit.sections, "Service", "RestartMaxDelaySec"), float("inf"))
    steps = int(last(unit.sections, "Service", "RestartSteps", "0"))
    coming = run.restarts + 1
    if coming <= 1 or not steps or first <= 0 or longest == float("inf") or first >= longest:
        return first
    if coming > steps:
        return longest
    return first * float((longest / first) ** ((coming - 1) / steps))
