"""What a host of a history does by its own timers: its schedule, its watchdog, and telling a receiver what happened.

All are the agent's own code, run by the timers of the simulated systemd. While nobody else is at work (`alone`) they
may be killed or lose power in the middle, and what the schedule orders is left launched, for the history to carry out
under the eyes of those who watch. Beside a transaction they run quietly: a schedule's look has nothing to order then.

Must not: judge what came of it, or carry out a transaction.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from reconciler.agent import dispatch
from reconciler.agent.machine import Response
from reconciler.sim.machine import KilledError, PowerCutError, StoppedError
from tests.agent.bench import CONTEXT
from tests.agent.test_webhook import SECRET, by_the_standard
from tests.volume.invariants import Watch
from tests.volume.world import URL, World

_HISTORY = re.compile(r"/var/lib/recon/history(-\d+)?\.jsonl")
_STRUCK = 0.06
"""So many runs of a timer are cut off, as long as nothing else is at work."""

_KILLED = 137


class Receiver:
    """A server elsewhere that takes what is signed as the standard says, while it is up."""

    def __init__(self) -> None:
        self.is_up = True
        self.got: dict[str, tuple[str, Any]] = {}
        """By the id of an event: its type, and its transaction."""
        self.wrong: list[str] = []

    def __call__(self, headers: dict[str, str], body: bytes) -> Response:
        if not self.is_up:
            return Response(0, b"connection refused")
        told = json.loads(body)
        name, said = headers["webhook-id"], (told["type"], told["data"]["transaction"])
        if not by_the_standard(SECRET, headers, body):
            self.wrong.append(f"{name} is not signed")
        if self.got.setdefault(name, said) != said:
            self.wrong.append(f"{name} was {self.got[name]}, and is {said}")
        return Response(204, b"")


class Timed:
    """The timers of one host, and the receiver that it tells."""

    def __init__(self, world: World, watch: Watch, rng: random.Random) -> None:
        self.world = world
        self.watch = watch
        self.rng = rng
        self.receiver = Receiver()
        self.is_calm = False
        """Nothing is cut off any more."""
        self._is_alone = False
        self._can_be_cut = True
        self._before = set(self.lines())
        world.machine.receivers[URL] = self.receiver
        world.machine.manager.program = self._program

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Let the timers be the only ones at work for the length of a block."""
        self._is_alone = True
        try:
            yield
        finally:
            self._is_alone = False

    def lines(self) -> list[tuple[str, str]]:
        """Return transaction and end of every one that the history of the host tells of."""
        files = self.world.machine.files
        paths = [path for path in self.world.machine.state.files if _HISTORY.fullmatch(path)]
        lines = [json.loads(line) for path in sorted(paths) for line in files.read(path).splitlines()]
        return sorted({(line["txid"], line["state"]) for line in lines if "txid" in line and "state" in line})

    def untold(self) -> list[str]:
        """Return the ends in the history that the receiver was never told of."""
        told = {(txid, kind) for kind, txid in self.receiver.got.values()}
        since = [line for line in self.lines() if line not in self._before]
        return [f"{txid} {state}" for txid, state in since if (txid, _TYPES.get(state, _FAILED)) not in told]

    # -- what a timer starts -----------------------------------------------------------------------------------------

    def _program(self, argv: list[str]) -> int:
        verb = argv[-1]
        if verb not in ("schedule", "deliver", "watch"):
            return 0
        if verb in ("schedule", "watch") and not (self._is_alone or self.world.has_executor()):
            # It would do what nobody here expects; a minute later it looks again.
            return 0
        machine = self.world.machine
        before, machine.hook, machine.on_call = (machine.hook, machine.on_call), self._hook(verb), None
        self.watch.reached[f"timer {verb}"] += 1
        try:
            dispatch.handle(machine, verb, {}, CONTEXT)
        except KilledError:
            machine.revive()
            return _KILLED
        finally:
            machine.hook, machine.on_call = before
        return 0

    def _hook(self, verb: str) -> Callable[[str, str], None]:
        """Return what looks at every change of a timer's program, and cuts some of them off."""
        left = -1
        look = self.watch.by_watchdog if verb == "watch" else self.watch.beside
        how: type[StoppedError] = KilledError
        if self._is_alone and not self.is_calm and self.rng.random() < _STRUCK:
            left = self.rng.randrange(1, 12)
            if self._can_be_cut and self.rng.random() < 0.5:
                how = PowerCutError

        def hook(when: str, what: str) -> None:
            nonlocal left
            look(when, what)
            left -= 1
            if left == 0:
                self._can_be_cut = self._can_be_cut and how is not PowerCutError
                self.watch.reached[f"timer {'cut' if how is PowerCutError else 'killed'}"] += 1
                self.world.machine.clock.note(f"fault {how.__name__} {when} {what}")
                raise how

        return hook


_FAILED = "transition.failed"
_TYPES = {
    "applied": "transition.completed",
    "nothing": "transition.completed",
    "rolled_back": "transition.rolled_back",
    "held": "transition.held",
}
