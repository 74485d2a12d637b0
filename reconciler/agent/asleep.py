"""Whether an engine is asleep: its server answers, its health is good, and its weights are not on the GPU.

Asked wherever a server would else be taken for serving: a request to an engine that sleeps waits until somebody wakes
it, and older builds died of one. Whoever put it to sleep may want it so: it is told, and nothing is done about it.

Must not: put anything to sleep, or wake it.
"""

from __future__ import annotations

from typing import Any, Dict

from .machine import Machine
from .plain import clean
from .samples import samples

_TIMEOUT_S = 2.0


def asleep(machine: Machine, member: Dict[str, Any]) -> str:
    """Return how a member sleeps, `asleep (weights_offloaded)`; empty when it is awake or does not say."""
    # What a host has on record from before this was asked does not have it.
    probe = member.get("asleep")
    if not probe:
        return ""
    answer = machine.http("GET", probe["url"], _TIMEOUT_S)
    # A cut answer may say in its whole lines that the engine sleeps; that it is awake is never taken from one.
    body = answer.body.rpartition(b"\n")[0] if answer.cut else answer.body
    return sleep_in(probe, body) if 200 <= answer.status < 300 else ""


def sleep_in(probe: Dict[str, Any], body: bytes) -> str:
    """Return the same of a reply. Every sample of the waking state counts: there is one for each engine."""
    found = list(samples(body.decode("utf-8", "replace"), (probe["metric"],)))
    states = [(sample.labels.get(probe["label"], ""), sample.value) for sample in found]
    if not any(state == probe["awake"] and value == 0 for state, value in states):
        return ""
    how = sorted({clean(state, 40) for state, value in states if state and state != probe["awake"] and value})
    return f"asleep ({', '.join(how)})" if how else "asleep"
