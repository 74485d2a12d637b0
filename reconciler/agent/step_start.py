"""Start and warm: bring members up and judge every one of them, for a target's state says nothing about its members.

A member is up when its unit is active, the process that runs carries the wanted config hash, its health address answers
2xx on two polls in a row while its engine is awake, and a real piece of work succeeded. That work takes long, so it is
asked for once and heard of at a later look, while the others are looked at. When they are given up meanwhile nobody
hears it: stopping the server ends the call, and it changes nothing but that server. One that cannot be asked must
have run for a while without a break instead. A crash loop ends the wait at
once. A failure says whether starting again may help: never when what runs is not what was reviewed, nor when the time
is up.

Must not: restart anything a second time (`step_bring_up` does).
"""

from __future__ import annotations

import functools
from typing import Any, Dict, List, Optional, Sequence

from . import gates, running, systemd
from .asleep import asleep
from .machine import Begun, Machine
from .txn import HaltError, Run, units_of
from .warm import Warmth, said, warm_up

_POLL_S = 0.25
_SLOW_POLL_S = 1.0
_HEALTH_TIMEOUT_S = 3.0
_GOOD_POLLS = 2
_CRASHES = 2
_IDLE_POLLS = 8
_REFUSED_S = 10.0
_LEAST_S = 0.25
_UNHEARD = "its warm-up is not answered yet"
# What servers answer while they still load, or have too much to do.
_NOT_YET = (0, 408, 425, 429, 503)


class _Judge:
    """One member on its way up."""

    def __init__(self, machine: Machine, member: Dict[str, Any], ends: float, *, hashed: bool, is_left: bool) -> None:
        self.machine = machine
        self.member = member
        self.ends = ends
        self.hashed = hashed
        self.good = 0
        self.idle = 0
        self.warm = member["warm"] is None
        self.reason = "not started yet"
        self.code = "REC7106"
        self.failed = False
        self.final = False
        self._asked: Optional[Begun] = None
        self._cold = _UNHEARD
        self._refused_since: Optional[float] = None
        # Which run of it was seen first, and when; what has no such word on record needs no time.
        self._steady_s: float = member.get("steady_s", 0.0)
        self._run = ("", 0)
        self._run_since = 0.0
        # What was not started by this transaction was counted from a start that nobody here knows.
        self._crashes_before: Optional[int] = None if is_left else 0

    @property
    def up(self) -> bool:
        """Say whether the member is judged to be serving."""
        return self.good >= _GOOD_POLLS and self.warm and not self._left_s()

    def look(self, state: Optional[systemd.UnitState]) -> None:
        """Take one look; `reason` says what is still missing, `failed` that waiting cannot help."""
        problem = self._unit(state) or self._health()
        if problem:
            self.good = 0
            self.reason = problem
            return
        self.good += 1
        self.reason = "healthy once, not yet twice"
        if state is not None and self._run != (state.invocation, state.main_pid):
            self._run, self._run_since = (state.invocation, state.main_pid), self.machine.monotonic()
            # What another run of it is asked, or may yet answer, says nothing about this one.
            self._asked, self._cold = None, _UNHEARD
        if self._left_s():
            self.reason = f"runs, and must do so for {self._steady_s:g} s without a break"
        if self.good >= _GOOD_POLLS and not self.warm:
            self._warm()

    def _left_s(self) -> float:
        """Return how long it must still run without a break."""
        return max(0.0, self._run_since + self._steady_s - self.machine.monotonic()) if self._steady_s else 0.0

    def _unit(self, state: Optional[systemd.UnitState]) -> str:
        if state is None:
            return "systemd does not say how it is"
        # One that waits for its next restart has crashed once more than it was restarted; that wait grows long.
        crashes = state.restarts + state.sub.startswith("auto-restart")
        if self._crashes_before is None:
            self._crashes_before = crashes
        crashes -= self._crashes_before
        if crashes >= _CRASHES:
            return self._give_up("REC7105", f"crash loop: crashed {crashes} times")
        if state.active == "failed":
            return self._give_up("REC7105", f"failed ({state.result})")
        if state.active == "inactive" and not state.job:
            # A start that was refused (its gate is down) or a server that ended by itself leaves no job behind.
            self.idle += 1
            text = f"inactive ({state.result})"
            return self._give_up("REC7105", text) if self.idle >= _IDLE_POLLS else text
        self.idle = 0
        if state.active != "active":
            return f"{state.active} ({state.sub})"
        return self._hash(state)

    def _hash(self, state: systemd.UnitState) -> str:
        if not self.hashed:
            return ""
        wanted = self.member["config_hash"]
        found = running.config_hash(self.machine, state.main_pid).get("value")
        if found is None:
            return "which config hash runs cannot be read"
        if found == wanted:
            return ""
        return self._give_up("REC7108", f"runs with config hash {found}, not {wanted}", final=True)

    def _health(self) -> str:
        if not self.member["health"]:
            return ""
        answer = self.machine.http("GET", self.member["health"], _HEALTH_TIMEOUT_S)
        if self.code == "REC7240":
            self.code = "REC7106"
        if not 200 <= answer.status < 300:
            return f"health {said(answer)}"
        # Its health is good then too, and a request to one that sleeps waits, or is the end of it.
        sleeps = asleep(self.machine, self.member)
        if sleeps:
            self.code = "REC7240"
            return f"it is {sleeps}; whoever put it to sleep must wake it"
        return ""

    def _warm(self) -> None:
        """Ask for a real piece of work, or hear what became of it: it takes long, and the others are looked at."""
        if self._asked is None:
            left_s = max(_LEAST_S, self.ends - self.machine.monotonic())
            warm = {**self.member["warm"], "timeout_s": min(self.member["warm"]["timeout_s"], left_s)}
            self._asked = self.machine.begin(functools.partial(warm_up, self.machine, warm))
        elif self._asked.done():
            self._hear(self._asked)
            self._asked = None
        self.code, self.reason = "REC7106" if self.warm else "REC7107", self._cold

    def _hear(self, asked: Begun) -> None:
        warmth: Warmth = asked.result()
        self.warm = warmth.ok
        self._cold = warmth.reason
        if warmth.ok:
            return
        self.final = warmth.final
        self.failed = warmth.final or self._is_refused(warmth.status)

    def _is_refused(self, status: int) -> bool:
        """Say whether a healthy server has refused to work for a while: that does not pass by asking."""
        now = self.machine.monotonic()
        if status in _NOT_YET:
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now
        return self._refused_since is not None and now - self._refused_since >= _REFUSED_S

    def _give_up(self, code: str, text: str, *, final: bool = False) -> str:
        self.failed, self.code, self.final = True, code, final
        return text


def start_group(run: Run, group: Dict[str, Any]) -> None:
    """Queue the start of a coven by its target, with a clean count of failures."""
    gates.sweep(run.machine)
    systemd.reset_failed(run.machine, [group["gate"], group["target"], *units_of(group["members"])])
    systemd.start_target(run.machine, group["target"])


def start_members(run: Run, members: Sequence[Dict[str, Any]]) -> None:
    """Queue the start of single members whose gate is up, or of residents."""
    units = units_of(list(members))
    systemd.reset_failed(run.machine, units)
    systemd.start(run.machine, units)


def judge(
    run: Run,
    members: List[Dict[str, Any]],
    *,
    hashed: bool = True,
    ends: Optional[float] = None,
    is_left: bool = False,
) -> None:
    """Wait until every member serves; HaltError as soon as one cannot, or at its deadline.

    Args:
        run: the transaction.
        members: who was started.
        hashed: whether the config hash of what runs is asked.
        ends: when the time of all attempts together is over; from now on the longest of the members' when not given.
        is_left: whether another transaction started them; then crashes count from now on.
    """
    machine = run.machine
    began = machine.monotonic()
    if ends is None:
        ends = began + longest_warm(members)
    judges = [
        _Judge(machine, member, min(ends, began + member["warm_timeout_s"]), hashed=hashed, is_left=is_left)
        for member in members
    ]
    while not all(each.up for each in judges):
        shown = systemd.show_units(machine, units_of(members))
        # Those that are up are looked at again: one may fall over while another still loads.
        machine.parallel([functools.partial(each.look, shown.get(each.member["unit"])) for each in judges])
        now = machine.monotonic()
        _halt_on_failure(judges, now - began, is_over=now >= ends)
        run.progress(_progress(judges))
        machine.sleep(_POLL_S if machine.monotonic() - began < 10 * _SLOW_POLL_S else _SLOW_POLL_S)


def longest_warm(members: Sequence[Dict[str, Any]]) -> float:
    """Return how long the slowest member may take, from its first start and over all attempts."""
    return max((member["warm_timeout_s"] for member in members), default=0.0)


def _halt_on_failure(judges: List[_Judge], waited_s: float, *, is_over: bool) -> None:
    lost = [each for each in judges if each.failed]
    late = [
        each
        for each in judges
        if not each.up and not each.failed and (is_over or waited_s >= each.member["warm_timeout_s"])
    ]
    if not lost and not late:
        return
    texts = [f"{each.member['service']}: {each.reason}" for each in lost]
    texts += [f"{e.member['service']}: not up after {e.member['warm_timeout_s']:g} s, {e.reason}" for e in late]
    halt = HaltError((lost or late)[0].code, "; ".join(texts))
    # Time that is up is not given again: a server that never answers must not cost it three times.
    halt.again = not late and not any(each.final for each in lost)
    halt.units = [each.member["unit"] for each in [*lost, *late]]
    raise halt


def _progress(judges: List[_Judge]) -> str:
    return ", ".join(f"{each.member['service']}: {'up' if each.up else each.reason}" for each in judges)
