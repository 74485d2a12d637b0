"""A seed becomes a short history of one host: an operator's deeds, what goes wrong meanwhile, and how it ends.

`play` is the whole of it. It draws nothing but from its seed, so a seed that fails fails again.

Must not: know why an invariant holds.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.agent.wire import RequestError
from reconciler.model.outcome import Outcome
from reconciler.model.plan import HostPlan
from reconciler.sim.machine import KilledError, PowerCutError
from reconciler.sim.pages import Luck
from reconciler.sim.state import Process
from tests.volume import beside, faults, strikes
from tests.volume.cells import BETWEEN, BOOT, LOOK
from tests.volume.faults import Aim, Fault, Striker
from tests.volume.invariants import TRANSACTIONS, Watch, unfinished
from tests.volume.keepers import Keepers
from tests.volume.quick import quick
from tests.volume.slots import COVENS, SLOTS, on_slot
from tests.volume.timed import Timed
from tests.volume.world import BEGINS_BESIDE, LOAD_S, Wish, World, desired, in_force, limit_s, next_edge_s

SETTLE_S = LOAD_S + 40.0
_SPIRALS = 0.2
_WINDOWED = 0.09
_TOLD_OF = {True: 0.4, False: 0.09}
"""So many histories have windows, and so many of those with and without them a webhook; all of it takes longer."""

_OF_TWO = 0.15
"""So many histories are of a host with two slots; of these so many have windows, and of the others a watchdog."""

_WINDOWED_OF_TWO, _WATCHED = 0.15, 0.35
_LOPSIDED = 0.5
"""In so many of them, of those that aim at no cell, both slots move at first, and what strikes is of one of them."""

_LOOKS_S = 75.0
"""The watchdog looks often enough in it to do something."""

_HOOKED = 0.1
_SCHEDULED_S = 900.0
"""How long a transition by the schedule may take: the deadlines of the longest, on the way and back."""

_SOON_S, _MARGIN_S = 600.0, 90.0
_LONGEST_PAUSE_S = 660.0
"""A delivery pauses for ten minutes at most, and a timer comes within one."""

_OUTBOX = "/var/lib/recon/outbox/"
_LUCK: tuple[Luck | None, ...] = (None, None, None, lambda: 0.0, lambda: 0.99)
"""What a power cut leaves of the unsynced: some of it, all, or nothing."""

_TOO_LATE = ("stale", "refused", "locked", "nothing", "aborted")
_BEFORE_BOOT = {"crash-at-start", "crash-after-ready", "nvml", "gpu-lost", "wrong-model", "generator", "clock"}
"""What is so already when the power comes back."""

_NOTHING_BEFORE = "REC7170"
_FORWARD = ("kill", "steal", *faults.HARMLESS)
"""Faults after which the old coven can always be brought back."""


@dataclass
class Report:
    """What became of a seed."""

    seed: int
    broken: list[str] = field(default_factory=list)
    is_timed: bool = False
    """The clock on the wall decides what it does: it has windows, or pauses that are made of what it tells."""
    reached: Counter[str] = field(default_factory=Counter)
    trace: list[str] = field(default_factory=list)


def has_two(seed: int) -> bool:
    """Say whether the history of a seed is of a host with two slots."""
    return _slots_rng(seed).random() < _OF_TWO


def _slots_rng(seed: int) -> random.Random:
    return random.Random(f"slots {seed}")


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
    report.is_timed = history.timed is not None
    report.broken = history.watch.broken
    report.reached = history.watch.reached
    report.trace = history.world.machine.clock.trace
    return report


class _History:
    def __init__(self, seed: int, kinds: Sequence[str], shift_s: float) -> None:
        self.kinds = kinds
        self.rng = random.Random(seed)
        self.report = Report(seed)
        coven = self.rng.choice((*COVENS, *COVENS, None))
        aims = {None: "vision-llama", "reasoning": "vision-llama", "vision": "reasoning-vllm"}
        self.aim: Aim | None = faults.aim(self.rng, kinds, aims[coven])
        has_hooks = self.rng.random() < _HOOKED or (self.aim is not None and self.aim.faults[-1].kind == "hang")
        start = Wish(coven or ("reasoning" if self.aim else None), 0, self.rng.random() < 0.15, has_hooks)
        # A die of its own, so that the histories without one are those that they always were.
        self.spiral_rng = random.Random(f"spiral {seed}")
        start = start._replace(has_spiral=self.spiral_rng.random() < _SPIRALS)
        timed_rng = random.Random(f"timed {seed}")
        has_windows = timed_rng.random() < _WINDOWED
        has_webhook = timed_rng.random() < _TOLD_OF[has_windows]
        start = start._replace(has_windows=has_windows, has_webhook=has_webhook)
        self.slots_rng = _slots_rng(seed)
        if self.slots_rng.random() < _OF_TWO:
            start = self._with_two(start)
            has_windows = start.has_windows
        self.world = World.prepared(start)
        self.machine = self.world.machine
        self.machine.state.epoch += shift_s
        self.world.ahead = -1 if shift_s else 1
        self.watch = Watch(self.machine)
        self.is_lopsided = start.has_two and self.aim is None and self.slots_rng.random() < _LOPSIDED
        self.keepers = Keepers(self.world, self.watch, self.slots_rng) if start.has_two else None
        is_timed = has_windows or has_webhook or start.has_watchdog
        self.timed = Timed(self.world, self.watch, timed_rng) if is_timed else None
        self.turns = 0
        """Transactions that the schedule ordered."""
        self.machine.clock.watch = self.watch.on_time
        if self.rng.random() < 0.3:
            self._let_others_be()
        self.stale: dict[str, Any] | None = None
        self.disk_free = self.machine.state.disk_free
        self.orders: dict[str, dict[str, Any]] = {}
        self.limits: dict[str, float] = {}
        """By transaction, how long it may take."""
        self.has_failed_disk = False
        self.is_off = False
        """The transaction before ended held, or without a word: what runs is not what is committed."""

    def _with_two(self, start: Wish) -> Wish:
        rng = self.slots_rng
        has_windows = rng.random() < _WINDOWED_OF_TWO
        return start._replace(
            resident=True,
            has_two=True,
            beside=rng.choice((*BEGINS_BESIDE, "speech", "speech")),
            has_windows=has_windows,
            has_webhook=False,
            has_watchdog=not has_windows and rng.random() < _WATCHED,
        )

    def play(self) -> None:
        rng = self.rng
        count = rng.choice((1, 2, 2, 3))
        plagues = [faults.draw(rng, self.kinds) for _ in range(rng.choice((1, 2, 2, 3)))]
        turns = [rng.randrange(count) for _ in plagues]
        if self.keepers is not None:
            self.watch.reached["slots two"] += 1
            beside.spread(self.slots_rng, plagues)
        if self.aim is not None:
            # What it aims at comes first, and nothing else beside it most of the time.
            turns = [rng.randrange(1, 1 + count) for _ in plagues]
            plagues += self.aim.faults
            turns += [0] * len(self.aim.faults)
            if self.aim.cell == "RV-C4":
                turns[-1], count = 1, max(2, count)
        for turn in range(count):
            due, was = [fault for fault, at in zip(plagues, turns, strict=True) if at == turn], self.world.wish
            self._between(is_aimed=turn == 0 and (self.aim is not None or self.is_lopsided))
            if turn == 0 and self.is_lopsided:
                due = beside.lopsided(self.slots_rng, was, self.world.wish)
            self._operate(due)
            if rng.random() < 0.5:
                strikes.heal(self.machine)
            if self.watch.broken:
                return
        if self._converge() and self.timed is not None:
            self._by_itself(self.timed)

    # -- one operation -----------------------------------------------------------------------------------------------

    def _between(self, *, is_aimed: bool = False) -> None:
        """Let git move, and people and decay do something to the host."""
        rng, wish = self.rng, self.world.wish
        kind = rng.choices(("switch", "member", "stop", "drift", "same", "stale"), (8, 3, 2, 2, 1, 1))[0]
        if is_aimed:
            kind = "switch"
        self.watch.reached[f"operation {kind}"] += 1
        if kind == "switch":
            others = [coven for coven in COVENS if coven != wish.coven]
            self.world.wish = wish._replace(coven=rng.choice(others))
        elif kind == "member":
            self.world.wish = wish._replace(edition=(wish.edition + 1) % 3)
        elif kind == "stop":
            self.world.wish = wish._replace(coven=None)
        elif kind == "drift":
            fault = faults.draw(rng)
            beside.spread(self.slots_rng, [fault] if wish.has_two else [])
            strikes.by_hand(self.world, self.watch, fault.target, fault.value, stops=fault.at % 2 == 1)
            self.machine.clock.advance(rng.choice((0.0, 0.4, 20.0)))
        if self.keepers is not None:
            self._between_of_two(self.keepers, kind, wish, is_aimed=is_aimed)
        if self.timed is not None:
            self.timed.receiver.is_up = self.timed.rng.random() < 0.7
            self._live(self.timed.rng.choice((0.0, 20.0, 70.0, 150.0)))
        if rng.random() < 0.08 and not is_aimed:
            self._decay()
        if wish.has_spiral and not is_aimed:
            self._take_down()
        if kind == "stale" and self.stale is not None:
            self._transact(self.stale, Striker(self.world, self.watch, []))
            # An order ends once: who hands it over again is told how it ended, whatever became of the host since.
            self.stale = None

    def _between_of_two(self, keepers: Keepers, kind: str, was: Wish, *, is_aimed: bool) -> None:
        """Let git move the second slot too, or instead, people lock and hold, and a server stick."""
        which = "both" if self.is_lopsided else self.slots_rng.choice(("left", "both"))
        self.world.wish = beside.moved(self.slots_rng, kind, was, self.world.wish, which if is_aimed else "")
        if not (is_aimed and self.is_lopsided):
            keepers.act(is_aimed=is_aimed)
        if was.has_watchdog and self.slots_rng.random() < 0.4:
            strikes.stick(self.machine, self.slots_rng)
            self._live(_LOOKS_S)

    def _decay(self) -> None:
        """Damage a state file."""
        path = strikes.corrupt(self.rng, self.world)
        if path:
            self.machine.clock.note(f"fault corrupt {path}")
            self.watch.is_damaged = True
            self.watch.damaged.add(path)
            self.watch.reached["strike corrupt"] += 1
            self.watch.reached["cell T1-C13"] += 1

    def _take_down(self) -> None:
        """Let a person take the spiral down, or lift that again."""
        deed = self.spiral_rng.choice(("down", "up", "nothing", "nothing"))
        if deed == "nothing":
            return
        args = {"scope": "spiral", "owner": "anna@example.net", "reason": "why not", "host": "h-1"}
        self.watch.reached[f"spiral {deed}"] += 1
        try:
            self.world.ask(deed, args)
        except RequestError as error:
            self.machine.clock.note(f"{deed}: {error}")

    def _operate(self, plagues: list[Fault]) -> None:
        striker = Striker(self.world, self.watch, plagues)
        self.watch.begin("")
        if self.keepers is not None:
            self.keepers.lend()
        striker.strike_at(LOOK)
        try:
            plan = self._look()
        except PowerCutError:
            self._power_comes_back(striker)
            return
        except KilledError:
            self.machine.revive()
            return
        finally:
            self.machine.hook = None
            self.machine.clock.drop("volume.")
            self.machine.state.disk_free = max(self.machine.state.disk_free, self.disk_free)
        if plan.order is None:
            return
        order = self._order(plan)
        # What somebody else planned at the same time, and hands over while this one runs or when all has changed.
        wants_second = any(fault.kind == "second" for fault in plagues)
        if wants_second or self.rng.random() < 0.15:
            self.stale = self._order(plan)
        striker.beside = {"second": lambda: self._before_me(plan)}
        has_booted = False
        try:
            striker.strike_at(BETWEEN)
        except PowerCutError:
            self._power_comes_back(striker)
            has_booted = True
        if any(fault.struck == BETWEEN and fault.kind in ("gone", "lost") for fault in plagues):
            # Who planned is gone, or cannot come through: nobody hands anything over.
            return
        if self.keepers is not None and self.slots_rng.random() < 0.12:
            # Somebody was quicker with a lock.
            self.keepers.lock(self.slots_rng.choice(SLOTS), 120.0)
        outcome = self._transact(order, striker)
        self.world.tokens = ()
        is_late = any(fault.struck == BETWEEN and fault.kind == "second" for fault in plagues)
        if (has_booted or is_late) and outcome is not None and outcome.state not in _TOO_LATE:
            self.watch.break_(20, f"{outcome.state} by a plan of before {'a boot' if has_booted else 'another apply'}")

    def _order(self, plan: HostPlan) -> dict[str, Any]:
        """Return the order that a plan comes to, with what is known of it written down."""
        order = self.world.order(plan)
        self.limits[order["txid"]] = limit_s(plan)
        self.orders[order["txid"]] = order
        return order

    def _before_me(self, plan: HostPlan) -> None:
        """Let somebody else who planned the same be quicker."""
        order = self._order(plan)
        self._transact(order, Striker(self.world, self.watch, []))

    def _look(self) -> HostPlan:
        """Plan, which changes nothing."""
        self.machine.hook = lambda when, what: self.watch.break_(21, f"a plan did: {what}")
        plan = self.world.plan()
        self.machine.hook = None
        self.machine.clock.drop("volume.")
        if plan.refusals:
            self.watch.reached[f"plan refused {'+'.join(sorted({r.code for r in plan.refusals}))}"] += 1
            if any(refusal.code == "REC7300" for refusal in plan.refusals):
                self.watch.reached["slots plan refused by a lock"] += 1
        return plan

    def _transact(self, order: dict[str, Any], striker: Striker, *, is_launched: bool = False) -> Outcome | None:
        """Hand an order over and let it run with what strikes meanwhile, then judge how it ended."""
        machine, watch, txid, plagues = self.machine, self.watch, order["txid"], striker.faults
        was_tampered, before = watch.is_tampered, self.world.running()
        was_ill = strikes.is_ill(machine) or before != watch.wanted()
        watch.begin(txid)
        if self.keepers is not None and not is_launched:
            watch.passes[txid] = self.keepers.passes()
        kept = watch.kept_slots(watch.passes.get(txid, frozenset()))
        striker.beside = {
            "second": lambda: self._second(txid),
            "lost": lambda: self._again(order),
            "gone": lambda: self._follow(txid),
        }
        machine.hook = striker.on_change
        is_cut = not self._run(None if is_launched else order)
        machine.hook = machine.on_call = None
        machine.clock.drop("volume.")
        watch.in_time(self.limits[txid])
        struck = {fault.kind for fault in plagues if fault.struck}
        self.has_failed_disk = self.has_failed_disk or bool(struck & {"io-error", "no-space"})
        turns = self.turns
        if is_cut:
            self._power_comes_back(striker)
        outcome = self.world.outcome(txid)
        if turns != self.turns:
            # The schedule had its turn since the boot, and what is so now is not this one's end.
            return outcome
        machine.clock.note(f"{txid} ended: {_told(outcome)}")
        is_calm = not (self.is_off or was_ill or watch.is_tampered or watch.is_damaged or strikes.is_ill(machine))
        if outcome is not None and not is_cut:
            watch.ended(outcome)
            if watch.has_two:
                for name in beside.situations(watch, order, outcome, before):
                    watch.reached[f"slots {name}"] += 1
                if not (self.is_off or was_ill or watch.is_tampered or watch.is_damaged):
                    self._expect_of_each(order, outcome, [fault for fault in plagues if fault.struck], before)
            if is_calm and not (kept and outcome.state == "locked"):
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

    def _run(self, order: dict[str, Any] | None) -> bool:
        """Launch, unless the host did, and run; False when the power went."""
        try:
            try:
                if order is not None:
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
        if struck <= set(faults.HARMLESS) and outcome.state not in ("applied", "stale", "nothing"):
            watch.break_(9, f"{outcome.state} although only {sorted(struck)} struck")
        if struck <= set(_FORWARD) and outcome.state == "held" and outcome.code != _NOTHING_BEFORE:
            watch.break_(9, f"held although only {sorted(struck)} struck")
        if outcome.state == "rolled_back" and self.world.running() != before:
            watch.break_(9, f"rolled back to {self.world.running()}, {before} ran before")

    def _expect_of_each(
        self, order: dict[str, Any], outcome: Outcome, struck: list[Fault], before: tuple[str, ...]
    ) -> None:
        """Judge the slots one by one: all that struck was of one of them."""
        failed = beside.failed_on(struck)
        if not failed or len(failed) == len(SLOTS) or outcome.state not in ("rolled_back", "aborted", "held"):
            return
        if len(order["moves"]) == len(SLOTS):
            self.watch.reached["slots one fails of two that move"] += 1
        self.watch.serves_beside(self.world.running(), before, failed)
        if not self.world.has_resident():
            self.watch.break_(35, f"only slot {', '.join(failed)} failed, and the resident does not run")

    def _second(self, running: str) -> None:
        """Let somebody else hand over the same order while it is carried out."""
        if self.stale is None or self.stale["txid"] == running:
            return
        order = self.stale

        def hand_over() -> None:
            if not self.world.has_executor():
                return
            if self.world.launch(order):
                self.watch.break_(7, f"{order['txid']} was launched beside {running}")

        strikes.quietly(self.world, hand_over)

    def _again(self, order: dict[str, Any]) -> None:
        """Let the controller that got no answer hand the same order over again: it joins what runs, or begins it."""

        def hand_over() -> None:
            if not self.world.launch(order):
                self.watch.break_(7, f"{order['txid']} is not joined by whoever hands it over again")

        before = list(self.machine.state.launched)
        if not self.world.has_executor() and self.watch.step == "launch":
            strikes.quietly(self.world, hand_over)
        elif self.world.has_executor():
            strikes.ask_only(self.world, self.watch, "the same order once more", hand_over)
        if len(self.machine.state.launched) > max(1, len(before)):
            self.watch.break_(7, f"a second executor was launched for {order['txid']}")

    def _follow(self, txid: str) -> None:
        """Let a controller follow the transaction, and never be heard of again."""
        if self.world.has_executor():
            strikes.ask_only(self.world, self.watch, "who follows", lambda: self.world.outcome(txid))

    def _power_comes_back(self, striker: Striker | None = None) -> None:
        """Boot, with what strikes at a boot; the power may go once more."""
        watch, machine = self.watch, self.machine
        disk = watch.disk()
        if watch.kept_slots():
            watch.reached["slots lock over a reboot"] += 1
        at_boot = {fault.kind for fault in striker.faults if fault.step == BOOT} if striker else set()
        if striker is not None and at_boot & _BEFORE_BOOT:
            striker.strike_at(BOOT)
        machine.reboot(luck=self.rng.choice(_LUCK))
        if striker is not None and at_boot - _BEFORE_BOOT:
            self._strike_at_boot(striker, disk)
        else:
            watch.power_came_back(disk)
        self._live(SETTLE_S)

    def _strike_at_boot(self, striker: Striker, disk: dict[str, tuple[str, bytes]]) -> None:
        self.machine.clock.advance(self.rng.choice((0.0, 1.0, 2.5)))
        self.watch.power_came_back(disk)
        try:
            striker.strike_at(BOOT)
        except PowerCutError:
            self.machine.reboot(luck=self.rng.choice(_LUCK))
            self.watch.power_came_back(disk)
        except OSError:
            pass  # nobody writes at a boot

    # -- when faults stop --------------------------------------------------------------------------------------------

    def _converge(self) -> bool:
        """Faults stop. One more apply brings the host where git wants it, after one command where one is asked for.

        Says whether it came there.
        """
        machine, watch = self.machine, self.watch
        strikes.heal(machine)
        if self.keepers is not None:
            self.keepers.leave()
        if self.timed is not None:
            self.timed.is_calm = True
        self._live(SETTLE_S)
        watch.is_tampered = False
        ends: list[str] = []
        # With windows an edge may come while the first one is made, and another one has something to do.
        for number in range(3 if self.world.wish.has_windows else 2):
            plan = self._look()
            if self._do_as_told(plan):
                plan = self._look()
            if plan.refusals:
                if watch.is_damaged:
                    watch.reached["converged held by damage"] += 1
                    return False
                watch.break_(29, f"refused: {[(r.code, r.summary, r.fix) for r in plan.refusals]} after {ends}")
                return False
            if plan.order is None:
                self._at_rest(number)
                return True
            outcome = self._transact(self._order(plan), Striker(self.world, watch, []))
            ends.append(_told(outcome))
        if not watch.is_damaged:
            watch.break_(29, f"{ends} and there are still changes")
        else:
            watch.reached["not converged, damaged"] += 1
        return False

    def _at_rest(self, number: int) -> None:
        watch = self.watch
        watch.reached[f"converged after {number}"] += 1
        watch.serves(self.world.running())
        if self.world.running() != self._wanted():
            watch.break_(29, f"{self.world.running()} run, git wants {self._wanted()}")
        if watch.has_two and not self.world.has_resident():
            watch.break_(29, "the resident does not run")
        watch.is_whole()
        if self.has_failed_disk or self.rng.random() < 0.2:
            watch.reached["power cut at rest"] += 1
            self._power_comes_back()
            watch.serves(self.world.running())
        left = unfinished(self.machine)
        if left and not watch.is_damaged and number:
            watch.break_(27, f"no end: {left}")

    def _wanted(self) -> tuple[str, ...]:
        return desired(in_force(self.world.wish, self.machine.wall())).members

    # -- by itself ---------------------------------------------------------------------------------------------------

    def _live(self, seconds: float) -> None:
        """Let time pass in which the host does by its timers what is due; the power may go, and comes back."""
        clock = self.machine.clock
        if self.timed is None:
            clock.advance(seconds)
            return
        ends = clock.now + seconds
        while True:
            try:
                with self.timed.alone():
                    clock.wait_for(lambda: bool(self.machine.state.launched), ends - clock.now)
            except PowerCutError:
                self.watch.begin("")
                self._power_comes_back()
            if not self.machine.state.launched:
                if clock.now >= ends:
                    return
                continue
            self._by_schedule(self.timed)

    def _by_schedule(self, timed: Timed) -> None:
        """Carry out what the schedule of the host ordered, with what strikes meanwhile."""
        self.turns += 1
        txid = self.machine.state.launched[0].rpartition(" ")[2]
        order = self.orders.get(txid)
        if order is None:
            order = json.loads(self.machine.files.read(f"{TRANSACTIONS}/{txid}/intent.json"))["body"]
        elif self.keepers is not None:
            self.watch.reached["slots the watchdog starts an executor"] += 1
        struck = [] if timed.is_calm or timed.rng.random() < 0.6 else [faults.draw(timed.rng, self.kinds)]
        self.limits[txid] = _SCHEDULED_S
        outcome = self._transact(order, Striker(self.world, self.watch, struck), is_launched=True)
        self.watch.reached[f"schedule {outcome.state if outcome else 'unknown'}"] += 1
        if self.watch.kept_slots() and outcome is not None and outcome.state == "applied":
            self.watch.reached["slots the schedule moves one beside a locked one"] += 1

    def _by_itself(self, timed: Timed) -> None:
        """Nobody is around any more: the host follows its windows, and tells everything that happened."""
        watch = self.watch
        if self.world.wish.has_windows:
            # What was left held and is right by now, and an end that was damaged, a person has seen before leaving.
            self.world.ask("clear", {"host": "h-1"})
            if self.keepers is not None:
                self._beside_a_lock(self.keepers)
            self._live_over_an_edge()
            watch.reached["windows seen"] += 1
            if self.world.running() != self._wanted():
                watch.break_(33, f"{self.world.running()} run, the windows say {self._wanted()}")
            if not watch.broken and self._look().order is not None:
                watch.break_(33, "what the schedule brought is not what a plan wants")
        if self.world.wish.has_webhook and all(path.startswith(_OUTBOX) for path in watch.damaged):
            timed.receiver.is_up = True
            self._live(_LONGEST_PAUSE_S)
            watch.reached["events told"] += len(timed.receiver.got)
            untold = timed.untold()
            if untold or timed.receiver.wrong:
                watch.break_(32, f"never told: {untold}; {timed.receiver.wrong}")

    def _live_over_an_edge(self) -> None:
        """Let the next edge come and be followed."""
        away = next_edge_s(self.machine.wall(), self.world.wish)
        if away > (_SOON_S if self.keepers is None else _MARGIN_S):
            # Somebody sets the clock, for a history is short.
            self.machine.state.epoch += away - _MARGIN_S
            away = _MARGIN_S
        self._live(away + _MARGIN_S)

    def _beside_a_lock(self, keepers: Keepers) -> None:
        """Let an edge come while one slot is locked: the other one follows its windows, and this one stays."""
        slot = self.slots_rng.choice(SLOTS)
        before = on_slot(self.world.running(), slot)
        if not keepers.lock(slot, 3000.0):
            return
        self._live_over_an_edge()
        running, wanted = self.world.running(), self._wanted()
        if on_slot(wanted, slot) != before:
            self.watch.reached["slots the schedule leaves a locked one"] += 1
        if on_slot(running, slot) != before:
            self.watch.break_(
                36, f"slot {slot} is locked and runs {list(on_slot(running, slot))}, before {list(before)}"
            )
        for other in set(SLOTS) - {slot}:
            if on_slot(running, other) != on_slot(wanted, other):
                self.watch.break_(33, f"slot {slot} is locked, and {other} runs {list(on_slot(running, other))}")
        keepers.leave()

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
