"""Simulated hosts on disk: each is one JSON file, made when it is first asked, and answers with the production agent.

`handle` is what the rest of the program sees. A transaction that was launched runs to its end at once, in virtual time,
in the unit it would run in on a real host.

Must not: answer in the agent's place.
"""

from __future__ import annotations

import fcntl
import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, get_args
from urllib.parse import urlsplit

from reconciler.agent import dispatch
from reconciler.sim.faults import fault_of
from reconciler.sim.machine import KilledError, SimMachine
from reconciler.sim.state import Kind, Node, ServiceFacts
from reconciler.sim.weights import provide_model

HOSTS = "hosts.json"
"""Optional: `{"name": {"kind": "h200", "gpus": 8, "seed": 1}}`, read when a host is made."""

_KILLED = 137
_STARTS = 5
"""So often in ten seconds systemd starts a unit."""
_DIGEST = "simulated"
_NAMED = {"spark": "gb10", "gb10": "gb10", "gh": "gh200"}
_SHARED = "[Unit]\nDescription={unit} (somebody else's)\n[Service]\nExecStart=/usr/bin/{name}\nRestart=always\n"


class SimulationError(RuntimeError):
    """The agent did something the simulator does not know; an answer would have been made up."""


class _Timed(NamedTuple):
    """What a unit of recon's own asks the agent for."""

    unit: str
    args: dict[str, object]


_BY_TIMER = {
    "watch": _Timed("recon-watchdog.service", {}),
    "schedule": _Timed("recon-schedule.service", {}),
    "deliver": _Timed("recon-events.service", {}),
    "tend": _Timed("recon-spiral.service", {}),
    "reap": _Timed("recon-reaper.service", {"go": True, "by": "timer"}),
}


class SimFleet:
    """The simulated hosts below one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def handle(self, host: str, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Answer one request as the agent on that host would; OSError when the host is down."""
        with self.open(host, _kind_asked(args)) as machine:
            if fault_of(machine.state, "down", "*") is not None:
                raise ConnectionRefusedError(f"{host} is switched off")
            provide(machine, args)
            try:
                reply = dispatch.handle(machine, verb, args, {"digest": _DIGEST, "mode": "simulated", "bundle": None})
                run_launched(machine)
            finally:
                if machine.unknown:
                    raise SimulationError("; ".join(machine.unknown))
            return reply

    def hosts(self) -> tuple[str, ...]:
        """Return the hosts that were made so far."""
        return tuple(sorted(path.stem for path in self._directory.glob("*.json") if path.name != HOSTS))

    @contextmanager
    def open(self, host: str, kind: Kind | None = None) -> Iterator[SimMachine]:
        """Work on a host's machine; what became of it is saved, also when an error ends the block."""
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"{host}.json"
        with (self._directory / f".{host}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            machine = SimMachine.load(path) if path.exists() else self._new(host, kind)
            machine.manager.program = lambda argv: run_agent(machine, argv)
            try:
                yield machine
            finally:
                machine.save(path)

    def _new(self, host: str, kind: Kind | None) -> SimMachine:
        path = self._directory / HOSTS
        declared = json.loads(path.read_text(encoding="utf-8")).get(host, {}) if path.exists() else {}
        named = next((found for prefix, found in _NAMED.items() if host.startswith(prefix)), "h200")
        wanted = declared.get("kind", kind or named)
        if wanted not in get_args(Kind):
            raise ValueError(f"{path}: {host}: no such kind of machine: {wanted}")
        return SimMachine.new(host, wanted, seed=int(declared.get("seed", 1)), gpus=int(declared.get("gpus", 1)))


def run_agent(machine: SimMachine, argv: list[str]) -> int:
    """Run the installed agent as a unit of the host does; returns its exit status."""
    verb = argv[-1] if argv else ""
    if verb not in _BY_TIMER:
        return 0
    context = {"digest": _DIGEST, "mode": "simulated", "bundle": None}
    try:
        dispatch.handle(machine, verb, dict(_BY_TIMER[verb].args), context)
        if verb == "schedule":
            # What it launched is a unit of its own, and goes on when this one has ended; nobody else would run it here.
            run_launched(machine)
    except KilledError:
        machine.revive()
        return _KILLED
    except Exception:  # whatever it was: a real unit would log it and be failed
        for line in traceback.format_exc().splitlines():
            machine.clock.log(_BY_TIMER[verb].unit, line)
        return 1
    return 0


def run_launched(machine: SimMachine) -> None:
    """Run every executor that was launched, to its end, the way its unit would.

    When it dies its ExecStopPost runs: another one that looks at what is there, and one more if that one dies too. One
    that was killed is started again after that. A power cut is nobody's to catch here.
    """
    while machine.state.launched:
        unit, _, txid = machine.state.launched.pop(0).partition(" ")
        for _ in range(_STARTS):
            code = _execute(machine, unit, txid, "execute")
            if _execute(machine, unit, txid, "recover") != 0:
                _execute(machine, unit, txid, "recover")
            if code != _KILLED:
                break
        machine.manager.finish_transient(unit, code)


def _execute(machine: SimMachine, unit: str, txid: str, verb: str) -> int:
    context = {"digest": _DIGEST, "mode": "simulated", "bundle": None}
    try:
        dispatch.handle(machine, verb, {"txid": txid}, context)
    except KilledError:
        machine.revive()
        return _KILLED
    except Exception:  # whatever it was: a real unit would log it and be failed
        for line in traceback.format_exc().splitlines():
            machine.clock.log(unit, line)
        return 1
    return 0


def _kind_asked(args: dict[str, Any]) -> Kind | None:
    """Return the kind of machine that the host's file implies."""
    kinds: dict[str, Kind] = {"unified": "gb10", "gh200": "gh200", "discrete": "h200"}
    return kinds.get(str(args.get("memory", "")))


def provide(machine: SimMachine, args: dict[str, Any]) -> None:
    """Let the host have what a request takes for granted: images, models, and the services of others."""
    state = machine.state
    for ref in args.get("images") or ():
        if ref not in state.images_missing and ref not in state.images:
            state.images.append(ref)
    for shared in args.get("shared") or ():
        _provide_shared(machine, shared["unit"], shared.get("health"))
    for asked in args.get("models") or ():
        provide_model(machine, asked["check"])
    intent = args.get("intent")
    if not isinstance(intent, dict):
        return
    groups = [*intent.get("groups", ()), *(move.get("new") or {} for move in intent.get("moves", ()))]
    for hook in [hook for group in groups for hook in group.get("hooks", ()) if hook["argv"]]:
        _provide_program(machine, hook["argv"][0])
    members = [member for group in groups for member in group.get("members", ())]
    for member in [*members, *intent.get("residents", ())]:
        _provide_member(machine, member)


def _provide_member(machine: SimMachine, member: dict[str, Any]) -> None:
    probes = [
        {"path": urlsplit(probe["url"]).path, "form": probe["form"], "names": probe["names"], "field": probe["field"]}
        for probe in member["in_flight"]
    ]
    machine.state.facts[member["unit"]] = ServiceFacts(
        memory=member["memory"], port=member["port"], health=member["health"], in_flight=probes
    )
    if member.get("model"):
        provide_model(machine, member["model"])
    for path in member["mounts"]:
        if path not in machine.state.paths_missing and machine.files.stat(path) is None:
            machine.files.make_dirs(path)


def _provide_program(machine: SimMachine, path: str) -> None:
    """Put a hook's program on the host; it ends well at once, unless somebody put another one there."""
    if path in machine.state.paths_missing or machine.files.stat(path) is not None:
        return
    machine.files.make_dirs(path.rpartition("/")[0])
    machine.files.put(path, Node.of(b"#!/bin/sh\nexit 0\n", 0o755))


def _provide_shared(machine: SimMachine, unit: str, health: str | None) -> None:
    """Make a service of somebody else, once: when it is gone later, somebody took it away."""
    state = machine.state
    if unit in state.shared_seen:
        return
    state.shared_seen.append(unit)
    port = urlsplit(health).port if health else None
    if port is not None:
        state.shared_ports[unit] = port
    if machine.manager.units.get(unit).load != "not-found" or not unit.endswith(".service"):
        return
    path = f"/etc/systemd/system/{unit}"
    text = _SHARED.format(unit=unit, name=unit.removesuffix(".service"))
    machine.files.put(path, Node.of(text.encode()))
    machine.files.put(f"/etc/systemd/system/multi-user.target.wants/{unit}", Node(kind="link", target=path))
    machine.manager.jobs.enqueue(unit, "start")
