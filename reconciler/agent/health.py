"""Asks health addresses. No answer is an answer: the service is not healthy, and the reason says why.

Slow is not dead. An answer that does not come in time (a GPU that is busy with somebody's long prompt, a stuck engine)
is told as slow: one look cannot tell which, and the watchdog needs many. An answer that breaks off is asked for once
more within the same time. An engine that is asleep answers well, and serves nobody: it is not healthy either.

Only addresses are asked, never names (`validate` sees to that): a name may be two machines, or another one tomorrow.

Must not: wait long; whoever needs a service to become healthy asks again.
"""

from typing import Any, Dict, Optional

from . import fact
from .asleep import asleep
from .machine import Machine, Response
from .plain import clean
from .systemd import UnitState

TIMEOUT_S = 2.0
SLOW_S = 1.0
_DETAIL = 200
_LATE = (b"no answer within", b"timed out")
_REFUSED = (b"refused", b"unreachable", b"no route", b"not an http address")


def probe(machine: Machine, url: Optional[str], member: Optional[Dict[str, Any]] = None) -> fact.Fact:
    """Return `model.observed.Health` for an address, and for the member behind it: ok is 2xx, and awake."""
    if url is None:
        return fact.not_applicable("it has no health address")
    began = machine.monotonic()
    answer = _ask(machine, url, began)
    took = machine.monotonic() - began
    ok = 200 <= answer.status < 300
    sleeps = asleep(machine, member) if ok and member else ""
    if sleeps:
        return fact.value({"ok": False, "status": answer.status, "detail": sleeps, "asleep": True})
    health: Dict[str, Any] = {"ok": ok, "status": answer.status, "detail": "" if ok else clean(answer.body, _DETAIL)}
    if is_late(answer):
        health["slow"] = True
    elif ok and took >= SLOW_S:
        health.update(slow=True, detail=f"it took {took:.1f} s to answer")
    return fact.value(health)


def of_unit(unit: Optional[UnitState]) -> fact.Fact:
    """Return the same of a service that cannot be asked: its container is all there is to see."""
    if unit is None:
        return fact.unknown("systemd does not say how it is")
    ok = unit.active == "active"
    return fact.value({"ok": ok, "status": 0, "detail": "" if ok else f"{unit.active} ({unit.sub})"})


def is_late(answer: Response) -> bool:
    """Say whether no answer came in time, which a server that is busy and one that is stuck have in common."""
    return answer.status == 0 and any(words in answer.body for words in _LATE)


def _ask(machine: Machine, url: str, began: float) -> Response:
    answer = machine.http("GET", url, TIMEOUT_S)
    broke_off = answer.status == 0 and not any(words in answer.body.lower() for words in (*_LATE, *_REFUSED))
    left = TIMEOUT_S - (machine.monotonic() - began)
    return machine.http("GET", url, left) if broke_off and left > 0 else answer
