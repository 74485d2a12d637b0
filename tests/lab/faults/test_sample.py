"""The everyday run plays enough of the matrix; needs no host."""

from __future__ import annotations

from tests.faults.matrix import CELLS, STEPS
from tests.lab.faults.plays import PLAYS, sample


def test_the_everyday_run_plays_sixty_cells_with_every_step_and_fault_that_is_played() -> None:
    chosen = sample()

    assert len(chosen) >= 60
    assert {name.partition("-")[0] for name in chosen} == {name.partition("-")[0] for name in PLAYS}
    assert {name.partition("-")[2] for name in chosen} == {name.partition("-")[2] for name in PLAYS}


def test_only_cells_of_the_matrix_are_played() -> None:
    assert set(PLAYS) <= set(CELLS)
    assert {name.partition("-")[0] for name in PLAYS} <= set(STEPS)
