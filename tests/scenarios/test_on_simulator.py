"""The scenario list on simulated hosts; tests/lab plays the same list on real ones, and both must agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.scenarios import SCENARIOS, Scenario
from tests.scenarios.sim_world import SimWorld


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: str(scenario.__name__))
def test_on_simulated_hosts(scenario: Scenario, tmp_path: Path) -> None:
    scenario(SimWorld(tmp_path))
