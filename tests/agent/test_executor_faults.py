"""The executor is killed, and the power cut, before every single change it makes: the host always ends whole."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from reconciler.agent import executor, places
from reconciler.model.outcome import Outcome
from reconciler.sim.faults import set_fault
from reconciler.sim.machine import KilledError, PowerCutError
from reconciler.sim.state import Node
from tests.agent.bench import Bench, ending_at

SERVING = {1: ["recon-reasoning-rerank", "recon-reasoning-vllm"], 2: ["recon-vision-llama"]}
LIVE = {1: {"all": "reasoning"}, 2: {"all": "vision"}}


@pytest.fixture(scope="module")
def ready() -> Bench:
    """A host on which reasoning serves and a switch to vision was handed over."""
    bench = Bench()
    assert bench.run("reasoning").state == "applied"
    bench.submit(bench.intent("vision"))
    return bench


def every_change(ready: Bench) -> list[str]:
    bench = ready.copy()
    seen: list[str] = []
    bench.machine.hook = ending_at(-1, KilledError, seen)
    executor.execute(bench.machine, "2026-0002")
    return seen


def worth_a_stop(seen: list[str]) -> list[int]:
    """Return the changes to stop at: the book-keeping only where it alone separates two deeds."""
    return [number for number, what in enumerate(seen) if "journal.jsonl" not in what and "lease.json" not in what]


def is_tidy(bench: Bench) -> dict[str, Any]:
    names = bench.machine.listdir("/run/systemd/system")
    return {
        "trial": bench.machine.stat(places.TRIAL) is not None,
        "masks": [name for name in names if name.startswith("recon-")],
        "lease": bench.machine.stat(places.LEASE) is not None,
        "cut": bench.machine.state.cut,
    }


TIDY = {"trial": False, "masks": [], "lease": False, "cut": []}


def test_an_executor_killed_before_any_change_is_followed_by_one_that_ends_it_whole(ready: Bench) -> None:
    ends: dict[str, int] = {}
    for number in worth_a_stop(every_change(ready)):
        bench = ready.copy()
        seen: list[str] = []
        bench.strike("2026-0002", ending_at(number, KilledError, seen))

        outcome = Outcome.model_validate(executor.execute(bench.machine, "2026-0002"))

        where = f"killed before {seen[-1]}"
        assert outcome.state in ("applied", "rolled_back", "aborted"), (where, outcome)
        assert outcome.committed in SERVING, where
        assert bench.serving() == SERVING[outcome.committed], where
        assert outcome.live == LIVE[outcome.committed], where
        assert (outcome.state == "applied") == (outcome.committed == 2), where
        assert is_tidy(bench) == TIDY, where
        ends[outcome.state] = ends.get(outcome.state, 0) + 1

    assert sorted(ends) == ["aborted", "applied", "rolled_back"]


def test_a_power_cut_before_any_change_boots_exactly_the_committed_generation(ready: Bench) -> None:
    booted = set()
    for number in worth_a_stop(every_change(ready)):
        bench = ready.copy()
        seen: list[str] = []
        bench.strike("2026-0002", ending_at(number, PowerCutError, seen))
        bench.machine.reboot()
        bench.machine.clock.advance(90.0)

        where = f"cut before {seen[-1]}"
        committed = int(bench.machine.read_link(places.COMMITTED).rpartition("/")[2])
        assert bench.serving() == SERVING[committed], where
        assert (committed == 2) == (f"symlink {places.COMMITTED}" in seen[:-1]), where
        booted.add(committed)

    assert booted == {1, 2}


def test_a_host_that_lost_power_in_the_middle_takes_the_next_order(ready: Bench) -> None:
    bench = ready.copy()
    seen: list[str] = []
    last = [number for number, what in enumerate(every_change(ready)) if what.startswith("run systemctl start")]
    bench.strike("2026-0002", ending_at(last[0], PowerCutError, seen))
    bench.machine.reboot()
    bench.machine.clock.advance(90.0)

    outcome = bench.run("vision")

    assert (outcome.state, outcome.committed, outcome.live) == ("applied", 3, {"all": "vision"})


def test_a_write_that_fails_anywhere_ends_in_a_named_state_with_one_coven(ready: Bench) -> None:
    changes = every_change(ready)
    writes = [number for number, what in enumerate(changes) if what.startswith(("write /etc", "symlink"))]
    ends = set()
    for number in writes:
        bench = ready.copy()
        seen: list[str] = []
        full = ending_at(number, lambda: OSError(errno.EIO, "Input/output error"), seen)
        bench.machine.hook = full

        outcome = Outcome.model_validate(executor.execute(bench.machine, "2026-0002"))

        where = f"failed: {changes[number]}"
        assert outcome.state in ("refused", "rolled_back"), where
        assert outcome.code == "REC7199", where
        assert bench.serving() == SERVING[1], where
        assert outcome.live == LIVE[1], where
        ends.add(outcome.state)

    assert ends == {"refused", "rolled_back"}


def test_a_killed_executor_whose_old_coven_cannot_come_back_holds_the_host(ready: Bench) -> None:
    bench = ready.copy()
    seen: list[str] = []
    number = next(n for n, what in enumerate(every_change(ready)) if what.startswith("run systemctl start"))
    bench.strike("2026-0002", ending_at(number, KilledError, seen))
    set_fault(bench.machine.state, "crash-at-start", "recon-reasoning-vllm.service", text="RuntimeError: no")

    outcome = Outcome.model_validate(executor.execute(bench.machine, "2026-0002"))

    assert (outcome.state, outcome.code, outcome.fix) == ("held", "REC7190", "recon apply --host h-1")
    assert "ERROR RuntimeError: no" in outcome.logs["recon-reasoning-vllm.service"]
    assert is_tidy(bench) == TIDY


def test_a_reboot_between_two_executors_of_one_transaction_ends_it_as_nothing_happened(ready: Bench) -> None:
    bench = ready.copy()
    number = next(n for n, what in enumerate(every_change(ready)) if what.startswith("run systemctl start"))
    bench.strike("2026-0002", ending_at(number, PowerCutError, []))
    bench.machine.reboot()
    bench.machine.clock.advance(90.0)

    outcome = Outcome.model_validate(executor.execute(bench.machine, "2026-0002"))

    assert (outcome.state, outcome.code, outcome.live) == ("aborted", "REC7116", {"all": "reasoning"})
    assert bench.serving() == SERVING[1]


def test_no_jump_of_the_wall_clock_changes_what_is_done(ready: Bench) -> None:
    """An hour or ten years, forward or back, before every change: the same deeds at the same times."""
    done = []
    for jump in (0.0, 3600.0, -3600.0, 315_360_000.0, -315_360_000.0):
        bench = ready.copy()
        seen: list[str] = []

        def leap(when: str, what: str, *, bench: Bench = bench, seen: list[str] = seen, jump: float = jump) -> None:
            if when == "before":
                seen.append(f"{bench.machine.clock.now:.3f} {what}")
                bench.machine.state.epoch += jump

        bench.machine.hook = leap
        outcome = Outcome.model_validate(executor.execute(bench.machine, "2026-0002"))
        done.append(
            (
                seen,
                outcome.state,
                outcome.steps_s,
                bench.machine.read(places.transaction("2026-0002") + "/journal.jsonl"),
            )
        )

    assert done[0][1] == "applied"
    assert all(each == done[0] for each in done[1:])


@pytest.mark.parametrize(
    "name", ["manifest.json", "recon-vision-llama.container", "units/recon-gate-all-vision.service"]
)
def test_what_was_damaged_since_it_was_staged_is_not_committed(ready: Bench, name: str) -> None:
    bench = ready.copy()
    path = f"{places.generation(2)}/{name}"

    def damage(when: str, what: str) -> None:
        if when == "after" and what.startswith("run systemctl start"):
            bench.machine.hook = None
            data = bench.machine.files.read(path)
            bench.machine.files.put(path, Node.of(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]))

    bench.machine.hook = damage
    outcome = Outcome.model_validate(executor.execute(bench.machine, "2026-0002"))

    assert (outcome.state, outcome.code, outcome.committed) == ("rolled_back", "REC7220", 1)
    assert outcome.reason.startswith(f"generation 2 is not as it was checked any more: /etc/recon/generations/2/{name}")
    assert bench.serving() == SERVING[1]
    assert bench.run("vision").state == "applied"
