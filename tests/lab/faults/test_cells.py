"""Every cell of the matrix that is played on real hosts: the right end, never two covens, and one apply goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from reconciler.lab import labs
from tests.faults.matrix import CELLS
from tests.lab.conftest import progress
from tests.lab.faults.arena import Arena, Watch, furnished
from tests.lab.faults.plays import PLAYS, right, sample, target


@pytest.fixture(scope="session")
def arena(lab_ready: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """A host of its own for the faults: it goes from cell to cell as it is, so a cell costs one transition or two."""
    with labs.running(tmp_path_factory.mktemp("faults"), hosts=1, progress=progress) as booted:
        yield furnished(booted)


NAMES = tuple(PLAYS) if os.environ.get("RECON_FAULTS") == "all" else sample()


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_ends_as_the_matrix_says(name: str, arena: Arena) -> None:
    step, _, fault = name.partition("-")
    old = arena.begin()
    new = target(old)
    arena.want(new)

    with Watch(arena) as watch:
        found = PLAYS[name](arena, step, new)

    assert found in right(name), f"{name} at {fault}: {found}, not {CELLS[name].outcomes}"
    assert watch.seen == []
    assert arena.settle() == new
