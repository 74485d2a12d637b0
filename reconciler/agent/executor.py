"""Carries out one transaction on this host: the order of the steps, and which end it comes to.

    claim ─▶ stage ─▶ for each move: drain ─▶ stop ─▶ verify_memory ─▶ trial ─▶ start ─▶ warm ─▶ commit ─▶ finish
      │        │              │        └────────────┴──────────┴─────────┴───────┴──▶ rollback     (forward only)
    refused  refused       aborted                                                  rolled_back, else held

What can fail without disturbing anybody comes first. The commit comes after health, so a power cut before it boots what
ran before. An executor that died is followed by another one (its unit's ExecStopPost): that one never continues at a
step, it looks at what is there and goes back, or forward when the commit had happened.

Must not: do a step itself, or leave without an outcome.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, NamedTuple, Optional

from . import (
    files,
    places,
    running,
    step_claim,
    step_commit,
    step_drain,
    step_memory,
    step_residents,
    step_rollback,
    step_stage,
    step_start,
    step_stop,
    step_trial,
    step_undo,
    systemd,
)
from .journal import Journal
from .lease import LeaseError
from .machine import BusyError, Machine
from .plain import clean
from .record import RecordError, read_record, write_record
from .txn import HaltError, Run, starting, stopping, units_of

UNEXPECTED = "REC7199"
_HISTORY_LIMIT = 64 << 20


class End(NamedTuple):
    """How a transaction ended; see `model.outcome.Outcome`."""

    state: str
    reason: str
    code: Optional[str] = None
    fix: Optional[str] = None


def execute(machine: Machine, txid: str) -> Dict[str, Any]:
    """Run a transaction to its end and return the outcome; one that has ended is not run again."""
    directory = places.transaction(txid)
    earlier = read_outcome(machine, txid)
    if earlier is not None:
        _settle(machine, earlier)
        return earlier
    try:
        intent = read_record(machine, directory + "/intent.json")
    except (OSError, RecordError) as error:
        return _unreadable(machine, txid, error)
    run = Run(machine, intent, Journal(machine, directory + "/journal.jsonl"))
    machine.mkdir(places.RUN)
    try:
        with machine.lock(places.LOCK):
            return _conclude(run, _transact(run))
    except BusyError:
        text = "another executor holds the host's lock"
        return _conclude(run, End("locked", text, "REC7110", "recon status"))


def read_outcome(machine: Machine, txid: str) -> Optional[Dict[str, Any]]:
    """Return the outcome of a transaction, None when it has none that verifies."""
    try:
        return read_record(machine, places.transaction(txid) + "/outcome.json")
    except (OSError, RecordError):
        return None


def _transact(run: Run) -> End:
    try:
        if run.journal.resumed:
            return _recover(run)
        step_claim.claim(run)
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


def _forward(run: Run) -> None:
    """Disturb, in order: each move to its end, then orphans and residents, then the one commit for all."""
    orphans = list(run.intent["stop_units"])
    for move in run.intent["moves"]:
        if stopping(move):
            step_drain.drain(run, stopping(move), move["slot"])
        step_stop.stop_units(run, orphans)
        orphans = []
        if move["old"] is not None:
            step_stop.stop_move(run, move)
        if starting(move):
            _bring_up(run, move)
    step_stop.stop_units(run, orphans)
    step_residents.restart_residents(run)
    step_commit.commit(run)


def _bring_up(run: Run, move: Dict[str, Any]) -> None:
    members, slot = starting(move), move["slot"]
    step_memory.verify_memory(run, move, units_of(stopping(move)))
    step_trial.begin_trial(run, members, slot)
    with run.step("start", f"starting {move['new']['coven']}: {', '.join(units_of(members))}", slot):
        run.prove_claim()
        run.touched.add(slot)
        if move["kind"] == "switch":
            step_start.start_group(run, move["new"])
        else:
            step_start.start_members(run, members)
    with run.step("warm", f"judging {', '.join(member['service'] for member in members)}", slot):
        step_start.judge(run, members)


def _back(run: Run, halt: HaltError) -> End:
    """End a transaction that failed on the way: as nothing happened where nothing did, else by going back."""
    if step_commit.is_committed(run):
        return _finish(run)
    for unit in halt.units:
        run.logs[unit] = running.last_lines(run.machine, unit)
    disturbed = run.is_disturbed
    try:
        if disturbed:
            step_rollback.rollback(run)
        else:
            step_drain.resume(run)
            step_undo.unstage(run)
    except Exception as error:  # whatever it was: nothing more is tried, a person is told
        then = _as_halt(error, run)
        for unit in then.units:
            run.logs.setdefault(unit, running.last_lines(run.machine, unit))
        again = " for the same reason" if then.reason == halt.reason else f": {then.reason}"
        return End("held", f"{halt.reason}; then going back failed{again}", "REC7190", _continue(run))
    if disturbed:
        return End(
            "rolled_back", halt.reason, halt.code, halt.fix or f"repair or revert it in git, then: {_continue(run)}"
        )
    return End("aborted", halt.reason, halt.code, halt.fix or _continue(run))


def _finish(run: Run) -> End:
    try:
        problems = step_commit.finish(run)
    except Exception as error:  # forward only: what is committed stays applied
        problems = [_as_halt(error, run).reason]
    if problems:
        return End("applied", "applied; left to tidy up: " + "; ".join(problems))
    return End("applied", f"generation {run.new_generation} is committed")


def _recover(run: Run) -> End:
    """End what another executor left: the committed symlink, systemd and the GPU say what is true."""
    run.state = step_claim.look(run)
    step_claim.take(run)
    why = "the executor ended before the transaction did (killed, or out of memory)"
    undo = step_undo.read_undo(run.machine, run.txid)
    if undo is None:
        return End("aborted", f"{why}; nothing was changed", "REC7116", _continue(run))
    run.new_generation, run.old_generation = undo["generation"], undo["from"]
    if step_commit.is_committed(run):
        return _finish(run)
    run.on_trial = run.machine.stat(places.TRIAL) is not None
    step_rollback.find_touched(run)
    return _back(run, HaltError("REC7116", why))


def _as_halt(error: Exception, run: Run) -> HaltError:
    if isinstance(error, HaltError):
        return error
    if isinstance(error, systemd.SystemdError):
        return HaltError("REC7109", str(error), fix=f"recon status --host {run.intent['host']}")
    if isinstance(error, LeaseError):
        return HaltError("REC7113", str(error), fix=_continue(run))
    return HaltError(UNEXPECTED, clean(f"{type(error).__name__}: {error}"), fix=_continue(run))


def _continue(run: Run) -> str:
    return f"recon apply --host {run.intent['host']}"


def _conclude(run: Run, end: End) -> Dict[str, Any]:
    """Write the outcome, then the history, then give the claim back."""
    machine, intent = run.machine, run.intent
    outcome: Dict[str, Any] = {
        "txid": run.txid,
        "host": intent["host"],
        "state": end.state,
        "reason": clean(end.reason, 2000),
        "code": end.code,
        "fix": end.fix or (None if end.code is None else _continue(run)),
        "committed": _committed(machine),
        "live": _live(run),
        "owner": intent["owner"],
        "source_commit": intent["source_commit"],
        "plan_digest": intent["plan_digest"],
        "started_at": run.started_at,
        "elapsed_s": round(machine.monotonic() - run.started, 3),
        "steps_s": run.steps_s,
        "logs": run.logs,
    }
    write_record(machine, places.transaction(run.txid) + "/outcome.json", outcome)
    _settle(machine, outcome)
    return outcome


def _settle(machine: Machine, outcome: Dict[str, Any]) -> None:
    """Write the line of history and withdraw the lease, each once, whoever of two executors comes to it."""
    txid = outcome["txid"]
    undo = step_undo.read_undo(machine, txid)
    line = {key: value for key, value in outcome.items() if key != "logs"}
    line["from_generation"] = undo["from"] if undo else outcome["committed"]
    if not _is_in_history(machine, txid):
        machine.append(places.HISTORY, (json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n").encode())
    try:
        lease = read_record(machine, places.LEASE)
    except (OSError, RecordError):
        return
    if lease.get("txid") == txid:
        machine.remove(places.LEASE)


def _is_in_history(machine: Machine, txid: str) -> bool:
    try:
        history = machine.read(places.HISTORY, _HISTORY_LIMIT)
    except FileNotFoundError:
        return False
    return f'"txid":{json.dumps(txid)}'.encode() in history


def _committed(machine: Machine) -> Optional[int]:
    try:
        return files.committed_number(machine)
    except (OSError, ValueError):
        return None


def _live(run: Run) -> Dict[str, Optional[str]]:
    """Say which coven each slot runs, by the gates that are up: not by what should have happened."""
    slots: Dict[str, Optional[str]] = dict.fromkeys(run.intent["manifest_live"])
    groups: List[Dict[str, Any]] = list(run.intent["groups"])
    for move in run.intent["moves"]:
        slots.setdefault(move["slot"])
        groups += [group for group in (move["old"], move["new"]) if group is not None]
    covens = {group["gate"]: group["coven"] for group in groups}
    try:
        shown = systemd.show_units(run.machine, sorted(covens)) if covens else {}
    except systemd.SystemdError:
        return slots
    for gate, state in shown.items():
        for slot in slots:
            if state.active == "active" and gate == f"recon-gate-{slot}-{covens[gate]}.service":
                slots[slot] = covens[gate]
    return slots


def _unreadable(machine: Machine, txid: str, error: Exception) -> Dict[str, Any]:
    """Refuse a transaction whose intent does not verify; nothing in it is believed, not even the host's name."""
    outcome: Dict[str, Any] = {
        "txid": txid,
        "host": "",
        "state": "refused",
        "reason": clean(f"the intent cannot be read: {error}"),
        "code": "REC7115",
        "fix": "recon apply",
        "committed": _committed(machine),
        "live": {},
        "owner": "",
        "source_commit": "",
        "plan_digest": "",
        "started_at": machine.wall(),
        "elapsed_s": 0.0,
        "steps_s": {},
        "logs": {},
    }
    machine.mkdir(places.transaction(txid))
    write_record(machine, places.transaction(txid) + "/outcome.json", outcome)
    _settle(machine, outcome)
    return outcome
