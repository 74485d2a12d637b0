"""What systemd says about units, and the few things it is told to do.

Every command is here with its exact words. Starting and stopping never block: systemd has the job, the caller watches.
`--job-mode=fail` refuses to pull a unit down that somebody else is bringing up.

All that acts on a unit goes through `_act`, which refuses every unit that is not recon's: services that others rely on
(`shared:`) are looked at by `show`, and there is no other way from here to them. The one exception is what an order
takes over by name, and it is never a shared service: `stop_adopted` and `start_adopted`, for that order alone.

Must not: decide when to start or stop, or believe an exit status where the state can be read.
"""

import re
import signal
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Sequence

from . import places
from .machine import Completed, Machine
from .plain import clean

SHOW_TIMEOUT_S = 10.0
JOB_TIMEOUT_S = 30.0
RELOAD_TIMEOUT_S = 120.0
REFUSED = 4
REFUSED_S = 20.0
REFUSED_POLL_S = 0.25
CGROUPS = "/sys/fs/cgroup"
CGROUP_ROOTS = (CGROUPS, CGROUPS + "/unified", CGROUPS + "/systemd")

_LIBRARY = re.compile(rb"/libsystemd-shared-(\d{3,4})\b[^/\n]*\.so")

_PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "NRestarts",
    "Job",
    "NeedDaemonReload",
    "FragmentPath",
    "SourcePath",
    "InvocationID",
    "MainPID",
    "ControlGroup",
    "ExecMainCode",
    "ExecMainStatus",
)
_EXITED, _KILLED, _DUMPED = "1", "2", "3"
# No pattern, no path: what is told to systemd is one unit by its whole name.
_OURS = re.compile(r"recon-[A-Za-z0-9:_.\\-]+\.[a-z]+\Z")
_THEIRS = re.compile(r"(?!recon-)[A-Za-z0-9][A-Za-z0-9@:_.-]{0,199}\Z")


class SystemdError(Exception):
    """systemd could not be asked, or refused."""


class ForeignUnitError(SystemdError):
    """A unit that is not recon's was about to be acted on; nothing was done."""


class UnitState(NamedTuple):
    """One unit as systemd shows it. `job` is empty when none is queued, `main_pid` 0 when nothing runs.

    `last_exit` says how its main process ended last; systemd forgets it when the next one starts.
    """

    name: str
    load: str
    active: str
    sub: str
    result: str
    restarts: int
    job: str
    need_reload: bool
    fragment: str
    source: str
    invocation: str
    main_pid: int
    cgroup: str
    last_exit: str = ""


def show_units(machine: Machine, names: Sequence[str], timeout_s: float = SHOW_TIMEOUT_S) -> Dict[str, UnitState]:
    """Return units by name, from one call. A name may be a pattern; one that matches nothing is not in the answer.

    A plain name is always in the answer: what systemd does not know has load `not-found` and is inactive.
    """
    argv = ["systemctl", "show", "--property=" + ",".join(_PROPERTIES), "--", *names]
    done = machine.run(argv, timeout_s)
    if done.rc != 0:
        raise SystemdError(f"systemctl show: {_said(done)}")
    return parse_show(done.out)


def parse_show(output: bytes) -> Dict[str, UnitState]:
    """Return the units in the output of `systemctl show`: blocks of `Name=value` lines with an empty line between."""
    units: Dict[str, UnitState] = {}
    for block in output.decode("utf-8", "backslashreplace").split("\n\n"):
        shown = dict(line.split("=", 1) for line in block.split("\n") if "=" in line)
        if shown.get("Id"):
            unit = _unit(shown)
            units[unit.name] = unit
    return units


def show(machine: Machine, names: Sequence[str], properties: Sequence[str]) -> Dict[str, Dict[str, str]]:
    """Return some properties of units as systemd says them, by unit name; of plain names, each is in the answer."""
    argv = ["systemctl", "show", "--property=" + ",".join(["Id", *properties]), "--", *names]
    done = machine.run(argv, SHOW_TIMEOUT_S)
    if done.rc != 0:
        raise SystemdError(f"systemctl show: {_said(done)}")
    blocks = done.out.decode("utf-8", "backslashreplace").split("\n\n")
    found = [dict(line.split("=", 1) for line in block.split("\n") if "=" in line) for block in blocks]
    return {clean(shown["Id"]): shown for shown in found if shown.get("Id")}


def _unit(shown: Dict[str, str]) -> UnitState:
    job = shown.get("Job", "").split(" ")[0]
    return UnitState(
        name=clean(shown["Id"]),
        load=clean(shown.get("LoadState", "")),
        active=clean(shown.get("ActiveState", "")),
        sub=clean(shown.get("SubState", "")),
        result=clean(shown.get("Result", "")),
        restarts=_number(shown.get("NRestarts", "")),
        job="" if job == "0" else clean(job),
        need_reload=shown.get("NeedDaemonReload") == "yes",
        fragment=clean(shown.get("FragmentPath", "")),
        source=clean(shown.get("SourcePath", "")),
        invocation=clean(shown.get("InvocationID", "")),
        main_pid=_number(shown.get("MainPID", "")),
        cgroup=shown.get("ControlGroup", ""),
        last_exit=_last_exit(shown.get("ExecMainCode", ""), _number(shown.get("ExecMainStatus", ""))),
    )


def _last_exit(code: str, status: int) -> str:
    if code == _EXITED:
        return f"exit status {status}"
    if code not in (_KILLED, _DUMPED):
        return ""
    try:
        return signal.Signals(status).name
    except ValueError:
        return f"signal {status}"


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def description(machine: Machine, unit: str, timeout_s: float = SHOW_TIMEOUT_S) -> str:
    """Return what a unit says it is; its own name when it says nothing."""
    done = machine.run(["systemctl", "show", "--property=Description", "--", unit], timeout_s)
    if done.rc != 0:
        raise SystemdError(f"systemctl show: {_said(done)}")
    return done.out.decode("utf-8", "backslashreplace").strip().partition("=")[2]


def version(machine: Machine, timeout_s: float = SHOW_TIMEOUT_S) -> int:
    """Return the version of the systemd that runs (the programs on disk may be newer).

    It is in the name of the library that process 1 has loaded; where that does not tell, systemd is asked.
    """
    loaded = _loaded_version(machine)
    return _asked_version(machine, timeout_s) if loaded is None else loaded


def _loaded_version(machine: Machine) -> Optional[int]:
    try:
        found = set(_LIBRARY.findall(machine.read("/proc/1/maps")))
    except OSError:
        return None
    return int(found.pop()) if len(found) == 1 else None


def _asked_version(machine: Machine, timeout_s: float) -> int:
    done = machine.run(["systemctl", "show", "--property=Version"], timeout_s)
    text = done.out.decode("utf-8", "backslashreplace").strip()
    digits = ""
    for char in text.partition("=")[2]:
        if not char.isdigit():
            break
        digits += char
    if done.rc != 0 or not digits:
        raise SystemdError(f"systemctl show: {_said(done)}")
    return int(digits)


def is_populated(machine: Machine, control_group: str) -> Optional[bool]:
    """Say whether any process is left in a control group or below it; None when that cannot be told.

    An empty path means that systemd gave the unit none: nothing of it runs. Whoever waits for a stop keeps the path
    from before, for systemd forgets it while processes may still be dying.
    """
    if not control_group:
        return False
    for root in CGROUP_ROOTS:
        if machine.stat(root + "/cgroup.procs") is None:
            continue
        directory = root + control_group
        if machine.stat(directory) is None:
            return False
        return _has_processes(machine, directory)
    return None


def _has_processes(machine: Machine, directory: str) -> Optional[bool]:
    try:
        events = machine.read(directory + "/cgroup.events").split()
    except FileNotFoundError:
        # Version 1 has no such file; a group that vanished meanwhile has none either, and then nothing is left of it.
        return None if machine.stat(directory) is not None else False
    except OSError:
        return None
    pairs = dict(zip(events[::2], events[1::2]))
    return {b"0": False, b"1": True}.get(pairs.get(b"populated", b""))


def daemon_reload(machine: Machine) -> None:
    """Have systemd run the generators and read all units again."""
    _must(machine, ["systemctl", "daemon-reload"], RELOAD_TIMEOUT_S)


def start(machine: Machine, units: Sequence[str]) -> None:
    """Queue starts (a coven's target, a resident)."""
    _act(machine, ["start", "--no-block", "--job-mode=fail"], units)


def stop(machine: Machine, units: Sequence[str]) -> None:
    """Queue stops (a coven's gate takes its members down first)."""
    # systemd itself restarts what crashes, and while such a start is under way a stop would contradict it.
    _act(machine, ["stop", "--no-block", "--job-mode=fail"], units, refused_s=REFUSED_S)


def restart(machine: Machine, unit: str) -> None:
    """Queue the restart of a unit that holds no process (a timer)."""
    _act(machine, ["restart", "--no-block", "--job-mode=fail"], [unit])


def kill(machine: Machine, units: Sequence[str]) -> None:
    """Send SIGKILL to everything in the control groups of units, whatever it is to them."""
    _act(machine, ["kill", "--kill-whom=all", "--signal=SIGKILL", "--"], units)


def end(machine: Machine, unit: str) -> None:
    """Queue the stop of a unit of ours whatever else is queued for it."""
    _act(machine, ["stop", "--no-block"], [unit])


def end_and_wait(machine: Machine, unit: str, timeout_s: float) -> None:
    """Stop a unit of ours and wait for it; how that went is seen in its control group, not in an exit status."""
    _act(machine, ["stop"], [unit], timeout_s=timeout_s, checked=False)


def end_all(machine: Machine, units: Sequence[str]) -> None:
    """Queue stops of units of ours whatever else is queued for them."""
    _act(machine, ["stop", "--no-block"], units)


def start_all(machine: Machine, units: Sequence[str]) -> None:
    """Queue starts of units of ours whatever else is queued for them: one that still stops starts when it has."""
    _act(machine, ["start", "--no-block"], units)


def restart_any(machine: Machine, unit: str) -> None:
    """Queue the restart of a unit that may be starting or restarting by itself just now."""
    _act(machine, ["restart", "--no-block"], [unit])


def start_target(machine: Machine, target: str) -> None:
    """Queue the start of a coven."""
    start(machine, [target])


def stop_gate(machine: Machine, gate: str) -> None:
    """Queue the stop of a coven: its members are part of the gate and go first."""
    stop(machine, [gate])


def stop_adopted(machine: Machine, units: Sequence[str], intent: Dict[str, Any]) -> None:
    """Queue stops of units of somebody else that an order takes over; any other is refused."""
    _act(machine, ["stop", "--no-block", "--job-mode=fail"], units, refused_s=REFUSED_S, adopted=adopted_by(intent))


def start_adopted(machine: Machine, units: Sequence[str], intent: Dict[str, Any]) -> None:
    """Queue starts of units of somebody else that an order took over; any other is refused."""
    _act(machine, ["start", "--no-block"], units, adopted=adopted_by(intent))


def adopted_by(intent: Dict[str, Any]) -> FrozenSet[str]:
    """Return what of somebody else an order takes over: what its moves name, and never what is shared."""
    named = {each["name"] for move in intent["moves"] for each in move.get("takes_over", ())}
    return frozenset(name for name in named.difference(intent.get("shared", ())) if _THEIRS.match(name))


def reset_failed(machine: Machine, units: Sequence[str]) -> None:
    """Forget failures and restart counts, which would make the next start slow or refused.

    A unit that is not loaded has nothing to forget, and systemctl calls that an error: so its answer is not looked at.
    """
    if units:
        _act(machine, ["reset-failed", "--"], units, checked=False)


def mask(machine: Machine, unit: str) -> None:
    """Hide a unit until it is unmasked or the host reboots; takes effect with the next reload."""
    refuse_foreign([unit])
    machine.mkdir(places.MASKS)
    machine.symlink("/dev/null", f"{places.MASKS}/{unit}")


def unmask(machine: Machine, unit: str) -> None:
    """Take a mask of ours away; a file that is no mask stays."""
    refuse_foreign([unit])
    path = f"{places.MASKS}/{unit}"
    if _is_mask(machine, path):
        machine.remove(path)


def masked(machine: Machine) -> List[str]:
    """Return the units of ours that are masked until they are unmasked or the host reboots."""
    try:
        names = machine.listdir(places.MASKS)
    except FileNotFoundError:
        return []
    return [name for name in names if _OURS.match(name) and _is_mask(machine, f"{places.MASKS}/{name}")]


def _is_mask(machine: Machine, path: str) -> bool:
    found = machine.stat(path)
    return found is not None and found.kind == "link" and machine.read_link(path) == "/dev/null"


def refuse_foreign(units: Sequence[str], adopted: FrozenSet[str] = frozenset()) -> None:
    """Raise `ForeignUnitError` when a unit is not recon's: nobody here may start, stop, restart or hide it.

    `adopted` are those that the order at hand takes over.
    """
    foreign = [unit for unit in units if not _OURS.match(unit) and unit not in adopted]
    if foreign:
        raise ForeignUnitError(f"{clean(', '.join(foreign), 300)}: not a unit of recon, so it is never touched")


def _act(
    machine: Machine,
    words: List[str],
    units: Sequence[str],
    *,
    timeout_s: float = JOB_TIMEOUT_S,
    refused_s: float = 0.0,
    checked: bool = True,
    adopted: FrozenSet[str] = frozenset(),
) -> None:
    """Do something to units of recon's, the only way there is; for `refused_s` again where systemd refuses it."""
    refuse_foreign(units, adopted)
    argv = ["systemctl", *words, *units]
    ends = machine.monotonic() + refused_s
    done = machine.run(argv, timeout_s)
    while done.rc == REFUSED and machine.monotonic() < ends:
        machine.sleep(REFUSED_POLL_S)
        done = machine.run(argv, timeout_s)
    if checked:
        _check(argv, done)


def _must(machine: Machine, argv: List[str], timeout_s: float) -> None:
    _check(argv, machine.run(argv, timeout_s))


def _check(argv: List[str], done: Completed) -> None:
    if done.rc != 0:
        raise SystemdError(f"{' '.join(argv[:2])}: {_said(done)}")


def _said(done: Completed) -> str:
    return clean(done.err or done.out, 300) or f"exit status {done.rc}"


def has_bus(machine: Machine) -> bool:
    """Say whether the manager of the user has a message bus; Debian's is in dbus-user-session."""
    return machine.stat(f"/run/user/{machine.own_uid}/bus") is not None
