"""People who lock a slot or the host of a history, or hold it, and what of it surely stands.

They use the agent's own commands; what stands is written down for who watches by the clock of the simulation alone: a
lock that was given stands until its time is up or it is given back, and a reboot may make that longer, never shorter.

Must not: look at the agent's book of locks, or say what must come of a lock.
"""

from __future__ import annotations

import random
from typing import Any

from reconciler.agent.wire import RequestError
from tests.volume.invariants import Watch
from tests.volume.slots import SLOTS
from tests.volume.world import HOST, World

_HOLD = "hold"
_TTL_S = (15.0, 120.0, 3000.0)
_FOR_EVER = float("inf")
_WHO: dict[str, Any] = {"host": HOST, "owner": "ben@example.net", "reason": "measuring"}


class Keepers:
    """Who keeps others from one host."""

    def __init__(self, world: World, watch: Watch, rng: random.Random) -> None:
        self.world = world
        self.watch = watch
        self.rng = rng
        self._tokens: dict[str, str] = {}
        """By lock."""

    def act(self, *, is_aimed: bool) -> None:
        """Lock or hold something, or give back what is kept, or neither; seldom where a fault is to hit its cell."""
        if is_aimed and self.rng.random() < 0.7:
            return
        deeds = ("slot", "slot", "slot", "host", "hold", "nothing", "nothing", "nothing")
        kept = ("give back", "give back", "renew", "slot", "nothing", "nothing")
        deed = self.rng.choice(kept if self.watch.kept else deeds)
        if deed == "slot":
            self.lock(self.rng.choice(SLOTS), self.rng.choice(_TTL_S))
        elif deed == "host":
            self.lock(None, self.rng.choice(_TTL_S))
        elif deed == "hold":
            if self._ask("hold", {"deed": "hold", **_WHO}) is not None:
                self._note(_HOLD, "", _FOR_EVER)
                self.watch.reached["slots host held"] += 1
        elif deed == "renew":
            self._renew()
        elif deed == "give back":
            self._give_back()

    def lock(self, slot: str | None, ttl_s: float) -> bool:
        """Lock a slot, or the host; says whether it was given."""
        told = self._ask("lock", {"deed": "acquire", "slot": slot, "ttl_s": ttl_s, **_WHO})
        if told is None:
            return False
        self._tokens[told["lock"]["id"]] = told["token"]
        self._note(told["lock"]["id"], slot or "", ttl_s)
        self.watch.reached[f"slots {'slot' if slot else 'host'} locked"] += 1
        return True

    def lend(self) -> None:
        """Give whoever plans and applies next the tokens of all locks, or none of them."""
        lent = self._tokens if self.rng.random() < 0.4 else {}
        self.world.tokens = tuple(lent.values())

    def passes(self) -> frozenset[str]:
        """Return the locks whose tokens are lent now."""
        return frozenset(name for name, token in self._tokens.items() if token in self.world.tokens)

    def leave(self) -> None:
        """Give everything back, by force where nothing else helps: a book that cannot be read, a token that is lost."""
        self.world.tokens = ()
        self._give_back()
        for name in [name for name in self.watch.kept if name != _HOLD]:
            if self._ask("lock", {"deed": "force", "lock": name, **_WHO}) is None:
                self._ask("lock", {"deed": "force", "lock": "unreadable", **_WHO})
        self.watch.kept.clear()
        self._tokens.clear()

    # -- each by itself ----------------------------------------------------------------------------------------------

    def _give_back(self) -> None:
        for name in list(self.watch.kept):
            if name == _HOLD:
                given = self._ask("hold", {"deed": "release", **_WHO})
            else:
                given = self._ask("lock", {"deed": "release", "host": HOST, "token": self._tokens[name]})
            if given is not None:
                self._forget(name)
            elif self.watch.kept[name][1] <= self.world.machine.clock.now:
                self.watch.reached["slots lock ran out"] += 1
                self._forget(name)

    def _renew(self) -> None:
        for name in [name for name in self.watch.kept if name != _HOLD]:
            told = self._ask("lock", {"deed": "renew", "host": HOST, "token": self._tokens[name]})
            if told is not None:
                self._note(name, told["lock"]["slot"] or "", float(told["lock"]["ttl_s"]))

    def _note(self, name: str, slot: str, ttl_s: float) -> None:
        self.watch.kept[name] = (slot, self.world.machine.clock.now + ttl_s)

    def _forget(self, name: str) -> None:
        del self.watch.kept[name]
        self._tokens.pop(name, None)

    def _ask(self, verb: str, args: dict[str, Any]) -> dict[str, Any] | None:
        machine = self.world.machine
        try:
            return self.world.ask(verb, args)
        except RequestError as error:
            machine.clock.note(f"{verb} {args['deed']}: {error.code} {error}")
            return None
        finally:
            machine.clock.note(f"{verb} {args['deed']} {args.get('slot') or args.get('lock') or ''}")
