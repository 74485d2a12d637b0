"""How a transaction ended, written down: the outcome, the alert of a held host, the line, and the claim given back.

Must not: decide which end it was.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, List, NamedTuple, Optional, Set

from . import alerts, durations, files, history, places, step_undo, systemd, transactions
from .executor_unit import TXID
from .journal import read_events
from .machine import Machine
from .plain import clean
from .record import RecordError, make_way, read_record, write_record
from .txn import Run

KEEP = 20
_BLANK = {
    "host": "",
    "owner": "",
    "source_commit": "",
    "plan_digest": "",
    "manifest_live": {},
    "groups": [],
    "moves": [],
}


class End(NamedTuple):
    """How a transaction ended; see `model.outcome.Outcome`."""

    state: str
    reason: str
    code: Optional[str] = None
    fix: Optional[str] = None


def path_of(txid: str) -> str:
    """Return where the outcome of a transaction is."""
    return places.transaction(txid) + "/outcome.json"


def read_outcome(machine: Machine, txid: str) -> Optional[Dict[str, Any]]:
    """Return the outcome of a transaction, None when it has none that verifies."""
    try:
        return transactions.read_book(machine, txid, "outcome.json")
    except (OSError, RecordError):
        return None


def has_ended(machine: Machine, txid: str) -> bool:
    """Say whether a transaction has an outcome that verifies."""
    return TXID.match(txid) is not None and read_outcome(machine, txid) is not None


def proceed(host: str) -> str:
    """Return the command that goes on."""
    return f"recon apply --host {host}" if host else "recon apply"


def conclude(run: Run, end: End) -> Dict[str, Any]:
    """Write the outcome, then the history, give the claim back, and drop the books of long ago."""
    run.give_room()
    outcome: Dict[str, Any] = {
        **_described(run.machine, run.intent, end),
        "txid": run.txid,
        "started_at": run.started_at,
        "elapsed_s": round(run.machine.monotonic() - run.started, 3),
        "steps_s": run.steps_s,
        "logs": run.logs,
        "attempts": run.attempts,
        "epoch": run.lease.epoch if run.lease else None,
        "events": run.journal.count,
    }
    run.machine.hold(None)  # what follows is book-keeping, and the lease is about to be withdrawn
    _write(run.machine, outcome)
    if end.state == "applied":
        durations.remember(run.machine, run.intent, run.steps_s)
    with contextlib.suppress(OSError, RecordError):
        _prune(run.machine, run.txid)
    return outcome


def conclude_for(machine: Machine, txid: str, end: End) -> Dict[str, Any]:
    """Write the outcome of a transaction that has no executor: its intent did not verify, or its executor is gone."""
    directory = places.transaction(txid)
    intent: Dict[str, Any] = dict(_BLANK)
    with contextlib.suppress(OSError, RecordError):
        intent = transactions.read_book(machine, txid, "intent.json")
    machine.mkdir(directory)
    events = read_events(machine, directory + "/journal.jsonl", 0)
    found = machine.stat(directory + "/intent.json")
    outcome: Dict[str, Any] = {
        **_described(machine, intent, end),
        "txid": txid,
        "started_at": found.mtime_ns / 1e9 if found is not None and found.mtime_ns else machine.wall(),
        "elapsed_s": float(events[-1]["t"]) if events else 0.0,
        "steps_s": {},
        "logs": {},
        "events": int(events[-1]["seq"]) if events else 0,
    }
    _write(machine, outcome)
    return outcome


def untold(machine: Machine) -> List[Dict[str, Any]]:
    """Return the outcomes that have no line of history: who wrote them was killed, or the power was cut, before it."""
    names = transactions.untold(machine)
    if not names:
        return []
    live = history.examine(machine)
    found = (read_outcome(machine, txid) for txid in names if not history.has(machine, txid, live))
    return [outcome for outcome in found if outcome is not None]


def settle(machine: Machine, outcome: Dict[str, Any], *, is_on_disk: bool = False) -> None:
    """Call a person, write the line of history and withdraw the lease, each once, whoever of two executors comes to it.

    Ends that somebody else wrote and did not come to tell are told before: nobody may come for them any more.
    """
    txid = outcome["txid"]
    waiting = {each["txid"]: each for each in untold(machine) if each["txid"] != txid}
    for earlier in list(waiting.values()):
        del waiting[earlier["txid"]]
        _tell(machine, earlier, {*waiting, txid}, is_on_disk=False)
    _tell(machine, outcome, set(), is_on_disk=is_on_disk)
    try:
        lease = read_record(machine, places.LEASE)
    except (OSError, RecordError):
        return
    if lease.get("txid") == txid:
        machine.remove(places.LEASE)


def _tell(machine: Machine, outcome: Dict[str, Any], waiting: Set[str], *, is_on_disk: bool) -> None:
    """Write the line of an outcome, unless it is there; `waiting` are those that are told after it.

    One that was found is written again before its line: whoever wrote it may have died before it was on the disk. A
    person is called before the line too: as long as that is missing the call is still owed, whoever died in between.
    """
    txid = outcome["txid"]
    undo: Optional[Dict[str, Any]] = None
    with contextlib.suppress(OSError, RecordError):
        undo = step_undo.read_undo(machine, txid)
    line = {key: value for key, value in outcome.items() if key != "logs"}
    line["from_generation"] = undo["from"] if undo else outcome["committed"]
    with history.alone(machine):
        found = history.examine(machine)
        if not history.has(machine, txid, found):
            if not is_on_disk:
                write_record(machine, path_of(txid), outcome)
            if outcome["state"] == "held":
                _call_a_person(machine, outcome)
            over = [*(each for each in transactions.ended(machine) if each not in waiting and each != txid), txid]
            history.append(machine, line, over, found)


def _call_a_person(machine: Machine, outcome: Dict[str, Any]) -> None:
    """Raise the alert of a host that is held, unless a person has seen it, or something was committed since."""
    txid, host, committed = outcome["txid"], outcome["host"], files.committed_if_told(machine)
    if transactions.is_seen(machine, txid) or committed not in (None, outcome["committed"]):
        return
    fix = outcome["fix"] or proceed(host)
    if host:
        # A reboot may put it right, and then there is nothing to apply.
        fix = f"{fix}; if there is nothing left to do: recon alerts --clear --host {host}"
    alerts.call_a_person(machine, code=outcome["code"] or "REC7190", about=txid, text=outcome["reason"], fix=fix)


def _write(machine: Machine, outcome: Dict[str, Any]) -> None:
    directory = places.transaction(outcome["txid"])
    if machine.stat(directory) is None:
        # Somebody removed the books while it ran: how it ended must be told all the same.
        machine.mkdir(directory, 0o700)
    make_way(machine, path_of(outcome["txid"]))
    write_record(machine, path_of(outcome["txid"]), outcome)
    settle(machine, outcome, is_on_disk=True)


def _described(machine: Machine, intent: Dict[str, Any], end: End) -> Dict[str, Any]:
    fix = end.fix or (None if end.code is None else proceed(intent["host"]))
    return {
        "host": intent["host"],
        "state": end.state,
        "reason": clean(end.reason, 2000),
        "code": end.code,
        "fix": fix,
        "committed": files.committed_if_told(machine),
        "live": _live(machine, intent),
        "owner": intent["owner"],
        "source_commit": intent["source_commit"],
        "plan_digest": intent["plan_digest"],
        **({"asked": clean(intent["asked"], 200)} if intent.get("asked") else {}),
    }


def _prune(machine: Machine, running: str) -> None:
    """Remove all but the newest transactions; one that began and has no end is still to be brought to one.

    Neither is what holds the host removed, however many orders changed nothing since: its outcome alone keeps the
    host's own programs away until a person has looked.
    """
    kept = (running, transactions.left_to_a_person(machine))
    for name in transactions.in_order(machine)[:-KEEP]:
        if name not in kept and not transactions.is_unfinished(machine, name):
            # First: with a journal and without an outcome it would be one that is still to be brought to an end.
            machine.remove(places.transaction(name) + "/journal.jsonl")
            machine.remove_tree(places.transaction(name))


def _live(machine: Machine, intent: Dict[str, Any]) -> Dict[str, Optional[str]]:
    """Say which coven each slot runs, by the gates that are up: not by what should have happened."""
    slots: Dict[str, Optional[str]] = dict.fromkeys(intent["manifest_live"])
    groups: List[Dict[str, Any]] = list(intent["groups"])
    for move in intent["moves"]:
        slots.setdefault(move["slot"])
        groups += [group for group in (move["old"], move["new"]) if group is not None]
    covens = {group["gate"]: group["coven"] for group in groups}
    try:
        shown = systemd.show_units(machine, sorted(covens)) if covens else {}
    except systemd.SystemdError:
        return slots
    for gate, state in shown.items():
        for slot in slots:
            if state.active == "active" and gate == f"recon-gate-{slot}-{covens[gate]}.service":
                slots[slot] = covens[gate]
    return slots
