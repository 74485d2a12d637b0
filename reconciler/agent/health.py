"""Asks health addresses. No answer is an answer: the service is not healthy, and the reason says why.

An engine that is asleep answers well, and serves nobody: it is not healthy either.

Must not: try again, or wait long; whoever needs a service to become healthy asks again.
"""

from typing import Any, Dict, Optional

from . import fact
from .asleep import asleep
from .machine import Machine
from .plain import clean

TIMEOUT_S = 2.0
_DETAIL = 200


def probe(machine: Machine, url: Optional[str], member: Optional[Dict[str, Any]] = None) -> fact.Fact:
    """Return `model.observed.Health` for an address, and for the member behind it: ok is 2xx, and awake."""
    if url is None:
        return fact.not_applicable("it has no health address")
    answer = machine.http("GET", url, TIMEOUT_S)
    ok = 200 <= answer.status < 300
    sleeps = asleep(machine, member) if ok and member else ""
    if sleeps:
        return fact.value({"ok": False, "status": answer.status, "detail": sleeps, "asleep": True})
    return fact.value({"ok": ok, "status": answer.status, "detail": "" if ok else clean(answer.body, _DETAIL)})
