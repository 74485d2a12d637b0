"""What a host says about itself before it is recon's, and what was made of it: one line per check.

`Survey` is the wire schema of the agent's reply to `survey`.

Must not: judge (the planner does), or reach a host.
"""

from __future__ import annotations

from typing import Literal

from reconciler.model.base import Frozen, Wire
from reconciler.model.observed import Cdi, Fact, Gpu, Meminfo, NotApplicable

Verdict = Literal["ok", "warning", "failed"]


class Disk(Wire):
    """Room on the file system of a place, in bytes."""

    path: str
    free: Fact[int]


class Rootless(Wire):
    """What one user needs to run containers alone: two programs of the system, ranges of ids, a manager that runs.

    `subuids`, `subgids`: how many ids /etc/subuid and /etc/subgid give the login. `missing`: programs not there.
    """

    missing: tuple[str, ...]
    subuids: int
    subgids: int
    manager: bool
    bus: bool


class Survey(Wire):
    """The agent's reply to `survey`; times in Unix seconds, memory in bytes."""

    protocol: Literal[1]
    mode: Literal["installed", "streamed", "simulated"]
    python: str
    wall_time: float
    uid: Fact[int]
    user: Fact[str]
    hostname: Fact[str]
    machine_id: Fact[str]
    kernel: Fact[str]
    systemd: Fact[int]
    podman: Fact[str]
    driver: Fact[str]
    cdi: Fact[Cdi]
    gpus: Fact[tuple[Gpu, ...]]
    memory_class: Fact[str]
    meminfo: Fact[Meminfo]
    synchronized: Fact[bool]
    cgroup2: Fact[bool]
    lingers: Fact[bool]
    owners: Fact[dict[str, int]]
    enrolled: Fact[bool]
    rootless: Fact[Rootless] = NotApplicable(na="not a user's")
    nfs: Fact[str] = NotApplicable(na="not told")
    """Which program is missing for a mount over NFS, and in which package it is; empty when it is there."""
    disks: tuple[Disk, ...]
    notes: tuple[str, ...]


class Check(Frozen):
    """One thing that was looked at: `text` says what was found, `fix` what to type when it is not as it should be."""

    name: str
    verdict: Verdict
    text: str
    fix: str = ""


class Checkup(Frozen):
    """All checks of one host. `code` is the error's when it could not be asked; then there is one check, `ssh`."""

    host: str
    checks: tuple[Check, ...]
    code: str | None = None

    @property
    def verdict(self) -> Verdict:
        """Return the worst verdict of all checks."""
        found = {check.verdict for check in self.checks}
        return "failed" if "failed" in found else "warning" if "warning" in found else "ok"
