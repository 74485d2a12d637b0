"""The spiral's units: every line of them, and that what is declared arrives as it is written."""

from __future__ import annotations

import shlex

import pytest
from syrupy.assertion import SnapshotAssertion

from reconciler.model.desired import Fleet, Host, Spiral
from reconciler.model.spiral import SpiralFile
from reconciler.render.host import render_host
from reconciler.sim.unitfile import command, parse, split, values
from tests.agent.spirals import LOOP
from tests.render.fleets import a_fleet, a_host
from tests.render.test_host import UnitFile

ON = Spiral(enabled=True, rate_caps={"jobs_per_hour": 12})


def a_spiral_fleet(own: Spiral = ON, **units: dict[str, object]) -> tuple[Fleet, Host]:
    host = a_host(spiral=own)
    loop = SpiralFile.model_validate({**LOOP, "units": {**LOOP["units"], **units}})
    return a_fleet(host).model_copy(update={"spiral": loop}), host


def test_units_of_the_spiral(snapshot: SnapshotAssertion) -> None:
    fleet, host = a_spiral_fleet()

    files = [file for file in render_host(fleet, host, {}).files if "spiral" in file.name or "job" in file.name]

    assert [file.name for file in files] == [
        "recon-job-refill.service",
        "recon-spiral-controller.service",
        "recon-spiral-gemma.container",
        "recon-spiral-saturator.service",
        "recon-spiral-worker.service",
        "recon-spiral.service",
        "recon-spiral.target",
        "recon-spiral.timer",
    ]
    for file in files:
        assert file.body == snapshot(extension_class=UnitFile, name=file.name)


def test_it_boots_where_it_is_enabled_and_lies_there_where_it_is_only_prepared() -> None:
    prepared = Spiral(rate_caps={"jobs_per_hour": 12})

    on, off = (render_host(*a_spiral_fleet(own), {}) for own in (ON, prepared))

    assert "recon-spiral.target" in on.boot
    assert "recon-spiral.target" not in off.boot
    timed = {f"recon-{what}.{kind}" for what in ("spiral", "reaper") for kind in ("service", "timer")}
    assert [file.name for file in on.files if file.name not in timed] == [file.name for file in off.files]
    assert timed & set(on.boot) == {"recon-spiral.timer", "recon-reaper.timer"}


def test_a_host_that_says_nothing_has_no_file_of_it() -> None:
    rendered = render_host(*a_spiral_fleet(Spiral()), {})

    assert rendered.spiral is None
    assert [file.name for file in rendered.files if "spiral" in file.name] == []


@pytest.mark.parametrize("word", ["a b", "$HOME", "100%", 'say "x"', "back\\slash", ";", "", "it's", "ä"])
def test_what_is_declared_arrives_as_it_is_written(word: str) -> None:
    odd: dict[str, object] = {"argv": ("/bin/odd", word, "end"), "lane": "cpu", "env": {"ODD": word}}
    fleet, host = a_spiral_fleet(odd=odd)

    files = {file.name: file.body for file in render_host(fleet, host, {}).files}
    sections = parse(files["recon-spiral-odd.service"])

    line = values(sections, "Service", "ExecStart")[0]
    assert command(line, "recon-spiral-odd.service", {}) == ["/bin/odd", word, "end"], shlex.quote(line)
    environment = [part for value in values(sections, "Service", "Environment") for part in split(value)]
    assert f"ODD={word}".replace("%", "%%") in environment


def test_a_change_of_a_cap_is_a_change_of_a_file() -> None:
    more = Spiral(enabled=True, rate_caps={"jobs_per_hour": 13})

    before, after = (render_host(*a_spiral_fleet(own), {}) for own in (ON, more))

    old = {file.name: file.body_sha256 for file in before.files}
    assert [file.name for file in after.files if old[file.name] != file.body_sha256] == ["recon-spiral.target"]
