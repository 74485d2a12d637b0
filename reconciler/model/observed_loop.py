"""What a host says about its spiral's tick: the caps that hold, how far they are down, and why.

Must not: decide anything, or hold any key of the control file that is not recon's.
"""

from __future__ import annotations

from reconciler.model.base import Wire

Owned = int | float | bool | str | None


class LoopState(Wire):
    """The tick that ran last.

    `caps` is what should be in the control file, `control` what is (None: none is declared, or it is not known, and
    `control_unknown` says why): an owned key that is absent, or no plain value, is None. `factor` 1 is no back-off;
    `since` when it changed last. `gpu` and `memory` are shares, None when not known.
    """

    factor: float
    since: float
    caps: dict[str, int]
    control: dict[str, Owned] | None
    control_unknown: str | None
    converged: bool | None
    stopped: tuple[str, ...]
    broken: dict[str, str]
    problems: tuple[str, ...]
    gpu: float | None
    memory: float | None
    at: float
