"""What becomes of the committed link and the generations in the middle of a transition, by hand or by a bad disk."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from reconciler.agent import executor, files, places
from reconciler.agent.outcome import read_outcome
from reconciler.model.outcome import Outcome
from reconciler.sim.faults import set_fault
from tests.agent.bench import Bench, ending_before

OLD = ["recon-reasoning-rerank", "recon-reasoning-vllm"]
NEW = 2
WHERE = places.generation(NEW)
LLAMA = f"{WHERE}/recon-vision-llama.container"
OTHER = "generation 2 is not as it was checked any more"


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    assert bench.run("reasoning").state == "applied"
    return bench


def meanwhile(bench: Bench, step: str, deed: Callable[[], None]) -> Outcome:
    """Switch to vision, and do something once when a step has begun."""
    txid = bench.submit(bench.intent("vision"))
    journal = f"append {places.transaction(txid)}/journal.jsonl"

    def by_hand(when: str, what: str) -> None:
        if when == "after" and what == journal and bench.steps(txid)[-1] == step:
            bench.machine.hook = None
            deed()

    bench.machine.hook = by_hand
    return Outcome.model_validate(executor.execute(bench.machine, txid))


def edited(bench: Bench, path: str) -> None:
    bench.machine.write(path, bench.machine.read(path) + b"Environment=A=b\n")


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        (
            lambda bench: bench.machine.remove_tree(WHERE),
            f"{OTHER}: [Errno 2] No such file or directory: '{WHERE}/manifest.json'",
        ),
        (
            lambda bench: bench.machine.remove(LLAMA),
            f"{OTHER}: {LLAMA}: [Errno 2] No such file or directory: '{LLAMA}'",
        ),
        (
            lambda bench: edited(bench, LLAMA),
            f"{OTHER}: {LLAMA} is not what its manifest names: it was edited, or the disk lost it",
        ),
        (
            lambda bench: bench.machine.write(f"{WHERE}/recon-more.container", b"[Container]\n"),
            f"{OTHER}: recon-more.container",
        ),
        (
            lambda bench: bench.machine.remove(f"{WHERE}/boot.wants/recon-coven-vision.target"),
            f"{OTHER}: boot.wants",
        ),
    ],
    ids=["gone", "a file gone", "a file edited", "a file more", "what boots"],
)
def test_a_generation_that_is_not_as_it_was_checked_is_not_committed(
    bench: Bench, deed: Callable[[Bench], None], reason: str
) -> None:
    outcome = meanwhile(bench, "warm", lambda: deed(bench))

    assert (outcome.state, outcome.code, outcome.reason) == ("rolled_back", "REC7220", reason)
    assert files.committed_number(bench.machine) == 1
    assert bench.serving() == OLD


@pytest.mark.parametrize(
    "deed",
    [
        lambda bench: bench.machine.remove(places.COMMITTED),
        lambda bench: bench.machine.symlink(places.generation(99), places.COMMITTED),
    ],
    ids=["removed", "moved"],
)
def test_a_way_back_leads_to_the_recorded_generation_wherever_the_link_was_moved(
    bench: Bench, deed: Callable[[Bench], None]
) -> None:
    set_fault(bench.machine.state, "crash-at-start", "recon-vision-llama.service")

    outcome = meanwhile(bench, "start", lambda: deed(bench))

    assert (outcome.state, outcome.code, outcome.committed) == ("rolled_back", "REC7105", 1)
    assert "moved meanwhile; it names generation 1 again" in " ".join(e.text for e in bench.events(outcome.txid))
    assert bench.serving() == OLD


def test_a_way_back_to_a_generation_that_is_gone_holds_the_host(bench: Bench) -> None:
    set_fault(bench.machine.state, "crash-at-start", "recon-vision-llama.service")

    outcome = meanwhile(bench, "start", lambda: bench.machine.remove_tree(places.generation(1)))

    assert (outcome.state, outcome.code, bench.serving()) == ("held", "REC7190", [])


def test_an_etc_that_becomes_read_only_before_the_commit_does_not_keep_the_old_coven_from_serving(bench: Bench) -> None:
    txid = bench.submit(bench.intent("vision"))

    def read_only(when: str, what: str) -> None:
        if when == "before" and bench.steps(txid)[-1:] in (["commit"], ["rollback"]) and " /etc/" in what:
            raise OSError(errno.EROFS, "Read-only file system", what.split(" ")[1])

    bench.machine.hook = read_only
    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))

    assert (outcome.state, outcome.committed, bench.serving()) == ("rolled_back", 1, OLD)
    assert [event.text for event in bench.events(txid) if " stays " in event.text] == [
        f"{WHERE} stays until a later commit removes it: [Errno 30] Read-only file system: '{WHERE}'"
    ]


def test_books_that_are_removed_in_the_middle_do_not_hide_the_end(bench: Bench) -> None:
    outcome = meanwhile(bench, "start", lambda: bench.machine.remove_tree(places.TRANSACTIONS))

    assert (outcome.state, outcome.committed, bench.serving()) == ("rolled_back", 1, OLD)
    assert read_outcome(bench.machine, outcome.txid) is not None
    assert bench.run("vision").state == "applied"


def test_an_executor_that_dies_after_its_books_were_removed_does_not_leave_a_refusal(bench: Bench) -> None:
    txid = bench.submit(bench.intent("vision"))

    bench.strike(txid, ending_before("run systemctl start"))
    bench.machine.remove_tree(places.TRANSACTIONS)

    outcome = executor.execute(bench.machine, txid, recover=True)

    assert (outcome["state"], outcome["code"]) == ("held", "REC7115")
    assert bench.run("vision").state == "applied"


def test_members_whose_files_are_gone_are_stopped_by_name_when_their_gate_is_stopped() -> None:
    """Another coven was started by hand on trial files that the way back took away: systemd forgot its gate."""
    bench = Bench()
    txid = bench.submit(bench.intent("vision"))

    def by_hand(when: str, what: str) -> None:
        if when == "after" and what.startswith("run systemctl start --no-block --job-mode=fail recon-coven-vision"):
            bench.machine.hook = None
            bench.machine.run(["systemctl", "start", "--no-block", "recon-coven-reasoning.target"], 5.0)

    bench.machine.hook = by_hand
    first = Outcome.model_validate(executor.execute(bench.machine, txid))
    assert (first.state, bench.serving()) == ("held", OLD)

    outcome = bench.run("vision")

    assert (outcome.state, outcome.live, bench.serving()) == ("applied", {"all": "vision"}, ["recon-vision-llama"])
