"""What goes wrong on a simulated host, as data in its state.

Kinds, with what `match` and `value` mean (`match` is a pattern of unit names, or `:port`):

    never-healthy       unit     the server loads for ever
    crash-at-start      unit     it dies a second after it began, value is the exit code (1)
    crash-after-ready   unit     it dies so many seconds after it became ready
    hangs               unit     once ready it answers nothing in time; vLLM's figures come while it has requests
    unhealthy           unit     its health address answers 500
    slow-load           unit     loading takes so many seconds
    ignores-sigterm     unit     it is killed when its stop timeout is over
    unkillable          unit     its process stays, stuck in the kernel (state `text`, D), and so does its memory
    slow-release        unit     its GPU memory comes back after so many seconds
    wrong-model         unit     it serves another model, `text`
    no-metrics          unit     its metrics address answers 500
    pause-lies          unit     it answers 200 to a pause and goes on
    nft                 -        nft is not there, or fails with exit status value
    nvml                -        NVML answers this error code
    gpu-lost            GPU uuid the GPU fell off the bus
    reload              -        a daemon-reload is refused: nothing is read again
    generator           -        Quadlet's generator fails: no unit comes of any Quadlet, at a reload or a boot
    down                -        the host does not answer

Must not: hold behaviour; who meets a fault looks it up here.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from reconciler.sim.state import Fault, SimState

KINDS = (
    "never-healthy",
    "crash-at-start",
    "crash-after-ready",
    "hangs",
    "unhealthy",
    "slow-load",
    "ignores-sigterm",
    "unkillable",
    "slow-release",
    "wrong-model",
    "no-metrics",
    "pause-lies",
    "nft",
    "nvml",
    "gpu-lost",
    "reload",
    "generator",
    "down",
)


def fault_of(state: SimState, kind: str, unit: str, port: int | None = None) -> Fault | None:
    """Return the fault of a kind that a unit or port has, or None; the one set last counts."""
    for fault in reversed(state.faults):
        if fault.kind != kind:
            continue
        if fault.match.startswith(":"):
            if port is not None and fault.match == f":{port}":
                return fault
        elif fnmatchcase(unit, fault.match) or unit == "*":
            return fault
    return None


def set_fault(state: SimState, kind: str, match: str = "*", value: float = 0.0, text: str = "") -> None:
    """Set a fault, in place of one of the same kind for the same match."""
    if kind not in KINDS:
        raise ValueError(f"no such fault: {kind}; one of {', '.join(KINDS)}")
    clear_fault(state, kind, match)
    state.faults.append(Fault(kind=kind, match=match, value=value, text=text))


def clear_fault(state: SimState, kind: str | None = None, match: str | None = None) -> int:
    """Take faults away, all when nothing is given; returns how many there were."""
    keep = [
        fault
        for fault in state.faults
        if (kind is not None and fault.kind != kind) or (match is not None and fault.match != match)
    ]
    gone = len(state.faults) - len(keep)
    state.faults[:] = keep
    return gone
