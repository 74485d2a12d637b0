"""How far the caps go down and up again: a pure rule, proven over every history of looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.agent.backoff import GAP_S, Factor, effective, step

SPEC: dict[str, Any] = {"gpu": 0.95, "memory": 0.92, "for_s": 600.0, "factor": 0.5, "least": 0.1}


def after(minutes: Sequence[bool | None], before: Factor = Factor(), *, begins: float = 0.0) -> list[float]:  # noqa: B008 - a frozen value
    """Return the factor after each look, one a minute."""
    values = []
    for number, busy in enumerate(minutes):
        now = begins + 60.0 * number
        before = step(before, SPEC, busy, now=now, wall=1000.0 + now)
        values.append(before.value)
    return values


def test_the_caps_go_down_once_the_host_was_busy_for_the_whole_period_and_again_for_the_next() -> None:
    assert after([True] * 31) == [1.0] * 10 + [0.5] * 10 + [0.25] * 10 + [0.125]


def test_they_never_go_below_the_least() -> None:
    assert after([True] * 90)[-1] == 0.1


def test_they_go_up_again_the_same_way_and_never_above_what_is_declared() -> None:
    assert after([False] * 31, Factor(0.25)) == [0.25] * 10 + [0.5] * 10 + [1.0] * 11


def test_one_clear_look_begins_the_period_anew() -> None:
    assert after([True] * 10 + [False] + [True] * 10) == [1.0] * 21


def test_what_is_not_known_changes_nothing_and_begins_the_period_anew() -> None:
    assert after([True] * 10 + [None] + [True] * 10) == [1.0] * 21
    assert after([None] * 50, Factor(0.25)) == [0.25] * 50


def test_looks_that_are_too_far_apart_say_nothing_about_the_time_between() -> None:
    first = step(Factor(), SPEC, True, now=0.0, wall=0.0)

    second = step(first, SPEC, True, now=GAP_S + 1 + 600, wall=0.0)

    assert (second.value, second.busy_since) == (1.0, GAP_S + 601)


def test_a_factor_below_a_new_least_comes_up_to_it() -> None:
    assert step(Factor(0.05), SPEC, None, now=0.0, wall=0.0).value == 0.1


def test_without_a_back_off_the_caps_are_as_declared() -> None:
    assert step(Factor(0.25), None, None, now=5.0, wall=7.0) == Factor(1.0, 7.0, at=5.0)


def test_effective_caps_round_down_and_keep_the_least_share() -> None:
    assert effective({"a": 12, "b": 1, "c": 0, "d": 45}, 0.5, 0.1) == {"a": 6, "b": 1, "c": 0, "d": 22}
    assert effective({"a": 12, "b": 1, "c": 0, "d": 45}, 0.1, 0.1) == {"a": 2, "b": 1, "c": 0, "d": 5}


@given(
    st.lists(st.sampled_from([True, False, None]), max_size=200),
    st.floats(0.05, 0.95),
    st.floats(0.01, 1.0),
    st.integers(0, 10**9),
)
def test_whatever_is_seen_a_cap_stays_between_the_least_share_and_what_is_declared(
    looks: list[bool | None], factor: float, least: float, declared: int
) -> None:
    spec = {**SPEC, "factor": factor, "least": least, "for_s": 120.0}
    state = Factor()
    for number, busy in enumerate(looks):
        state = step(state, spec, busy, now=60.0 * number, wall=0.0)
        cap = effective({"x": declared}, state.value, least)["x"]

        assert least <= state.value <= 1.0
        assert declared * least <= cap <= declared or cap == declared
