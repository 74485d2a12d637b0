"""How an answer tells the covens of a committed generation."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.agent import covens, fact
from tests.builders import a_group, in_short

REASONING, VISION = a_group("reasoning"), a_group("vision")
BODY = {
    "live": {"all": "reasoning"},
    "groups": [REASONING.model_dump(mode="json"), VISION.model_dump(mode="json")],
    "txid": "t1",
}


def a_generation(manifest: dict[str, Any]) -> dict[str, Any]:
    return fact.value({"number": 1, "manifest": manifest, "boot": []})


def gates(**active: str) -> dict[str, Any]:
    return fact.value([{"name": f"recon-gate-all-{coven}.service", "active": word} for coven, word in active.items()])


@pytest.mark.parametrize("word", ["active", "activating", "reloading"])
def test_a_coven_whose_gate_is_up_is_told_whole_and_the_others_in_short(word: str) -> None:
    told = covens.in_short(a_generation(fact.value(BODY)), gates(reasoning="inactive", vision=word))

    groups, running = [in_short(REASONING), in_short(VISION)], [VISION.model_dump(mode="json")]
    assert told == a_generation(fact.value({**BODY, "groups": groups, "running": running}))


def test_when_units_are_unknown_nothing_is_said_to_run() -> None:
    told = covens.in_short(a_generation(fact.value(BODY)), fact.unknown("systemd does not answer"))

    groups = [in_short(REASONING), in_short(VISION)]
    assert told == a_generation(fact.value({**BODY, "groups": groups, "running": []}))


@pytest.mark.parametrize(
    "generation", [fact.value(None), fact.unknown("no"), a_generation(fact.unknown("its sum is wrong"))]
)
def test_what_has_no_covens_is_told_as_it_was_read(generation: dict[str, Any]) -> None:
    assert covens.in_short(generation, gates(reasoning="active")) == generation


@pytest.mark.parametrize("groups", [[{"coven": "reasoning"}], [None], 7])
def test_covens_written_in_another_way_are_unknown_and_the_rest_of_the_answer_counts(groups: Any) -> None:
    told = covens.in_short(a_generation(fact.value({"groups": groups})), gates())

    assert told == a_generation(fact.unknown("its covens are not written as this version of recon writes them"))
