"""What every kind of declared program has: caps the kernel enforces, and how it ends.

Must not: know which programs there are.
"""

from __future__ import annotations

from pydantic import Field

from reconciler.model.base import Duration, Frozen, Size


class Limits(Frozen):
    """Caps the kernel enforces. On unified-memory hosts they do not see GPU memory."""

    memory: Size | None = Field(default=None, description="Host memory of the service (MemoryMax).")
    tasks: int | None = Field(default=None, ge=16, le=4_194_304, description="Processes and threads (TasksMax).")
    cpus: float | None = Field(default=None, gt=0, le=4096, description="Processors (CPUQuota).")


class Stop(Frozen):
    """How a service ends: SIGTERM, then SIGKILL after the timeout."""

    timeout: Duration = Field(default=60.0)
