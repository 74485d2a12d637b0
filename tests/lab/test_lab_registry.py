"""The registry of labs under several runs at once; no host is booted, so this needs no lab."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.lab import registry
from reconciler.lab.base import Base

RUNS = 4
ROUNDS = 60


@pytest.fixture(autouse=True)
def _away_from_real_labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "REGISTRY", tmp_path / "registry")
    monkeypatch.setattr(registry, "_LOCK", tmp_path / "registry" / "lock")
    monkeypatch.setattr(registry, "_blocks_in_use", set)


def a_lab(directory: Path) -> registry.LabRecord:
    (directory / ".recon").mkdir(parents=True, exist_ok=True)
    base = Base(layers=(), image_store="", image="")
    return registry.claim(directory, gpu="h200", gpus_per_host=1, base=base, cgroups=directory, hosts=1)


def at_once(act: Callable[[int], None]) -> list[int | None]:
    """Do it in several processes side by side; returns how each ended."""
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=act, args=(number,)) for number in range(RUNS)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    return [run.exitcode for run in runs]


def test_runs_that_come_and_go_at_once_leave_each_other_the_registry(tmp_path: Path) -> None:
    def come_and_go(number: int) -> None:
        for _ in range(ROUNDS):
            record = a_lab(tmp_path / f"run{number}")
            assert record in registry.everything()
            registry.forget(record)

    assert (at_once(come_and_go), registry.REGISTRY.exists()) == ([0] * RUNS, False)


def test_a_registry_that_goes_just_when_it_is_found_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the mkdir(2) that finds the directory and any look at it, another run may remove it."""
    registry.REGISTRY.mkdir()
    monkeypatch.setattr(Path, "is_dir", lambda _path: False)

    record = a_lab(tmp_path / "run")

    assert (registry.REGISTRY / f"{record.id}.json").exists()


def test_what_a_dead_run_left_is_taken_over_by_one_of_those_who_find_it(tmp_path: Path) -> None:
    left = [a_lab(tmp_path / f"left{number}") for number in range(8)]
    for record in left:
        registry.save(replace(record, owner=registry.Owner(pid=1, start=-1)))

    def take(number: int) -> None:
        for record in registry.take_over():
            with (tmp_path / "taken").open("a", encoding="utf-8") as stream:
                stream.write(record.id + "\n")
            registry.forget(record)

    assert at_once(take) == [0] * RUNS
    taken = (tmp_path / "taken").read_text(encoding="utf-8").split()
    assert sorted(taken) == sorted(record.id for record in left)
    assert registry.everything() == []
