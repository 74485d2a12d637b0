"""The timers of a spiral: nobody acts for one that is switched off."""

from __future__ import annotations

from reconciler.model.intent_spiral import SpiralSpec
from reconciler.render.defaults import with_builtin
from reconciler.render.spiral_timers import timer_files, timers_of
from tests.agent.ticks import spec

TICK = """\
[Unit]
Description=recon: tend the spiral

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I -S %S/recon/agent/current tend
TimeoutStartSec=300
"""
REAPER = """\
[Unit]
Description=recon: delete what is over the budget of the spiral

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I -S %S/recon/agent/current reap
TimeoutStartSec=3600
MemoryMax=512M
Nice=10
"""
TIMER = """\
[Unit]
Description=recon: delete what is over the budget of the spiral, when

[Timer]
OnActiveSec=3600
OnUnitInactiveSec=3600
AccuracySec=1s
Unit=recon-reaper.service
"""


def rendered(**other: object) -> dict[str, str]:
    found = timer_files(SpiralSpec.model_validate(spec(**other)), with_builtin({}))
    return {file.name: file.body for file in found}


def test_an_enabled_spiral_is_tended_every_minute_and_reaped_as_often_as_declared() -> None:
    files = rendered()

    assert sorted(files) == [
        "recon-reaper.service",
        "recon-reaper.timer",
        "recon-spiral.service",
        "recon-spiral.timer",
    ]
    assert (files["recon-spiral.service"], files["recon-reaper.service"]) == (TICK, REAPER)
    assert files["recon-reaper.timer"] == TIMER
    assert "OnUnitInactiveSec=60\n" in files["recon-spiral.timer"]
    assert timers_of(SpiralSpec.model_validate(spec())) == ("recon-spiral.timer", "recon-reaper.timer")


def test_without_a_reaper_there_is_none_and_a_spiral_that_is_off_has_no_timer() -> None:
    assert sorted(rendered(reaper=None)) == ["recon-spiral.service", "recon-spiral.timer"]
    assert (rendered(enabled=False), timers_of(SpiralSpec.model_validate(spec(enabled=False)))) == ({}, ())
