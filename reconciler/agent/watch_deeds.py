"""What the watchdog may do: restart one member, or reset its coven. Always by systemd, never past the gate.

The gate of the coven stays up through both, so nothing else can get onto the slot in between. Before anything starts
again its control groups are empty and its memory is measured as free, as in a transition. What is stopped is written
down first, so that a watchdog that is killed in the middle starts it at its next look.

Must not: touch a unit that is not of the charge, or decide that it is time.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, List, NamedTuple

from . import lease, places, step_memory, step_start, step_stop, systemd, watch_memory
from .journal import Journal
from .machine import Machine
from .plain import clean
from .txn import HaltError, Run, units_of
from .watch_book import Book

OWNER = "recon watchdog"
TXID = "watchdog"
_GRACE_S = 10.0
_JOURNAL_LIMIT = 1 << 20


class NotBegunError(HaltError):
    """A deed cannot be done now, and nothing was touched for it."""

    def __init__(self, reason: str) -> None:
        super().__init__("REC7172", reason)


class Charge(NamedTuple):
    """A live coven, or a resident: what is looked after as one. `gate` is empty for a resident, `gpus` are names."""

    name: str
    gate: str
    gpus: List[str]
    members: List[Dict[str, Any]]
    slot: str = ""


def open_run(machine: Machine, host: str, boot_id: str, doing: str) -> Run:
    """Claim the host for a deed, under the epoch it is at: no plan gets stale. The caller holds the lock."""
    _turn_over(machine)
    intent = {"txid": TXID, "host": host, "moves": [], "residents": [], "quadlets": []}
    run = Run(machine, intent, Journal(machine, places.WATCHDOG_JOURNAL))
    run.lease = lease.borrow(machine, owner=OWNER, txid=TXID, boot_id=boot_id, doing=doing)
    return run


def _turn_over(machine: Machine) -> None:
    """Begin the journal anew when it is long; the one before is kept beside it."""
    found = machine.stat(places.WATCHDOG_JOURNAL)
    if found is not None and found.size > _JOURNAL_LIMIT:
        machine.write(places.WATCHDOG_JOURNAL + ".1", machine.read(places.WATCHDOG_JOURNAL, 2 * _JOURNAL_LIMIT))
        machine.remove(places.WATCHDOG_JOURNAL)


def close_run(run: Run) -> None:
    """Give the claim back."""
    with contextlib.suppress(OSError):
        run.machine.remove(places.LEASE)


def restart(run: Run, book: Book, charge: Charge, member: Dict[str, Any], spec: Dict[str, Any], why: str) -> None:
    """Restart one member of a charge; HaltError or SystemdError when it could not be started again."""
    need = _need(run, charge, [member], spec)
    with run.step("restart", f"restarting {member['unit']}: {why}"):
        book.attempts[member["unit"]] = book.attempts.get(member["unit"], 0) + 1
        _note_pending(book, [member])
        groups = step_stop.cgroups(run, [member["unit"]])
        step_stop.stop_up(run, [member["unit"]])
        step_stop.wait_gone(run, groups, step_stop.longest_stop([member]))
        _start(run, book, need, [member])


def reset(run: Run, book: Book, charge: Charge, spec: Dict[str, Any], why: str) -> None:
    """Stop everything of a charge, by SIGKILL where it does not go, run the host's own command, and start it again."""
    need = _need(run, charge, charge.members, spec)
    units = units_of(charge.members)
    with run.step("reset", f"resetting {charge.name}: {why}"):
        # Before the first deed: one that is killed in the middle is not the first of several.
        book.held_off[charge.name] = why
        _note_pending(book, charge.members)
        groups = step_stop.cgroups(run, units)
        step_stop.stop_up(run, units)
        try:
            step_stop.wait_gone(run, groups, _GRACE_S)
        except HaltError as halt:
            run.prove_claim()
            run.note(f"{halt.reason}: SIGKILL to their control groups")
            systemd.kill(run.machine, units)
            step_stop.wait_gone(run, groups, step_stop.longest_stop(charge.members))
        _run_command(run, spec)
        _start(run, book, need, charge.members)


def resume(run: Run, book: Book, charge: Charge, members: List[Dict[str, Any]], spec: Dict[str, Any]) -> None:
    """Start what was stopped and not started again, as soon as there is room; NotBegunError when there is none."""
    need = _need(run, charge, members, spec)
    if need.total:
        sample = step_memory.take_sample(run.machine, need, units_of(members))
        # Not left to who waits for the memory: one that waits in vain keeps the host from everybody else.
        if sample.problem and need.drop_caches and sample.cache_would_do:
            step_memory.drop_caches(run)
            sample = step_memory.take_sample(run.machine, need, units_of(members))
        if sample.problem:
            raise NotBegunError(f"{', '.join(units_of(members))} cannot start yet: {sample.problem}")
    with run.step("restart", f"starting what an earlier look stopped: {', '.join(units_of(members))}"):
        _start(run, book, need, members)


def _need(run: Run, charge: Charge, members: List[Dict[str, Any]], spec: Dict[str, Any]) -> step_memory.Need:
    """Return what must be free; NotBegunError, as nothing is stopped yet, when it could not be measured afterwards."""
    if not sum(int(member["memory"]) for member in members):
        return step_memory.Need("discrete", None, 0, 0, 0, 0.0)
    seen = watch_memory.look(run.machine, spec["memory"])
    gpus = watch_memory.gpus_of(seen, charge.gpus)
    if gpus is None:
        problem = seen.problem or "a GPU of the slot is not there, or does not say who is on it"
        raise NotBegunError(f"left alone: {problem}")
    need = watch_memory.need_of(spec, seen, gpus, members)
    sample = step_memory.take_sample(run.machine, need._replace(total=0, per_gpu=0, reserve=0), ())
    if sample.problem:
        raise NotBegunError(f"left alone: {sample.problem}")
    return need


def _note_pending(book: Book, members: List[Dict[str, Any]]) -> None:
    # Beside what finds no room yet: that is still to be started.
    book.pending = _pending_without(book, members) + units_of(members)
    book.save()


def _pending_without(book: Book, members: List[Dict[str, Any]]) -> List[str]:
    return [unit for unit in book.pending if unit not in units_of(members)]


def _start(run: Run, book: Book, need: step_memory.Need, members: List[Dict[str, Any]]) -> None:
    step_memory.wait_free(run, need, units_of(members))
    run.prove_claim()
    step_start.start_members(run, members)
    book.pending = _pending_without(book, members)
    book.save()


def _run_command(run: Run, spec: Dict[str, Any]) -> None:
    """Run what the host's file says, but only while nobody at all is on the GPUs: it may take them from everybody."""
    argv = list(spec["reset_command"])
    if not argv:
        return
    seen = watch_memory.look(run.machine, spec["memory"])
    holders = [] if seen.problem else [each for each in seen.gpus if each["processes"].get("value") != []]
    if seen.problem or holders:
        run.note(f"{argv[0]} is not run: {seen.problem or 'somebody is on a GPU, or it is not known who'}")
        return
    done = run.machine.run(argv, spec["reset_timeout_s"])
    said = clean(done.err or done.out, 300)
    run.note(f"{argv[0]} ended with {done.rc}" + (f": {said}" if said else ""))
