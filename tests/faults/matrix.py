"""The fault matrix as data: for every step of a transition and every fault, the outcome that must come of it.

The simulator and the lab both play its cells, and `docs/reference/faults.md` is made from it.
Must not: know how a fault is made.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Outcome = Literal["N", "X", "A", "F", "R", "P", "H", "I"]

STEPS = {
    "T0": "verify, parse",
    "T1": "observe",
    "T2": "plan, save",
    "T3": "lease",
    "T4": "look again under the lease",
    "T5": "stage",
    "T6": "intent, launch",
    "T7": "drain",
    "T8": "stop the old coven",
    "T9": "verify memory",
    "T10": "trial units",
    "T11": "start the new coven",
    "T12": "warm, judge",
    "T13": "commit",
    "T14": "finish",
    "RB": "rollback",
    "RV": "recovery after a boot",
}

FAULTS = {
    "C1": "the controller is killed",
    "C2": "the connection drops or goes half-open",
    "C3": "the host reboots or loses power",
    "C4": "the executor is killed",
    "C5": "a service crashes again and again",
    "C6": "memory is not given back",
    "C7": "a hook hangs",
    "C8": "the disk is full, a write or an fsync fails",
    "C9": "another apply, or an operator's own systemctl",
    "C10": "the lease ran out or was taken away",
    "C11": "the clock jumps",
    "C12": "what is observed is malformed or hostile",
    "C13": "a state file is corrupt",
    "C14": "daemon-reload or a generator fails",
    "C15": "an image cannot be had",
}

OUTCOMES: dict[Outcome, str] = {
    "N": "nothing changed on the host, recon ends with an error",
    "X": "refused with a named error, the host is unchanged",
    "A": "given up: the old coven serves on and takes work again",
    "F": "the executor goes on to an end without the controller",
    "R": "rolled back: the old coven serves again, exit 6",
    "P": "the last committed coven boots by itself",
    "H": "held: nothing new runs, never two covens, exit 7, one command goes on",
    "I": "no effect",
}

# Rows in the order of FAULTS; a dash cannot occur. Several letters name every outcome that is right there, by how far
# the step had come (`NF`) or by whether the way back was open (`RH`).
_TABLE = """
T0   N  -  -  -  -  -  -  X  I  -  I  -  X  -  X
T1   N  N  N  -  I  I  -  I  I  -  I  X  X  I  -
T2   N  N  N  -  I  I  -  X  I  -  I  X  X  -  X
T3   N  N  N  -  -  -  -  X  X  X  I  -  X  -  -
T4   N  N  X  -  X  X  -  N  X  X  I  X  X  X  -
T5   N  N  N  -  I  I  -  X  X  X  I  X  X  X  X
T6   NF NF P  A  I  I  -  X  X  X  I  -  X  -  -
T7   F  F  P  A  I  -  A  A  X  A  I  I  A  -  -
T8   F  F  P  R  -  -  R  R  X  R  I  -  R  -  -
T9   F  F  P  R  -  RH -  R  X  R  I  R  R  -  -
T10  F  F  P  R  -  -  -  R  X  R  I  R  R  R  -
T11  F  F  P  R  R  R  -  R  X  R  I  -  R  R  R
T12  F  F  P  R  R  R  R  R  R  R  I  R  R  -  -
T13  F  F  P  F  -  -  -  R  X  R  I  -  R  H  -
T14  F  F  P  F  I  -  F  F  X  I  I  -  F  F  -
RB   F  F  P  R  H  H  -  R  X  R  I  H  R  H  -
RV   -  -  P  P  H  H  -  P  X  I  I  H  P  H  -
"""


class Cell(NamedTuple):
    """One step that meets one fault, and the outcomes that are right there."""

    step: str
    fault: str
    outcomes: tuple[Outcome, ...]

    @property
    def name(self) -> str:
        """Return what a person calls it: `T8-C4`."""
        return f"{self.step}-{self.fault}"


def _cells() -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for line in _TABLE.strip().splitlines():
        step, *marks = line.split()
        for fault, mark in zip(FAULTS, marks, strict=True):
            if mark != "-":
                outcomes = tuple(letter for letter in OUTCOMES if letter in mark)
                cell = Cell(step, fault, outcomes)
                cells[cell.name] = cell
    return cells


CELLS = _cells()
"""Every cell that can occur, by name."""
