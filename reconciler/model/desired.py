"""What git says a fleet should be: the schema of `desired/`, and the effective values made from it.

The `*File` classes are the files as people write them (`recon schema` prints their JSON Schema). `Fleet`, `Host` and
`Coven` are what the rest of the program works with: defaults applied, the short form of slots spelled out.

Must not: read files, look at hosts, or know about units and templates.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from reconciler.model.base import Duration, Frozen, Name, Size
from reconciler.model.events import Events
from reconciler.model.limits import Limits, Stop
from reconciler.model.share import HostShare
from reconciler.model.spiral import SpiralFile
from reconciler.model.window import Window

ALL_GPUS = "all"
"""The name of the one slot a host has when it declares none; it holds every GPU."""

RuntimeName = Literal["vllm", "sglang", "llamacpp", "ollama", "comfyui", "tgi", "generic", "bot", "none"]
OnTimeout = Literal["abort", "force"]
Admission = Literal["auto", "firewall", "pause", "none"]
HookName = Literal["before_drain", "drain", "after_stop", "before_start", "after_warm", "on_rollback"]
MemoryClass = Literal["auto", "discrete", "unified", "gh200"]
Scope = Literal["system", "user"]


class Drain(Frozen):
    """How long work in flight may take to finish, and what happens when it does not."""

    timeout: Duration = Field(default=300.0, description="How long to wait for requests in flight and waiting.")
    on_timeout: OnTimeout = Field(
        default="abort",
        description="`abort` keeps the old coven serving; `force` cuts what is left, shown in the plan.",
    )
    admission: Admission = Field(
        default="auto",
        description="What keeps new requests out: `auto` seals with the runtime's own pause where there is one (a"
        " `before_drain` hook comes first); `firewall` refuses new connections to the port while it drains;"
        " `pause` insists on the runtime's pause; `none` does nothing.",
    )


class HookHttp(Frozen):
    """An HTTP call to somebody else, such as a gateway; 2xx is success."""

    method: Literal["GET", "POST"] = "POST"
    url: str = Field(pattern=r"^https?://", description="Called from the host.")
    body: str | None = Field(default=None, description="Sent as application/json when present.")


class Hook(Frozen):
    """A program on the host, or an HTTP call, at one point of a transition: exactly one of `argv` and `http`."""

    argv: tuple[str, ...] = Field(
        default=(), description="Program by its absolute path, and its words; no shell. Only root may change it."
    )
    http: HookHttp | None = None
    timeout: Duration = Field(description="How long it may take; at most 1h.")
    on_timeout: Literal["abort", "continue"] = Field(
        description="When it fails or takes too long: `abort` ends or takes back the transition, `continue` goes on."
    )


class Hooks(Frozen):
    """What is called on the way from one coven to another; all may be called again after a crash."""

    before_drain: Hook | None = Field(default=None, description="Before the drain: stop admission at a gateway.")
    drain: Hook | None = Field(default=None, description="Returns when nothing is in flight any more.")
    after_stop: Hook | None = Field(default=None, description="When the coven has stopped.")
    before_start: Hook | None = Field(default=None, description="Before the coven starts.")
    after_warm: Hook | None = Field(default=None, description="When it serves, before the commit.")
    on_rollback: Hook | None = Field(default=None, description="On every way back: admit requests again.")


class Ssh(Frozen):
    """How a host is reached. A user other than root needs passwordless sudo for python3."""

    user: str = Field(default="recon", pattern=r"^[a-z_][a-z0-9_.-]{0,31}$", description="Login name.")
    key: str | None = Field(default=None, description="Private key file; the agent and default keys when absent.")
    port: int = Field(default=22, ge=1, le=65535)
    jump: str | None = Field(
        default=None,
        pattern=r"^(?:[a-z_][a-z0-9_.-]{0,31}@)?[A-Za-z0-9:][A-Za-z0-9.:_-]{0,252}$",
        description="Jump host, `user@host`; its key must be in known_hosts too.",
    )


class ModelRef(Frozen):
    """Where a model's weights are: exactly one of a path on the host or a hub name. Nothing is ever downloaded."""

    path: str | None = Field(default=None, description="Absolute path on the host, mounted read-only.")
    hub: str | None = Field(
        default=None, description="Hub repository, `org/name`; it must be in the cache of the host already."
    )
    revision: str | None = Field(default=None, description="With `hub`: commit, tag or branch; `main` when absent.")
    cache: str | None = Field(
        default=None,
        description="With `hub`: the cache on the host, mounted read-only; /srv/huggingface/hub if absent.",
    )
    chat: bool = Field(
        default=True,
        description="Whether clients chat with it, so that it needs a chat template where its server does.",
    )


class Warm(Frozen):
    """When a started service counts as serving."""

    timeout: Duration = Field(
        default=1800.0, description="From the first start to healthy, over all attempts together."
    )
    attempts: int = Field(
        default=3,
        ge=1,
        le=10,
        description="Starts before a failure of this service counts; memory is reclaimed between them.",
    )
    request: bool = Field(default=True, description="Ask the runtime for one real token before the commit.")


class InFlight(Frozen):
    """Where a generic server says how busy it is; the sum counts as requests in flight and waiting."""

    path: str = Field(pattern=r"^/", description="HTTP path, read with GET.")
    metrics: tuple[str, ...] = Field(default=(), description="Prometheus metric names whose samples are summed.")
    json_field: str | None = Field(default=None, description="Dotted path to a number or list in a JSON reply.")


class HttpCall(Frozen):
    """One HTTP call to the service itself; 2xx is success."""

    method: Literal["GET", "POST"] = "POST"
    path: str = Field(pattern=r"^/")
    body: str | None = Field(default=None, description="Sent as application/json when present.")


class GenericHttp(Frozen):
    """What `runtime: generic` needs to be told, because recon does not know the server."""

    health: str = Field(pattern=r"^/", description="Path that answers 2xx when the server can serve.")
    in_flight: InFlight | Literal["none"] = Field(
        description="Where the server says how busy it is; `none` means its work is cut, and the plan says so."
    )
    pause: HttpCall | None = None
    resume: HttpCall | None = None
    warm: HttpCall | None = None


FOREIGN_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9@:_.-]{0,199}$"
"""The name of a unit of the host, or of a container; no pattern, no path."""


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Adopted = Annotated[
    tuple[Annotated[str, Field(pattern=FOREIGN_PATTERN)], ...],
    BeforeValidator(_listed),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": FOREIGN_PATTERN},
                {"type": "array", "items": {"type": "string", "pattern": FOREIGN_PATTERN}},
            ]
        }
    ),
]
"""What a service takes over: one name or a list of them."""


class Service(Frozen):
    """One container of a coven, or a resident."""

    runtime: RuntimeName = Field(
        description="Knows its in-flight count, pause and warm-up; a `bot` has no port, its health is its container's."
    )
    image: str = Field(description="Image reference by digest: `registry/name@sha256:…`.")
    model: ModelRef | None = None
    port: int | None = Field(default=None, ge=1, le=65535, description="Port the server listens on, host network.")
    memory: Size = Field(description="GPU memory the service needs, over all GPUs of its slot together.")
    gpu: bool = Field(default=True, description="Whether the container gets the slot's GPUs.")
    command: tuple[str, ...] = Field(default=(), description="Replaces what the runtime would put before `args`.")
    args: tuple[str, ...] = Field(default=(), description="Arguments after those the runtime adds.")
    env: dict[str, str] = Field(default_factory=dict)
    volumes: tuple[str, ...] = Field(default=(), description="`/host/path:/container/path[:ro]`.")
    shm: Size | None = Field(default=None, description="Size of /dev/shm.")
    limits: Limits = Limits()
    warm: Warm = Warm()
    stop: Stop = Stop()
    drain: Drain | None = Field(default=None, description="Overrides the coven's and the fleet's.")
    http: GenericHttp | None = Field(default=None, description="Only with `runtime: generic`, and needed there.")
    after: tuple[Name, ...] = Field(default=(), description="Services of the same coven that start before this one.")
    hidden: bool = Field(default=False, description="Leave it out of `recon status` while it is well.")
    container_name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$",
        description="What podman calls its container, once on a host; `recon-COVEN-SERVICE` when absent.",
    )
    adopts: Adopted = Field(
        default=(),
        description="Units of the host (`NAME.service`), or containers by name, that this service takes over when it"
        " is first brought up: they are stopped, and kept from starting with the host.",
    )


class Shared(Frozen):
    """A service others rely on: observed, probed and budgeted, never started, stopped or restarted."""

    unit: str = Field(pattern=r"^[A-Za-z0-9@:_.\\-]{1,200}\.(service|target)$")
    memory: Size = Field(description="GPU memory it may hold; taken from the budget for ever.")
    health: str | None = Field(default=None, pattern=r"^https?://", description="URL on an address, probed with GET.")


class SlotFile(Frozen):
    """A set of GPUs that holds at most one coven."""

    gpus: tuple[str, ...] = Field(min_length=1, description='GPU UUIDs (`GPU-…`) or indexes as text (`"0"`).')
    coven: Name | None = Field(default=None, description="The coven this slot should run; none when absent.")


class MemorySpec(Frozen):
    """What is known about a host's memory before it is asked."""

    kind: MemoryClass = Field(default="auto", description="Only needed where the GPU cannot tell.")
    capacity: Size | None = Field(default=None, description="GPU memory per slot, so that validate can add up offline.")
    release: Duration | None = Field(
        default=None,
        description="How long memory of ended processes may take to be free; else 60s, and 4m on unified hosts.",
    )
    drop_caches: bool = Field(
        default=False,
        description="Unified and gh200 hosts only: drop the page cache before a start when only that makes its room.",
    )


class Platform(Frozen):
    """The oldest versions a host may have; unit keys are chosen by these, so the files in git are what runs.

    Podman before 5.3 has no `/run` tier for a trial and drops keys in silence (decision 0004).
    """

    podman: str = Field(
        default="5.3", pattern=r"^5\.([3-9]|[1-9]\d)$|^[6-9]\.\d{1,2}$", description="At least this podman."
    )
    systemd: int = Field(default=254, ge=254, le=999, description="At least this systemd.")


class Reset(Frozen):
    """What a reset does beside stopping a coven whole and starting it again."""

    command: tuple[str, ...] = Field(
        default=(), description="Program with an absolute path and its arguments, run while nobody is on the GPUs."
    )
    timeout: Duration = Field(default=60.0, description="How long the command may take.")


class Watchdog(Frozen):
    """Looks after what was committed: restarts what is stuck or failed, resets its coven, then calls a person."""

    enabled: bool = True
    every: Duration = Field(default=30.0, description="From the end of one look to the next.")
    looks: int = Field(default=3, ge=2, le=100, description="Bad looks in a row before anything is done.")
    attempts: int = Field(
        default=3, ge=1, le=20, description="Restarts in a row before the whole coven is reset, once."
    )
    window: Duration = Field(default=900.0, description="How long a service is well before its restarts are forgotten.")
    over_memory: Literal["alert", "restart"] = Field(
        default="alert", description="What is done about a service that holds more GPU memory than it declares."
    )
    reset: Reset = Reset()


RateCap = Annotated[int, Field(ge=0, le=1_000_000_000)]


class Spiral(Frozen):
    """Whether a host runs the research loop that `desired/workloads/spiral.yaml` declares, and how fast."""

    enabled: bool = Field(default=False, description="Needs every guardrail to hold.")
    rate_caps: dict[str, RateCap] = Field(
        default_factory=dict, description="Upper bounds by the names that `control.keys` gives them."
    )
    slot: Name | None = Field(default=None, description="Where its GPU lane runs, on a host with several slots.")


class HostFile(Frozen):
    """`desired/hosts/<name>.yaml`: one machine. The line a pull request changes is `coven:`."""

    address: str = Field(description="IP address or host name.")
    host_key: str | None = Field(default=None, description="Public key as `ssh-ed25519 AAAA…`; else known_hosts.")
    ssh: Ssh | None = Field(default=None, description="Overrides the fleet's.")
    scope: Scope = Field(
        default="system",
        description="`user`: nothing runs as root; units, containers and state are those of the login, which lingers.",
    )
    reserve: Size | None = Field(default=None, description="Memory never given to a coven.")
    memory: MemorySpec = MemorySpec()
    platform: Platform | None = Field(default=None, description="Overrides the fleet's.")
    coven: Name | None = Field(default=None, description="Short form: one slot of all GPUs that runs this coven.")
    slots: dict[Name, SlotFile] | None = Field(default=None, description="Instead of `coven:`, several slots.")
    may_run: tuple[Name, ...] | None = Field(
        default=None, description="Covens whose units are installed here; when absent, only those named above."
    )
    shared: tuple[Shared, ...] = ()
    residents: dict[Name, Service] = Field(default_factory=dict, description="Small services that stay up.")
    watchdog: Watchdog | None = Field(default=None, description="Overrides the fleet's, key by key.")
    events: Events | None = Field(default=None, description="Webhooks of this host, beside the fleet's.")
    spiral: Spiral = Spiral()
    schedule: tuple[Window, ...] = Field(default=(), description="When a slot runs another coven.")
    formerly: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9-]{0,30}/[a-z][a-z0-9-]{0,30}$",
        description="`fleet/host` that the machine's units still carry after a rename; remove it after the next apply.",
    )


class CovenFile(Frozen):
    """`desired/covens/<name>.yaml`: services that run on a slot as one."""

    description: str | None = None
    services: dict[Name, Service] = Field(min_length=1)
    drain: Drain | None = Field(default=None, description="Overrides the fleet's.")
    hooks: Hooks = Hooks()


class Policy(Frozen):
    """Rules of the fleet that no host can loosen."""

    concurrent_transitions: int = Field(default=1, ge=1, le=1000, description="Hosts in transition at a time.")
    require_digest: bool = Field(default=True, description="Refuse images that are not pinned by digest.")
    allow_mounts: tuple[str, ...] = Field(
        default=("/srv", "/data", "/mnt", "/opt", "/var/lib/models"),
        description="Host directories below which services may mount.",
    )
    allow_env: tuple[str, ...] = Field(
        default=(), description="Variables allowed although they can replace libraries or devices (`NVIDIA_…`, `LD_…`)."
    )


class Defaults(Frozen):
    """Values for every host and coven that does not say otherwise."""

    ssh: Ssh = Ssh()
    drain: Drain = Drain()
    platform: Platform = Platform()
    watchdog: Watchdog = Watchdog()


class FleetFile(Frozen):
    """`desired/fleet.yaml`: the name of the fleet, its defaults and policy."""

    version: Literal[1]
    name: Name
    transport: Literal["ssh", "sim"] = Field(
        default="ssh", description="`sim` runs the hosts as simulated machines under `.recon/sim`."
    )
    defaults: Defaults = Defaults()
    policy: Policy = Policy()
    events: Events = Field(default=Events(), description="Who is told of what happens on the hosts.")


class Slot(Frozen):
    """A hardware coordinate of one host, with the coven it should run."""

    name: str
    gpus: tuple[str, ...] | Literal["all"]
    coven: str | None


class Coven(Frozen):
    """A coven with its drain settled."""

    name: str
    description: str | None
    services: dict[str, Service]
    drain: Drain
    hooks: Hooks = Hooks()

    def drain_of(self, service: str) -> Drain:
        """Return how a service drains: its own word, else the coven's."""
        return self.services[service].drain or self.drain


class Host(Frozen):
    """A host with its defaults applied and its slots spelled out."""

    name: str
    address: str
    formerly: str | None = None
    host_key: str | None
    ssh: Ssh
    scope: Scope = "system"
    reserve: int | None
    memory: MemorySpec
    platform: Platform
    slots: tuple[Slot, ...]
    may_run: tuple[str, ...]
    shared: tuple[Shared, ...]
    residents: dict[str, Service]
    spiral: Spiral
    schedule: tuple[Window, ...]
    watchdog: Watchdog | None = None
    """None: the host has none."""
    events: Events | None = None
    """None: nobody is told."""
    share: HostShare | None = None
    """What it is in a share of the spiral, None when it is in none."""

    @property
    def names(self) -> frozenset[str]:
        """Return what the machine may call itself: its name, and the one from before a rename."""
        return frozenset({self.name, *([self.formerly.partition("/")[2]] if self.formerly else [])})

    @property
    def has_spiral(self) -> bool:
        """Say whether anything is said about a spiral here: then its units lie on the host, running or not."""
        return self.spiral != Spiral() or self.share is not None

    def slot(self, name: str) -> Slot:
        """Return the slot of that name; KeyError when there is none."""
        for slot in self.slots:
            if slot.name == name:
                return slot
        raise KeyError(name)


class Fleet(Frozen):
    """Everything git says, checked: every name resolves, every file was read whole."""

    name: str
    transport: Literal["ssh", "sim"]
    policy: Policy
    covens: dict[str, Coven]
    hosts: dict[str, Host]
    spiral: SpiralFile | None = None
    """The research loop, None when no file declares one; every host says for itself whether it runs it."""


class Source(Frozen):
    """Which commit the desired state was read from; a tree with local changes is `dirty`."""

    commit: str | None
    dirty: bool

    @classmethod
    def of_label(cls, label: str) -> Source:
        """Return the source that has this label."""
        commit = label.removesuffix("-dirty")
        return cls(commit=None if commit == "uncommitted" else commit, dirty=commit != label or commit == "uncommitted")

    @property
    def label(self) -> str:
        """Say it in one word: the commit, with `-dirty` when files differ from it, else `uncommitted`."""
        if self.commit is None:
            return "uncommitted"
        return self.commit + ("-dirty" if self.dirty else "")

    @property
    def short(self) -> str:
        """Say it for people: the first 12 characters of the commit, and that files differed from it."""
        if self.commit is None:
            return "uncommitted"
        return self.commit[:12] + ("-dirty" if self.dirty else "")
