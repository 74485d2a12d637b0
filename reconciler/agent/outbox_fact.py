"""What waits in the outbox of this host, for each webhook, as `model.observed_outbox.OutboxState`.

Must not: send, write, or take a record that does not verify for an empty outbox.
"""

from __future__ import annotations

from typing import Any, Dict

from . import fact, outbox
from .journal import boot_id
from .machine import Machine
from .outbox import Outbox
from .plain import clean
from .record import RecordError


def outbox_fact(machine: Machine, generation: fact.Fact) -> fact.Fact:
    """Return the fact; not applicable where the committed generation has no webhooks."""
    try:
        committed = generation.get("value")
        body = committed["manifest"].get("value") if committed else None
        box = outbox.declared_in(body) if body else None
        if box is None:
            return fact.not_applicable("the committed generation has no webhooks")
        return fact.value({"webhooks": {clean(name): _told(machine, box, name) for name in sorted(box.specs)}})
    except (OSError, ValueError, KeyError, TypeError) as error:
        return fact.unknown(fact.why(error))


def _told(machine: Machine, box: Outbox, name: str) -> Dict[str, Any]:
    blank = {"pending": 0, "oldest_at": None, "failures": 0, "error": "", "next_s": 0.0, "off": False, "note": ""}
    try:
        hook = outbox.look_at(machine, name, box)
    except RecordError as error:
        return {**blank, "note": clean(str(error))}
    if hook is None:
        return {**blank, "note": "it did not begin yet"}
    waiting = [found.event.at for found in outbox.to_come(machine, hook) if hook.wants(found)]
    now = machine.boottime()
    waits = hook.is_waiting(boot_id(machine), now)
    return {
        "pending": len(waiting),
        "oldest_at": waiting[0] if waiting else None,
        "failures": hook.failures,
        "error": clean(hook.error),
        "next_s": round(hook.next_at - now, 1) if waits else 0.0,
        "off": hook.is_off,
        "note": clean(hook.note),
    }
