"""Several controllers want one simulated host at the same time: one gets it, the others learn who it was."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from reconciler.agent import dispatch, lease
from reconciler.agent.journal import read_events
from reconciler.apply.intents import build_intent
from reconciler.sim.fleet import SimFleet, run_launched
from reconciler.sim.machine import SimMachine
from tests.sim.studio import CONTEXT, HOST, Studio

CONTROLLERS = 16
ROUNDS = 10


def orders(studio: Studio) -> list[dict[str, Any]]:
    """Return the orders of controllers that all looked at the host at the same moment."""
    plan = studio.plan()
    return [
        build_intent(plan, plan.hosts[0], txid=f"t{number:04}", owner=f"controller-{number}").model_dump(mode="json")
        for number in range(1000, 1000 + CONTROLLERS)
    ]


def test_of_sixteen_controllers_that_saw_the_same_host_exactly_one_changes_it(tmp_path: Path) -> None:
    """Whoever comes after the one that was first finds another host than it planned for."""
    ends: dict[str, int] = {}
    for number in range(ROUNDS):
        studio = Studio()
        wanted = orders(studio)
        fleet = SimFleet(tmp_path / str(number))
        studio.machine.save(tmp_path / str(number) / f"{HOST}.json")
        barrier = threading.Barrier(CONTROLLERS)

        def one(order: dict[str, Any], *, fleet: SimFleet = fleet, barrier: threading.Barrier = barrier) -> str:
            barrier.wait()
            assert fleet.handle(HOST, "apply", {"intent": order})["launched"] is True
            reply = fleet.handle(HOST, "follow", {"txid": order["txid"], "after_seq": 0, "wait_s": 0})
            return str(reply["outcome"]["state"])

        with ThreadPoolExecutor(CONTROLLERS) as pool:
            states = list(pool.map(one, wanted))
        assert states.count("applied") == 1, states
        for state in states:
            ends[state] = ends.get(state, 0) + 1

    assert ends == {"applied": ROUNDS, "stale": ROUNDS * (CONTROLLERS - 1)}


def test_whenever_a_second_controller_comes_between_exactly_one_order_is_taken() -> None:
    """The second order comes before each single change that the first one's hand-over makes."""
    at, taken = 0, []
    while True:
        studio = Studio()
        first, second, *_ = orders(studio)
        machine, answers, seen = studio.machine, list[dict[str, Any]](), [0]

        def between(
            when: str,
            what: str,
            *,
            machine: SimMachine = machine,
            second: dict[str, Any] = second,
            answers: list[dict[str, Any]] = answers,
            seen: list[int] = seen,
            at: int = at,
        ) -> None:
            if when == "before":
                seen[0] += 1
                if seen[0] == at + 1:
                    machine.hook = None
                    answers.append(dispatch.handle(machine, "apply", {"intent": second}, CONTEXT))

        machine.hook = between
        answers.append(studio.ask("apply", {"intent": first}))
        machine.hook = None
        if len(answers) == 1:
            break
        launched = [answer["launched"] for answer in answers]
        assert launched.count(True) == 1, (at, answers)
        loser = answers[launched.index(False)]
        winner = answers[launched.index(True)]["txid"]
        assert (loser["lease"]["txid"], loser["lease"]["step"], loser["joins"]) == (winner, "launch", winner)
        run_launched(machine)
        assert studio.outcome(winner)["state"] == "applied"
        assert lease.read_epoch(machine) == 1
        other = first["txid"] if winner == second["txid"] else second["txid"]
        assert read_events(machine, f"/var/lib/recon/txn/{other}/journal.jsonl", 0) == []
        taken.append(winner)
        at += 1

    assert len(taken) > 5
    assert set(taken) == {second["txid"]}
