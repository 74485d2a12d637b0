"""Locks on a simulated host: whatever is cut off where, a lock stands as long as it was promised and then is gone."""

from __future__ import annotations

import random
from typing import Any

import pytest

from reconciler.agent import claims, history, locks, places
from reconciler.agent.dispatch import handle
from reconciler.agent.wire import RequestError
from reconciler.sim.machine import KilledError, PowerCutError, SimMachine, StoppedError
from tests.agent.bench import CONTEXT, ending_at

SLOTS = (None, "left", "right")
HELD = {"owner": "ann", "reason": "a disk"}


@pytest.fixture
def machine() -> SimMachine:
    return SimMachine.new("h-1")


def deed(machine: SimMachine, verb: str, name: str, **args: Any) -> dict[str, Any]:
    return handle(machine, verb, {"deed": name, "host": "h-1", **args}, CONTEXT)


def acquire(machine: SimMachine, slot: str | None, owner: str, ttl_s: float = 600.0) -> str:
    args = {"slot": slot, "owner": owner, "reason": "x", "ttl_s": ttl_s}
    return str(deed(machine, "lock", "acquire", **args)["token"])


def struck(machine: SimMachine, number: int, how: type[StoppedError], verb: str, name: str, **args: Any) -> bool:
    """Do a deed that ends right before its n-th change; say whether it came to that."""
    machine.hook = ending_at(number, how, [])
    try:
        deed(machine, verb, name, **args)
    except StoppedError:
        machine.hook = None
        if how is PowerCutError:
            machine.reboot()
        else:
            machine.revive()
        return True
    machine.hook = None
    return False


@pytest.mark.parametrize("how", [KilledError, PowerCutError])
@pytest.mark.parametrize("name", ["acquire", "renew", "release", "force"])
def test_a_deed_that_is_cut_off_anywhere_leaves_a_book_that_is_as_before_or_as_after(
    name: str, how: type[StoppedError]
) -> None:
    for number in range(40):
        machine = SimMachine.new("h-1")
        token = acquire(machine, "left", "ann")
        lock = locks.standing(machine)[0].id
        every: dict[str, dict[str, Any]] = {
            "acquire": {"slot": "right", "owner": "bob", "reason": "x", "ttl_s": 600.0},
            "renew": {"token": token, "ttl_s": 900.0},
            "release": {"token": token},
            "force": {"lock": lock, "owner": "bob", "reason": "x"},
        }
        was_cut = struck(machine, number, how, "lock", name, **every[name])

        stands = {(each.slot, each.owner, each.ttl_s) for each in locks.standing(machine)}
        hers = ("left", "ann", 600.0)
        after = {
            "acquire": {hers, ("right", "bob", 600.0)},
            "renew": {("left", "ann", 900.0)},
            "release": set(),
            "force": set(),
        }[name]
        assert stands in ({hers}, after)
        acquire(machine, None if not stands else "middle", "eve")
        assert history.examine(machine).problem is None
        if not was_cut:
            assert number > 2
            return
    pytest.fail("it never came to its end")


@pytest.mark.parametrize("how", [KilledError, PowerCutError])
def test_a_hold_that_is_cut_off_anywhere_is_there_or_not_and_can_be_put_and_taken(how: type[StoppedError]) -> None:
    for name in ("hold", "release"):
        for number in range(40):
            machine = SimMachine.new("h-1")
            if name == "release":
                deed(machine, "hold", "hold", **HELD)
            was_cut = struck(machine, number, how, "hold", name, **HELD)

            deed(machine, "hold", "hold", **HELD)
            deed(machine, "hold", "release", **HELD)
            assert claims.hold(machine) is None
            assert history.examine(machine).problem is None
            if not was_cut:
                break


@pytest.mark.parametrize("seed", range(40))
def test_no_two_ever_have_the_same_and_nobody_loses_or_keeps_it_against_what_was_promised(seed: int) -> None:
    rng = random.Random(seed)
    machine = SimMachine.new("h-1", seed=seed + 1)
    # By slot: the token, and the time by which the lock surely stands and by which it is surely gone.
    promised: dict[str | None, tuple[str, float, float]] = {}

    def stands(slot: str | None) -> bool:
        return any(lock.slot == slot for lock in locks.standing(machine))

    for _ in range(60):
        slot, ttl_s = rng.choice(SLOTS), float(rng.randint(1, 2000))
        what = rng.random()
        if what < 0.4:
            clash = [each for each in SLOTS if stands(each) and (slot is None or each in (None, slot))]
            if clash:
                with pytest.raises(RequestError, match="is locked"):
                    acquire(machine, slot, f"seed {seed}", ttl_s)
            else:
                token = acquire(machine, slot, f"seed {seed}", ttl_s)
                promised[slot] = (token, machine.clock.now + ttl_s, machine.clock.now + ttl_s)
        elif what < 0.55 and slot in promised and stands(slot):
            token = promised[slot][0]
            deed(machine, "lock", "renew", token=token, ttl_s=ttl_s)
            promised[slot] = (token, machine.clock.now + ttl_s, machine.clock.now + ttl_s)
        elif what < 0.65 and slot in promised and stands(slot):
            deed(machine, "lock", "release", token=promised.pop(slot)[0])
        elif what < 0.75:
            machine.state.epoch += rng.randint(-(10**8), 10**8)
        elif what < 0.85:
            machine.reboot()
            for each, (token, least, _) in promised.items():
                # At most its whole time again, from the boot.
                promised[each] = (token, least, machine.state.booted_at + 2000.0)
        else:
            machine.clock.advance(float(rng.randint(1, 1500)))
        for each, (_, least, most) in promised.items():
            assert stands(each) or machine.clock.now >= least, (each, least)
            assert not stands(each) or machine.clock.now <= most, (each, most)
        # Whose time is up is forgotten by whoever asks; the next one of that slot has another token.
        promised = {each: value for each, value in promised.items() if stands(each) or machine.clock.now < value[2]}
        taken = [lock.slot for lock in locks.standing(machine)]
        assert len(taken) == len(set(taken))
        assert len(taken) == 1 or None not in taken
    assert machine.stat(places.LOCKS) is None or locks.read_book(machine) is not None
    assert history.examine(machine).problem is None
