"""The memory of a slot: capacity - reserve - shared - residents - spiral >= what its coven needs.

Pure. Must not: take an unknown figure for zero; a budget without a capacity says why and covers nothing.
"""

from __future__ import annotations

from reconciler.model import live
from reconciler.model.desired import Host
from reconciler.model.intent import Group
from reconciler.model.observed import HostState, Known, NotApplicable, Unknown
from reconciler.model.plan import Budget
from reconciler.model.subject import Subject

GIB = 2**30
UNIFIED_RESERVE = 12 * GIB
"""GB10 hosts wedge when memory runs out; no single program fails (NVIDIA/open-gpu-kernel-modules #1358)."""
DISCRETE_RESERVE = GIB // 2


def budget_of(subject: Subject, slot: str, group: Group | None) -> Budget:
    """Return the budget of a slot for a coven.

    Shared services and residents have no slot, so every slot of the host pays for all of them: too careful on hosts
    with several slots, never too generous.
    """
    host, state = subject.host, subject.state
    capacity, reason = capacity_of(host, slot, state)
    reserve = reserve_of(host, state)
    shared = sum(service.memory for service in host.shared)
    residents = sum(member.memory for member in subject.rendered.residents)
    spiral = _spiral_of(subject, slot)
    return Budget(
        slot=slot,
        capacity=capacity,
        reserve=reserve,
        shared=shared,
        residents=residents,
        need=sum(member.memory for member in group.members) if group else 0,
        available=None if capacity is None else capacity - reserve - shared - residents - spiral,
        reason=reason,
        spiral=spiral,
    )


def _spiral_of(subject: Subject, slot: str) -> int:
    """Return what the GPU lane of the spiral holds on a slot: it yields to a transition, and comes back after."""
    spiral = subject.rendered.spiral
    if spiral is None or not spiral.enabled or spiral.slot != slot:
        return 0
    return sum(unit.memory for unit in spiral.units)


def reserve_of(host: Host, state: HostState) -> int:
    """Return the bytes never given to a coven: declared, else what the kind of host needs to stay alive."""
    if host.reserve is not None:
        return host.reserve
    unified = isinstance(state.memory_class, Known) and state.memory_class.value == "unified"
    return UNIFIED_RESERVE if unified else DISCRETE_RESERVE


def capacity_of(host: Host, slot: str, state: HostState) -> tuple[int | None, str]:
    """Return the bytes a slot has in all, or None and why that is not known."""
    if not isinstance(state.memory_class, Known):
        return None, why(state.memory_class)
    if state.memory_class.value == "unified":
        if not isinstance(state.meminfo, Known):
            return None, why(state.meminfo)
        return state.meminfo.value.total, ""
    gpus = live.slot_gpus(host, slot, state)
    if gpus is None:
        return None, why(state.gpus) if not isinstance(state.gpus, Known) else "a GPU of the slot is not there"
    if not gpus:
        return None, "the host has no GPU"
    total = 0
    for gpu in gpus:
        if not isinstance(gpu.memory, Known):
            return None, f"memory of GPU {gpu.index}: {why(gpu.memory)}"
        total += gpu.memory.value.total - gpu.memory.value.reserved
    return total, ""


def why(fact: object) -> str:
    """Say why a fact is not known."""
    if isinstance(fact, Unknown):
        return fact.unknown
    if isinstance(fact, NotApplicable):
        return fact.na
    return "unknown"
