"""How one member is, in one word, and how often in a row it was bad.

    good      its unit is active and its health address answers 2xx
    loading   it came up not long ago and has not answered yet
    busy      its health address is late, and its own figures say that it works
    slow      its health address is late, and nothing says that it works; counted as bad, for twice as many looks
    bad       failed, in a crash loop, not listening, answering an error
    asleep    its engine sleeps, and its health is good all the same; that is told, and nobody wakes it
    stopped   stopped in order: by a person, or because the server ended well; that is told, and nobody starts it
    unknown   nothing can be said, or it is not what was committed; never a reason to do anything

Slow is not dead: only `good` takes the count of bad looks back, only `bad` and `slow` add to it.

Must not: do anything about it.
"""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional

from . import running
from .asleep import asleep
from .busy import busy_of
from .health import is_late
from .machine import Machine
from .systemd import UnitState
from .warm import said

_HEALTH_TIMEOUT_S = 5.0
_CRASHES = 2


class Verdict(NamedTuple):
    """How a member is, and why."""

    word: str
    why: str = ""


def judge(
    machine: Machine, member: Dict[str, Any], unit: Optional[UnitState], past: Dict[str, Any], window_s: float
) -> Verdict:
    """Return how a member is; `past` is its entry of the looks before, brought up to date by `remember`."""
    if unit is None:
        return Verdict("unknown", "systemd does not say how it is")
    if unit.load != "loaded" or unit.need_reload:
        why = "its file changed since systemd read it" if unit.need_reload else f"systemd finds it {unit.load}"
        return Verdict("unknown", f"{why}: what would start is not what was committed")
    if unit.active == "failed":
        return Verdict("bad", f"failed ({unit.result})")
    if unit.sub.startswith("auto-restart"):
        crashes = unit.restarts + 1
        word = "bad" if crashes >= _CRASHES else "loading"
        return Verdict(word, f"crashes again and again ({crashes} times)" if word == "bad" else "crashed once")
    if unit.active == "inactive":
        return Verdict("loading", "its start is queued") if unit.job else Verdict("stopped", "stopped in order")
    if unit.active != "active":
        return Verdict("loading", f"{unit.active} ({unit.sub})")
    found = running.config_hash(machine, unit.main_pid).get("value")
    if found != member["config_hash"]:
        return Verdict("unknown", "which configuration runs is not known, or not the committed one")
    return _health(machine, member, past, window_s)


def _health(machine: Machine, member: Dict[str, Any], past: Dict[str, Any], window_s: float) -> Verdict:
    if not member["health"]:
        return Verdict("good")
    answer = machine.http("GET", member["health"], _HEALTH_TIMEOUT_S)
    if 200 <= answer.status < 300:
        sleeps = asleep(machine, member)
        return Verdict("asleep", sleeps) if sleeps else Verdict("good")
    now = machine.boottime()
    why = f"health {said(answer)}"
    if not past["was_good"] and now - past["since"] < member["warm_timeout_s"]:
        return Verdict("loading", why)
    if not is_late(answer):
        return Verdict("bad", why)
    busy = busy_of(machine, member["in_flight"]).figure
    # A figure that never moves again must not shield a hung server for ever.
    if busy and now - past.get("good_at", past["since"]) < window_s:
        return Verdict("busy", f"{why}; {busy} in flight")
    return Verdict("slow", why)


def entry(unit: Optional[UnitState], past: Optional[Dict[str, Any]], now: float) -> Dict[str, Any]:
    """Return the entry of a unit before it is judged: that of another run of the unit tells nothing about this one."""
    invocation = unit.invocation if unit is not None else ""
    if past is None:
        past = {"bad": 0, "over": 0, "why": "", "word": "unknown"}
        past.update(invocation=invocation, since=now, was_good=False)
    elif past["invocation"] != invocation:
        # Bad looks count on: a unit in a crash loop has another invocation each time.
        past = {key: past[key] for key in ("bad", "why", "word", "stopped", "alerted") if key in past}
        past.update(invocation=invocation, since=now, was_good=False, over=0)
    return past


def remember(past: Dict[str, Any], verdict: Verdict, now: float) -> None:
    """Count a verdict."""
    past.update(word=verdict.word, why=verdict.why)
    if verdict.word == "good":
        past.update(bad=0, was_good=True, good_at=now)
        past.setdefault("good_since", now)
        return
    if verdict.word == "asleep":
        # It answers, so it is up; what it was before it slept says nothing about it.
        past.update(bad=0, was_good=True)
    if verdict.word in ("bad", "slow"):
        past["bad"] += 1
    if verdict.word != "busy":
        past.pop("good_since", None)


def is_due(past: Dict[str, Any], looks: int) -> bool:
    """Say whether a member was bad often enough; one that is only late gets twice as many looks."""
    often: int = past["bad"]
    return often >= {"bad": looks, "slow": 2 * looks}.get(past["word"], often + 1)
