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
from typing import Any, Literal, NamedTuple

from reconciler.agent import dispatch
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
    Slot,
    Source,
    Spiral,
    Ssh,
)
from reconciler.model.observed import HostState
from reconciler.model.outcome import Outcome
from reconciler.model.plan import HostPlan
from reconciler.model.rendered import RenderedHost
from reconciler.model.subject import look_at
from reconciler.planner import assemble, plan_host
from reconciler.render.host import render_host
from reconciler.sim.faults import set_fault
from reconciler.sim.fleet import provide, run_launched
from reconciler.sim.machine import SimMachine
from tests.agent.bench import CONTEXT, PARSER, a_coven, a_service

HOST = "h-1"
CovenName = Literal["reasoning", "vision"]
COVENS: tuple[CovenName, ...] = ("reasoning", "vision")
HOOK_PLACE = "/srv/hooks"
_EVENTS = ("drain", "after_stop", "after_warm", "on_rollback")
HOOKS = tuple(f"{HOOK_PLACE}/{event}" for event in _EVENTS)
LOAD_S = 3.0
"""How long servers load here: long enough for polls in between, short enough to be quick."""


class Wish(NamedTuple):
    """What git says: which coven the slot runs, and which edition of its services."""

    coven: CovenName | None = "reasoning"
    edition: int = 0
    resident: bool = False
    has_hooks: bool = False


def covens(edition: int, *, has_hooks: bool = False) -> dict[str, Coven]:
    """Return the covens of an edition; editions differ in one member of each."""
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
    return {"reasoning": reasoning, "vision": vision}


def _hook(event: str) -> Hook:
    return Hook.model_validate({"argv": (f"{HOOK_PLACE}/{event}",), "timeout": "4s", "on_timeout": "abort"})


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
    residents: dict[str, Service] = {"parser": PARSER} if wish.resident else {}
    host = Host(
        name=HOST,
        address="192.0.2.11",
        host_key=None,
        ssh=Ssh(),
        reserve=None,
        memory=MemorySpec(),
        platform=Platform(),
        slots=(Slot(name=ALL_GPUS, gpus="all", coven=wish.coven),),
        may_run=COVENS,
        shared=(),
        residents=residents,
        spiral=Spiral(),
        schedule=(),
    )
    made = covens(wish.edition, has_hooks=wish.has_hooks)
    fleet = Fleet(name="studio", transport="sim", policy=Policy(), covens=made, hosts={HOST: host})
    rendered = render_host(fleet, host, {})
    groups = rendered.groups.values()
    return Desired(
        fleet=fleet,
        host=host,
        rendered=rendered,
        bodies={file.body_sha256: file.body for file in rendered.files},
        members=tuple(sorted(f"recon-{wish.coven}-{name}" for name in fleet.covens[wish.coven].services))
        if wish.coven
        else (),
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
        args = {"shared": [], "memory": "auto", "images": list(made.images), "deadline_s": 20}
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
        return bool(self.ask("apply", {"intent": order})["launched"])

    def run(self) -> None:
        """Let what was launched run, and its ExecStopPost after it."""
        run_launched(self.machine)

    def outcome(self, txid: str) -> Outcome | None:
        """Return how a transaction ended, None when nobody wrote that down."""
        reply = self.ask("follow", {"txid": txid, "after_seq": 1 << 30, "wait_s": 0})
        return None if reply["outcome"] is None else Outcome.model_validate(reply["outcome"])

    def running(self) -> tuple[str, ...]:
        """Return the containers of covens that run."""
        return tuple(sorted(c.name for c in self.machine.state.containers.values() if c.unit.startswith(_COVEN_UNITS)))


_COVEN_UNITS = tuple(f"recon-{coven}-" for coven in COVENS)


def limit_s(plan: HostPlan) -> float:
    """Return how long a transaction may take: all its deadlines, once on the way and once on the way back."""
    steps = [step.deadline_s or 0.0 for transition in plan.transitions for step in transition.steps]
    return 2 * sum(steps) + _BESIDE_S


_BESIDE_S = 120.0
"""For what is no move: residents that are started again, units that are stopped, a transaction before this one."""


def prepare() -> None:
    """Prepare every host that a history can begin with, so that the code of this moment is what prepared it."""
    for coven, resident, has_hooks in itertools.product((None, *COVENS), (False, True), (False, True)):
        _prepared(Wish(coven, 0, resident, has_hooks))


@functools.cache
def _prepared(wish: Wish) -> tuple[bytes, int]:
    machine = SimMachine.new(HOST, "h200")
    set_fault(machine.state, "slow-load", value=LOAD_S)
    world = World(machine, wish)
    if wish.coven is not None or wish.resident:
        order = world.order(world.plan())
        assert world.launch(order)
        world.run()
        outcome = world.outcome(order["txid"])
        assert outcome is not None, order["txid"]
        assert outcome.state == "applied", outcome
        machine.clock.advance(LOAD_S + 10.0)
    return pickle.dumps(copy.deepcopy(machine.state)), world.count
