"""A host of a history with two slots: what git wants of each, and which situations of the two a history came to.

Must not: judge what came of it (`invariants` does).
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from reconciler.model.outcome import Outcome
from tests.volume.faults import ON_UNITS, Fault
from tests.volume.invariants import Watch
from tests.volume.slots import BESIDE, SLOTS, SlotName, on_slot, slot_of
from tests.volume.world import Wish

SITUATIONS = (
    "both move",
    "one moves beside one that serves",
    "one rolled back beside one that serves",
    "both rolled back",
    "one held beside one that serves",
    "one fails of two that move",
    "resident restarted",
    "resident goes back",
    "slot locked",
    "host locked",
    "host held",
    "lock ran out",
    "lock over a reboot",
    "plan refused by a lock",
    "locked out at the claim",
    "token passes a lock",
    "applied beside a locked one",
    "rolled back beside a locked one",
    "the schedule moves one beside a locked one",
    "the schedule leaves a locked one",
    "the watchdog acts",
    "the watchdog acts beside a locked one",
)
"""What must have come up in enough histories: each of them counts as `slots …`."""

_SERVICES = ("speech-asr", "speech-asr", "speech-voice", "draw-flux", "draw-flux")
_ON_ONE_SLOT = {*ON_UNITS, "taken"}
_NOWHERE = {"kill", "clock", "second", "gone", "lost"}
_FIRST = {"reasoning": "reasoning-vllm", "vision": "vision-llama", "speech": "speech-asr", "draw": "draw-flux"}


def spread(rng: random.Random, faults: Iterable[Fault]) -> None:
    """Let about half of the faults strike at the second slot."""
    for fault in faults:
        if rng.random() < 0.5:
            fault.target = rng.choice(_SERVICES)


def moved(rng: random.Random, kind: str, was: Wish, wish: Wish, which: str = "") -> Wish:
    """Return what git says after a deed of a kind, which became `wish` on the first slot: on that, or the other."""
    which = which or rng.choice(("left", "right", "right", "both", "both"))
    if rng.random() < 0.2:
        wish = wish._replace(resident_edition=(wish.resident_edition + 1) % 3)
    if kind not in ("switch", "member", "stop") or which == "left":
        return wish
    if which == "right":
        wish = wish._replace(coven=was.coven, edition=was.edition)
    if kind == "member":
        return wish._replace(beside_edition=(wish.beside_edition + 1) % 3)
    others = [coven for coven in BESIDE if coven != wish.beside]
    return wish._replace(beside=rng.choice(others) if kind == "switch" else None)


def lopsided(rng: random.Random, was: Wish, wish: Wish) -> list[Fault]:
    """Return faults of one slot of two: what comes there does not come up, and at times what was there neither."""
    slot = rng.choice(SLOTS)
    kind = rng.choice(("crash-at-start", "crash-at-start", "never-healthy"))
    coming, going = (wish.coven, was.coven) if slot == "left" else (wish.beside, was.beside)
    found = [Fault(kind, "launch", 0, "after", _FIRST[coming], 3.0)] if coming and coming != going else []
    if going and rng.random() < 0.4:
        found.append(Fault("crash-at-start", "launch", 0, "after", _FIRST[going], 3.0))
    return found


def failed_on(struck: Iterable[Fault]) -> set[SlotName] | None:
    """Return the slots on which faults struck, None when one of them is not of a slot."""
    found: set[SlotName] = set()
    for fault in struck:
        slot = slot_of(f"recon-{fault.target}")
        if fault.kind in _ON_ONE_SLOT and slot is not None:
            found.add(slot)
        elif fault.kind not in _NOWHERE:
            return None
    return found


def situations(watch: Watch, order: dict[str, Any], outcome: Outcome, before: tuple[str, ...]) -> list[str]:
    """Return which situations the end of a transaction is, that found these containers."""
    slots: set[str] = {move["slot"] for move in order["moves"]}
    beside = [slot for slot in SLOTS if slot not in slots and on_slot(before, slot)]
    kept, passed = watch.kept_slots(), watch.kept_slots(watch.passes.get(order["txid"], frozenset()))
    state, is_both = outcome.state, len(slots) == len(SLOTS)
    is_moved = state in ("applied", "rolled_back")
    has_resident = bool(order["restart_residents"])
    found = {
        "both move": state == "applied" and is_both,
        "one moves beside one that serves": state == "applied" and bool(slots and beside),
        "one rolled back beside one that serves": state == "rolled_back" and bool(beside),
        "both rolled back": state == "rolled_back" and is_both,
        "one held beside one that serves": state == "held" and bool(beside),
        "resident restarted": state == "applied" and has_resident,
        "resident goes back": state == "rolled_back" and has_resident,
        "locked out at the claim": state == "locked" and bool(passed),
        "token passes a lock": is_moved and bool(slots & (kept - passed)),
        "applied beside a locked one": state == "applied" and bool(slots and passed - slots),
        "rolled back beside a locked one": state == "rolled_back" and bool(passed - slots),
    }
    return [name for name, is_so in found.items() if is_so]
