"""systemctl, systemd-run, systemd-analyze and journalctl of a simulated host: words in, output and exit status out.

Must not: decide anything the manager decides; know a command the agent does not use (those fail loudly).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from reconciler.agent.machine import Completed
from reconciler.sim import journal
from reconciler.sim.clock import Clock
from reconciler.sim.faults import fault_of
from reconciler.sim.files import Files
from reconciler.sim.jobs import Kind, Mode, RefusedError
from reconciler.sim.podman import UnknownArgvError
from reconciler.sim.state import SimState
from reconciler.sim.systemd import RELOAD_S, Manager
from reconciler.sim.unitfile import BadUnitError, last, parse, seconds

_ALL = 1 << 30
_SECTIONS = frozenset({"Unit", "Service", "Install", "Socket", "Timer", "Path", "Mount", "Slice", "Scope", "Target"})
_UNIT_KEYS = frozenset(
    """Description Documentation Wants Requires Requisite BindsTo PartOf Upholds Conflicts Before After OnFailure
    OnSuccess PropagatesStopTo StopPropagatedFrom PropagatesReloadTo ReloadPropagatedFrom RequiresMountsFor
    WantsMountsFor StopWhenUnneeded RefuseManualStart
    RefuseManualStop AllowIsolate DefaultDependencies CollectMode JobTimeoutSec StartLimitIntervalSec StartLimitBurst
    StartLimitAction SourcePath ConditionPathExists AssertPathExists FailureAction SuccessAction""".split()  # noqa: SIM905 - one word a line would fill a screen
)
_SERVICE_KEYS = frozenset(
    """Type RemainAfterExit RuntimeDirectory GuessMainPID PIDFile BusName ExecStart ExecStartPre ExecStartPost
    ExecCondition ExecReload ExecStop ExecStopPost RestartSec RestartSteps RestartMaxDelaySec RestartMode
    TimeoutStartSec TimeoutStopSec TimeoutAbortSec TimeoutSec RuntimeMaxSec WatchdogSec Restart
    SuccessExitStatus RestartPreventExitStatus RestartForceExitStatus NotifyAccess OOMPolicy OOMScoreAdjust
    Environment EnvironmentFile KillMode KillSignal SendSIGKILL SyslogIdentifier Delegate Slice MemoryMax
    MemoryHigh MemorySwapMax TasksMax CPUQuota CPUWeight IOWeight LimitNOFILE LimitMEMLOCK LogLevelMax User
    Group WorkingDirectory StandardOutput StandardError LoadCredential Nice NoNewPrivileges RestrictSUIDSGID
    LockPersonality ProtectSystem""".split()  # noqa: SIM905 - as above
)
_BACK = {
    "WantedBy": "Wants",
    "RequiredBy": "Requires",
    "UpheldBy": "Upholds",
    "RequisiteOf": "Requisite",
    "BoundBy": "BindsTo",
    "ConsistsOf": "PartOf",
}
_JOB_FAILED = (
    "Job for {0} failed because the control process exited with error code.\n"
    'See "systemctl status {0}" and "journalctl -xeu {0}" for details.'
)
_NO_ROOM = (
    "Failed to reload daemon: Refusing to reload, not enough space available on /run/systemd. "
    "Currently, 9.1M are free, but a safety buffer of 16.0M is enforced.\n"
)
_SERVICE_ONLY = (
    *("Type", "MainPID", "Result", "NRestarts", "ExecMainCode", "ExecMainStatus", "ControlGroup"),
    *("Restart", "MemoryMax", "TasksMax"),
)


class Systemctl:
    """The commands around systemd on one host."""

    def __init__(self, state: SimState, clock: Clock, files: Files, manager: Manager) -> None:
        self._state = state
        self._clock = clock
        self._files = files
        self._manager = manager

    def systemctl(self, argv: Sequence[str], timeout_s: float) -> Completed:
        """Answer `systemctl …`."""
        verb, options, names = _split(argv)
        self._manager.units.forget_unused()
        if verb == "--version":
            return Completed(0, f"systemd {self._state.systemd} ({self._state.systemd})\n".encode(), b"")
        if verb == "show":
            return self._show(options, names)
        if verb == "daemon-reload":
            if fault_of(self._state, "reload", "*") is not None:
                return Completed(1, b"", _NO_ROOM.encode())
            self._clock.advance(RELOAD_S)
            self._manager.daemon_reload()
            return Completed(0, b"", b"")
        if verb in ("start", "stop", "restart"):
            return self._queue(verb, options, names, timeout_s)
        if verb == "reset-failed":
            return self._reset(names)
        if verb == "kill" and options == {"--kill-whom": "all", "--signal": "SIGKILL"}:
            for name in names:
                self._manager.kill(name)
            return Completed(0, b"", b"")
        if verb in ("is-active", "is-failed"):
            return self._is(verb, names)
        raise UnknownArgvError(f"systemctl: {list(argv)}")

    def systemd_run(self, argv: Sequence[str]) -> Completed:
        """Answer `systemd-run …` for a transient service that does not block."""
        options: dict[str, list[str]] = {}
        at = 1
        while at < len(argv) and argv[at].startswith("--"):
            key, _, value = argv[at].partition("=")
            options.setdefault(key, []).append(value)
            at += 1
            if key == "--":
                break
        unit, command = next(iter(options.get("--unit", [])), ""), list(argv[at:])
        known = {"--unit", "--collect", "--no-block", "--no-ask-password", "--service-type", "--property", "--quiet"}
        if not unit or not command or set(options) - known - {"--description", "--slice", "--setenv", "--"}:
            raise UnknownArgvError(f"systemd-run: {list(argv)}")
        self._manager.units.forget_unused()
        try:
            says = next(iter(options.get("--description", [])), unit)
            self._manager.start_transient(unit, command, collect="--collect" in options, description=says)
        except RefusedError as refused:
            return Completed(1, b"", f"Failed to start transient service unit: {refused}\n".encode())
        return Completed(0, b"", f"Running as unit: {unit}\n".encode())

    def analyze(self, argv: Sequence[str], env: dict[str, str]) -> Completed:
        """Answer `systemd-analyze verify …` as it does with `--recursive-errors=yes`: any complaint is a failure."""
        if argv[1:2] != ["verify"] or "--recursive-errors=yes" not in argv:
            raise UnknownArgvError(f"systemd-analyze: {list(argv)}")
        paths = [word for word in argv[2:] if not word.startswith("--")]
        places = [place for place in env.get("SYSTEMD_UNIT_PATH", "").split(":") if place]
        complaints = [line for path in paths for line in self._verify(path, places)]
        return Completed(1 if complaints else 0, b"", "".join(line + "\n" for line in complaints).encode())

    def journalctl(self, argv: Sequence[str]) -> Completed:
        """Answer `journalctl` for the last lines of one unit."""
        unit, count, since, after, as_json = "", 10, float("-inf"), "", False
        words = iter(argv[1:])
        for word in words:
            key, _, value = word.partition("=")
            if key in ("-u", "--unit"):
                unit = value or next(words)
            elif key in ("-n", "--lines"):
                count = int(value or next(words))
            elif key == "--since" and value.startswith("@"):
                since = float(value[1:]) - self._state.epoch
            elif key == "--after-cursor":
                after, count = value, _ALL
            elif word == "--output=json":
                as_json = True
            elif key == "-o" and next(words) == "cat":
                continue
            elif word not in ("--output=cat", "--no-pager", "--quiet", "-q"):
                raise UnknownArgvError(f"journalctl: {list(argv)}")
        if not unit:
            raise UnknownArgvError(f"journalctl: {list(argv)}")
        lines = self._state.logs.get(unit, [])
        # A state that was saved before times were kept has lines without one: they are older than any.
        times = [float("-inf")] * len(lines) + self._state.log_times.get(unit, [])
        times = times[len(times) - len(lines) :]
        if as_json:
            return Completed(0, journal.entries(unit, lines, times, self._state.epoch, after=after, count=count), b"")
        lines = [line for line, at in zip(lines, times, strict=True) if at >= since][-count:]
        return Completed(0, "".join(line + "\n" for line in lines).encode(), b"")

    def _queue(self, verb: str, options: dict[str, str], names: list[str], timeout_s: float) -> Completed:
        kind: Kind = "start" if verb == "start" else "stop" if verb == "stop" else "restart"
        mode: Mode = "fail" if options.get("--job-mode") == "fail" else "replace"
        rc, errors, jobs = 0, [], []
        for name in names:
            try:
                if kind != "stop" and self._manager.units.get(name).load == "not-found":
                    raise RefusedError(f"Unit {name} not found.", rc=5)
                if kind == "stop" and self._is_unknown(name):
                    raise RefusedError(f"Unit {name} not loaded.", rc=5)
                self._manager.jobs.check_manual(name, kind)
                jobs.append((name, self._manager.jobs.enqueue(name, kind, mode)))
            except RefusedError as refused:
                rc = refused.rc
                errors.append(f"Failed to {verb} {name}: {refused}")
                if refused.rc == 4:
                    errors.append(f"See system logs and 'systemctl status {name}' for details.")
        if "--no-block" not in options:
            rc = self._wait(jobs, errors, timeout_s) or rc
        return Completed(rc, b"", "".join(line + "\n" for line in errors).encode())

    def _wait(self, jobs: list[tuple[str, int]], errors: list[str], timeout_s: float) -> int:
        results = self._manager.jobs.results
        waiting = [(name, job) for name, job in jobs if job]
        if not self._clock.wait_for(lambda: all(job in results for _, job in waiting), timeout_s):
            return 124
        words = {
            "dependency": "A dependency job for {} failed. See 'journalctl -xe' for details.",
            "canceled": "Job for {} canceled.",
            "skipped": "",
        }
        rc = 0
        for name, job in waiting:
            result = results[job]
            if result == "done":
                continue
            text = words.get(result, _JOB_FAILED).format(name)
            errors += [text] if text else []
            rc = 0 if result == "skipped" else 1
        return rc

    def _is_unknown(self, name: str) -> bool:
        return self._manager.units.get(name).load == "not-found" and self._manager.run_of(name).active == "inactive"

    def _reset(self, names: list[str]) -> Completed:
        errors = []
        for name in names:
            if any(char in name for char in "*?["):
                for match in [unit for unit in list(self._state.runs) if fnmatchcase(unit, name)]:
                    self._manager.reset_failed(match)
            elif name not in self._state.loaded:
                errors.append(f"Failed to reset failed state of unit {name}: Unit {name} not loaded.")
            else:
                self._manager.reset_failed(name)
        return Completed(1 if errors else 0, b"", "".join(line + "\n" for line in errors).encode())

    def _is(self, verb: str, names: list[str]) -> Completed:
        found = [self._manager.run_of(name).active for name in names]
        wanted = "active" if verb == "is-active" else "failed"
        code = 3 if verb == "is-active" else 1
        return Completed(0 if wanted in found else code, "".join(f"{active}\n" for active in found).encode(), b"")

    def _show(self, options: dict[str, str], names: list[str]) -> Completed:
        wanted = [word for word in options.get("--property", "").split(",") if word]
        if not names:
            if wanted != ["Version"]:
                raise UnknownArgvError(f"systemctl show of the manager: {wanted}")
            return Completed(0, f"Version={self._state.systemd}.2-1\n".encode(), b"")
        if not wanted:
            raise UnknownArgvError("systemctl show without --property")
        units = []
        for name in names:
            if any(char in name for char in "*?["):
                units += [unit for unit in self._manager.names_like(name) if unit not in units]
            elif name not in units:
                units.append(name)
        asked = frozenset(wanted)
        blocks = [self._block(name, asked, values_only="--value" in options) for name in units]
        return Completed(0, "\n".join(blocks).encode(), b"")

    def _block(self, name: str, wanted: frozenset[str], *, values_only: bool) -> str:
        shown = self._properties(name, wanted)
        unknown = wanted.difference(shown, _SERVICE_ONLY)
        if unknown:
            raise UnknownArgvError(f"systemctl show --property={','.join(sorted(unknown))}")
        return "".join(
            f"{value}\n" if values_only else f"{key}={value}\n" for key, value in shown.items() if key in wanted
        )

    def _properties(self, name: str, wanted: frozenset[str]) -> dict[str, str]:
        """Return what `systemctl show` knows of a unit, in its order: it ignores the order one asks in.

        What takes a while to find out is left empty when nobody wants it.
        """
        unit, run, job = self._manager.units.get(name), self._manager.run_of(name), self._manager.jobs.of(name)
        is_old = "NeedDaemonReload" in wanted and self._manager.units.needs_reload(name)
        shown = {}
        if name.endswith(".service"):
            shown = {
                "Type": last(unit.sections, "Service", "Type", "simple"),
                "MainPID": str(run.main_pid),
                "Result": run.result,
                "NRestarts": str(run.restarts),
                "ExecMainCode": str(run.main_code),
                "ExecMainStatus": str(run.main_status),
                "ControlGroup": self._manager.control_group(name) if "ControlGroup" in wanted else "",
                "Restart": last(unit.sections, "Service", "Restart", "no"),
                "MemoryMax": _size(last(unit.sections, "Service", "MemoryMax", "infinity")),
                "TasksMax": last(unit.sections, "Service", "TasksMax", "4915"),
                "ExecStart": _exec(last(unit.sections, "Service", "ExecStart", "")),
            }
        return {
            **shown,
            "Id": name,
            "Names": name,
            "Description": last(unit.sections, "Unit", "Description", name),
            "LoadState": unit.load,
            "ActiveState": run.active,
            "SubState": run.sub,
            "FragmentPath": unit.fragment,
            "SourcePath": unit.source,
            "DropInPaths": " ".join(unit.dropins),
            "UnitFileState": _file_state(unit.fragment),
            "Job": str(job.id) if job is not None else "",
            "NeedDaemonReload": "yes" if is_old else "no",
            "InvocationID": run.invocation,
            "PropagatesStopTo": last(unit.sections, "Unit", "PropagatesStopTo", ""),
            "TimeoutStopUSec": last(unit.sections, "Service", "TimeoutStopSec", "1min 30s"),
            "TriggeredBy": " ".join(self._triggers(name)) if "TriggeredBy" in wanted else "",
            **{
                key: " ".join(sorted(self._manager.units.into(kind, name)))
                for key, kind in _BACK.items()
                if key in wanted
            },
            "StartLimitBurst": last(unit.sections, "Unit", "StartLimitBurst", "5"),
            "StartLimitIntervalUSec": _span(last(unit.sections, "Unit", "StartLimitIntervalSec")),
        }

    def _triggers(self, name: str) -> list[str]:
        timer = f"{name.rpartition('.')[0]}.timer"
        return [timer] if timer in self._state.loaded and self._manager.units.get(timer).load == "loaded" else []

    def _verify(self, path: str, places: list[str]) -> list[str]:
        try:
            sections = parse(self._files.read(path).decode("utf-8", "replace"))
        except (BadUnitError, OSError) as error:
            return [f"{path}: {error}"]
        complaints = []
        for section, settings in sections.items():
            if section not in _SECTIONS and not section.startswith("X-"):
                complaints.append(f"{path}: Unknown section '{section}'. Ignoring.")
            keys = {"Unit": _UNIT_KEYS, "Service": _SERVICE_KEYS}.get(section)
            complaints += [
                f"{path}: Unknown key '{key}' in section [{section}], ignoring."
                for key, _ in settings
                if keys is not None and key not in keys and not key.startswith("X-")
            ]
        name = path.rpartition("/")[2]
        program = last(sections, "Service", "ExecStart").lstrip("-@:+!").split(" ")[0]
        if name.endswith(".service") and not program:
            complaints.append(f"{name}: Service has no ExecStart=, ExecStop=, or SuccessAction=. Refusing.")
        for relation in ("Requires", "BindsTo"):
            for other in re.split(r"\s+", last(sections, "Unit", relation)):
                if other and not self._is_somewhere(other, places):
                    complaints.append(f"{name}: Failed to load {relation} unit {other}: Unit {other} not found.")
        return complaints

    def _is_somewhere(self, name: str, places: list[str]) -> bool:
        if any(self._files.stat(f"{place}/{name}") for place in places):
            return True
        return self._manager.units.get(name).load != "not-found"


def _split(argv: Sequence[str]) -> tuple[str, dict[str, str], list[str]]:
    """Split a systemctl command into verb, options and unit names."""
    verb, names = "", []
    options: dict[str, str] = {}
    words = iter(argv[1:])
    for word in words:
        if word == "--":
            names += list(words)
        elif word == "-p":
            options["--property"] = next(words)
        elif word.startswith("-") and word != "--version":
            key, _, value = word.partition("=")
            options[key] = value
        elif not verb:
            verb = word
        else:
            names.append(word)
    known = {"--property", "--value", "--no-block", "--job-mode", "--quiet", "--no-pager", "-q"}
    if set(options) - known - {"--kill-whom", "--signal"}:
        raise UnknownArgvError(f"systemctl: {list(argv)}")
    return verb, options, names


def _exec(line: str) -> str:
    return f"{{ path={line.split(' ', maxsplit=1)[0]} ; argv[]={line} ; ignore_errors=no }}" if line else ""


def _size(value: str) -> str:
    """Return a size as `systemctl show` does: in bytes."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    return str(int(value[:-1]) * units[value[-1]]) if value[-1:] in units and value[:-1].isdigit() else value


def _span(value: str) -> str:
    """Return the time of a start limit as `systemctl show` does, near enough: 0 and infinity are what matters."""
    span = seconds(value, 10.0)
    return "infinity" if span == float("inf") else f"{span:g}s" if span else "0"


def _file_state(fragment: str) -> str:
    if fragment.startswith("/run/systemd/generator"):
        return "generated"
    if fragment.startswith("/run/systemd/transient"):
        return "transient"
    return "static" if fragment else ""
