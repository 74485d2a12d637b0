"""What a host says about its generations, for a way back by hand."""

from __future__ import annotations

import pytest

from reconciler.agent import generations, places
from reconciler.agent.files import read_header
from reconciler.agent.wire import RequestError
from reconciler.sim.faults import clear_fault, set_fault
from reconciler.sim.state import Node
from tests.agent.bench import CONTEXT, Bench


@pytest.fixture
def bench() -> Bench:
    """A host that ran reasoning, then vision."""
    made = Bench()
    assert [made.run(coven).state for coven in ("reasoning", "vision")] == ["applied", "applied"]
    return made


def refused(bench: Bench, number: int | None) -> tuple[str, str, str]:
    with pytest.raises(RequestError) as error:
        generations.describe(bench.machine, number, "h-1")
    return error.value.code, error.value.detail, error.value.fix


def test_without_a_number_it_is_what_was_committed_before(bench: Bench) -> None:
    told = generations.describe(bench.machine, None)

    assert (told["number"], told["committed"], told["there"]) == (1, 2, [1, 2])
    assert told["manifest"]["live"] == {"all": "reasoning"}
    digests = {name: read_header(text.encode()).body_sha256 for name, text in told["files"].items()}
    assert digests == told["manifest"]["files"]


def test_a_generation_that_failed_is_never_what_was_committed_before(bench: Bench) -> None:
    set_fault(bench.machine.state, "crash-at-start", "recon-reasoning-*")
    assert bench.run("reasoning").state == "rolled_back"
    clear_fault(bench.machine.state, "crash-at-start")
    assert bench.run("reasoning").committed == 4

    assert generations.describe(bench.machine, None)["number"] == 2


def test_telling_changes_nothing(bench: Bench) -> None:
    assert bench.doing(lambda: generations.describe(bench.machine, 1)) == []


def test_a_generation_that_is_not_there_is_refused_with_those_that_are(bench: Bench) -> None:
    assert refused(bench, 9) == (
        "REC7033",
        "there is no generation 9; the host has 1, 2",
        "recon rollback h-1 --to 1",
    )


def test_the_first_generation_has_nothing_before_it() -> None:
    bench = Bench()
    bench.run("reasoning")

    assert refused(bench, None) == (
        "REC7034",
        "generation 1 does not record one: it is the first, or an older recon made it",
        "change it in git, then recon apply",
    )


def test_a_host_without_a_commit_has_no_way_back() -> None:
    assert refused(Bench(), 1)[0] == "REC7034"


def test_a_file_that_was_edited_in_an_old_generation_is_not_handed_out(bench: Bench) -> None:
    path = f"{places.generation(1)}/recon-reasoning-vllm.container"
    bench.machine.files.put(path, Node.of(bench.machine.read(path) + b"Environment=EVIL=1\n"))

    code, detail, _ = refused(bench, None)

    assert (code, detail) == ("REC7035", f"{path} is not what its manifest names: it was edited, or the disk lost it")


def test_a_file_that_is_lost_from_an_old_generation_is_told(bench: Bench) -> None:
    path = f"{places.generation(1)}/units/recon-boot.target"
    bench.machine.files.drop(path)

    code, detail, _ = refused(bench, None)

    assert code == "REC7035"
    assert detail.startswith(path)


@pytest.mark.parametrize("number", [0, -1, "1", True, 1.0])
def test_a_number_that_is_none_is_no_request(bench: Bench, number: object) -> None:
    from reconciler.agent import dispatch

    with pytest.raises(RequestError, match="generation by something else than a number"):
        dispatch.handle(bench.machine, "generation", {"number": number}, CONTEXT)
