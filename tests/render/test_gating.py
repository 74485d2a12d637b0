"""A key is written only for hosts whose programs know it."""

import pytest

from reconciler.model.desired import Platform
from reconciler.render.gating import backoff, container_memory


@pytest.mark.parametrize(("podman", "keys"), [("5.3", ()), ("5.4", ()), ("5.5", (("Memory", "4g"),))])
def test_podman_gets_a_key_from_the_version_that_has_it(podman: str, keys: tuple[tuple[str, str], ...]) -> None:
    assert container_memory(Platform(podman=podman), "4g") == keys


def test_restarts_slow_down_where_systemd_can_and_have_one_long_delay_where_it_cannot() -> None:
    # The schema allows no such platform today; the table must still be right on the day it does.
    older = Platform.model_construct(podman="5.3", systemd=253)

    assert backoff(Platform(systemd=254), first_s=3, longest_s=600, steps=5) == (
        ("RestartSec", "3"),
        ("RestartSteps", "5"),
        ("RestartMaxDelaySec", "600"),
    )
    assert backoff(older, first_s=3, longest_s=600, steps=5) == (("RestartSec", "60"),)
