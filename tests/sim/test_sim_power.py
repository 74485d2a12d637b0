"""A switch that loses power, or its executor, before every single call of the system that it makes.

The calls are those of the code that runs on real hosts, and what was not synced is lost or not by luck.
"""

from __future__ import annotations

import functools
import posixpath
import random

import pytest

from reconciler.agent.durable import DurableMachine
from reconciler.sim.fleet import run_launched
from tests.sim.cuts import Strike, broken, draw, first_broken, not_moving, play
from tests.sim.test_sim_crashes import studio_at_launch

PIECES = 4
EVERY = 5
SEEDS = 25


@functools.cache
def calls() -> list[str]:
    """Return the calls of a switch that nothing strikes."""
    studio, seen = studio_at_launch(), list[str]()
    studio.machine.on_call = seen.append
    run_launched(studio.machine)
    return seen


def around_a_rename() -> list[int]:
    """Return the numbers of the calls that make something take effect."""
    return [number for number, call in enumerate(calls(), 1) if call.startswith("rename ")]


@pytest.mark.parametrize("piece", range(PIECES))
def test_after_a_power_cut_at_any_call_the_host_boots_one_whole_generation_and_the_next_apply_ends_the_switch(
    piece: int,
) -> None:
    renames = around_a_rename()
    for number in range(1 + piece, len(calls()) + 2, PIECES):
        kept, drawn = (lambda: 0.0), random.Random(number).random
        for luck in (kept, drawn) if number in renames else (drawn,):
            studio = studio_at_launch()
            play(studio, [Strike(number, "power")], luck)
            assert broken(studio.machine) == [], number
        # The apply that follows costs more than all the rest.
        if number in renames[::EVERY]:
            assert not_moving(studio) == [], number


def test_an_executor_killed_before_anything_takes_effect_leaves_a_host_that_boots_whole() -> None:
    for position, number in enumerate(around_a_rename()):
        studio = studio_at_launch()
        play(studio, [Strike(number, "kill")], lambda: 0.0)
        assert broken(studio.machine) == [], number
        assert position % EVERY or not_moving(studio) == [], number


def test_a_switch_that_is_struck_up_to_three_times_leaves_a_host_that_boots_whole_and_moves_on() -> None:
    assert first_broken(studio_at_launch, range(SEEDS), len(calls())) is None


def test_the_same_seed_makes_the_same_calls_byte_for_byte() -> None:
    def trace(seed: int) -> tuple[list[str], str]:
        studio = studio_at_launch()
        strikes, luck = draw(seed, len(calls()))
        play(studio, strikes, luck)
        return studio.machine.clock.trace, studio.machine.state.model_dump_json()

    assert [trace(seed) for seed in range(20)] == [trace(seed) for seed in range(20)]


def test_a_link_prepared_where_quadlet_looks_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def symlink(machine: DurableMachine, target: str, path: str) -> None:
        directory, name = posixpath.split(path)
        temporary = machine._temporary(directory, name)
        machine.system.symlink(target, temporary)
        machine.system.rename(temporary, path)
        machine._sync_directory(directory)

    monkeypatch.setattr(DurableMachine, "symlink", symlink)
    found = []
    for number in around_a_rename():
        studio = studio_at_launch()
        play(studio, [Strike(number, "power")], lambda: 0.0)
        found += broken(studio.machine)

    assert [words.rpartition(" ")[0] for words in found] != []
