"""Sixteen controllers race for one real host, again and again: each round has exactly one winner.

The orders go over SSH to the production agent, all let go by one barrier. A drop-in keeps the winner's executor waiting
until everybody has an answer, so that nobody can come after it; what it then does is refuse, for the host is not as
the orders say. Every loser must have been told who holds the host.

    make races N=1000

Must not: judge how fast anything is; the seconds are printed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reconciler.hosts.connect import connector
from reconciler.hosts.transport import Transport
from reconciler.lab import labs, scaffold
from reconciler.lab.labs import Lab
from reconciler.lab.machines import Machine
from reconciler.load.fleet import load_fleet
from reconciler.model.intent import Intent

CONTROLLERS = 16
DROP_IN = "/run/systemd/system/recon-executor.service.d/wait.conf"
GO = "/run/recon-race-go"
WAIT = f"[Service]\nExecStartPre=/bin/sh -c 'while ! test -e {GO}; do sleep 0.02; done'\n"


@dataclass
class Score:
    """How the rounds went."""

    rounds: int = 0
    winners: list[int] = field(default_factory=list)
    wrongly_told: list[dict[str, Any]] = field(default_factory=list)
    loser_s: list[float] = field(default_factory=list)

    def line(self) -> str:
        """Return the counts in one line."""
        one = sum(count == 1 for count in self.winners)
        said = f"{one} of {self.rounds} rounds with exactly one winner, {CONTROLLERS} controllers"
        if not self.loser_s:
            return said
        told = (
            f"losers told after {statistics.median(self.loser_s):.2f} s (median), {max(self.loser_s):.2f} s (longest)"
        )
        return f"{said}; {len(self.wrongly_told)} losers not told who holds it; {told}"


def an_order(host: str, number: int, controller: int) -> dict[str, Any]:
    """Return an order that every host refuses as stale, different from all others in what it wants."""
    return Intent(
        protocol=1,
        txid=f"race-{number:05}-{controller:02}",
        fleet="race",
        host=host,
        owner=f"controller-{controller}@example.net",
        source_commit="c0ffee",
        plan_digest="sha256:" + "0" * 64,
        fingerprint="sha256:" + "0" * 64,
        from_generation=None,
        quadlets=(),
        natives=(),
        remove_natives=(),
        memory="auto",
        boot=(),
        groups=(),
        manifest_live={f"slot-{controller}": None},
        moves=(),
        residents=(),
        restart_residents=(),
        shared=(),
        stop_units=(),
    ).model_dump(mode="json")


def race(lab: Lab, machine: Machine, rounds: int, *, first: int = 0) -> Score:
    """Run rounds on one host and return the score; their numbers are used once, for an order given again is joined."""
    fleet, score, host = load_fleet(lab.directory), Score(), machine.record.name
    connect = connector(fleet, lab.directory)
    machine.run(["mkdir", "-p", DROP_IN.rpartition("/")[0]])
    machine.path(DROP_IN).write_text(WAIT, encoding="ascii")
    machine.run(["systemctl", "daemon-reload"])
    transports = [connect(fleet.hosts[host]) for _ in range(CONTROLLERS)]
    try:
        with ThreadPoolExecutor(CONTROLLERS) as pool:
            list(pool.map(lambda transport: transport.ask("follow", _nothing(), deadline_s=60), transports))
            for number in range(first, first + rounds):
                _round(pool, transports, host, number, score)
                machine.path(GO).touch()
                _wait_gone(machine)
                machine.path(GO).unlink()
    finally:
        for transport in transports:
            transport.close()
        connect.close()
        machine.path(GO).touch()
        _wait_gone(machine)
        machine.run(["rm", "-rf", GO, DROP_IN.rpartition("/")[0]])
        machine.run(["systemctl", "daemon-reload"])
    return score


def _nothing() -> dict[str, Any]:
    return {"txid": "race", "after_seq": 0, "wait_s": 0}


def _round(pool: ThreadPoolExecutor, transports: list[Transport], host: str, number: int, score: Score) -> None:
    barrier = threading.Barrier(CONTROLLERS)

    def one(controller: int) -> tuple[dict[str, Any], float]:
        order = an_order(host, number, controller)
        barrier.wait()
        began = time.monotonic()
        reply = transports[controller].ask("apply", {"intent": order}, deadline_s=60)
        return reply, time.monotonic() - began

    answers = list(pool.map(one, range(CONTROLLERS)))
    won = [reply["txid"] for reply, _ in answers if reply["launched"]]
    score.rounds += 1
    score.winners.append(len(won))
    for reply, took in answers:
        if reply["launched"]:
            continue
        score.loser_s.append(took)
        lease = reply["lease"] or {}
        if lease.get("txid") not in won or not {"owner", "step", "age_s"} <= set(lease):
            score.wrongly_told.append(reply)


def _wait_gone(machine: Machine) -> None:
    for _ in range(600):
        done = machine.run(["systemctl", "is-active", "recon-executor.service"], check=False)
        if done.stdout.decode().strip() in ("inactive", "unknown"):
            return
        time.sleep(0.05)
    raise AssertionError("the executor never ended")


def main() -> None:
    """Boot a host, run as many rounds as the command line says, print the counts."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as directory, labs.running(Path(directory), hosts=1) as lab:
        scaffold.write(lab)
        done = Score()
        while done.rounds < rounds:
            part = race(lab, lab.machines[0], min(50, rounds - done.rounds), first=done.rounds)
            done.rounds += part.rounds
            done.winners += part.winners
            done.wrongly_told += part.wrongly_told
            done.loser_s += part.loser_s
            sys.stdout.write(done.line() + "\n")
            sys.stdout.flush()
    if done.wrongly_told or set(done.winners) != {1}:
        sys.exit(1)


if __name__ == "__main__":
    main()
