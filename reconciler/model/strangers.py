"""What runs on a host's GPUs without being recon's: the wire schema of the agent's reply to `strangers`.

Must not: judge what of it can be declared.
"""

from __future__ import annotations

from typing import Literal

from reconciler.model.base import Wire
from reconciler.model.observed import Fact


class Volume(Wire):
    """A mount of a container; `kind` is podman's word (bind, volume, tmpfs)."""

    kind: str
    source: str
    target: str
    writable: bool


class Port(Wire):
    """A port that podman publishes."""

    host: int
    container: int


class Stranger(Wire):
    """A unit or container of somebody else; `bytes` is the GPU memory it holds now, None when nothing says.

    `secrets` are names of variables and arguments whose values look secret and stayed on the host; `argv` is what
    started it, without them.
    """

    name: str
    container: str | None
    unit: str | None
    kind: Literal["container", "unit", "unit with podman run", "quadlet"]
    source: str
    enabled: bool
    gpu: bool
    bytes: int | None
    image: str
    digest: str
    entrypoint: tuple[str, ...]
    args: tuple[str, ...]
    env: dict[str, str]
    secrets: tuple[str, ...]
    volumes: tuple[Volume, ...]
    ports: tuple[Port, ...]
    network: str
    shm: int | None
    restart: str
    privileged: bool
    argv: tuple[str, ...]


class Strangers(Wire):
    """The whole reply; `missing` are the names that were asked for and are not there."""

    protocol: Literal[1]
    gpus: Fact[int]
    strangers: tuple[Stranger, ...]
    missing: tuple[str, ...]
