"""Drain: wait until the work in flight is done, seal the server where it can be sealed, and never guess.

Idle means zero in flight and waiting on three polls in a row. A missing figure is work. At the deadline the plan
decides: `abort` leaves the old coven serving, `force` cuts what is left and says so. What waits in a server that is
asleep is work as well, and no pause is put on such a one: the resume after an abort would let it work without weights.

Must not: stop anything, or wake what sleeps.
"""

from __future__ import annotations

import functools
from typing import Any, Collection, Dict, List, NamedTuple, Optional, Sequence

from . import admission, hooks, systemd, takeover
from .asleep import asleep
from .busy import Busy, busy_of
from .machine import Machine
from .seal import is_paused
from .txn import HaltError, Run, stopping
from .warm import offered

_POLL_S = 0.25
_QUIET_POLLS = 3
_PROGRESS_S = 5.0
_CALL_TIMEOUT_S = 10.0


class _Waited(NamedTuple):
    """Who is waited for, and what it last said. Units name nobody: containers that are taken over have none."""

    member: Dict[str, Any]
    busy: Busy = Busy(None, "not asked yet")


class _Drain:
    """One drain: who is waited for, and for how long by now."""

    def __init__(self, run: Run, members: List[Dict[str, Any]]) -> None:
        self.run = run
        self.waiting = [_Waited(member) for member in members]
        self.began = run.machine.monotonic()
        self.told = self.began

    def poll(self) -> bool:
        """Ask everybody once; say whether all are idle."""
        machine = self.run.machine
        answers = machine.parallel([functools.partial(_busy, machine, each.member) for each in self.waiting])
        self.waiting = [each._replace(busy=busy) for each, busy in zip(self.waiting, answers)]
        return all(each.busy.figure == 0 for each in self.waiting)

    def tell(self) -> None:
        """Write how it goes, and let go of servers that died by themselves; both at most every five seconds."""
        now = self.run.machine.monotonic()
        if now - self.told < _PROGRESS_S:
            return
        self.told = now
        self.run.progress("still busy: " + self.said())
        self.waiting = [_Waited(member) for member in _running(self.run, [each.member for each in self.waiting])]

    def said(self) -> str:
        """Say how busy everybody is."""
        return ", ".join(f"{each.member['service']} {each.busy}" for each in self.waiting)

    def late(self) -> None:
        """Do what the plan says about members whose time is up."""
        waited_s = self.run.machine.monotonic() - self.began
        going_on = []
        for each in self.waiting:
            if each.busy.figure == 0 or waited_s < each.member["drain_timeout_s"]:
                going_on.append(each)
                continue
            text = _late(each)
            if each.member["on_timeout"] == "abort":
                raise self._aborted(each, text)
            self.run.note(f"{text}; the plan says force: what it does now is cut")
        self.waiting = going_on

    def _aborted(self, late: _Waited, text: str) -> HaltError:
        fix = f"recon apply --host {self.run.intent['host']}"
        if late.busy.sleeps:
            fix = f"wake {late.member['service']} (recon does not), or let git say on_timeout: force; then {fix}"
            return HaltError("REC7101", f"{text}; the old coven stays as it is", fix=fix, state="aborted")
        return HaltError("REC7101", f"{text}; the old coven goes on serving", fix=fix, state="aborted")


def drain(run: Run, members: List[Dict[str, Any]], slot: Optional[str], waited_for: Collection[str] = ()) -> None:
    """Wait until nothing is in flight on the members that run; paused ones are sealed until they stop.

    `waited_for` are units whose coven has a drain hook, which has been called by now.
    """
    with run.step("drain", f"draining {', '.join(member['service'] for member in members) or 'nothing'}", slot):
        running = _running(run, members)
        for member in running:
            if not member["in_flight"]:
                waited = "the drain hook has waited for it; " if member["unit"] in waited_for else ""
                run.note(f"{member['service']} cannot say what it does; {waited}what it does now is cut, as planned")
        _wait(_Drain(run, [member for member in running if member["in_flight"]]))


def drain_all(run: Run, moves: List[Dict[str, Any]], orphans: List[Dict[str, Any]]) -> None:
    """Drain everything that will be stopped in one wait: what is idle stays so only until the next request."""
    members = [member for move in moves for member in stopping(move)]
    members += [member for member in orphans if member["in_flight"]]
    members += takeover.to_drain(run)
    hooks.before_stop(run, "before_drain", moves)
    admission.close(run, members, _longest(members, moves))
    hooks.before_stop(run, "drain", moves)
    if members:
        drain(run, members, moves[0]["slot"] if len(moves) == 1 else None, _hooked(moves))


def _hooked(moves: List[Dict[str, Any]]) -> List[str]:
    """Return the units that a drain hook of their coven has waited for."""
    groups = [(move, move["old"]) for move in moves if move["old"] is not None]
    return [
        member["unit"]
        for move, group in groups
        if any(hook["event"] == "drain" for hook in group.get("hooks", ()))
        for member in stopping(move)
    ]


def _longest(members: List[Dict[str, Any]], moves: List[Dict[str, Any]]) -> float:
    """Return how long all of this may take at most."""
    groups = [move["old"] for move in moves if move["old"] is not None]
    called = sum(hook["timeout_s"] for group in groups for hook in group.get("hooks", ()) if hook["event"] == "drain")
    return float(max((member["drain_timeout_s"] for member in members), default=0.0) + called)


def resume(run: Run, units: Optional[Sequence[str]] = None) -> None:
    """Let paused servers serve again, all or those of some units; what cannot be resumed is told."""
    paused = sorted(unit for unit in run.paused if units is None or unit in units)
    if not paused:
        return
    names = ", ".join(sorted(run.paused[unit]["service"] for unit in paused))
    with run.step("resume", f"resuming {names}", guarded=False):
        for unit in paused:
            problem = _let_go(run, run.paused[unit])
            if problem:
                run.note(f"{run.paused[unit]['service']} could not be resumed: {problem}")
            del run.paused[unit]


def _let_go(run: Run, member: Dict[str, Any]) -> str:
    """Resume a server; return why it may not serve again, empty when it does."""
    sleeps = asleep(run.machine, member)
    if sleeps:
        return f"it is {sleeps}, and would work without its weights"
    answer = offered(run.machine, member["resume"], _CALL_TIMEOUT_S)
    if not answer.ok or answer.reason:
        return "" if answer.ok else answer.reason
    said = is_paused(run.machine, member)
    return f"it says that it resumed, and {said.text}" if said.paused is True else ""


def _busy(machine: Machine, member: Dict[str, Any]) -> Busy:
    return busy_of(machine, member["in_flight"], asleep(machine, member))


def _wait(drain_: _Drain) -> None:
    quiet = 0
    while drain_.waiting:
        quiet = quiet + 1 if drain_.poll() else 0
        if quiet >= _QUIET_POLLS:
            if _seal(drain_):
                return
            quiet = 0
        drain_.late()
        drain_.tell()
        drain_.run.machine.sleep(_POLL_S)


def _seal(drain_: _Drain) -> bool:
    """Pause who can be paused and look once more: work that came in between is let through first."""
    run = drain_.run
    # What could not be resumed must not be paused: an abort would leave it dumb.
    members = [each.member for each in drain_.waiting if each.member["pause"] and each.member["resume"]]
    sealed = [member for member in members if _pause(run, member)]
    if not sealed or drain_.poll():
        return True
    run.note("work came in while sealing: " + drain_.said())
    resume(run)
    return False


def _pause(run: Run, member: Dict[str, Any]) -> bool:
    sleeps = asleep(run.machine, member)
    if sleeps:
        run.note(f"{member['service']} is {sleeps}: nothing begins there, so it is not paused")
        return True
    # Marked first: a pause whose answer got lost may still have happened, and is resumed all the same.
    run.paused[member["unit"]] = member
    answer = offered(run.machine, member["pause"], _CALL_TIMEOUT_S)
    problem = answer.reason
    if answer.ok and not answer.reason and member.get("paused"):
        said = is_paused(run.machine, member)
        problem = "" if said.paused else f"it says that it paused, and {said.text}"
    if member.get("must_pause") and (problem or not answer.ok):
        text = f"{member['service']} does not pause, and admission: pause asks for it: {problem}"
        raise HaltError("REC7134", text)
    if answer.ok and answer.reason:
        del run.paused[member["unit"]]
        return False
    if problem:
        run.note(f"{member['service']} could not be sealed: {problem}")
    return True


def _running(run: Run, members: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Return the members whose unit is active; the others have nothing to drain."""
    if not members:
        return []
    units = [member["unit"] for member in members if member["unit"]]
    shown = systemd.show_units(run.machine, units) if units else {}
    running = []
    for member in members:
        if not member["unit"]:  # a container that podman runs by itself, and that ran when the host was claimed
            running.append(member)
            continue
        state = shown[member["unit"]].active if member["unit"] in shown else "unknown"
        if state in ("active", "reloading"):
            running.append(member)
        else:
            run.note(f"{member['unit']} is {state}: nothing to drain")
    return running


def _late(waited: _Waited) -> str:
    member, busy = waited
    after = f"after {member['drain_timeout_s']:g} s"
    if busy.figure is None:
        return f"{member['service']} cannot be seen to be idle {after}: {busy.reason}"
    if busy.sleeps:
        return f"{member['service']} is {busy.sleeps} and {busy.figure} requests still wait there {after}"
    return f"{member['service']} is still busy ({busy.figure}) {after}"
