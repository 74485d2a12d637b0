"""Every cell of the matrix has a play on real hosts, and the everyday run plays enough of them. Needs no host."""

from __future__ import annotations

from tests.faults.matrix import CELLS
from tests.lab.faults.plays import PLAYS, sample


def test_the_everyday_run_plays_sixty_cells_with_every_step_and_fault_that_is_played() -> None:
    chosen = sample()

    assert len(chosen) >= 60
    assert {name.partition("-")[0] for name in chosen} == {name.partition("-")[0] for name in PLAYS}
    assert {name.partition("-")[2] for name in chosen} == {name.partition("-")[2] for name in PLAYS}


def test_every_cell_of_the_matrix_is_played_and_nothing_else() -> None:
    assert set(PLAYS) == set(CELLS)
