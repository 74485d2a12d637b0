"""GPUs as hosts really show them: each `.state` file is what NVML says, the `.json` beside it what recon makes of it.

The real binding runs in a real child against the compiled stand-in. To add a scenario, add both files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from reconciler.agent import gpu
from reconciler.model.observed import Fact, Gpu
from tests.probes.conftest import Ask, a_host

SCENARIOS = Path(__file__).parent / "scenarios"
NAMES = sorted(path.stem for path in SCENARIOS.glob("*.state"))


def seen(raw: dict[str, Any], configured: str = "auto") -> dict[str, Any]:
    found = gpu.describe(a_host(), raw, configured, 5.0)
    return json.loads(json.dumps(found._asdict()))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", NAMES)
def test_what_nvml_says_becomes_facts(ask: Ask, name: str) -> None:
    found = seen(ask(SCENARIOS / f"{name}.state"))

    assert found == json.loads((SCENARIOS / f"{name}.json").read_text())
    TypeAdapter(Fact[tuple[Gpu, ...]]).validate_json(json.dumps(found["gpus"]), strict=True)


def test_what_the_operator_declares_settles_an_unknown_card(ask: Ask) -> None:
    found = seen(ask(SCENARIOS / "no-figure-on-an-unknown-card.state"), "unified")

    assert found["memory_class"] == {"value": "unified"}
    assert found["gpus"]["value"][0]["memory"] == {"na": "the GPU shares the host's memory"}
