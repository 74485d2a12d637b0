"""What hosts say was done last: read back, and said in a line."""

from __future__ import annotations

from typing import Any

from reconciler.history.records import last_outcome, line
from reconciler.model.observed import Executor, HostState, Known, NotApplicable, Unknown
from reconciler.model.outcome import Outcome
from tests.apply.plans import an_outcome
from tests.builders import a_state


def outcome(host: str = "spark-1", **over: Any) -> Outcome:
    return Outcome.model_validate(an_outcome(host, **over))


def state_with(last: Known[dict[str, Any]] | Unknown | NotApplicable) -> HostState:
    return a_state(executor=Executor(active=False, txid=None, last=last))


def test_an_outcome_is_read_back_as_it_was_written() -> None:
    assert last_outcome(state_with(Known(value=an_outcome("spark-1")))) == outcome()


def test_never_ran_cannot_be_read_and_not_understood_are_three_things() -> None:
    assert last_outcome(state_with(NotApplicable(na="never ran"))) is None
    assert last_outcome(state_with(Unknown(unknown="its sum is wrong"))) == Unknown(unknown="its sum is wrong")
    assert last_outcome(state_with(Known(value=an_outcome("spark-1") | {"surprise": 1}))) == Unknown(
        unknown="the outcome record has 1 fields recon does not understand"
    )


def test_an_outcome_is_one_line() -> None:
    ended = outcome(started_at=1_700_000_000.0, live={"b": None, "a": "vision"}, state="rolled_back", code="REC8020")

    assert line(ended) == (
        "2023-11-14 22:13:20Z spark-1 rolled back in 40s: generation 4, a=vision, b=nothing; "
        f"by ann@laptop from {'c' * 12}"
    )
