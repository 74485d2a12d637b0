"""One simulated host and its operator: git's line, the plan, the order handed over, the transaction run to its end.

All of it is the production code: observe, render, diff, plan, intent, launch, execute. What a plan needs of a desired
state is rendered once in a process and kept, and a host begins as a copy of one that was prepared once.

Must not: look at what came of it (`invariants` does), or make anything fail (`faults` does).
"""

from __future__ import annotations

import copy
import functools
import itertools
import pickle
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from reconciler.agent import dispatch
from reconciler.agent.machine import Response
from reconciler.apply.intents import build_intent
from reconciler.diff import diff_host, ignored_facts
from reconciler.model.desired import (
    ALL_GPUS,
    Coven,
    Fleet,
    Hook,
    Hooks,
    Host,
    MemorySpec,
    Platform,
    Policy,
    Service,
    Shared,
    Slot,
    Source,
    Spiral,
    Ssh,
    Watchdog,
)
from reconciler.model.events import Events
from reconciler.model.observed import HostState
from reconciler.model.outcome import Outcome
from reconciler.model.plan import HostPlan
from reconciler.model.rendered import RenderedHost
from reconciler.model.spiral import SpiralFile
from reconciler.model.subject import look_at
from reconciler.model.window import Window
from reconciler.planner import assemble, plan_host
from reconciler.render.host import render_host
from reconciler.sim.faults import set_fault
from reconciler.sim.fleet import provide, run_launched
from reconciler.sim.machine import SimMachine
from reconciler.sim.state import Node
from tests.agent.bench import CONTEXT, PARSER, a_coven, a_service
from tests.agent.test_webhook import SECRET
from tests.volume.slots import BESIDE, COVENS, SLOTS, BesideName, CovenName, SlotName

HOST = "h-1"
RESIDENT = "recon-resident-parser.service"
SHARED = "qdrant.service"
"""A service of somebody else on the host, which nobody may touch."""
HOOK_PLACE = "/srv/hooks"
_DAY_S = 86400.0
_EVENTS = ("drain", "after_stop", "after_warm", "on_rollback")
HOOKS = tuple(f"{HOOK_PLACE}/{event}" for event in _EVENTS)
SECRET_FILE = "/etc/recon/secrets/ops"
URL = "https://hooks.example.net/recon"
WINDOWS: tuple[tuple[CovenName, str, str, int], ...] = (
    ("vision", "00:03", "00:07", 50),
    ("reasoning", "00:05", "00:09", 80),
    ("vision", "01:00", "23:50", 20),
)
"""Coven, begin, end and priority of what the slot runs when: soon after a history begins, and over its day."""

WINDOWS_BESIDE: tuple[tuple[BesideName, str, str, int], ...] = (
    ("draw", "00:05", "00:09", 50),
    ("speech", "00:07", "00:11", 80),
    ("draw", "01:00", "23:50", 20),
)
"""The same for the second slot of a host: with edges that both have, and others, none nearer than two minutes."""

LOAD_S = 3.0
"""How long servers load here: long enough for polls in between, short enough to be quick."""


BEGINS_BESIDE: tuple[BesideName | None, ...] = ("speech", None)
"""What the second slot runs when a history begins."""


class Wish(NamedTuple):
    """What git says: which coven the slot runs, and which edition of its services."""

    coven: CovenName | None = "reasoning"
    edition: int = 0
    resident: bool = False
    has_hooks: bool = False
    has_spiral: bool = False
    has_windows: bool = False
    has_webhook: bool = False
    has_two: bool = False
    """Two slots of one GPU each, instead of one."""
    beside: BesideName | None = None
    beside_edition: int = 0
    resident_edition: int = 0
    has_watchdog: bool = False


def covens(edition: int, *, has_hooks: bool = False, beside: int | None = None) -> dict[str, Coven]:
    """Return the covens of an edition, with those of the second slot in theirs; editions differ in one member."""
    hooks = Hooks(**{event: _hook(event) for event in _EVENTS}) if has_hooks else None
    more = ("--threads", str(4 + edition))
    quick: dict[str, Any] = {"stop": {"timeout": "5s"}, "warm": {"timeout": "30s"}}
    tokens = a_service("none", None, memory="0B", gpu=False, **quick)
    reasoning = a_coven(
        "reasoning",
        hooks=hooks,
        vllm=a_service("vllm", 8001, memory="80GiB", env={"VLLM_SERVER_DEV_MODE": "1"}, **quick),
        rerank=a_service("llamacpp", 8002, memory="8GiB", args=more, **quick),
        tokens=tokens,
    )
    llama = a_service("llamacpp", 8003, memory="100GiB", args=more, **quick)
    vision = a_coven("vision", hooks=hooks, llama=llama, tokens=tokens)
    found = {"reasoning": reasoning, "vision": vision}
    if beside is None:
        return found
    more = ("--threads", str(4 + beside))
    asr = a_service("vllm", 8011, memory="70GiB", env={"VLLM_SERVER_DEV_MODE": "1"}, **quick)
    voice = a_service("llamacpp", 8012, memory="20GiB", args=more, **quick)
    flux = a_service("llamacpp", 8013, memory="110GiB", args=more, **quick)
    speech = a_coven("speech", hooks=hooks, asr=asr, voice=voice)
    return {**found, "speech": speech, "draw": a_coven("draw", hooks=hooks, flux=flux)}


def _resident(edition: int) -> Service:
    return PARSER if not edition else PARSER.model_copy(update={"env": {"EDITION": str(edition)}})


def _hook(event: str) -> Hook:
    return Hook.model_validate({"argv": (f"{HOOK_PLACE}/{event}",), "timeout": "4s", "on_timeout": "abort"})


def _loop(program: str, lane: str, **more: Any) -> dict[str, Any]:
    limits = {"memory": "1GiB", "tasks": 64}
    return {"argv": (f"{SPIRAL_ROOT}/{program}",), "lane": lane, "limits": limits, "stop": {"timeout": "2s"}, **more}


SPIRAL_ROOT = "/srv/spiral"
SPIRAL = SpiralFile.model_validate(
    {
        "root": SPIRAL_ROOT,
        "units": {
            "worker": _loop("worker", "gpu"),
            "feeder": _loop("feeder", "gpu", producer=True),
            "steerer": _loop("steerer", "cpu"),
        },
        "control": {"file": f"{SPIRAL_ROOT}/control.json", "keys": {"jobs_per_hour": "jobs"}},
        "convergence": {"file": f"{SPIRAL_ROOT}/state.json", "key": "converged"},
        "reaper": {"paths": (f"{SPIRAL_ROOT}/renders",), "keep": {"count": 9}},
    }
)


def in_force(wish: Wish, wall: float) -> Wish:
    """Return a wish with what its slots should run at a time on the wall, as the windows say it to a person."""
    if not wish.has_windows:
        return wish
    now = time.strftime("%H:%M", time.gmtime(wall))
    open_now = [window for window in WINDOWS if window[1] <= now < window[2]]
    beside = [window for window in WINDOWS_BESIDE if wish.has_two and window[1] <= now < window[2]]
    return wish._replace(
        coven=max(open_now, key=lambda window: window[3])[0] if open_now else wish.coven,
        beside=max(beside, key=lambda window: window[3])[0] if beside else wish.beside,
    )


def next_edge_s(wall: float, wish: Wish) -> float:
    """Return how long it is to the next begin or end of a window."""
    into = wall % _DAY_S
    windows = (*WINDOWS, *(WINDOWS_BESIDE if wish.has_two else ()))
    edges = [int(edge[:2]) * 3600 + int(edge[3:]) * 60 for window in windows for edge in window[1:3]]
    return min((edge - into) % _DAY_S for edge in edges)


def _windows(slot: SlotName | None, windows: tuple[tuple[str, str, str, int], ...]) -> tuple[Window, ...]:
    return tuple(
        Window.model_validate({"coven": coven, "from": begins, "to": ends, "priority": priority, "slot": slot})
        for coven, begins, ends, priority in windows
    )


_SCHEDULE = _windows(None, WINDOWS)
_SCHEDULE_OF_TWO = (*_windows("left", WINDOWS), *_windows("right", WINDOWS_BESIDE))
_WATCHDOG = Watchdog.model_validate({"every": "20s", "looks": 2, "attempts": 1})
_EVENTS_OF = Events.model_validate({"webhooks": {"ops": {"url": URL, "secret_file": SECRET_FILE, "timeout": "5s"}}})


class Desired(NamedTuple):
    """A wish with all that the pure stages make of it."""

    fleet: Fleet
    host: Host
    rendered: RenderedHost
    bodies: dict[str, str]
    members: tuple[str, ...]
    images: tuple[str, ...]


@functools.cache
def desired(wish: Wish) -> Desired:
    """Return what a wish comes to."""
    residents: dict[str, Service] = {"parser": _resident(wish.resident_edition)} if wish.resident else {}
    live = {"left": wish.coven, "right": wish.beside}
    one = (Slot(name=ALL_GPUS, gpus="all", coven=wish.coven),)
    two = tuple(Slot(name=slot, gpus=(str(gpu),), coven=live[slot]) for gpu, slot in enumerate(SLOTS))
    caps = {"jobs_per_hour": 12}
    host = Host(
        name=HOST,
        address="192.0.2.11",
        host_key=None,
        ssh=Ssh(),
        reserve=None,
        memory=MemorySpec(),
        platform=Platform(),
        slots=two if wish.has_two else one,
        may_run=(*COVENS, *BESIDE) if wish.has_two else COVENS,
        shared=(Shared.model_validate({"unit": SHARED, "memory": "0B"}),),
        residents=residents,
        spiral=Spiral(enabled=True, rate_caps=caps, slot="left" if wish.has_two else None)
        if wish.has_spiral
        else Spiral(),
        schedule=(_SCHEDULE_OF_TWO if wish.has_two else _SCHEDULE) if wish.has_windows else (),
        watchdog=_WATCHDOG if wish.has_watchdog else None,
        events=_EVENTS_OF if wish.has_webhook else None,
    )
    made = covens(wish.edition, has_hooks=wish.has_hooks, beside=wish.beside_edition if wish.has_two else None)
    fleet = Fleet(name="studio", transport="sim", policy=Policy(), covens=made, hosts={HOST: host}, spiral=SPIRAL)
    rendered = render_host(fleet, host, {})
    groups = rendered.groups.values()
    return Desired(
        fleet=fleet,
        host=host,
        rendered=rendered,
        bodies={file.body_sha256: file.body for file in rendered.files},
        members=tuple(
            sorted(f"recon-{coven}-{name}" for coven in live.values() if coven for name in made[coven].services)
        ),
        images=tuple(sorted({member.image for group in groups for member in group.members})),
    )


class World:
    """A host, and the wish that is in git now."""

    def __init__(self, machine: SimMachine, wish: Wish) -> None:
        self.machine = machine
        self.wish = wish
        self.count = 1
        self.ahead = 1
        """Which way the wall clock jumps; with -1 the other way round."""
        self.tokens: tuple[str, ...] = ()
        """Of locks, which whoever plans and applies has."""

    @classmethod
    def prepared(cls, wish: Wish) -> World:
        """Return a copy of a host that serves what a wish says, or that is fresh when it wants nothing."""
        state, count = _prepared(wish)
        world = cls(SimMachine(pickle.loads(state)), wish)
        world.count = count
        return world

    def ask(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Ask the agent on the host, as a controller would."""
        provide(self.machine, args)
        return dispatch.handle(self.machine, verb, args, CONTEXT)

    def plan(self) -> HostPlan:
        """Look at the host and plan."""
        made = desired(self.wish)
        shared = [{"unit": SHARED, "health": None}]
        args: dict[str, Any] = {"shared": shared, "memory": "auto", "images": list(made.images), "deadline_s": 20}
        if self.tokens:
            args["tokens"] = list(self.tokens)
        if made.rendered.spiral is not None:
            args["spiral"] = made.rendered.spiral.model_dump(mode="json")
        state = HostState.model_validate(self.ask("observe", args))
        subject = look_at(made.rendered, made.host, state)
        return plan_host(subject, diff_host(subject), fleet=made.fleet.name, ignored=ignored_facts(state))

    def order(self, plan: HostPlan) -> dict[str, Any]:
        """Return the order that a plan of a host comes to, under a new name."""
        made = desired(self.wish)
        whole = assemble(made.fleet, [plan], made.bodies, source=Source(commit="c0ffee", dirty=False), now=0.0)
        self.count += 1
        intent = build_intent(whole, whole.hosts[0], txid=f"t{self.count:04}", owner="ci@example.net")
        return intent.model_dump(mode="json")

    def has_executor(self) -> bool:
        """Say whether an executor was started and has not ended."""
        return self.machine.manager.run_of("recon-executor.service").active == "active"

    def launch(self, order: dict[str, Any]) -> bool:
        """Hand an order over; says whether an executor was started."""
        told = {"tokens": list(self.tokens)} if self.tokens else {}
        return bool(self.ask("apply", {"intent": order, **told})["launched"])

    def run(self) -> None:
        """Let what was launched run, and its ExecStopPost after it."""
        run_launched(self.machine)

    def outcome(self, txid: str) -> Outcome | None:
        """Return how a transaction ended, None when nobody wrote that down."""
        reply = self.ask("follow", {"txid": txid, "after_seq": 1 << 30, "wait_s": 0})
        return None if reply["outcome"] is None else Outcome.model_validate(reply["outcome"])

    def has_resident(self) -> bool:
        """Say whether the resident runs."""
        return any(container.unit == RESIDENT for container in self.machine.state.containers.values())

    def running(self) -> tuple[str, ...]:
        """Return the containers of covens that run."""
        return tuple(sorted(c.name for c in self.machine.state.containers.values() if c.unit.startswith(_COVEN_UNITS)))


_COVEN_UNITS = tuple(f"recon-{coven}-" for coven in (*COVENS, *BESIDE))


def limit_s(plan: HostPlan) -> float:
    """Return how long a transaction may take: all its deadlines, once on the way and once on the way back."""
    steps = [step.deadline_s or 0.0 for transition in plan.transitions for step in transition.steps]
    return 2 * sum(steps) + _BESIDE_S


_BESIDE_S = 120.0
"""For what is no move: residents that are started again, units that are stopped, a transaction before this one."""


def prepare() -> None:
    """Prepare every host that a history can begin with, so that the code of this moment is what prepared it."""
    either = (False, True)
    for coven, (resident, hooks, spiral, windows, webhook) in itertools.product(
        (None, *COVENS), itertools.product(either, either, either, either, either)
    ):
        _prepared(Wish(coven, 0, resident, hooks, spiral, windows, webhook))
    for found in of_two():
        _prepared(found)


def of_two() -> Iterator[Wish]:
    """Yield every wish with which a history on a host with two slots begins."""
    for coven, beside in itertools.product((None, *COVENS), BEGINS_BESIDE):
        for hooks, spiral, (windows, watchdog) in itertools.product(
            (False, True), (False, True), ((False, False), (True, False), (False, True))
        ):
            first = Wish(coven, 0, True, hooks, spiral, windows)
            yield first._replace(has_two=True, beside=beside, has_watchdog=watchdog)


@functools.cache
def _prepared(wish: Wish) -> tuple[bytes, int]:
    machine = SimMachine.new(HOST, "h200", gpus=2 if wish.has_two else 1)
    machine.files.make_dirs(f"{SPIRAL_ROOT}/renders")
    machine.files.put(f"{SPIRAL_ROOT}/control.json", Node.of(b"{}"))
    machine.files.make_dirs(SECRET_FILE.rpartition("/")[0])
    machine.files.put(SECRET_FILE, Node.of(SECRET + b"\n", 0o600))
    set_fault(machine.state, "slow-load", value=LOAD_S)
    world = World(machine, wish)
    if wish._replace(has_two=False, has_hooks=False) != Wish(None):
        order = world.order(world.plan())
        assert world.launch(order)
        world.run()
        outcome = world.outcome(order["txid"])
        assert outcome is not None, order["txid"]
        assert outcome.state == "applied", outcome
        machine.clock.advance(LOAD_S + 10.0)
    if wish.has_webhook:
        # What it was told until now is not of the history.
        machine.receivers[URL] = lambda headers, body: Response(204, b"")
        world.ask("deliver", {})
    return pickle.dumps(copy.deepcopy(machine.state)), world.count
