"""Which cells of the fault matrix a history can hit, by what strikes in it, and which it cannot and why.

A cell counts as hit when one of its faults struck at its step. Before a transaction there are two places more: while
the host is looked at (T1), and between that look and the order that is handed over (T2).

Must not: make a fault, or say what must come of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.faults.matrix import CELLS

LOOK, BETWEEN, BOOT = "look", "between", "boot"

STEP_OF = {
    LOOK: "T1",
    BETWEEN: "T2",
    "stage": "T5",
    "launch": "T6",
    "admission": "T7",
    "drain": "T7",
    "stop": "T8",
    "drop_caches": "T9",
    "verify_memory": "T9",
    "trial": "T10",
    "start": "T11",
    "warm": "T12",
    "commit": "T13",
    "finish": "T14",
    "rollback": "RB",
    BOOT: "RV",
}
"""The row of what a transaction says it does. The claim has two: before it is taken, and after."""

HOOK_OF = {"before_drain": "T7", "drain": "T7", "after_stop": "T8", "after_warm": "T12", "on_rollback": "RB"}
"""The row of a hook that is called."""

FAULT_OF = {
    "gone": "C1",
    "lost": "C2",
    "cut": "C3",
    "kill": "C4",
    "crash-at-start": "C5",
    "crash-after-ready": "C5",
    "slow-release": "C6",
    "taken": "C6",
    "hang": "C7",
    "ignores-sigterm": "C7",
    "no-space": "C8",
    "io-error": "C8",
    "systemctl": "C9",
    "second": "C9",
    "steal": "C10",
    "clock": "C11",
    "nvml": "C12",
    "gpu-lost": "C12",
    "no-metrics": "C12",
    "wrong-model": "C12",
    "corrupt": "C13",
    "reload": "C14",
    "generator": "C14",
    "unpullable": "C15",
}
"""The column of what strikes; what is not here is only slow."""

_NO_FILES = "a history begins with what git says: no file of git is read"
NOT_PLAYED = {
    **dict.fromkeys(("T0-C1", "T0-C8", "T0-C9", "T0-C11", "T0-C13", "T0-C15"), _NO_FILES),
    "T2-C8": "a history saves no plan",
    "T14-C7": "finish calls nothing that could hang",
}
"""Cells that no history can hit, and why; the lab plays them."""

PLAYED = tuple(name for name in CELLS if name not in NOT_PLAYED)


def cell_of(kind: str, step: str, *, is_claimed: bool = True, hook: str = "") -> str | None:
    """Return the cell that a fault hits at a step, None when the matrix has none."""
    rows = {**STEP_OF, "claim": "T4" if is_claimed else "T3", "hook": HOOK_OF.get(hook)}
    name = f"{rows.get(step)}-{FAULT_OF.get(kind)}"
    return name if name in PLAYED else None


def ways(cell: str, kinds: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the faults of these kinds that hit a cell, and the steps they are to strike at."""
    row, column = cell.split("-")
    found = tuple(kind for kind in kinds if FAULT_OF.get(kind) == column)
    if column == "C7":
        # Where SIGTERM is ignored the stop hangs; everything else that can is a hook.
        return tuple(kind for kind in found if kind == "hang"), ("hook",)
    if row in ("T1", "RV"):
        # Nobody carries anything out beside which a second one could come.
        found = tuple(kind for kind in found if kind != "second")
    if row in ("T3", "T4"):
        return found, ("claim",)
    return found, tuple(word for word, at in STEP_OF.items() if at == row and word not in ("admission", "drop_caches"))
