"""Everything a simulated host is, as plain data: one JSON document holds it between two commands.

Mutable on purpose: a machine changes. Every other module of the simulator works on these values and keeps nothing of
its own, so that saving the state saves the machine.

Must not: hold behaviour, read a real clock or a real file.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import ClassVar, Literal, cast

from pydantic import BaseModel, ConfigDict

Kind = Literal["gb10", "gh200", "h200"]
Active = Literal["inactive", "activating", "active", "deactivating", "failed"]

MiB = 2**20
GiB = 2**30


@dataclass
class Part:
    """The base of every part of a simulated machine: plain, for a history makes and changes thousands of them."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass
class Node(Part):
    """A file, directory or symlink. Text stays readable in the state file; other bytes are base64."""

    kind: Literal["file", "dir", "link"]
    text: str | None = None
    base64: str | None = None
    target: str = ""
    mode: int = 0o644
    uid: int = 0
    mtime: int = 0
    _bytes = cast("bytes | None", None)  # not a field: what the two above say, once somebody asked

    @classmethod
    def of(cls, data: bytes, mode: int = 0o644, uid: int = 0) -> Node:
        """Make a file of these bytes."""
        node = cls(kind="file", mode=mode, uid=uid)
        node.hold(data)
        return node

    def hold(self, data: bytes) -> None:
        """Give a file other bytes."""
        self._bytes = data
        try:
            self.text, self.base64 = data.decode("utf-8"), None
        except UnicodeDecodeError:
            self.text, self.base64 = None, base64.b64encode(data).decode("ascii")

    @property
    def data(self) -> bytes:
        """The bytes of a file."""
        if self._bytes is None:
            self._bytes = base64.b64decode(self.base64 or "") if self.text is None else self.text.encode("utf-8")
        return self._bytes


@dataclass
class Event(Part):
    """Something that happens at a virtual time; `seq` settles the order of what falls on the same instant."""

    due: float
    seq: int
    name: str
    args: dict[str, str | int | float] = field(default_factory=dict)


@dataclass
class Process(Part):
    """A process: what /proc says about it, and the unit or container it belongs to."""

    pid: int
    comm: str
    argv: list[str]
    cgroup: str
    env: dict[str, str] = field(default_factory=dict)
    uid: int = 0
    started: float = 0.0
    state: str = "S"


@dataclass
class Job(Part):
    """A job of systemd. `running` once the unit was told; `anchor` is the unit somebody asked for."""

    id: int
    unit: str
    kind: Literal["start", "stop", "restart", "verify-active"]
    running: bool = False
    ignore_order: bool = False


@dataclass
class UnitFile(Part):
    """A unit as systemd loaded it, which may no longer be what is on disk."""

    name: str
    load: Literal["loaded", "not-found", "masked", "bad-setting"]
    fragment: str = ""
    fragment_mtime: int = 0
    source: str = ""
    source_mtime: int = 0
    dropins: list[str] = field(default_factory=list)
    sections: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    links: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Run(Part):
    """What systemd knows of a unit beyond its file."""

    active: Active = "inactive"
    sub: str = "dead"
    result: str = "success"
    invocation: str = ""
    main_pid: int = 0
    main_code: int = 0
    main_status: int = 0
    restarts: int = 0
    argv: list[str] = field(default_factory=list)
    """Of the program that was started and has made no container yet, with its environment."""
    env: dict[str, str] = field(default_factory=dict)
    is_restart: bool = False
    starts: list[float] = field(default_factory=list)
    turn: int = 0
    container: str = ""
    since: float = 0.0
    collect: bool = False


@dataclass
class Request(Part):
    """A request to a server: in flight from `start` to `end`."""

    start: float
    end: float


@dataclass
class Server(Part):
    """A model server inside a container."""

    runtime: Literal["vllm", "sglang", "llamacpp", "ollama", "comfyui", "tgi", "generic", "none"]
    port: int | None
    model: str
    memory: int
    phase: Literal["loading", "stuck", "ready"] = "loading"
    started: float = 0.0
    ready_at: float = 0.0
    paused: bool = False
    sleeping: str | None = None
    """How vLLM sleeps, by the name its metric has for it; `gauge` is what its figure stood at then."""
    gauge: int = 0
    requests: list[Request] = field(default_factory=list)
    served: int = 0


@dataclass
class Container(Part):
    """A container of podman, with the server that runs in it."""

    id: str
    name: str
    unit: str
    image: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    devices: list[str] = field(default_factory=list)
    stop_timeout: float = 10.0
    restart: str = ""
    keeps: bool = False
    """It stays when it has ended, as one does that was run without --rm."""
    mounts: list[str] = field(default_factory=list)
    status: Literal["running", "paused", "exited"] = "running"
    exit_code: int = 0
    pid: int = 0
    conmon: int = 0
    created: float = 0.0
    server: Server | None = None


@dataclass
class Gpu(Part):
    """A GPU of the host."""

    index: int
    uuid: str
    name: str
    bus: str
    total: int
    reserved: int
    utilization: int = 0


@dataclass
class Holding(Part):
    """GPU memory somebody holds. `pid` 0: the process is gone and the driver has not given it back yet."""

    gpu: str
    bytes: int
    pid: int
    owner: str


@dataclass
class Closed(Part):
    """A port that refuses new connections."""

    since: float
    until: float


@dataclass
class ServiceFacts(Part):
    """What a host cannot see in a unit file but a real server would need or show: memory, and generic endpoints."""

    memory: int
    port: int | None = None
    health: str | None = None
    in_flight: list[dict[str, str | list[str]]] = field(default_factory=list)


@dataclass
class Fault(Part):
    """Something that goes wrong. `match` is a unit name pattern or `:port`; `value` is the fault's one number."""

    kind: str
    match: str = "*"
    value: float = 0.0
    text: str = ""


class SimState(BaseModel):
    """One simulated host."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    host: str
    kind: Kind
    seed: int
    epoch: float
    now: float = 0.0
    booted_at: float = 0.0
    boots: int = 0
    serial: int = 0
    secrets: int = 0
    next_pid: int = 600
    mtime: int = 0
    disk_free: int = 800 * GiB
    host_memory_used: int = 0
    tmpfs: int = 0
    """What files in memory take: the kernel counts them as cached, and nothing makes it forget them."""
    page_cache: int | None = None
    hbm_cache: int = 0
    """Page cache on the GPU's own NUMA node: only a gh200 has any, and counts it as used."""
    podman: str = "5.4.2"
    systemd: int = 257
    driver: str = "580.95.05"
    files: dict[str, Node] = {}
    events: list[Event] = []
    processes: dict[int, Process] = {}
    jobs: list[Job] = []
    loaded: dict[str, UnitFile] = {}
    runs: dict[str, Run] = {}
    containers: dict[str, Container] = {}
    gpus: list[Gpu] = []
    holdings: list[Holding] = []
    mounted: dict[str, str] = {}
    """What the kernel shows as mounted, source by place. The simulator mounts nothing: tests write it by hand."""
    images: list[str] = []
    images_missing: list[str] = []
    held_images: dict[str, str] = {}
    images_unpullable: list[str] = []
    paths_missing: list[str] = []
    shared_ports: dict[str, int] = {}
    locked: list[str] = []
    facts: dict[str, ServiceFacts] = {}
    faults: list[Fault] = []
    logs: dict[str, list[str]] = {}
    log_times: dict[str, list[float]] = {}
    shared_seen: list[str] = []
    launched: list[str] = []
    cut: list[str] = []
    refused: list[str] = []
    closed: dict[int, Closed] = {}
    hooks: list[str] = []
