"""What hosts say was done last: read back, said in a line, learned from."""

from __future__ import annotations

from typing import Any

from reconciler.history.records import Timings, last_outcome, last_outcomes, learn, line, record, timings
from reconciler.model.observed import Executor, HostState, Known, NotApplicable, Observation, Unknown, Unreachable
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


def test_only_hosts_that_told_have_a_last_outcome() -> None:
    seen: dict[str, Observation] = {
        "spark-1": state_with(Known(value=an_outcome("spark-1"))),
        "spark-2": state_with(NotApplicable(na="never ran")),
        "spark-3": Unreachable(code="REC6007", reason="refused", elapsed_s=0.1),
    }

    assert last_outcomes(seen) == {"spark-1": outcome()}


def test_an_outcome_is_one_line_and_one_record() -> None:
    ended = outcome(started_at=1_700_000_000.0, live={"b": None, "a": "vision"}, state="rolled_back", code="REC8020")

    assert line(ended) == (
        "2023-11-14 22:13:20Z spark-1 rolled back in 40s: generation 4, a=vision, b=nothing; "
        f"by ann@laptop from {'c' * 40}"
    )
    assert record(ended) == {
        "at": "2023-11-14T22:13:20+00:00",
        "host": "spark-1",
        "txid": "t1",
        "state": "rolled_back",
        "code": "REC8020",
        "owner": "ann@laptop",
        "source_commit": "c" * 40,
        "committed": 4,
        "live": {"a": "vision", "b": None},
        "elapsed_s": 40.0,
    }


def test_time_is_learned_from_what_cut_a_slot_off_and_from_nothing_else() -> None:
    steps = {
        "claim": 1.0,
        "drain": 100.0,
        "stop": 5.0,
        "verify_memory": 3.0,
        "start": 2.0,
        "warm": 30.25,
        "commit": 1.0,
    }

    assert timings([outcome(steps_s=steps)]) == Timings({("spark-1", "vision"): 40.2})


def test_nothing_is_learned_from_failures_file_changes_or_two_slots_at_once() -> None:
    assert timings(
        [
            outcome(state="rolled_back"),
            outcome(steps_s={"commit": 1.0}),
            outcome(live={"a": "vision", "b": "reasoning"}),
            outcome(live={"all": None}),
        ]
    ) == Timings({})


def test_a_hosts_own_time_comes_before_that_of_its_peers_and_the_newest_counts() -> None:
    learned = timings(
        [
            outcome("spark-1", started_at=2.0, steps_s={"start": 20.0}),
            outcome("spark-1", started_at=1.0, steps_s={"start": 10.0}),
            outcome("spark-2", steps_s={"start": 30.0}),
        ]
    )

    assert learned.estimate("spark-1", "vision") == 20.0
    assert learned.estimate("spark-9", "vision") == 25.0
    assert learned.estimate("spark-1", "reasoning") is None
    assert learned.estimate("spark-1", None) is None


def test_observations_are_enough_to_learn_from() -> None:
    seen = {"spark-1": state_with(Known(value=an_outcome("spark-1")))}

    assert learn(seen).estimate("spark-1", "vision") == 40.0
