"""Claim: take the host, look again with the same eyes as the plan, and refuse when it is not as it was reviewed.

Must not: change anything; whatever this step finds wrong, the host stays as it is.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Tuple

from . import claims, in_force, lease, lock_deeds, locks, observe, passes, places, spiral, takeover
from .lease import LeaseError
from .txn import HaltError, Run, known

_OBSERVE_DEADLINE_S = 20.0


def claim(run: Run) -> None:
    """Take the lease, observe under it, and check hold, locks and fingerprint."""
    with run.step("claim", f"claiming the host for {run.intent['owner']}", guarded=False):
        run.state = look(run)
        _refuse_hold(run.state["hold"])
        _refuse_locks(run)
        if any(move["new"] is not None for move in run.intent["moves"]):
            spiral.refuse_down(run.machine, run.intent["host"], state="locked")
        spiral.refuse_unguarded(run)
        _refuse_unreadable(run)
        take(run)
        run.old_generation = committed_number(run.state)
        if run.state["fingerprint"] != run.intent["fingerprint"]:
            raise HaltError(
                "REC7012",
                f"the host is not as it was when the plan was made: {_what_moved(run)}",
                fix=f"recon plan --host {run.intent['host']}",
                state="stale",
            )
        in_force.check(run)
        takeover.check(run)


def take(run: Run) -> None:
    """Take the lease with the next epoch."""
    boot_id = run.state.get("identity", {}).get("boot_id", "")
    try:
        run.lease = lease.take(run.machine, owner=run.intent["owner"], txid=run.txid, boot_id=boot_id)
    except LeaseError as error:
        fix = f"look at {places.EPOCH} on the host, then: recon apply --host {run.intent['host']}"
        raise HaltError("REC7113", str(error), fix=fix, state="locked") from error


def look(run: Run) -> Dict[str, Any]:
    """Observe the host with the same eyes as `recon plan` did."""
    # Their health is not asked: only which units may come and go on the GPUs counts here.
    shared = [{"unit": unit, "health": None} for unit in run.intent.get("shared", [])]
    args = {"shared": shared, "memory": run.intent["memory"], "images": [], "deadline_s": _OBSERVE_DEADLINE_S}
    return observe.observe(run.machine, args, {"digest": "", "mode": "installed", "bundle": None})


def committed_number(state: Dict[str, Any]) -> Optional[int]:
    """Return the committed generation; HaltError when it cannot be told."""
    fact = state["generation"]
    if "unknown" in fact:
        raise HaltError(
            "REC7114", f"the committed generation cannot be told: {fact['unknown']}", fix="", state="refused"
        )
    generation = known(fact)
    return None if generation is None else int(generation["number"])


def _refuse_hold(fact: Dict[str, Any]) -> None:
    if "unknown" in fact:
        # A hold that cannot be read may be there: nothing is touched.
        text = f"{places.HOLD} is there but cannot be read: {fact['unknown']}"
        raise HaltError("REC7111", text, fix=f"look at {places.HOLD} on the host", state="locked")
    hold = known(fact)
    if hold is not None:
        text = f"held by {hold['owner']}: {hold['reason']}"
        raise HaltError("REC7111", text, fix=f"ask {hold['owner']} to lift the hold", state="locked")


def _refuse_locks(run: Run) -> None:
    """Stay out of what is locked, but for the locks whose token came with the order."""
    host, found = run.intent["host"], run.state["locks"]
    if "unknown" in found:
        error = lock_deeds.unreadable(found["unknown"], host)
        raise HaltError(error.code, f"{error.summary}: {error.detail}", fix=error.fix, state="locked")
    standing = locks.against(run.intent, found["value"], passes.recall(run.machine, run.txid))
    if standing:
        text = f"{host}: " + "; ".join(locks.said(lock) for lock in standing)
        raise HaltError("REC7300", text, fix=f"recon apply --host {host} --lock-token -", state="locked")


def _refuse_unreadable(run: Run) -> None:
    reason = run.state["lease"].get("unknown")
    if reason is not None:
        code, summary, detail, fix = claims.unreadable(reason, run.intent["host"], lease.current(run.machine))
        raise HaltError(code, f"{summary}: {detail}", fix=fix, state="locked")


def _what_moved(run: Run) -> str:
    """Name what moved: by the sums of the single facts, and in words where both sides are known."""
    moved: List[str] = []
    if run.old_generation != run.intent["from_generation"]:
        was, now = run.intent["from_generation"], run.old_generation
        moved.append(f"generation {now} is committed, the plan was made for {was}")
    units = {unit["name"]: unit for unit in known(run.state["units"]) or []}
    for move in run.intent["moves"]:
        for member in move["old"]["members"] if move["old"] else []:
            unit = units.get(member["unit"])
            if unit is None or unit["active"] != "active":
                moved.append(f"{member['unit']} is {unit['active'] if unit else 'gone'}")
    moved += [f"{name} {how}" for name, how in _parts_moved(run) if not any(text.startswith(name) for text in moved)]
    unread = [name for name in ("gpus", "units", "files") if "unknown" in run.state[name]]
    moved += [f"{name} cannot be read now: {run.state[name]['unknown']}" for name in unread]
    return "; ".join(moved) or "a unit, a managed file, what boots or who uses the GPU changed since"


def _parts_moved(run: Run) -> Iterator[Tuple[str, str]]:
    planned: Dict[str, str] = run.intent.get("fingerprint_parts") or {}
    found: Dict[str, str] = run.state["fingerprint_parts"] if planned else {}
    for name in sorted({*planned, *found}):
        if name == "the committed generation" and run.old_generation != run.intent["from_generation"]:
            continue
        if name not in planned:
            yield name, "is new"
        elif name not in found:
            yield name, "is gone"
        elif planned[name] != found[name]:
            yield name, "is not as it was"
