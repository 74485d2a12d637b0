"""One switch that is struck at calls of the system drawn from a seed: killed, cut off from power, or told of an error.

What must hold afterwards is judged by the simulated disk and systemd alone, by none of the agent's own views.

Must not: know how a change of the disk is made durable.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
from collections.abc import Callable
from typing import NamedTuple

from reconciler.sim.fleet import run_launched
from reconciler.sim.machine import KilledError, PowerCutError, SimMachine
from reconciler.sim.pages import Luck
from tests.sim.studio import MEMBERS, Studio

COMMITTED = "/etc/containers/systemd/recon"
GENERATIONS = "/etc/recon/generations/"


class Strike(NamedTuple):
    """What happens right before the call of that number; an error, to the first call after it that can have it."""

    at: int
    what: str


def draw(seed: int, calls: int) -> tuple[list[Strike], Luck]:
    """Return one to three strikes within so many calls, and the luck of what was not synced."""
    chance = random.Random(seed)
    kinds = ("kill", "kill", "power", "power", "fsync", "space")
    strikes = [Strike(chance.randrange(1, calls), chance.choice(kinds)) for _ in range(chance.choice((1, 2, 2, 3)))]
    luck: Luck = chance.choice((chance.random, lambda: 0.0, lambda: 0.99))
    return sorted(strikes), luck


def play(studio: Studio, strikes: list[Strike], luck: Luck) -> None:
    """Let the launched switch run under the strikes; every power cut and the end are followed by a boot."""
    machine, number, left = studio.machine, 0, list(strikes)

    def on_call(call: str) -> None:
        nonlocal number
        number += 1
        if not left or number < left[0].at:
            return
        verb, _, path = call.partition(" ")
        what = left[0].what
        if what in ("fsync", "space") and verb != ("fsync" if what == "fsync" else "write"):
            return
        del left[0]
        if what == "kill":
            raise KilledError
        if what == "power":
            raise PowerCutError
        code = errno.EIO if what == "fsync" else errno.ENOSPC
        raise OSError(code, os.strerror(code), path)

    machine.on_call = on_call
    # An executor that cannot write ends with the error; what follows it is what is judged.
    with contextlib.suppress(PowerCutError, OSError):
        run_launched(machine)
    machine.on_call = None
    machine.reboot(luck=luck)
    machine.sleep(60.0)  # it loads again, and what does not say how busy it is counts as busy


def broken(machine: SimMachine) -> list[str]:
    """Return what must hold on a host that booted, and does not."""
    files = machine.state.files
    link = files.get(COMMITTED)
    if link is None or not link.target.startswith(GENERATIONS):
        return [f"no generation is committed: {link}"]
    number = link.target.removeprefix(GENERATIONS)
    expected = MEMBERS["reasoning" if number == "1" else "vision"]
    running = sorted(container.name for container in machine.state.containers.values())
    sources = {unit.source for unit in machine.state.loaded.values() if unit.source}
    mixed = sorted(source for source in sources if not source.startswith(f"{link.target}/"))
    torn = sorted(path for path, node in files.items() if path.startswith(f"{link.target}/") and _is_torn(node.text))
    return [
        *([f"generation {number} is committed, and {running} run"] if running != expected else []),
        *([f"generation {number} is committed, and {mixed} are loaded"] if mixed else []),
        *([f"torn: {torn}"] if torn else []),
        *([f"memory ran out: {machine.state.cut}"] if machine.state.cut else []),
    ]


def _is_torn(text: str | None) -> bool:
    return text is not None and (not text.endswith("\n") or "\0" in text)


def first_broken(make: Callable[[], Studio], seeds: range, calls: int) -> tuple[int, list[str]] | None:
    """Return the first seed after which something does not hold, and what; None when all do."""
    for seed in seeds:
        studio = make()
        strikes, luck = draw(seed, calls)
        play(studio, strikes, luck)
        wrong = broken(studio.machine) or not_moving(studio)
        if wrong:
            return seed, [f"{strikes}", *wrong]
    return None


def not_moving(studio: Studio) -> list[str]:
    """Return why the host does not come to what git says once nothing strikes any more."""
    try:
        if studio.has_changes():
            outcome = studio.apply()
            if outcome["state"] != "applied":
                return [f"the next apply ends {outcome['state']}: {outcome['reason']}"]
    except AssertionError as refused:
        return [f"the next apply is refused: {refused}"]
    return [] if studio.running() == MEMBERS["vision"] else [f"{studio.running()} run after the next apply"]
