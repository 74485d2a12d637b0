"""Which locks an order came with the token of: noted beside it, so that its executor may pass them.

The tokens travel beside the intent and end here: what is written down are the ids of the locks.

Must not: write a token, or let anybody pass whom `launch` did not.
"""

from __future__ import annotations

import contextlib
from typing import Any, List

from . import locks, places
from .machine import Machine
from .record import RecordError, make_way, read_record, write_record


def remember(machine: Machine, txid: str, tokens: Any) -> None:
    """Note the locks that the tokens of an order open; nothing is noted when they open none."""
    if not tokens:
        return
    with contextlib.suppress(RecordError):  # the claim says that the locks cannot be read
        opened = locks.opened_by(locks.standing(machine), tokens)
        if opened:
            make_way(machine, _path(txid))
            write_record(machine, _path(txid), {"locks": [lock.id for lock in opened]}, 0o600)


def recall(machine: Machine, txid: str) -> List[str]:
    """Return the ids of the locks that a transaction may pass; none when that cannot be read."""
    try:
        return [str(each) for each in read_record(machine, _path(txid))["locks"]]
    except (OSError, RecordError, KeyError, TypeError):
        return []


def _path(txid: str) -> str:
    return places.transaction(txid) + "/passes.json"
