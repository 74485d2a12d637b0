"""The matrix is whole: every step has a row, and 188 cells can occur."""

from __future__ import annotations

from tests.faults.matrix import CELLS, FAULTS, STEPS


def test_the_matrix_has_188_cells_in_17_steps_and_15_faults() -> None:
    assert (len(STEPS), len(FAULTS), len(CELLS)) == (17, 15, 188)
    assert {cell.step for cell in CELLS.values()} == set(STEPS)
    assert {cell.fault for cell in CELLS.values()} == set(FAULTS)


def test_what_happens_after_the_commit_is_never_undone() -> None:
    after = {outcome for cell in CELLS.values() if cell.step == "T14" for outcome in cell.outcomes}

    assert after == {"F", "P", "I", "X"}
