"""A seed becomes a short history of one host: an operator's deeds, what goes wrong meanwhile, and how it ends.

`play` is the whole of it. It draws nothing but from its seed, so a seed that fails fails again.

Must not: know why an invariant holds.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.model.outcome import Outcome
from reconciler.model.plan import HostPlan
from reconciler.sim.machine import KilledError, PowerCutError
from reconciler.sim.state import Process
from tests.volume import faults
from tests.volume.faults import Fault, Striker
from tests.volume.invariants import Watch, unfinished
from tests.volume.quick import quick
from tests.volume.world import COVENS, LOAD_S, Wish, World, desired

SETTLE_S = LOAD_S + 40.0
_NOTHING_BEFORE = "REC7170"
_FORWARD = ("kill", "steal", "clock", "second")
"""Faults after which the old coven can always be brought back."""


@dataclass
class Report:
    """What became of a seed."""

    seed: int
    broken: list[str] = field(default_factory=list)
    reached: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)


def play(seed: int, *, kinds: Sequence[str] = faults.KINDS, shift_s: float = 0.0) -> Report:
    """Play the history of a seed, in which only these kinds of faults strike.

    With `shift_s` the wall clock is set so much later and jumps the other way, which may change nothing.
    """
    with quick():
        return _play(_History(seed, kinds, shift_s))


def _play(history: _History) -> Report:
    try:
        history.play()
    except Exception as error:  # a fault of the simulator, or of the agent where nobody may catch it
        history.watch.broken.append(f"[-] {type(error).__name__}: {error}")
    report = history.report
    report.broken = history.watch.broken
    report.reached = history.watch.reached
    report.trace = history.world.machine.clock.trace
    return report


class _History:
    def __init__(self, seed: int, kinds: Sequence[str], shift_s: float) -> None:
        self.kinds = kinds
        self.rng = random.Random(seed)
        self.report = Report(seed)
        start = Wish(self.rng.choice((*COVENS, *COVENS, None)), 0, self.rng.random() < 0.15)
        self.world = World.prepared(start)
        self.machine = self.world.machine
        self.machine.state.epoch += shift_s
        self.world.ahead = -1 if shift_s else 1
        self.watch = Watch(self.machine)
        self.machine.clock.watch = self.watch.on_time
        if self.rng.random() < 0.3:
            self._let_others_be()
        self.stale: dict[str, Any] | None = None
        self.has_failed_disk = False
        self.is_off = False
        """The transaction before ended held, or without a word: what runs is not what is committed."""

    def play(self) -> None:
        rng = self.rng
        count = rng.choice((1, 2, 2, 3))
        plagues = [faults.draw(rng, self.kinds) for _ in range(rng.choice((1, 2, 2, 3)))]
        turns = [rng.randrange(count) for _ in plagues]
        for turn in range(count):
            self._between()
            self._operate([fault for fault, at in zip(plagues, turns, strict=True) if at == turn])
            if rng.random() < 0.5:
                faults.heal(self.machine)
            if self.watch.broken:
                return
        self._converge()

    # -- one operation -----------------------------------------------------------------------------------------------

    def _between(self) -> None:
        """Let git move, and people and decay do something to the host."""
        rng, wish = self.rng, self.world.wish
        kind = rng.choices(("switch", "member", "stop", "drift", "same", "stale"), (8, 3, 2, 2, 1, 1))[0]
        self.watch.reached[f"operation {kind}"] += 1
        if kind == "switch":
            others = [coven for coven in COVENS if coven != wish.coven]
            self.world.wish = wish._replace(coven=rng.choice(others))
        elif kind == "member":
            self.world.wish = wish._replace(edition=(wish.edition + 1) % 3)
        elif kind == "stop":
            self.world.wish = wish._replace(coven=None)
        elif kind == "drift":
            faults.by_hand(self.world, self.watch, faults.draw(rng))
            self.machine.clock.advance(rng.choice((0.0, 0.4, 20.0)))
        if rng.random() < 0.08:
            path = faults.corrupt(rng, self.world)
            if path:
                self.machine.clock.note(f"fault corrupt {path}")
                self.watch.is_damaged = True
                self.watch.reached["strike corrupt at rest"] += 1
        if kind == "stale" and self.stale is not None:
            self._transact(self.stale, [], is_new=False)

    def _operate(self, plagues: list[Fault]) -> None:
        plan = self._look()
        if plan.order is None:
            return
        order = self.world.order(plan)
        # What somebody else planned at the same time, and hands over while this one runs or when all has changed.
        wants_second = any(fault.kind == "second" for fault in plagues)
        if wants_second or self.rng.random() < 0.15:
            self.stale = self.world.order(plan)
        self._transact(order, plagues)

    def _look(self) -> HostPlan:
        """Plan, which changes nothing."""
        self.machine.hook = lambda when, what: self.watch.break_(21, f"a plan did: {what}")
        plan = self.world.plan()
        self.machine.hook = None
        if plan.refusals:
            self.watch.reached[f"plan refused {'+'.join(sorted({r.code for r in plan.refusals}))}"] += 1
        return plan

    def _transact(self, order: dict[str, Any], plagues: list[Fault], *, is_new: bool = True) -> Outcome | None:
        """Hand an order over and let it run with what strikes meanwhile, then judge how it ended."""
        machine, watch, txid = self.machine, self.watch, order["txid"]
        was_tampered, before = watch.is_tampered, self.world.running()
        was_ill = faults.is_ill(machine) or before != watch.wanted()
        watch.begin(txid)
        striker = Striker(self.world, watch, plagues, lambda: self._second(txid))
        machine.hook = striker.on_change
        is_cut = not self._run(order)
        machine.hook = machine.on_call = None
        machine.clock.drop("volume.")
        struck = {fault.kind for fault in plagues if fault.struck}
        self.has_failed_disk = self.has_failed_disk or bool(struck & {"io-error", "no-space"})
        if is_cut:
            self._power_comes_back()
        outcome = self.world.outcome(txid)
        machine.clock.note(f"{txid} ended: {_told(outcome)}")
        is_calm = not (self.is_off or was_ill or watch.is_tampered or watch.is_damaged or faults.is_ill(machine))
        if outcome is not None and not is_cut:
            watch.ended(outcome)
            if is_calm:
                self._expect(outcome, struck, before)
        else:
            watch.reached["end cut" if is_cut else "end none"] += 1
            if not struck & {"kill", "cut", "no-space", "io-error"} and not watch.is_damaged:
                watch.break_(27, f"no outcome, and only {sorted(struck)} struck")
        watch.is_whole()
        if is_calm and (outcome is not None or is_cut) and (outcome is None or outcome.state != "held"):
            watch.serves(self.world.running())
        state = outcome.state if outcome is not None else "cut" if is_cut else "none"
        is_right = outcome is not None and outcome.live == order["manifest_live"]
        if state == "applied" and was_tampered and is_right and "systemctl" not in struck:
            # What people did before is put right by now, and none of it was still under way.
            watch.is_tampered = False
        self.is_off = state in ("held", "none") or (self.is_off and state not in ("applied", "cut"))
        return outcome

    def _run(self, order: dict[str, Any]) -> bool:
        """Launch and run; False when the power went."""
        try:
            try:
                self.world.launch(order)
            except KilledError:
                self.machine.revive()
            except OSError as error:
                self.machine.clock.note(f"not launched: {error}")
            self.world.run()
        except PowerCutError:
            return False
        return True

    def _expect(self, outcome: Outcome, struck: set[str], before: tuple[str, ...]) -> None:
        """Judge an end by what struck: nothing else was, or is, wrong with the host."""
        watch = self.watch
        if struck <= {"clock", "second"} and outcome.state not in ("applied", "stale", "nothing"):
            watch.break_(9, f"{outcome.state} although only {sorted(struck)} struck")
        if struck <= set(_FORWARD) and outcome.state == "held" and outcome.code != _NOTHING_BEFORE:
            watch.break_(9, f"held although only {sorted(struck)} struck")
        if outcome.state == "rolled_back" and self.world.running() != before:
            watch.break_(9, f"rolled back to {self.world.running()}, {before} ran before")

    def _second(self, running: str) -> None:
        """Let somebody else hand over the same order while it is carried out."""
        if self.stale is None or self.stale["txid"] == running:
            return
        order = self.stale

        def hand_over() -> None:
            if self.machine.manager.run_of("recon-executor.service").active != "active":
                return
            if self.world.launch(order):
                self.watch.break_(7, f"{order['txid']} was launched beside {running}")

        faults.quietly(self.world, hand_over)

    def _power_comes_back(self) -> None:
        disk = self.watch.disk()
        self.machine.reboot()
        self.watch.power_came_back(disk)
        self.machine.clock.advance(SETTLE_S)

    # -- when faults stop --------------------------------------------------------------------------------------------

    def _converge(self) -> None:
        """Faults stop. Two more applies bring the host where git wants it, after one command where one is asked for."""
        machine, watch = self.machine, self.watch
        faults.heal(machine)
        machine.clock.advance(SETTLE_S)
        watch.is_tampered = False
        ends: list[str] = []
        for number in range(3):
            plan = self._look()
            if self._do_as_told(plan):
                plan = self._look()
            if plan.refusals:
                if watch.is_damaged:
                    watch.reached["converged held by damage"] += 1
                    return
                watch.break_(29, f"refused: {[(r.code, r.summary, r.fix) for r in plan.refusals]} after {ends}")
                return
            if plan.order is None:
                self._at_rest(number)
                return
            outcome = self._transact(self.world.order(plan), [])
            ends.append(_told(outcome))
        if not watch.is_damaged:
            watch.break_(29, f"{ends} and there are still changes")
        else:
            watch.reached["not converged, damaged"] += 1

    def _at_rest(self, number: int) -> None:
        watch = self.watch
        watch.reached[f"converged after {number}"] += 1
        watch.serves(self.world.running())
        if self.world.running() != self._wanted():
            watch.break_(29, f"{self.world.running()} run, git wants {self._wanted()}")
        watch.is_whole()
        if self.has_failed_disk or self.rng.random() < 0.2:
            watch.reached["power cut at rest"] += 1
            self._power_comes_back()
            watch.serves(self.world.running())
        left = unfinished(self.machine)
        if left and not watch.is_damaged and number:
            watch.break_(27, f"no end: {left}")

    def _wanted(self) -> tuple[str, ...]:
        return desired(self.world.wish).members

    def _do_as_told(self, plan: HostPlan) -> bool:
        """Do the one thing a refusal asks for on the host."""
        for refusal in plan.refusals:
            words = refusal.fix.removeprefix("on the host: ").split(" ")
            if words[:2] == ["systemctl", "stop"]:
                self.machine.run(words, 60.0)
                self.machine.clock.advance(20.0)
                self.watch.reached["did as told"] += 1
                return True
        return False

    def _let_others_be(self) -> None:
        """Put programs of others on the host; what is theirs must live as long as the host is up."""
        state = self.machine.state
        pid = self.machine.clock.pid()
        state.processes[pid] = Process(pid=pid, comm="sshd", argv=["sshd"], cgroup="/user.slice/session-3.scope")
        self.watch.foreign.add(pid)


def _told(outcome: Outcome | None) -> str:
    if outcome is None:
        return "nothing is told"
    return f"{outcome.state} {outcome.code} {outcome.committed} {outcome.live} {outcome.reason}"
