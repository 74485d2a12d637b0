"""The covens of the hosts in histories, and which slot each one is for.

A host has one slot of all its GPUs, or two of a GPU each: then a second pair of covens shares it with the first.

Must not: import anything of the agent's, so that who watches may use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

CovenName = Literal["reasoning", "vision"]
BesideName = Literal["speech", "draw"]
SlotName = Literal["left", "right"]
COVENS: tuple[CovenName, ...] = ("reasoning", "vision")
BESIDE: tuple[BesideName, ...] = ("speech", "draw")
SLOTS: tuple[SlotName, ...] = ("left", "right")
"""In the order of their GPUs."""

SLOT_OF: dict[str, SlotName] = {**dict.fromkeys(COVENS, "left"), **dict.fromkeys(BESIDE, "right")}
_COVEN_OF = re.compile(r"recon-(?:gate-[a-z0-9]+-|coven-)?(reasoning|vision|speech|draw)\b")


def coven_of(unit: str) -> str | None:
    """Return the coven whose unit this is."""
    match = _COVEN_OF.match(unit)
    return match[1] if match else None


def slot_of(unit: str) -> SlotName | None:
    """Return the slot whose coven a unit or a container is of, as on a host with two slots."""
    coven = coven_of(unit)
    return SLOT_OF[coven] if coven else None


def slots_of(units: Iterable[str]) -> set[SlotName]:
    """Return the slots that units are of."""
    return {slot for unit in units if (slot := slot_of(unit))}


def on_slot(names: Iterable[str], slot: SlotName) -> tuple[str, ...]:
    """Return those of the containers that are of a slot."""
    return tuple(name for name in names if slot_of(name) == slot)
