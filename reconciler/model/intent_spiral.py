"""What a host is told about its spiral; it stands in the manifest of each generation, as `WatchdogSpec` does.

All times are seconds, all sizes bytes, all shares fractions. A part that git does not declare is None.

Must not: hold anything the host could work out differently from what was reviewed.
"""

from __future__ import annotations

import operator
from typing import Literal

from pydantic import Field

from reconciler.model.base import Wire


class SpiralMember(Wire):
    """One loop as the agent sees it: its unit, and what guardrails compare with the host.

    `argv`: the words of a program of the host, or, with `image`, those after the image. `container` and `config_hash`
    are of an image's unit; a program's unit has the hash of its file.
    """

    name: str
    unit: str
    lane: Literal["gpu", "cpu"]
    producer: bool
    guards: bool
    memory: int
    argv: tuple[str, ...]
    image: str | None = None
    container: str | None = None
    mounts: tuple[str, ...] = Field(default=(), exclude_if=operator.not_)
    config_hash: str
    memory_max: int | None
    tasks_max: int | None
    stop_timeout_s: float


class SpiralJobSpec(Wire):
    """A oneshot that `recon run` may start."""

    name: str
    unit: str
    lane: Literal["gpu", "cpu"]
    argv: tuple[str, ...]
    config_hash: str
    timeout_s: float
    stop_timeout_s: float


class ControlSpec(Wire):
    """The control file, and which dotted key each cap is written to."""

    file: str
    keys: dict[str, str]


class ConvergenceSpec(Wire):
    """Where the loop says that it has arrived."""

    file: str
    key: str
    equals: bool | int | float | str


class BackoffSpec(Wire):
    """When the effective caps go down; a threshold that is None is not looked at."""

    gpu: float | None
    memory: float | None
    for_s: float
    factor: float
    least: float


class ReaperSpec(Wire):
    """What is deleted, oldest first: whatever is over any budget that is not None."""

    every_s: float
    paths: tuple[str, ...]
    keep_bytes: int | None
    keep_age_s: float | None
    keep_count: int | None


class ShareSpec(Wire):
    """What a host is in a share of the spiral's root.

    `unit` of a worker is the target that the mount hangs on, `mount` the unit of the mount and `source` what it
    mounts; a hub has none of the three. `exports`: a hub's, address by unit. `producer` are the words of the hub's
    producer, so that a worker can tell whether one of them runs there; empty when it is a container, which has its
    `producer_image` instead.
    """

    name: str
    role: Literal["hub", "worker"]
    hub: str
    marker: str
    unit: str = ""
    mount: str = ""
    source: str = ""
    exports: dict[str, str] = Field(default_factory=dict)
    producer: tuple[str, ...] = ()
    producer_image: str = Field(default="", exclude_if=lambda value: not value)

    @property
    def anchors(self) -> tuple[str, ...]:
        """Return the units that it is started and stopped by, sorted."""
        return (self.unit,) if self.role == "worker" else tuple(sorted(self.exports))


class SpiralSpec(Wire):
    """The spiral of a host. `enabled` False: its units lie there and nothing of it is started.

    `slot` is where its GPU lane runs, None when no unit has that lane. `caps` are the rate caps this host declares, by
    name; `control.keys` says where they go.
    """

    enabled: bool
    root: str
    user: str | None
    slot: str | None
    target: str
    units: tuple[SpiralMember, ...]
    jobs: tuple[SpiralJobSpec, ...]
    caps: dict[str, int]
    control: ControlSpec | None
    convergence: ConvergenceSpec | None
    backoff: BackoffSpec | None
    reaper: ReaperSpec | None
    authorities: tuple[str, ...]
    share: ShareSpec | None = Field(default=None, exclude_if=lambda value: value is None)
