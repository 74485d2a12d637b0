"""Alerts have one writer at a time: who clears them, a look of the watchdog, an executor that is held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reconciler.agent import alerts, dispatch, places, watch
from reconciler.agent.wire import RequestError
from reconciler.sim.deeds import stop_unit
from reconciler.sim.faults import clear_fault, set_fault
from tests.agent.bench import CONTEXT, Bench
from tests.agent.test_watch import VLLM, Watched


def clear(bench: Bench) -> dict[str, Any]:
    return dispatch.handle(bench.machine, "clear", {"host": "h-1"}, CONTEXT)


def held_off() -> Watched:
    """Return a host whose watchdog gave up and called a person, and which is well again."""
    host = Watched()
    set_fault(host.machine.state, "unhealthy", VLLM)
    host.looks(60)
    assert host.alerts() == [("REC7171", "reasoning")]
    clear_fault(host.machine.state)
    return host


class Meanwhile:
    """Does something else right before one of the changes that a host makes; `said` is what came of it."""

    def __init__(self, host: Watched, number: int, deed: Callable[[Watched], str]) -> None:
        self.said: list[str] = []
        self._host = host
        self._left = number
        self._deed = deed
        host.machine.hook = self._on_change

    def _on_change(self, when: str, what: str) -> None:
        if when == "before" and self._left == 0:
            self._host.machine.hook = None
            self.said.append(self._deed(self._host))
        self._left -= when == "before"


def refused(host: Watched) -> str:
    with pytest.raises(RequestError) as caught:
        clear(host)
    assert caught.value.fix == "recon alerts --clear --host h-1"
    return caught.value.code


def test_clearing_in_the_middle_of_a_look_is_refused_and_what_the_look_writes_stays() -> None:
    """At every single change that a look makes: what it writes back must not undo a clearing that was promised."""
    at = 0
    while True:
        host = Watched()
        for _ in range(2):
            stop_unit(host.machine, VLLM)
            host.looks(2)
        host.machine.remove(places.ALERTS)
        host.machine.manager.program = None
        clearing = Meanwhile(host, at, refused)
        watch.watch(host.machine)
        host.machine.hook = None
        if not clearing.said:
            break
        assert clearing.said == ["REC7230"]
        at += 1

    assert at > 0


def test_a_look_in_the_middle_of_a_clearing_writes_nothing_back() -> None:
    """At every single change that a clearing makes."""
    at = 0
    while True:
        host = held_off()
        host.machine.manager.program = None
        look = Meanwhile(host, at, lambda host: str(watch.watch(host.machine)["said"]))
        assert clear(host) == {"cleared": 1}
        host.machine.hook = None
        assert [
            path for path in (places.ALERTS, places.WATCHDOG, places.LOOKS) if path in host.machine.state.files
        ] == []
        if not look.said:
            break
        assert look.said == ["left alone: somebody else writes its records"]
        at += 1

    assert at == 4


def test_clearing_waits_for_a_look_that_ends_soon() -> None:
    host = held_off()
    host.machine.manager.program = None
    host.machine.state.locked.append(places.ALERTS_LOCK)
    host.machine.clock.on("the look ends", lambda _args: host.machine.state.locked.clear())
    host.machine.clock.schedule(3.0, "the look ends")

    assert clear(host) == {"cleared": 1}


def test_an_executor_calls_a_person_also_while_somebody_writes_alerts() -> None:
    bench = Bench()
    set_fault(bench.machine.state, "crash-at-start", VLLM)
    bench.machine.state.locked.append(places.ALERTS_LOCK)

    outcome = bench.run("reasoning")

    assert outcome.state == "held"
    (alert,) = alerts.standing(bench.machine)
    assert (alert["code"], alert["about"]) == (outcome.code, outcome.txid)
    # After a reboot nothing may be left to apply: then only the second of the two leads on.
    clears = "recon alerts --clear --host h-1"
    assert alert["fix"] == f"recon apply --host h-1; if there is nothing left to do: {clears}"
