"""A disk that is full for good: the way back needs no room, and its end is written into the room that was kept."""

from __future__ import annotations

import errno
import re

import pytest

from reconciler.agent import executor, places
from reconciler.agent.journal import read_journal
from reconciler.model.outcome import Outcome
from reconciler.sim.faults import set_fault
from reconciler.sim.machine import KilledError
from tests.agent.bench import Bench


def filling(bench: Bench, when_begins: str) -> None:
    """Let the disk be full from the first line of a step on, until the room that was kept is given back."""
    step = re.compile(rf'"step":"{when_begins}".*"status":"begin"')
    room = f"{places.transaction('2026-0002')}/room"
    full = False

    def hook(when: str, what: str) -> None:
        nonlocal full
        if when == "after" and what.startswith("append") and not full:
            node = bench.machine.files.lstat(what.split(" ")[1])
            full = node is not None and step.search(node.data.decode().rstrip().rpartition("\n")[2]) is not None
        kept = bench.machine.files.lstat(room) is not None
        if when == "before" and full and kept and what.startswith(("write", "append", "mkdir")):
            raise OSError(errno.ENOSPC, "No space left on device", what.split(" ")[1])

    bench.machine.hook = hook


@pytest.mark.parametrize("step", ["drain", "stop", "verify_memory", "trial", "start", "warm"])
def test_a_disk_that_fills_up_in_any_step_ends_with_the_old_coven_serving_and_a_written_outcome(step: str) -> None:
    bench = Bench()
    bench.run("reasoning")
    bench.submit(bench.intent("vision"))
    filling(bench, step)

    outcome = Outcome.model_validate(executor.execute(bench.machine, "2026-0002"))

    assert outcome.state == ("aborted" if step == "drain" else "rolled_back")
    assert bench.serving() == ["recon-reasoning-rerank", "recon-reasoning-vllm"]
    assert bench.machine.files.lstat(f"{places.transaction('2026-0002')}/room") is None


def test_a_journal_that_cannot_be_written_does_not_stop_the_way_back() -> None:
    bench = Bench()
    bench.run("reasoning")
    bench.submit(bench.intent("vision"))
    set_fault(bench.machine.state, "crash-at-start", "recon-vision-*")
    going_back = False

    def hook(when: str, what: str) -> None:
        nonlocal going_back
        if (
            when == "before"
            and what.startswith("run systemctl stop")
            and what.endswith("recon-gate-all-vision.service")
        ):
            going_back = True
        if when == "before" and going_back and what.startswith("append") and what.endswith("journal.jsonl"):
            raise OSError(errno.EIO, "Input/output error", what.split(" ")[1])

    bench.machine.hook = hook
    outcome = Outcome.model_validate(executor.execute(bench.machine, "2026-0002"))

    assert (outcome.state, outcome.committed, outcome.live) == ("rolled_back", 1, {"all": "reasoning"})
    found = read_journal(bench.machine, places.transaction("2026-0002") + "/journal.jsonl")
    assert found is not None
    assert (found.bad, found.torn) == ([], False)


def test_without_room_for_its_end_nothing_is_begun() -> None:
    bench = Bench()
    bench.run("reasoning")
    bench.submit(bench.intent("vision"))

    def hook(when: str, what: str) -> None:
        if when == "before" and what.startswith("write") and what.endswith("/room"):
            raise OSError(errno.ENOSPC, "No space left on device", what.split(" ")[1])

    bench.machine.hook = hook
    outcome = Outcome.model_validate(executor.execute(bench.machine, "2026-0002"))

    assert (outcome.state, outcome.committed) == ("refused", 1)
    assert bench.serving() == ["recon-reasoning-rerank", "recon-reasoning-vllm"]


def test_a_disk_that_is_full_after_the_commit_never_ends_as_held() -> None:
    bench = Bench()
    bench.run("reasoning")
    bench.submit(bench.intent("vision"))
    committed, writes = False, 0

    def killed(when: str, what: str) -> None:
        nonlocal committed
        committed = committed or (when == "after" and what == f"symlink {places.COMMITTED}")
        if committed and when == "before" and what.endswith("outcome.json"):
            raise KilledError

    def full(when: str, what: str) -> None:
        nonlocal writes
        if when == "before" and what.startswith(("write", "append")):
            writes += 1
            if writes == 1:
                raise OSError(errno.ENOSPC, "No space left on device", what.split(" ")[1])

    bench.machine.hook = killed
    with pytest.raises(KilledError):
        executor.execute(bench.machine, "2026-0002")
    bench.machine.revive()
    bench.machine.hook = full
    outcome = Outcome.model_validate(executor.execute(bench.machine, "2026-0002", recover=True))

    assert (outcome.state, outcome.committed, outcome.live) == ("applied", 2, {"all": "vision"})
