"""The scenario list on real hosts: systemd, sshd, podman, and NVML's own bindings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.lab.labs import Lab
from tests.lab.conftest import clean_all
from tests.scenarios.lab_world import LabWorld
from tests.scenarios.scenarios import SCENARIOS, Scenario


@pytest.fixture
def world(lab: Lab) -> Iterator[LabWorld]:
    clean_all(lab)
    made = LabWorld(lab)
    made.begin()
    yield made
    made.end()
    clean_all(lab)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: str(scenario.__name__))
def test_on_real_hosts(scenario: Scenario, world: LabWorld) -> None:
    scenario(world)
