"""A switch that is killed, or loses power, after every single change it makes.

Whatever happens: never two covens, nothing written outside of recon's own places, what boots is one whole generation,
and one more apply ends where the first one wanted to go.
"""

from __future__ import annotations

import functools

import pytest

from reconciler.agent.places import COMMITTED
from reconciler.sim.fleet import run_launched
from reconciler.sim.machine import KilledError, PowerCutError, SimMachine, StoppedError
from reconciler.sim.state import SimState
from tests.sim.studio import MEMBERS, Studio

PIECES = 8
"""The points are spread over this many tests, so that they can run side by side."""

THIRD = 3
"""The apply that follows is tried at every third point: it costs more than all the rest."""

OURS = (
    "/etc/recon",
    "/etc/containers/systemd/recon",
    "/etc/systemd/system/recon-",
    "/etc/systemd/system/multi-user.target.wants/recon-boot.target",
    "/run/containers/systemd",
    "/run/recon",
    "/run/systemd/system",
    "/var/lib/recon",
)
TXID = "t0002"


@functools.cache
def launched() -> tuple[SimState, int]:
    """Return a host on which a switch was just launched, and how many changes that switch makes."""
    studio = Studio()
    studio.apply()
    studio.wants = "vision"
    assert studio.launch() == TXID
    state = studio.machine.state.model_copy(deep=True)
    changes: list[str] = []
    studio.machine.hook = lambda when, what: changes.append(what) if when == "after" else None
    run_launched(studio.machine)
    assert studio.outcome(TXID)["state"] == "applied"
    return state, len(changes)


def studio_at_launch() -> Studio:
    studio = Studio(machine=SimMachine(launched()[0].model_copy(deep=True)))
    studio.wants, studio.count = "vision", 2
    return studio


def stop_after(machine: SimMachine, number: int, how: type[StoppedError]) -> None:
    """Let the power go, or the executor be killed, right after that many changes; watch every one of them."""
    count = 0

    def hook(when: str, what: str) -> None:
        nonlocal count
        deed, _, path = what.partition(" ")
        covens = {container.labels["io.recon.coven"] for container in machine.state.containers.values()}
        assert len(covens) <= 1, f"{covens} at {what}"
        assert deed == "run" or path.startswith(OURS), what
        if when == "after":
            count += 1
            if count == number:
                raise how

    machine.hook = hook


def end_the_switch(studio: Studio, number: int, *, is_done: bool) -> None:
    if number % THIRD == 0:
        assert is_done or studio.apply()["state"] == "applied", number
        assert (studio.running(), studio.has_changes()) == (MEMBERS["vision"], False), number
    assert studio.machine.state.cut == [], number


def points(piece: int) -> range:
    return range(1 + piece, launched()[1] + 1, PIECES)


@pytest.mark.parametrize("piece", range(PIECES))
def test_after_a_power_cut_at_any_change_the_host_boots_one_whole_coven_and_the_next_apply_ends_the_switch(
    piece: int,
) -> None:
    for number in points(piece):
        studio = studio_at_launch()
        stop_after(studio.machine, number, PowerCutError)
        with pytest.raises(PowerCutError):
            run_launched(studio.machine)
        studio.machine.hook = None
        studio.machine.reboot()
        studio.machine.sleep(60.0)  # it loads again, and what does not say how busy it is counts as busy

        assert studio.running() in MEMBERS.values(), number
        # The committed symlink alone decides what boots, and what boots is what the plan finds.
        is_new = studio.machine.read_link(COMMITTED).endswith("/2")
        assert studio.running() == MEMBERS["vision" if is_new else "reasoning"], number
        end_the_switch(studio, number, is_done=is_new)


@pytest.mark.parametrize("piece", range(PIECES))
def test_an_executor_killed_at_any_change_is_followed_by_one_that_ends_the_transaction(piece: int) -> None:
    for number in points(piece):
        studio = studio_at_launch()
        stop_after(studio.machine, number, KilledError)
        run_launched(studio.machine)
        studio.machine.hook = None
        state, running = studio.outcome(TXID)["state"], studio.running()

        # Killed before it wrote anything, the one that follows simply does it all.
        assert state in ("applied", "aborted", "rolled_back"), number
        assert running == MEMBERS["vision" if state == "applied" else "reasoning"], number
        end_the_switch(studio, number, is_done=state == "applied")
