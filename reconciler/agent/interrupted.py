"""Brings transactions that lost their executor for good, in a power cut or a reboot, to an end that can be told.

The host booted the committed generation by itself. What is left of the interrupted one are native units beside it and
a directory that nothing points to. The watchdog takes both away at its first look after the boot, or else the next
executor before it writes its own.

Must not: touch what is committed, or a generation that is on trial.
"""

from __future__ import annotations

from typing import List, Optional

from . import files, hooks, outcome, places, step_trial, step_undo, systemd, takeover, transactions
from .claims import INTERRUPTED
from .journal import is_of_an_earlier_boot, is_of_this_boot
from .machine import Machine
from .outcome import End
from .record import RecordError
from .txn import Run

_LATE = "interrupted by a power cut or reboot after the commit of generation {}, which booted"
_DIED = "its executor ended before it did"
_NO_BOOT = ", without a reboot"
REPLACED = f"{_DIED}, and another transaction took its place"
_UNTOLD = "its executor ended after the commit of generation {} and before it could say so"


def settle(run: Run, reason: str = INTERRUPTED) -> List[str]:
    """End every transaction that began and has no outcome, newest first. Call with the claim, before stage.

    Called again after a commit, with a reason of its own, for those whose trial was still open before. Returns what of
    somebody else was started again: whoever has planned without it must look again.
    """
    back: List[str] = []
    if step_trial.is_open(run.machine):
        # No reboot since: what is on trial may run, and this transaction's own trial takes its place.
        return back
    for txid in unfinished(run):
        run.prove_claim()
        end = _end_of(run, txid, reason, back)
        run.note(f"transaction {txid}: {end.reason}")
        outcome.conclude_for(run.machine, txid, end)
    return back


def unfinished(run: Run) -> List[str]:
    """Return the other transactions with a journal and without an outcome, newest first."""
    return [txid for txid in transactions.unfinished(run.machine) if txid != run.txid]


def of_an_earlier_boot(machine: Machine) -> List[str]:
    """Return the transactions without an end, newest first, when all of them were cut off by a reboot; else none.

    Without one the host may be in the middle of something: only a reboot brings what is committed up by itself.
    """
    found = transactions.unfinished(machine)
    journals = [places.transaction(txid) + "/journal.jsonl" for txid in found]
    return found if all(is_of_an_earlier_boot(machine, path) for path in journals) else []


def _end_of(run: Run, txid: str, reason: str, back: List[str]) -> End:
    # A trial that is gone is no proof: it may have been taken away, by its executor or by hand.
    journal = places.transaction(txid) + "/journal.jsonl"
    booted = is_of_an_earlier_boot(run.machine, journal)
    if reason == INTERRUPTED and not booted:
        reason = _DIED + (_NO_BOOT if is_of_this_boot(run.machine, journal) else "")
    try:
        undo = step_undo.read_undo(run.machine, txid)
    except RecordError as error:
        # Nobody can put back what is not told; the host must not be refused for ever because of it.
        return End("aborted", f"{reason}; native units of it may be left: {error}", "REC7116")
    committed: Optional[int] = files.committed_number(run.machine)
    if undo is None:
        return End("aborted", reason, "REC7116")
    number = int(undo["generation"])
    if number == committed:
        if takeover.put_off(run.machine, number):
            systemd.daemon_reload(run.machine)
        return End("applied", (_LATE if booted else _UNTOLD).format(number))
    # Natives of a later commit are newer than what this one would put back.
    if undo["from"] == committed:
        if step_undo.put_back(run.machine, undo):
            systemd.daemon_reload(run.machine)
        back += takeover.settle_back(run.machine, txid, undo)
    run.machine.remove_tree(places.generation(number))
    _tell_hooks(run, txid)
    return End("aborted", reason, "REC7116")


def _tell_hooks(run: Run, txid: str) -> None:
    """Tell the covens on their way out or in: what was closed for one is still closed, what was opened still open."""
    try:
        intent = transactions.read_book(run.machine, txid, "intent.json")
    except (OSError, RecordError):
        return
    hooks.on_the_way_back(run, intent["moves"])
