"""What a host said: the agent's reply to `observe`, word for word.

This module is the wire schema: the agent builds dictionaries of exactly these shapes (tests hold both together), and
nothing here is judged later. A fact that could not be read is `Unknown` with the reason, one that cannot exist on
this kind of host is `NotApplicable`; neither is ever zero, empty or fine.

Must not: decide anything, compare with the desired state, or reach a host.
"""

from __future__ import annotations

import operator
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeAliasType

from reconciler.model.base import Wire
from reconciler.model.intent import Group, Member
from reconciler.model.intent_schedule import ScheduleSpec
from reconciler.model.observed_loop import LoopState
from reconciler.model.observed_outbox import OutboxState
from reconciler.model.observed_schedule import Job, ScheduleState
from reconciler.model.spiral_state import DownState, SpiralState
from reconciler.model.weights import ModelFault

T = TypeVar("T")

PROTOCOL = 1


class Known(Wire, Generic[T]):
    """A fact that was read."""

    value: T


class Unknown(Wire):
    """A fact that should exist and could not be read."""

    unknown: str


class NotApplicable(Wire):
    """A fact that this kind of host does not have."""

    na: str


# From left to right, the commonest first: trying all three forms for each fact costs half of a big plan.
Fact = TypeAliasType(
    "Fact",
    Annotated[Known[T] | NotApplicable | Unknown, Field(union_mode="left_to_right")],
    type_params=(T,),
)


class AgentInfo(Wire):
    """Which agent answered, and what it cost."""

    digest: str
    mode: Literal["installed", "streamed", "simulated"]
    elapsed_ms: float
    probes_ms: dict[str, float] = Field(default_factory=dict)


class Cdi(Wire):
    """Devices the container device interface offers, and the files that say so."""

    devices: tuple[str, ...]
    files: tuple[str, ...]


class Identity(Wire):
    """Which machine this is and what runs it; wall_time in Unix seconds, boottime_s since boot."""

    machine_id: str
    boot_id: str
    hostname: str
    wall_time: float
    boottime_s: float
    kernel: str
    systemd: Fact[int]
    podman: Fact[str]
    driver: Fact[str]
    cdi: Fact[Cdi]


class Meminfo(Wire):
    """Figures of /proc/meminfo, in bytes."""

    total: int
    free: int
    available: int
    cached: int
    swap_free: int


class GpuMemory(Wire):
    """NVML v2 figures in bytes; `used` leaves out `reserved`, total = reserved + used + free."""

    total: int
    reserved: int
    used: int
    free: int
    reclaimable: int = 0


class GpuProcess(Wire):
    """Somebody who holds GPU memory, mapped to a unit by its cgroup; `unit` is None when it is nobody's."""

    pid: int
    started: int | None
    bytes: Fact[int]
    kind: str
    unit: str | None
    container: str | None
    comm: str
    uid: int | None
    state: str


class Gpu(Wire):
    """One GPU, keyed by its UUID: the index may change with a reboot."""

    index: int
    uuid: str
    name: str
    bus: str
    memory: Fact[GpuMemory]
    processes: Fact[tuple[GpuProcess, ...]]
    recovery_action: Fact[int]


class Unit(Wire):
    """One `recon-*` unit as systemd shows it; `config_hash` is of the process that runs, not of the file."""

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
    config_hash: Fact[str]
    last_exit: str = ""
    """How its main process ended last; empty when it never did, or when the next one runs."""


class Health(Wire):
    """The answer of a health address: `ok` is 2xx, of an engine that is awake.

    `slow`: no answer in time, or one that took long. It may work all the same, so it is not called dead.
    """

    ok: bool
    status: int
    detail: str
    asleep: bool = Field(default=False, exclude_if=operator.not_)
    slow: bool = Field(default=False, exclude_if=operator.not_)


class SharedState(Wire):
    """A service of somebody else."""

    unit: str
    load: str
    active: str
    health: Fact[Health]


class Adoptee(Wire):
    """A unit or container of somebody else that git names under `adopts:`.

    `active` is systemd's or podman's word; `is_up` says whether anything of it runs or may, `boots` whether it starts
    with the host. `container` is the id of one that podman runs. `problem` is why it cannot be taken over, and `fix`
    what to do about that; both empty when it can.
    """

    name: str
    kind: Literal["unit", "container", "missing"]
    active: str
    is_up: bool
    boots: bool
    container: str | None
    stop_timeout_s: float
    problem: str = ""
    fix: str = ""


class NameHolder(Wire):
    """A container that is not recon's and has a name that git gives to one; `is_removed`: its name goes when it stops.

    `unit` is what runs it, None where podman does by itself; `status` is podman's word.
    """

    name: str
    unit: str | None
    status: str
    is_removed: bool


Tier = Literal["committed", "native", "trial", "stray"]


class ManagedFile(Wire):
    """A file in recon's places, with the header it carries; `body_sha256` leaves the header out.

    `body` is there only when the request said which digest was expected and this one differs, so that a plan can
    show the difference without a second round trip.
    """

    path: str
    owner: str | None
    config_hash: str | None
    source_commit: str | None
    body_sha256: str
    tier: Tier
    body: str | None = None


class Recorded(Wire):
    """A coven that a generation has units for, in short; `digest` is that of the whole `Group`."""

    coven: str
    gate: str
    target: str
    units: tuple[str, ...]
    digest: str


class Manifest(BaseModel):
    """What a generation says about itself; other keys are for people and later versions.

    `live` maps slots to covens, `groups` are all covens it has units for, `running` those of them whose gate is up now,
    whole: what must be known to stop them and to bring them back. `residents` is what stays up beside them, `files`
    maps names to body digests. `machine_id` is that of the machine it was committed on, None where that was not noted.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    live: dict[str, str | None] = Field(default_factory=dict)
    groups: tuple[Recorded, ...] = ()
    running: tuple[Group, ...] = ()
    residents: tuple[Member, ...] = ()
    files: dict[str, str] = Field(default_factory=dict)
    source_commit: str = ""
    machine_id: str | None = None
    schedule: ScheduleSpec | None = None

    def running_group(self, coven: str | None) -> Group | None:
        """Return a coven that runs, None when it does not."""
        return next((group for group in self.running if group.coven == coven), None)


class Generation(Wire):
    """The committed generation: its number, its manifest, and what boots."""

    number: int
    manifest: Fact[Manifest]
    boot: tuple[str, ...]


class Lease(Wire):
    """The executor's claim on the host."""

    epoch: int
    owner: str
    txid: str
    boot_id: str
    step: str
    since: float
    renewed: float
    ttl_s: float
    """Seconds since boot of the last sign of life, and for how long from then on the next one may be missing."""
    doing: str = ""
    """What a holder does that carries out no transaction: the watchdog."""


class Hold(Wire):
    """A person's "do not touch"."""

    owner: str
    reason: str
    since: float
    until: float | None


class Lock(Wire):
    """A reservation of the host, or of one slot of it, that stands; `left_s` is how long it still does at most.

    `yours`: the question came with its token.
    """

    id: str
    slot: str | None
    owner: str
    reason: str
    left_s: float
    ttl_s: float
    yours: bool = False


class Executor(Wire):
    """Whether a transition runs now, and how the last one ended (the outcome record, see `model.outcome`).

    `target` is what the running one makes of the host (`model.digest.target_digest`).
    """

    active: bool
    txid: str | None
    last: Fact[dict[str, Any]]
    target: str | None = None


class Damage(Wire):
    """A state file of recon that is not as it was written."""

    path: str
    code: str
    reason: str


class Alert(Wire):
    """What a person must look at: by whom it was raised, about what, and what to type."""

    by: Literal["watchdog", "executor", "schedule", "spiral"]
    code: str
    about: str
    text: str
    fix: str
    at: float
    generation: int | None


class WatchdogState(Wire):
    """What the watchdog saw last and did, and the alerts that stand on the host; all of it moves by itself.

    `looked_s`: seconds since its last look, None when there was none since the host booted.
    `attempts`: restarts in a row by unit; `held_off`: covens left to a person, and why.
    """

    looked_s: float | None
    said: str
    attempts: dict[str, int]
    held_off: dict[str, str]
    alerts: tuple[Alert, ...]


class HostState(Wire):
    """Everything one host said in one round trip.

    Invariants: `fingerprint` covers only what a plan depends on (never pids, bytes, temperatures or times), and the
    agent computes it the same way when it observes again under the lease.
    """

    protocol: Literal[1]
    agent: AgentInfo
    enrolled: bool
    identity: Identity
    memory_class: Fact[Literal["discrete", "unified", "gh200"]]
    meminfo: Fact[Meminfo]
    gpus: Fact[tuple[Gpu, ...]]
    units: Fact[tuple[Unit, ...]]
    health: dict[str, Fact[Health]]
    shared: tuple[SharedState, ...]
    files: Fact[tuple[ManagedFile, ...]]
    generation: Fact[Generation | None]
    boot_targets: Fact[tuple[str, ...]]
    images: Fact[tuple[str, ...]] = NotApplicable(na="not asked")
    lease: Fact[Lease | None]
    hold: Fact[Hold | None]
    locks: Fact[tuple[Lock, ...]] = NotApplicable(na="not told")
    executor: Executor
    fingerprint: str
    fingerprint_parts: dict[str, str] = Field(default_factory=dict)
    """A short sum for each fact in the fingerprint, by its name, so that it can be said what moved."""
    epoch: Fact[int] = NotApplicable(na="not asked")
    """The number of the newest claim; what `recon lock force-release` wants to hear."""
    damaged: tuple[Damage, ...] = ()
    timings: dict[str, float] = Field(default_factory=dict)
    """Seconds without service the last time each coven came up; for people only."""
    watchdog: Fact[WatchdogState] = NotApplicable(na="not told")
    lingers: Fact[bool] = NotApplicable(na="not a user's")
    """Whether the user's manager goes on when nobody is logged in."""
    bus: Fact[bool] = NotApplicable(na="not a user's")
    """Whether the user's manager has a message bus."""
    schedule: Fact[ScheduleState] = NotApplicable(na="not told")
    registry: Fact[tuple[Job, ...]] = NotApplicable(na="not told")
    models: Fact[tuple[ModelFault, ...]] = NotApplicable(na="not asked")
    """What is wrong with the models of what should run; staging looks again."""
    loop: Fact[LoopState] = NotApplicable(na="not told")
    """What the spiral's tick did last; volatile, and nothing a plan depends on."""
    outbox: Fact[OutboxState] = NotApplicable(na="not told")
    notes: tuple[str, ...] = ()
    down: Fact[DownState] = NotApplicable(na="not told")
    spiral: Fact[SpiralState] = NotApplicable(na="not told")
    names: Fact[tuple[NameHolder, ...]] = NotApplicable(na="not asked")
    """Who else has a name that git gives to a container of recon's."""
    adoptees: Fact[tuple[Adoptee, ...]] = NotApplicable(na="not asked")
    """What git names to be taken over, as it is now."""


class Unreachable(Wire):
    """A host that did not answer: a state of its own, never an empty one."""

    code: str
    reason: str
    elapsed_s: float


Observation = HostState | Unreachable
