"""The way back of files: what stage replaced is put back as it was, and the half-made generation goes.

The record of what was there is durable before anything is replaced, so the way back needs no memory of the process that
went forward.

Must not: start or stop anything, or touch what is in the committed generation.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

from . import files, places, systemd, transactions
from .machine import Machine
from .txn import Run


def record_path(txid: str) -> str:
    """Return where a transaction keeps what it replaced."""
    return places.transaction(txid) + "/undo.json"


def read_undo(machine: Machine, txid: str) -> Optional[Dict[str, Any]]:
    """Return what a transaction replaced, None when it never came that far; an error when the record does not say."""
    try:
        return transactions.read_book(machine, txid, "undo.json")
    except FileNotFoundError:
        return None


def has_undo(machine: Machine, txid: str) -> bool:
    """Say whether a transaction may have replaced anything."""
    try:
        return machine.stat(record_path(txid)) is not None
    except OSError:
        return True


def unstage(run: Run) -> None:
    """Make the host's files what they were before stage; loaded units are made to match when a file was replaced."""
    with run.machine.lowered():
        if restore_natives(run):
            systemd.daemon_reload(run.machine)
        remove_generation(run)


def restore_natives(run: Run) -> bool:
    """Put the replaced native units and links back; say whether anything had to be written."""
    undo = read_undo(run.machine, run.txid)
    return undo is not None and put_back(run.machine, undo)


def put_back(machine: Machine, undo: Dict[str, Any]) -> bool:
    """Put back what an undo record tells; say whether any unit had to be written."""
    written = False
    for name, text in sorted(undo["natives"].items()):
        path = f"{places.NATIVE}/{name}"
        if text is None:
            written = written or machine.stat(path) is not None
            machine.remove(path)
            continue
        wanted = text.encode("utf-8", "surrogateescape")
        # Written even when the bytes are right would change its time, and systemd would ask for a reload.
        if _bytes(machine, path) != wanted:
            machine.write(path, wanted)
            written = True
    for path, target in sorted(undo["links"].items()):
        if target is None:
            machine.remove(path)
        else:
            machine.symlink(target, path)
    return written


def recommit(run: Run) -> None:
    """Let the one link name the generation that the transaction found committed, should anybody have moved it since."""
    number = run.old_generation
    if number is None or files.committed_if_told(run.machine) == number:
        return
    if run.machine.stat(f"{places.generation(number)}/manifest.json") is None:
        run.note(f"{places.COMMITTED} was moved meanwhile, and generation {number} is not there any more")
        return
    run.note(f"{places.COMMITTED} was moved meanwhile; it names generation {number} again")
    run.machine.symlink(places.generation(number), places.COMMITTED)


def remove_generation(run: Run) -> None:
    """Remove the generation that was not committed; one that stays is told, and keeps nobody from serving again."""
    if run.new_generation is None:
        return
    try:
        run.machine.remove_tree(run.directory)
    except OSError as error:
        run.note(f"{run.directory} stays until a later commit removes it: {error}")


def _bytes(machine: Machine, path: str) -> Optional[bytes]:
    try:
        return machine.read(path)
    except FileNotFoundError:
        return None
