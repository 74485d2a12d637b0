"""Refuses an order that wants what the schedule no longer says: it was made before an edge, and came after it.

The windows are those of the order itself, the clock is this host's. Where a window has a condition, each of its choices
will do: a controller leaves it to the host whether it begins. The host's own order is judged by the slots that it
moves: another one stays as it was committed, and its turn comes with a later look.

Must not: put another coven into an order; the plan is made anew.
"""

from __future__ import annotations

from typing import Any, Dict, List

from . import week
from .schedule_order import OWNER
from .txn import HaltError, Run


def check(run: Run) -> None:
    """HaltError when what an order makes live is not what its schedule has in force now."""
    spec: Dict[str, Any] = run.intent.get("schedule") or {}
    host, at = run.intent["host"], run.machine.wall()
    for slot in _judged(run.intent, spec):
        try:
            choices = week.chain(spec["windows"], spec["declared"], slot, at)
        except week.ZoneError as error:
            fix = "on the host: apt install tzdata"
            raise HaltError("REC7342", f"its schedule cannot be followed: {error}", fix=fix, state="refused") from error
        wanted = run.intent["manifest_live"].get(slot)
        if wanted not in [choice.coven for choice in choices]:
            text = (
                f"the order makes {wanted or 'nothing'} live on slot {slot}, and by now its schedule says"
                f" {choices[0].coven or 'nothing'}"
            )
            raise HaltError("REC7340", text, fix=f"recon plan --host {host}", state="stale")


def _judged(intent: Dict[str, Any], spec: Dict[str, Any]) -> List[str]:
    moved = {move["slot"] for move in intent["moves"]}
    return [slot for slot in spec.get("declared", {}) if slot in moved or intent["owner"] != OWNER]
