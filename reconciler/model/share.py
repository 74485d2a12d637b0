"""Shares of the spiral: a hub exports the root of the loop over NFS, workers mount it at the same path and claim jobs.

    one share   one hub, any number of workers; a host is in at most one share, for they all share the one root
    one root    `root` of the spiral, on the hub a directory of its own, on a worker the place of the mount

Must not: read files, look at hosts, or know about units.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reconciler.model.base import Frozen, Name

MARKER = "CLAIM_SAFE"
"""A file in the root, put there by a person: the loop claims a job so that two hosts never get the same one. Recon
never makes it."""

TAG = "RECON_TAG"
"""The variable that tells a loop in a share by which tag it claims: the name of its host."""

Role = Literal["hub", "worker"]
Squash = Literal["root", "all", "none"]
NfsOption = Literal[
    "noatime",
    "nconnect=2",
    "nconnect=4",
    "nconnect=8",
    "nfsvers=4.0",
    "nfsvers=4.1",
    "nfsvers=4.2",
]


class Share(Frozen):
    """The root of the spiral, exported by one host and mounted by others."""

    hub: Name = Field(description="The host that has the root on its own disk, and exports it.")
    workers: tuple[Name, ...] = Field(default=(), description="Hosts that mount it; 'recon enroll --share' adds one.")
    addresses: dict[Name, str] = Field(
        default_factory=dict,
        description="By host: its address on the network of the share, where that is not `address` of the host.",
    )
    squash: Squash = Field(
        default="root",
        description="Whom the hub takes for nobody: `root` of a worker, `all` users, or `none`.",
    )
    options: tuple[NfsOption, ...] = Field(default=(), description="More options of the mount, out of a closed list.")


class Client(Frozen):
    """A worker as its hub sees it."""

    worker: str
    address: str


class HostShare(Frozen):
    """What one host is in a share. `clients` are a hub's, all workers; `hub_address` is where workers find it."""

    name: str
    role: Role
    hub: str
    hub_address: str
    clients: tuple[Client, ...] = ()
    squash: Squash = "root"
    options: tuple[NfsOption, ...] = ()
