"""Faults put into the production code on purpose, each of which the histories must find: a test of the tests.

Every one is a small, believable mistake. `PLANTED` names them; `plant` puts one in for the length of a block.

Must not: be soft: a planted fault that strikes nowhere near a violation is written anew, not left out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

from reconciler.agent import (
    deliver,
    durable,
    executor,
    fence,
    files,
    interrupted,
    journal,
    lease,
    locks,
    outcome,
    places,
    schedule,
    step_bring_up,
    step_commit,
    step_memory,
    step_rollback,
    step_start,
    step_stop,
    step_trial,
    txn,
    watch,
)
from reconciler.agent.lease import LeaseError
from reconciler.agent.outcome import End
from reconciler.agent.step_memory import Sample
from reconciler.sim.disk import SimSystem
from reconciler.sim.machine import SimMachine
from tests.volume.faults import KINDS
from tests.volume.world import prepare


class Planted(NamedTuple):
    """A fault: what it replaces by what, and the invariants of which one must notice it."""

    where: Any
    name: str
    instead: Callable[..., Any]
    noticed_by: tuple[int, ...]
    kinds: tuple[str, ...] = KINDS
    """The kinds of faults that make it matter; with all of them it is found too, later."""
    seeds: int = 60
    """So many histories find it."""
    of_two: bool = False
    """It matters on hosts with two slots alone: of the seeds only those are played."""


def _skip(*_: Any, **__: Any) -> None:
    return None


def _success_after_rollback(run: Any, halt: Any, really: Any = executor._back) -> End:
    end = really(run, halt)
    return End("applied", end.reason) if end.state == "rolled_back" else end


def _error_is_free(machine: Any, need: Any, gone: Any, really: Any = step_memory.take_sample) -> Sample:
    sample: Sample = really(machine, need, gone)
    blind = sample.problem.startswith(("what the GPUs hold is not known", "its GPUs are not there"))
    return Sample({}, "", []) if blind else sample


def _for_an_hour(move: Any, really: Any = step_memory.need_of) -> Any:
    return really(move)._replace(timeout_s=3600.0)


def _commit_unseen(run: Any) -> None:
    del run


def _resume_by_step(run: Any) -> End:
    """Go on behind the last step that the journal names, without a look at the host."""
    from reconciler.agent import step_claim, step_residents, step_undo
    from reconciler.agent.journal import read_events

    undo = step_undo.read_undo(run.machine, run.txid)
    if undo is None:
        return End("aborted", "nothing was changed", "REC7116", "recon apply")
    run.new_generation, run.old_generation = undo["generation"], undo["from"]
    run.state = step_claim.look(run)
    step_claim.take(run)
    steps = [event["step"] for event in read_events(run.machine, places.transaction(run.txid) + "/journal.jsonl", 0)]
    if steps[-1] in ("drain", "stop", "verify_memory", "trial"):
        for move in run.intent["moves"]:
            if move["new"] is not None:
                step_bring_up.bring_up(run, move)
    step_residents.restart_residents(run)
    step_commit.commit(run)
    return executor._finish(run)


def _once(self: Any) -> None:
    if not self.is_lowered and self._lease is None:
        raise LeaseError("the host was never claimed")


def _prune_all(run: Any) -> str:
    for name in run.machine.listdir(places.GENERATIONS):
        if name != str(run.new_generation):
            run.machine.remove_tree(f"{places.GENERATIONS}/{name}")
    return ""


def _release_first(run: Any, name: str, guarded: bool, really: Any = txn.Run._enter) -> None:
    really(run, name, guarded)
    if name == "commit":
        run.machine.remove(places.LEASE)


def _swallow(self: Any, *args: Any, really: Any = journal.Journal.say) -> None:
    with contextlib.suppress(OSError):
        really(self, *args)


def _no_look(run: Any, reason: str = "") -> None:
    del run, reason


def _taken_by_nobody(*args: Any, really: Any = deliver._post) -> tuple[int, str]:
    return (really(*args)[0], "")


def _begins_only(
    machine: Any, ctx: Any, number: int, body: Any, due: Any, mark: Any, really: Any = schedule._launch
) -> str:
    is_end = due.wanted == body["schedule"]["declared"]
    return "nothing begins" if is_end else really(machine, ctx, number, body, due, mark)


def _sync_again(self: Any, fd: int, really: Any = SimSystem.fsync) -> None:
    try:
        really(self, fd)
    except OSError:
        really(self, fd)


def _only_directories(self: Any, fd: int, really: Any = SimSystem.fsync) -> None:
    if self._open[fd].node.kind == "dir":
        really(self, fd)


def _host_only(intent: Any, found: Any, passed: Any, really: Any = locks.against) -> Any:
    return really(intent, [lock for lock in found if lock["slot"] is None], passed)


def _first_only(run: Any, move: Any, really: Any = step_rollback._start_old) -> None:
    if move["slot"] == run.intent["moves"][0]["slot"]:
        really(run, move)


def _no_slot(machine: Any) -> frozenset[str]:
    del machine
    return frozenset()


PLANTED: dict[str, Planted] = {
    "the memory is not waited for": Planted(step_memory, "wait_free", _skip, (3,)),
    "a rollback is told as a success": Planted(executor, "_back", _success_after_rollback, (9,)),
    "a driver that does not answer has free memory": Planted(
        step_memory, "take_sample", _error_is_free, (3,), ("nvml", "gpu-lost")
    ),
    "a coven starts before the other's processes are gone": Planted(step_stop, "wait_gone", _skip, (3, 9)),
    "who takes over goes on at a step": Planted(executor, "_resume", _resume_by_step, (3, 8, 9, 12), ("kill",)),
    "the claim is proven once": Planted(fence.Fenced, "prove", _once, (5,), ("steal",)),
    "the commit comes before health": Planted(step_start, "judge", _skip, (8,)),
    "the generation before is pruned": Planted(step_commit, "_prune", _prune_all, (23,)),
    "the lease is given back before the commit": Planted(txn.Run, "_enter", _release_first, (8,)),
    "a write that failed is swallowed": Planted(journal.Journal, "say", _swallow, (12,), ("io-error",), 200),
    "a deadline is on the wall clock": Planted(SimMachine, "monotonic", SimMachine.wall, (9, 24), ("clock",)),
    "a directory is not synced": Planted(durable.DurableMachine, "_sync_directory", _skip, (2, 11), ("cut",)),
    "what failed to sync is synced again": Planted(SimSystem, "fsync", _sync_again, (11,), ("io-error",), 200),
    "a file is not synced": Planted(SimSystem, "fsync", _only_directories, (2, 11), ("cut",)),
    "the epoch begins again": Planted(lease, "newest", lambda machine: 0, (5, 6)),
    "a rollback leaves the trial": Planted(step_trial, "end_trial", _skip, (2, 9, 29)),
    "what was interrupted is left": Planted(interrupted, "settle", _no_look, (27, 29)),
    "the commit is any number": Planted(files, "committed_number", lambda machine: 1, (8, 9, 10)),
    "a deadline is forgotten": Planted(step_memory, "need_of", _for_an_hour, (27,), ("taken",), 200),
    "what is committed is not looked at again": Planted(
        step_commit, "check_whole", _commit_unseen, (2,), ("corrupt",), 400
    ),
    "what nobody took counts as told": Planted(deliver, "_post", _taken_by_nobody, (32,), seeds=200),
    "the end of a window is no edge": Planted(schedule, "_launch", _begins_only, (33,), seeds=200),
    "a lock of one slot keeps nobody out": Planted(locks, "against", _host_only, (36,), ("clock",), 300, True),
    "the way back brings one slot back": Planted(step_rollback, "_start_old", _first_only, (9, 35), KINDS, 300, True),
    "the watchdog sees no lock of a slot": Planted(watch, "locked_slots", _no_slot, (36,), ("clock",), 600, True),
    "the outcome is not written": Planted(outcome, "_write", _skip, (27,)),
}


@contextlib.contextmanager
def plant(name: str) -> Iterator[Planted]:
    """Put a fault into the code of the agent for the length of a block.

    The hosts on which histories begin are prepared before it: the process keeps them, and every history would begin
    with what the first fault of the process made of them.
    """
    planted = PLANTED[name]
    prepare()
    with mock.patch.object(planted.where, planted.name, planted.instead):
        yield planted
