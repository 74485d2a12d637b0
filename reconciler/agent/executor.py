"""Carries out one transaction on this host: the order of the steps, and which end it comes to.

    claim ─▶ stage ─▶ drain ─▶ stop ─▶ for each move: verify_memory ─▶ trial ─▶ start ─▶ warm ─▶ commit ─▶ finish
      │        │        │        └──────────────────────┴──────────┴─────────┴───────┴──▶ rollback  (forward only)
    refused  refused  aborted                                                       rolled_back, else held

What can fail without disturbing anybody comes first. The commit comes after health, so a power cut before it boots what
ran before. An executor that died is followed by another one (its unit's ExecStopPost): that one never continues at a
step, it looks at what is there and goes back, or forward when the commit had happened.

Must not: do a step itself, or leave without an outcome.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Optional

from . import (
    admission,
    ahead,
    announce,
    claims,
    files,
    hooks,
    interrupted,
    locks,
    patience,
    places,
    running,
    share_deeds,
    spiral,
    step_bring_up,
    step_claim,
    step_commit,
    step_drain,
    step_residents,
    step_rollback,
    step_stage,
    step_stop,
    step_trial,
    step_undo,
    systemd,
    takeover,
)
from .journal import Journal
from .lease import LeaseError
from .machine import BusyError, Machine
from .outcome import End, conclude, conclude_for, proceed, read_outcome, settle
from .plain import clean
from .record import RecordError, read_record
from .txn import HaltError, Run, starting, stopping

UNEXPECTED = "REC7199"
# A look of the watchdog ends within this; whoever comes second is still told soon.
_PATIENCE_S = 1.0
_WAY_BACK_PATIENCE_S = 600.0
_LOCKED = "another executor holds the host's lock"
_DIED = "the executor ended before the transaction did (killed, or out of memory)"


def execute(machine: Machine, txid: str, *, recover: bool = False) -> Dict[str, Any]:
    """Run a transaction to its end and return the outcome; one that has ended is not run again.

    Args:
        machine: the host.
        txid: the transaction, whose intent is on the host.
        recover: an executor of it is gone; then this one only brings the host to an end, also when the other had not
            come to write its first line.
    """
    directory = places.transaction(txid)
    earlier = read_outcome(machine, txid)
    if earlier is not None:
        settle(machine, earlier)
        return earlier
    # Not before: who only comes after an executor that ended would make the next order wait for its unit.
    ahead.import_all()
    try:
        intent = read_record(machine, directory + "/intent.json")
        if intent.get("txid") != txid:
            raise RecordError("it is of another transaction")
    except (OSError, RecordError) as error:
        # Nothing in it is believed, not even the host's name.
        reason = f"the intent cannot be read: {error}"
        with contextlib.suppress(OSError, HaltError):
            _end_left_over(machine)
        return _conclude_blind(machine, txid, reason)
    run = Run(machine, intent, Journal(machine, directory + "/journal.jsonl"))
    machine.mkdir(places.RUN)
    # Whoever finds a journal comes after somebody, whatever it was started as.
    recover = recover or run.journal.resumed
    try:
        with patience.locked(machine, places.LOCK, _WAY_BACK_PATIENCE_S if recover else _PATIENCE_S):
            outcome = conclude(run, _resume(run) if recover else _transact(run))
    except BusyError:
        outcome = conclude(run, _stuck(run) if recover else _locked_out(run))
    announce.kick(machine)
    return outcome


def _conclude_blind(machine: Machine, txid: str, reason: str) -> Dict[str, Any]:
    """End a transaction whose order is lost: refused where it had replaced nothing, else what is committed tells."""
    if not step_undo.has_undo(machine, txid) and not step_trial.is_open(machine):
        return conclude_for(machine, txid, End("refused", reason, "REC7115"))
    number: Optional[int] = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        number = int((step_undo.read_undo(machine, txid) or {})["generation"])
        if files.committed_number(machine) == number:
            return conclude_for(machine, txid, End("applied", f"applied; left to tidy up: {reason}"))
    text = f"{_DIED}, and how to go back is lost: {reason}"
    return conclude_for(machine, txid, End("held", text, "REC7115", proceed("")))


def _transact(run: Run) -> End:
    try:
        with run.machine.lowered():
            _end_left_over(run.machine)
        locks.settle(run.machine)
        step_claim.claim(run)
        announce.started(run)
        run.take_room()
        _settle(run)
        if step_stage.is_nothing_to_do(run):
            return End("nothing", "the host already is what the plan says")
        step_stage.stage(run)
    except Exception as error:  # whatever it was: nothing that runs was touched
        halt = _as_halt(error, run)
        return End(halt.state or "refused", halt.reason, halt.code, halt.fix)
    try:
        _forward(run)
    except Exception as error:  # whatever it was: the host is brought back
        return _back(run, _as_halt(error, run))
    return _finish(run)


def _settle(run: Run) -> None:
    """End what others left; what that started again was not there when this transaction was planned."""
    back = interrupted.settle(run)
    if back:
        text = f"an earlier transaction was cut off before its commit, so {', '.join(back)} was started again"
        raise HaltError("REC7491", text, fix=f"recon plan --host {run.intent['host']}", state="stale")


def _forward(run: Run) -> None:
    """Disturb, in order: drain and stop everything that goes, bring up each move, residents, the one commit for all."""
    moves, orphans = run.intent["moves"], run.intent["stop_units"]
    known = step_stop.committed_members(run, orphans)
    step_drain.drain_all(run, moves, known)
    spiral.stop_gpu_lane(run)
    # All together and at once: who was drained takes new work again, and who is given up on disturbs nobody.
    for move in moves:
        if move["old"] is not None:
            step_stop.stop_move(run, move)
    step_stop.stop_units(run, orphans, known)
    share_deeds.leave(run)
    for move in moves:
        takeover.take_over(run, move)
    admission.admit(run)
    hooks.before_stop(run, "after_stop", moves)
    for move in moves:
        if starting(move):
            step_bring_up.bring_up(run, move)
    step_residents.restart_residents(run)
    step_bring_up.judge_left(run)
    step_commit.commit(run)


def _back(run: Run, halt: HaltError) -> End:
    """End a transaction that failed on the way: as nothing happened where nothing did, else by going back."""
    if step_commit.is_committed(run):
        return _finish(run)
    for unit in halt.units:
        run.logs[unit] = running.last_lines(run.machine, unit, run.started_at)
    disturbed = run.is_disturbed
    touched = [move for move in run.intent["moves"] if move["slot"] in run.touched]
    runs_again = not touched or any(stopping(move) or takeover.ran(move) for move in touched)
    run.give_room()
    try:
        if disturbed:
            step_rollback.rollback(run)
        else:
            step_drain.resume(run)
            admission.admit(run)
            hooks.on_the_way_back(run, run.intent["moves"])
            step_undo.unstage(run)
            takeover.tidy(run)
        spiral.bring_back(run)
    except Exception as error:  # whatever it was: nothing more is tried, a person is told
        then = _as_halt(error, run)
        for unit in then.units:
            run.logs.setdefault(unit, running.last_lines(run.machine, unit, run.started_at))
        again = " for the same reason" if then.reason == halt.reason else f": {then.reason}"
        return End("held", f"{halt.reason}; then going back failed{again}", "REC7190", proceed(run.intent["host"]))
    if halt.gave_up and not runs_again:
        reason = f"{halt.reason}; there is nothing to go back to: nothing ran there before"
        return End("held", reason, "REC7170", proceed(run.intent["host"]))
    if disturbed:
        return End(
            "rolled_back",
            halt.reason,
            halt.code,
            halt.fix or f"repair or revert it in git, then: {proceed(run.intent['host'])}",
        )
    return End("aborted", halt.reason, halt.code, halt.fix or proceed(run.intent["host"]))


def _finish(run: Run) -> End:
    try:
        problems = step_commit.finish(run)
        interrupted.settle(run, interrupted.REPLACED)
    except Exception as error:  # forward only: what is committed stays applied
        problems = [_as_halt(error, run).reason]
    if problems:
        return End("applied", "applied; left to tidy up: " + "; ".join(problems))
    return End("applied", f"generation {run.new_generation} is committed")


def _resume(run: Run) -> End:
    """End what another executor left, or say what keeps it from an end."""
    with contextlib.suppress(OSError, RecordError):
        _recall(run)  # first: whatever fails from here, what is committed is told apart from what is not
    try:
        with run.machine.lowered():
            _end_left_over(run.machine)
        return _recover(run)
    except Exception as error:  # whatever it was: what is committed and what was replaced tell how it stands
        halt = _as_halt(error, run)
    if step_commit.is_committed(run):
        return End("applied", f"applied; left to tidy up: {halt.reason}")
    if step_undo.has_undo(run.machine, run.txid):
        reason = f"{_DIED}; then bringing the host to an end failed: {halt.reason}"
        return End("held", reason, "REC7190", proceed(run.intent["host"]))
    return End("aborted", f"{_DIED}; nothing was changed, and: {halt.reason}", halt.code, proceed(run.intent["host"]))


def _recover(run: Run) -> End:
    """End what another executor left: the committed symlink, systemd and the GPU say what is true."""
    undo = _recall(run)
    with run.machine.lowered():
        run.note(f"{_DIED}; looking at what is there")
    run.state = step_claim.look(run)
    step_claim.take(run)
    if undo is None:
        return End("aborted", f"{_DIED}; nothing was changed", "REC7116", proceed(run.intent["host"]))
    if step_commit.is_committed(run):
        return _finish(run)
    run.on_trial = run.machine.stat(places.TRIAL) is not None
    step_rollback.find_touched(run)
    return _back(run, HaltError("REC7116", _DIED))


def _locked_out(run: Run) -> End:
    """Say who has the host, since when and what they do."""
    who = claims.who_acts(run.machine)
    if claims.is_deed(run.machine):
        return End("locked", f"{who}; it ends by itself", "REC7232", proceed(run.intent["host"]))
    return End("locked", _LOCKED + (f": {who}" if who else ""), "REC7110", "recon status")


def _stuck(run: Run) -> End:
    """Call a person: nobody else may touch the host while the lock of a dead executor is not given back."""
    reason = f"{_DIED}; {places.LOCK} is held all the same: it, or a process it left, is stuck in the kernel"
    return End("held", reason, "REC7231", f"reboot the host, then: {proceed(run.intent['host'])}")


def _recall(run: Run) -> Optional[Dict[str, Any]]:
    """Return what the transaction replaced before, and take over its generations from there."""
    undo = step_undo.read_undo(run.machine, run.txid)
    if undo is not None:
        run.new_generation, run.old_generation = undo["generation"], undo["from"]
    return undo


def _end_left_over(machine: Machine) -> None:
    """End what an executor that was killed may have left beside units: a hook that runs, a port that is closed.

    Before there is a claim, for it may never come to one; with the host's lock, so there is no other executor.
    """
    hooks.end_left(machine)
    admission.reopen(machine)


def _as_halt(error: Exception, run: Run) -> HaltError:
    if isinstance(error, HaltError):
        return error
    if isinstance(error, systemd.SystemdError):
        return HaltError("REC7109", str(error), fix=f"recon status --host {run.intent['host']}")
    if isinstance(error, LeaseError):
        return HaltError("REC7113", str(error), fix=proceed(run.intent["host"]))
    return HaltError(UNEXPECTED, clean(f"{type(error).__name__}: {error}"), fix=proceed(run.intent["host"]))
