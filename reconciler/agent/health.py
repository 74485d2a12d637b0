"""Asks health addresses. No answer is an answer: the service is not healthy, and the reason says why.

Must not: try again, or wait long; whoever needs a service to become healthy asks again.
"""

from typing import Optional

from . import fact
from .machine import Machine
from .plain import clean

TIMEOUT_S = 2.0
_DETAIL = 200


def probe(machine: Machine, url: Optional[str], timeout_s: float = TIMEOUT_S) -> fact.Fact:
    """Return `model.observed.Health` for an address: ok is 2xx."""
    if url is None:
        return fact.not_applicable("it has no health address")
    answer = machine.http("GET", url, timeout_s)
    ok = 200 <= answer.status < 300
    return fact.value({"ok": ok, "status": answer.status, "detail": "" if ok else clean(answer.body, _DETAIL)})
