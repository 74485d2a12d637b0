"""What git says about the spiral, the resident research loop: the schema of `desired/workloads/spiral.yaml`.

What a guardrail asks for (limits, a reaper, a stop by convergence, caps) may be absent here: a loop that is switched
off may be half declared, and the guardrail says what is missing when somebody switches it on.

Must not: read files, look at hosts, or know about units and templates.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from reconciler.model.base import Duration, Frozen, Name, Size
from reconciler.model.limits import Limits, Stop
from reconciler.model.share import Role, Share

SPIRAL = "spiral"

Lane = Literal["gpu", "cpu"]
RunsOn = Literal["hub", "workers", "both"]
_PERCENT = re.compile(r"^([0-9]{1,3}(?:\.[0-9]{1,3})?)%\Z")
_AGE = re.compile(r"^([0-9]{1,6})(h|m|s)\Z")
_SECONDS = {"h": 3600, "m": 60, "s": 1}
LONGEST_AGE_S = 10 * 366 * 24 * 3600


def parse_percent(value: Any) -> float:
    """Turn `95%` into 0.95; more than nothing, at most all."""
    match = _PERCENT.match(value) if isinstance(value, str) else None
    if not match or not 0 < float(match[1]) <= 100:
        raise PydanticCustomError(
            "percent",
            "'{value}' is not a share; write for example 95%, more than 0% and at most 100%",
            {"value": value},
        )
    return float(match[1]) / 100


def parse_age(value: Any) -> float:
    """Turn `720h` into seconds; files are kept for longer than anything is waited for."""
    match = _AGE.match(value) if isinstance(value, str) else None
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 0 < seconds <= LONGEST_AGE_S:
        raise PydanticCustomError("age", "'{value}' is not an age; write for example 720h", {"value": str(value)})
    return float(seconds)


def _scalar(value: Any) -> Any:
    if not isinstance(value, (bool, int, float, str)):
        raise PydanticCustomError("scalar", "write true, false, a number or a text")
    return value


Scalar = Annotated[bool | int | float | str, BeforeValidator(_scalar)]
Percent = Annotated[
    float,
    BeforeValidator(parse_percent),
    WithJsonSchema({"type": "string", "pattern": r"^\d{1,3}(\.\d{1,3})?%$", "examples": ["95%"]}),
]
Age = Annotated[
    float,
    BeforeValidator(parse_age),
    WithJsonSchema({"type": "string", "pattern": r"^\d{1,6}(h|m|s)$", "examples": ["720h"]}),
]
CapName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
DottedKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,7}$")]
UnitGlob = Annotated[str, Field(pattern=r"^[A-Za-z0-9@:_.*?\\-]{1,200}$")]


class SpiralUnit(Frozen):
    """One loop of the spiral: a program of the host (`argv`) or a container (`image`), for as long as it is on."""

    argv: tuple[str, ...] = Field(default=(), description="Program by its absolute path, and its words; no shell.")
    image: str | None = Field(default=None, description="Image by digest, instead of `argv`.")
    lane: Lane = Field(description="`gpu`: yields to every transition of the slot; `cpu`: keeps running beside it.")
    producer: bool = Field(default=False, description="Whether it feeds the queue; exactly one unit does.")
    where: RunsOn = Field(
        default="hub", description="Where in a share it runs; on a host that is in none, every unit does."
    )
    guards: Literal["hangs"] | None = Field(
        default=None, description="A guardian: restarts what hangs, and never what crashes; systemd does that."
    )
    memory: Size = Field(default=0, description="GPU memory it holds; only of lane gpu.")
    nice: int | None = Field(default=None, ge=0, le=19, description="Only of lane cpu; 10 when absent.")
    command: tuple[str, ...] = Field(default=(), description="Only of an image: what comes before `args`.")
    args: tuple[str, ...] = Field(default=(), description="Only of an image.")
    env: dict[str, str] = Field(default_factory=dict)
    volumes: tuple[str, ...] = Field(default=(), description="Only of an image: `/host/path:/container/path[:ro]`.")
    shm: Size | None = Field(default=None, description="Only of an image: size of /dev/shm.")
    limits: Limits = Limits()
    stop: Stop = Stop()


class SpiralJob(Frozen):
    """A oneshot beside the loops, started by `recon run`."""

    argv: tuple[str, ...] = Field(min_length=1, description="Program by its absolute path, and its words; no shell.")
    lane: Lane = Field(default="cpu", description="`gpu`: not while the slot is in transition.")
    memory: Size = Field(default=0, description="GPU memory it holds; only of lane gpu.")
    nice: int | None = Field(default=None, ge=0, le=19, description="Only of lane cpu; 10 when absent.")
    env: dict[str, str] = Field(default_factory=dict)
    timeout: Duration = Field(default=3600.0, description="How long it may take.")
    limits: Limits = Limits()
    stop: Stop = Stop()


class SpiralControl(Frozen):
    """The loop's control file, and the keys of it that are recon's; all others belong to people and programs."""

    file: str = Field(description="JSON object on the host, below the root.")
    keys: dict[CapName, DottedKey] = Field(min_length=1, description="Rate cap to dotted key.")


class Convergence(Frozen):
    """When the loop has arrived: its producers stop while the value holds."""

    file: str = Field(description="JSON object on the host, below the root.")
    key: DottedKey = Field(description="Dotted key.")
    equals: Scalar = True


class SpiralBackoff(Frozen):
    """When the host is too busy for too long, the effective caps go down by a factor, and back up after."""

    gpu: Percent | None = Field(default=0.95, description="Share of the GPU that counts as too busy.")
    memory: Percent | None = Field(default=0.92, description="Share of memory that counts as too full.")
    period: Duration = Field(default=600.0, alias="for", description="For how long, before anything is done.")
    factor: float = Field(default=0.5, gt=0, lt=1, description="What the caps are multiplied by, each time.")
    least: float = Field(default=0.1, gt=0, le=1, description="Never below this share of what is declared.")


class Keep(Frozen):
    """The budget of the reaper: what is over any of it goes, oldest first."""

    bytes: Size | None = Field(default=None, description="Bytes in all, over all paths.")
    age: Age | None = Field(default=None, description="Age of a file.")
    count: int | None = Field(default=None, ge=0, le=1_000_000_000, description="Files in all, over all paths.")


class Reaper(Frozen):
    """What is deleted below which directories so that the loop does not fill the disk."""

    every: Duration = Field(default=3600.0, description="From one round to the next.")
    paths: tuple[str, ...] = Field(min_length=1, description="Directories on the host; never anything else.")
    keep: Keep


class SpiralFile(Frozen):
    """`desired/workloads/spiral.yaml`: the research loop of the fleet; each host says whether it runs it."""

    description: str | None = None
    root: str = Field(description="Working directory on the host, below `policy.allow_mounts`.")
    user: str | None = Field(
        default=None, pattern=r"^[a-z_][a-z0-9_-]{0,31}$", description="User of the programs; root when absent."
    )
    units: dict[Name, SpiralUnit] = Field(min_length=1)
    jobs: dict[Name, SpiralJob] = Field(default_factory=dict)
    control: SpiralControl | None = None
    convergence: Convergence | None = None
    backoff: SpiralBackoff | None = Field(default=None, description="No back-off when absent.")
    reaper: Reaper | None = None
    shares: dict[Name, Share] = Field(
        default_factory=dict, description="Hosts that export the root, and those that mount it and work from there."
    )
    authorities: tuple[UnitGlob, ...] = Field(
        default=(), description="Units of somebody else that must be neither active nor enabled beside recon's."
    )

    @property
    def has_gpu_lane(self) -> bool:
        """Say whether a loop or a job of it uses the GPU, and so has a slot and yields to its transitions."""
        return any(unit.lane == "gpu" for unit in self.units.values()) or any(
            job.lane == "gpu" for job in self.jobs.values()
        )

    def on(self, role: Role | None) -> SpiralFile:
        """Return what of it belongs on a host of that role; a host in no share has all of it.

        What steers the loop (jobs, caps, convergence, back-off, the reaper) is the hub's alone: there is one root, and
        two hosts that delete from it or write its caps would be two authorities.
        """
        if role is None:
            return self
        wanted = {"hub": "hub", "worker": "workers"}[role]
        units = {name: unit for name, unit in self.units.items() if unit.where in ("both", wanted)}
        if role == "hub":
            return self.model_copy(update={"units": units})
        none = dict.fromkeys(("control", "convergence", "backoff", "reaper"))
        return self.model_copy(update={**none, "units": units, "jobs": {}})
