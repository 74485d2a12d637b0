"""A plan: what would be done on every host, why, and everything needed to do exactly that.

One versioned document: the saved file, the JSON output and what `apply` works from. The text and markdown views are
made from it. Unit bodies stand once, in `blobs`, and are named by their digest.

Must not: hold a clock, decide anything, or know how it is shown.
"""

from __future__ import annotations

import operator
from typing import Any, Literal

from pydantic import Field

from reconciler.model.base import Wire
from reconciler.model.desired import Source
from reconciler.model.intent import Group, Member, SlotMove, WatchdogSpec
from reconciler.model.intent_events import EventsSpec
from reconciler.model.intent_schedule import ScheduleSpec, SlotNow
from reconciler.model.intent_spiral import SpiralSpec
from reconciler.model.spiral_state import Guardrail

FORMAT_VERSION = "1.0"

Cause = Literal["desired", "drift", "both"]
Disruption = Literal["switch", "restart", "start", "stop", "none"]
HostStatus = Literal["ok", "refused", "locked", "unreachable"]


class PlanStep(Wire):
    """One step of a transition as people see it; `deadline_s` None means it takes no noticeable time."""

    step: str
    text: str
    deadline_s: float | None = None
    on_failure: str


class Budget(Wire):
    """The memory of a slot in bytes: capacity - reserve - shared - residents - spiral >= need."""

    slot: str
    capacity: int | None
    reserve: int
    shared: int
    residents: int
    need: int
    available: int | None
    reason: str = ""
    spiral: int = Field(default=0, exclude_if=lambda value: not value)
    """What the GPU lane of an enabled spiral holds on this slot; taken from what is available too."""


class Transition(Wire):
    """The move of one slot from one coven to another, or to a new version of the same."""

    slot: str
    from_coven: str | None
    to_coven: str | None
    disruption: Disruption
    members: tuple[str, ...]
    reason: str
    cause: Cause
    cuts_off: str
    estimated_s: float | None
    steps: tuple[PlanStep, ...]
    budget: Budget | None


class PlannedChange(Wire):
    """One difference between desired and observed and what is done about it.

    `address` is `host/kind/name`; `action_reason` is a stable word for programs, `reason` a sentence for people.
    `diff` are unified-diff lines when a file changes.
    """

    address: str
    actions: tuple[str, ...]
    action_reason: str
    reason: str
    cause: Cause
    before: Any = None
    after: Any = None
    diff: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Return what kind of thing differs: the second part of the address (see `model.change`)."""
        return self.address.split("/", 2)[1]

    @property
    def name(self) -> str:
        """Return which one differs: the address after its host and kind."""
        return self.address.split("/", 2)[2]

    @property
    def is_beside_slots(self) -> bool:
        """Say whether it is a resident, the spiral, its share or something left over: none has a transition."""
        return self.kind in {"resident", "orphan", "spiral", "share"}


class Refusal(Wire):
    """A guard that said no for one host; nothing of that host is done."""

    code: str
    summary: str
    detail: str
    fix: str


class FileRef(Wire):
    """A file of the next generation; the body is in the plan's blobs."""

    name: str
    body_sha256: str
    config_hash: str


class Order(Wire):
    """Everything a host must be told, without the names of one run: see `model.intent.Intent`."""

    from_generation: int | None
    quadlets: tuple[FileRef, ...]
    natives: tuple[FileRef, ...]
    remove_natives: tuple[str, ...]
    memory: Literal["auto", "discrete", "unified", "gh200"]
    boot: tuple[str, ...]
    groups: tuple[Group, ...]
    live: dict[str, str | None]
    moves: tuple[SlotMove, ...]
    residents: tuple[Member, ...]
    restart_residents: tuple[str, ...]
    stop_units: tuple[str, ...]
    shared: tuple[str, ...]
    watchdog: WatchdogSpec | None = None
    schedule: ScheduleSpec | None = Field(default=None, exclude_if=lambda value: value is None)
    asked: str = Field(default="", exclude_if=operator.not_)
    """What a person asked for beside what is declared, `restart reasoning/vllm`: never joined with another order."""
    spiral: SpiralSpec | None = Field(default=None, exclude_if=lambda value: value is None)
    events: EventsSpec | None = Field(default=None, exclude_if=operator.not_)


class HostPlan(Wire):
    """What would happen on one host; `origin` says in a word where what is wanted comes from.

    Invariants: `order` is there if and only if there is something to do and nothing refuses it.
    """

    host: str
    status: HostStatus
    origin: str = "git"
    reason: str = ""
    observed_fingerprint: str | None
    observed_at: float | None
    from_generation: int | None
    live: dict[str, str | None]
    transitions: tuple[Transition, ...] = ()
    changes: tuple[PlannedChange, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    ignored: int = 0
    warnings: tuple[str, ...] = ()
    unknowns: tuple[str, ...] = ()
    """What could not be read and so was not compared; nothing of it may be called fine."""
    guardrails: tuple[Guardrail, ...] = Field(default=(), exclude_if=lambda value: not value)
    """How the guardrails of its spiral stand, where one is declared."""
    held: tuple[str, ...] = Field(default=(), exclude_if=lambda value: not value)
    """What people have down on the host, or started against a guardrail."""
    order: Order | None = None
    schedule: tuple[SlotNow, ...] = Field(default=(), exclude_if=lambda value: not value)
    """What the schedule says of every slot at the time of the host's own clock, and what comes next."""
    joins: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """The transaction that runs there and already does what is declared; `apply` follows it instead of waiting."""
    observed_parts: dict[str, str] = Field(default_factory=dict, exclude_if=lambda value: not value)
    """What `observed_fingerprint` is made of, so that a host which moved can say what did."""


class WayBack(Wire):
    """A plan made from a generation on a host instead of git: which one, and where it came from."""

    host: str
    generation: int
    from_generation: int
    source_commit: str
    applied_by: str


class Summary(Wire):
    """Counts over the whole plan."""

    hosts: int
    switch: int
    restart: int
    start: int
    stop: int
    files: int
    drift: int
    refused: int
    unreachable: int


class Plan(Wire):
    """The whole plan.

    `plan_digest` is a SHA-256 over the ordered actions and desired bytes without times, ids, host facts or warnings:
    the same intent planned twice has the same digest. `complete` is false when a host could not be asked.
    """

    format_version: Literal["1.0"] = "1.0"
    recon_version: str
    fleet: str
    plan_digest: str
    created_at: float
    source: Source
    targeted: tuple[str, ...] = ()
    way_back: WayBack | None = None
    """Set when the plan goes back to a generation that the host has, whatever git says now."""
    complete: bool
    applyable: bool
    hosts: tuple[HostPlan, ...]
    blobs: dict[str, str]
    warnings: tuple[str, ...] = ()
    ignored_drift_count: int
    summary: Summary

    @property
    def has_changes(self) -> bool:
        """Say whether anything would be done or is refused: what `--detailed-exitcode` reports as 2."""
        return any(host.order or host.changes or host.transitions for host in self.hosts)
