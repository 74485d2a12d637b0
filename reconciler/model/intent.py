"""What a host is told to do: the document `apply` hands over, complete, so that the host can finish alone.

Everything the agent needs is in here as data (addresses to poll, names of metrics, deadlines), so the agent knows no
runtime by name and needs no other file of the repository. All times are seconds, all sizes bytes. What most covens do
not have is left out where it is not, so that a host's record from before there was such a thing still compares equal.

Must not: hold anything the host could work out differently from what was reviewed.
"""

from __future__ import annotations

import hashlib
import operator
from typing import Literal

from pydantic import Field

from reconciler.model.base import Wire
from reconciler.model.intent_events import EventsSpec
from reconciler.model.intent_schedule import ScheduleSpec
from reconciler.model.intent_spiral import SpiralSpec
from reconciler.model.weights import ModelCheck


class BusyProbe(Wire):
    """One way to learn how busy a server is. The first that answers in its form counts; none means busy.

    `also`: asked besides that one. The larger figure counts, and no answer changes nothing.

    `prometheus`: the sum over all samples of every name in `names`; every name must be there.
    `json`: `field` is a dotted path to a number or a list (its length).
    `json_sum`: the sum of `names` (numbers or lists) over the object at `field`, or over all of a list there.
    `json_true`: the count of objects in the top-level list whose `field` is true.
    `exact`: it counts requests where they come in, so what it says stands also while an engine is asleep.
    """

    url: str
    form: Literal["prometheus", "json", "json_true", "json_sum"]
    names: tuple[str, ...] = ()
    field: str = ""
    also: bool = False
    exact: bool = Field(default=False, exclude_if=operator.not_)


class SleepProbe(Wire):
    """A metric by which a server says whether it is awake, one sample for each state, told apart by a label.

    Where a sample of the state `awake` is 0 it is asleep; the state whose sample is 1 says how.
    """

    url: str
    metric: str
    label: str
    awake: str


class PauseProbe(Wire):
    """Where a server says whether it is paused: the field of a JSON object."""

    url: str
    field: str


class Call(Wire):
    """One HTTP call on the host; 2xx is success. `optional`: 404 and 405 mean the server does not offer it."""

    method: Literal["GET", "POST"]
    url: str
    body: str | None = None
    optional: bool = False


class WarmUp(Wire):
    """A real one-token generation. `{model}` in the body becomes the id that `model_url` lists first.

    `expect_model`: when given, the id listed must be this one (a server with the wrong weights is not healthy).
    """

    call: Call
    model_url: str | None = None
    expect_model: str | None = None
    timeout_s: float


class HookCall(Wire):
    """What is called at one point of a transition: a program of the host by its words, or an HTTP address.

    `on_timeout` also says what happens when it fails.
    """

    event: Literal["before_drain", "drain", "after_stop", "before_start", "after_warm", "on_rollback"]
    argv: tuple[str, ...] = ()
    call: Call | None = None
    timeout_s: float
    on_timeout: Literal["abort", "continue"]


class Member(Wire):
    """One service of a coven as the agent sees it: a unit, and how to talk to it.

    `in_flight` empty means that the work of this service cannot be seen and is cut when it stops (the plan said so).
    `firewall`: new connections to its port are refused while it drains. `must_pause`: no stop without its own pause.
    `paused` is asked after a pause, `asleep` wherever it would else be taken for serving. `steady_s`: its health is its
    container's, which must have run that long without a break to count as up.
    """

    service: str
    unit: str
    container: str
    config_hash: str
    memory: int
    port: int | None
    health: str | None
    in_flight: tuple[BusyProbe, ...]
    pause: Call | None
    resume: Call | None
    warm: WarmUp | None
    warm_timeout_s: float
    """From the first start to serving, over all attempts together."""
    stop_timeout_s: float
    drain_timeout_s: float
    on_timeout: Literal["abort", "force"]
    firewall: bool = Field(default=False, exclude_if=operator.not_)
    must_pause: bool = Field(default=False, exclude_if=operator.not_)
    paused: PauseProbe | None = Field(default=None, exclude_if=operator.not_)
    asleep: SleepProbe | None = Field(default=None, exclude_if=operator.not_)
    steady_s: float = Field(default=0.0, exclude_if=operator.not_)
    model: ModelCheck | None = Field(default=None, exclude_if=operator.not_)
    """What must lie on the host before it may start."""
    image: str
    mounts: tuple[str, ...]
    argv: tuple[str, ...]
    """The words `podman run` must get after the image, and `image` before them; compared with the host's generator."""
    attempts: int = 3
    """How often this service may fail to come up before its coven is given up; records of before did not say."""
    adopts: tuple[str, ...] = Field(default=(), exclude_if=operator.not_)
    """Units and containers of the host that it takes the place of; which of them is a matter of each plan."""

    @property
    def is_named(self) -> bool:
        """Say whether git gave its container a name of its own, which somebody else's may have too."""
        return f"{self.container}.service" != self.unit

    def settings(self) -> Member:
        """Return what git decides: without the questions that a newer recon asks the same server.

        A host's record from before there were such gets them with its next generation, which needs no change for it.
        """
        asked = tuple(probe.model_copy(update={"exact": False}) for probe in self.in_flight)
        return self.model_copy(update={"paused": None, "asleep": None, "in_flight": asked, "model": None, "adopts": ()})


_LATER = ("attempts",)
"""Fields of a member that came later. At their default they are not in the digest: a record that was written before
says the same, and must not look as if git had changed."""


class Group(Wire):
    """A coven on a slot: its units and members, in start order, and what is called when it comes and goes.

    `digest` is a SHA-256 over the rest, so that a host's record of it is compared in one step.
    """

    coven: str
    gate: str
    target: str
    members: tuple[Member, ...]
    hooks: tuple[HookCall, ...] = Field(default=(), exclude_if=operator.not_)
    digest: str = ""

    @classmethod
    def of(
        cls, coven: str, gate: str, target: str, members: tuple[Member, ...], hooks: tuple[HookCall, ...] = ()
    ) -> Group:
        """Make a group with its digest."""
        bare = cls(coven=coven, gate=gate, target=target, members=members, hooks=hooks)
        said = bare.model_copy(update={"members": tuple(member.settings() for member in members)})
        unsaid = {
            number: {name for name in _LATER if getattr(member, name) == Member.model_fields[name].default}
            for number, member in enumerate(members)
        }
        text = said.model_dump_json(exclude={"members": unsaid} if unsaid else None)
        return bare.model_copy(update={"digest": hashlib.sha256(text.encode()).hexdigest()})


class TakeOver(Wire):
    """A unit or container of somebody else that a move stops and keeps off, as the plan found it.

    `service` takes its place. `is_up`: it runs, so it is stopped, and comes back on the way back. `boots`: it starts
    with the host until the commit. Whoever carries it out looks again, and refuses what is otherwise by then.
    """

    name: str
    kind: Literal["unit", "container"]
    service: str
    is_up: bool
    boots: bool


class SlotMove(Wire):
    """What happens to one slot. A `restart` names the members that change; the others keep running.

    `switch`: old to another coven (either may be None: start or stop). Memory: every GPU of the slot must have
    `need_bytes_per_gpu` free before anything of `new` starts; on unified hosts MemAvailable must cover
    `need_bytes + reserve_bytes`. `drop_caches`: the page cache is dropped first where only that makes the room.
    """

    slot: str
    gpus: tuple[str, ...]
    kind: Literal["switch", "restart"]
    old: Group | None
    new: Group | None
    restart: tuple[str, ...]
    need_bytes: int
    need_bytes_per_gpu: int
    reserve_bytes: int
    memory_class: Literal["discrete", "unified", "gh200"]
    memory_timeout_s: float
    drop_caches: bool = Field(default=False, exclude_if=operator.not_)
    takes_over: tuple[TakeOver, ...] = Field(default=(), exclude_if=operator.not_)

    def starting(self) -> tuple[Member, ...]:
        """Return the members that the move starts."""
        if not self.new:
            return ()
        return tuple(m for m in self.new.members if self.kind == "switch" or m.service in self.restart)


class WatchdogSpec(Wire):
    """By what the watchdog of a host goes; it stands in the manifest of each generation.

    `gpus` names the GPUs of every slot as git does (`all`, UUIDs, indexes); `reserve` and `release_s` None mean what
    the kind of memory asks for. `reset_command` is run by a reset, while nobody is on the GPUs.
    `drop_caches`: the page cache is dropped before a start where only that makes the room.
    """

    looks: int
    attempts: int
    window_s: float
    over_memory: Literal["alert", "restart"]
    reset_command: tuple[str, ...]
    reset_timeout_s: float
    gpus: dict[str, tuple[str, ...]]
    memory: Literal["auto", "discrete", "unified", "gh200"]
    reserve: int | None
    release_s: float | None
    drop_caches: bool = Field(default=False, exclude_if=operator.not_)


class IntentFile(Wire):
    """A file of the new generation: its whole bytes as text, header included. `name` has no directory part."""

    name: str
    content: str
    body_sha256: str
    config_hash: str


class Intent(Wire):
    """The whole order for one host: the next generation, and the moves that lead there, in order.

    `quadlets` go into the generation directory, `natives` into /etc/systemd/system, `boot` are the targets that start
    at boot once this generation is committed. `residents` are units to start or restart outside any coven.
    `manifest_live` maps slot names to the coven of this generation. `memory` is what the plan asked the host to take
    its memory for; the agent looks again with the same eyes.
    """

    protocol: Literal[1]
    txid: str
    fleet: str
    host: str
    owner: str
    source_commit: str
    plan_digest: str
    fingerprint: str
    from_generation: int | None
    quadlets: tuple[IntentFile, ...]
    natives: tuple[IntentFile, ...]
    remove_natives: tuple[str, ...]
    memory: Literal["auto", "discrete", "unified", "gh200"]
    boot: tuple[str, ...]
    groups: tuple[Group, ...]
    manifest_live: dict[str, str | None]
    moves: tuple[SlotMove, ...]
    residents: tuple[Member, ...]
    restart_residents: tuple[str, ...]
    shared: tuple[str, ...]
    """Units of somebody else that may come and go on the GPUs without making the plan stale."""
    fingerprint_parts: dict[str, str] = Field(default_factory=dict)
    """What the fingerprint is made of, so that the host can say what moved."""
    stop_units: tuple[str, ...]
    """Running units of ours that the new generation no longer has, and that no move stops."""
    watchdog: WatchdogSpec | None = None
    schedule: ScheduleSpec | None = Field(default=None, exclude_if=lambda value: value is None)
    asked: str = Field(default="", exclude_if=operator.not_)
    """What a person asked for beside what is declared, `restart reasoning/vllm`: never joined with another order."""
    spiral: SpiralSpec | None = Field(default=None, exclude_if=lambda value: value is None)
    events: EventsSpec | None = Field(default=None, exclude_if=operator.not_)
