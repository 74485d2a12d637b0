"""Guards about who has a host: a transition that runs, a deed of the watchdog, a person's hold, a lock.

Pure. Must not: say that something is wrong; somebody else has it, that is all.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model import live
from reconciler.model.base import format_duration
from reconciler.model.observed import HostState, Known, Lock, Unknown
from reconciler.model.plan import Refusal
from reconciler.planner.case import Case


def nobody_holds_it(case: Case) -> Iterator[Refusal]:
    """A person's hold and a running transition come before any plan."""
    hold, executor = case.state.hold, case.state.executor
    if executor.active:
        yield Refusal(
            code="REC8013",
            summary=f"a transition runs on {case.host.name}",
            detail=_who_runs(case.state),
            fix=f"recon apply --attach {executor.txid or 'TXID'} --host {case.host.name}",
        )
    elif deed := live.deed(case.state):
        age = format_duration(max(0, round(case.state.identity.boottime_s - deed.since)))
        yield Refusal(
            code="REC7232",
            summary=f"the watchdog acts on {case.host.name}",
            detail=f"{deed.owner} has it for {age}: {deed.doing}; it ends by itself",
            fix=f"recon apply --host {case.host.name}",
        )
    elif isinstance(case.state.lease, Unknown):
        epoch = case.state.epoch.value if isinstance(case.state.epoch, Known) else "N"
        yield Refusal(
            code="REC7150",
            summary=f"whether somebody has {case.host.name} cannot be told",
            detail=f"{case.state.lease.unknown}; what cannot be read counts as held",
            fix=f"recon lock force-release {case.host.name} --epoch {epoch} --reason TEXT",
        )
    if isinstance(hold, Known) and hold.value and case.has_deeds:
        yield Refusal(
            code="REC8012",
            summary=f"{case.host.name} is held by {hold.value.owner}{live.until(hold.value)}",
            detail=hold.value.reason,
            fix=f"ask {hold.value.owner}, then: recon release {case.host.name} --reason TEXT",
        )
    if isinstance(hold, Unknown):
        yield Refusal(
            code="REC8012",
            summary=f"whether {case.host.name} is held is unknown",
            detail=hold.unknown,
            fix="look at /etc/recon/hold.json on the host",
        )


def _who_runs(state: HostState) -> str:
    """Say whose transaction runs, for how long, and what it does, as far as the host knows it yet."""
    lease = state.lease.value if isinstance(state.lease, Known) else None
    if lease is None or lease.txid != state.executor.txid:
        return f"transaction {state.executor.txid or 'unknown'}, just begun"
    age = format_duration(max(0, round(state.identity.boottime_s - lease.since)))
    return f"{lease.owner} runs transaction {lease.txid} for {age}, step {lease.step}"


def nobody_locked_it(case: Case) -> Iterator[Refusal]:
    """A lock keeps out whoever does not come with its token; of a slot, what concerns that slot."""
    found, name = case.state.locks, case.host.name
    if not case.has_deeds:
        return
    if isinstance(found, Unknown):
        yield Refusal(
            code="REC7301",
            summary=f"whether {name} is locked cannot be told",
            detail=f"{found.unknown}; what cannot be read counts as locked",
            fix=f"recon lock force-release {name} --lock unreadable --reason TEXT",
        )
    for lock in found.value if isinstance(found, Known) else ():
        if not lock.yours and _concerns(lock, case):
            yield Refusal(
                code="REC7300",
                summary=f"{live.locked_what(name, lock)} is locked by {lock.owner}",
                detail=f"{lock.reason}; it frees itself in {format_duration(round(lock.left_s))} at the latest",
                fix=f"ask {lock.owner}; who has the token sets RECON_LOCK_TOKEN, and types the same again",
            )


def _concerns(lock: Lock, case: Case) -> bool:
    """Say whether a lock keeps a plan out, by the same rule as the host's own executor."""
    names = {slot.name for slot in case.host.slots}
    touches_any = any(change.kind == "orphan" for change in case.changes)
    moved = {move.slot for move in case.moves}
    return lock.slot is None or touches_any or lock.slot in moved or lock.slot not in names


def who_else(case: Case, refused: tuple[Refusal, ...]) -> Iterator[str]:
    """Yield whose hold and locks stand on a host where they refuse nothing: nothing is to be done, or it is theirs."""
    said = {refusal.code for refusal in refused}
    hold, locks, name = case.state.hold, case.state.locks, case.host.name
    if isinstance(hold, Known) and hold.value and "REC8012" not in said:
        yield f"{name} is held by {hold.value.owner}{live.until(hold.value)}: {hold.value.reason}"
    if isinstance(locks, Unknown) and "REC7301" not in said:
        yield f"whether {name} is locked cannot be told: {locks.unknown}"
    for lock in locks.value if isinstance(locks, Known) and "REC7300" not in said else ():
        whose = ", whose token was given" if lock.yours else ""
        left = format_duration(round(lock.left_s))
        yield f"{live.locked_what(name, lock)} is locked by {lock.owner}{whose} for another {left}: {lock.reason}"
