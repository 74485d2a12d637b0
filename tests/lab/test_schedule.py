"""A real host begins and ends its windows by itself: systemd's calendar, the installed agent, no controller around.

Windows are chosen from the time it is, for the clock of a lab host is that of this computer and is never set.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from reconciler.lab import labs, scaffold
from reconciler.lab.labs import Lab
from reconciler.lab.machines import Machine
from tests.lab.conftest import clean_all, progress
from tests.lab.waits import wait_until
from tests.scenarios.lab_world import LabWorld
from tests.scenarios.scenarios import detailed, settle

MINUTE = 60
ZONE = "/usr/share/zoneinfo/Europe/Berlin"
LEAD_S = 75
"""An apply that brings only two units, and some seconds."""


@pytest.fixture(scope="module")
def alone(lab_ready: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One host of its own, for it is switched off in the middle."""
    with labs.running(tmp_path_factory.mktemp("schedule"), hosts=1, progress=progress) as booted:
        scaffold.write(booted)
        yield booted


@pytest.fixture
def world(alone: Lab) -> Iterator[LabWorld]:
    clean_all(alone)
    made = LabWorld(alone)
    made.begin()
    yield made
    made.end()
    clean_all(alone)


def next_minute(after_s: float) -> int:
    """Return the first whole minute that is at least so far away."""
    return int((time.time() + after_s) // MINUTE + 1) * MINUTE


def clock(at: int, zone: str) -> str:
    return f"{datetime.fromtimestamp(at, ZoneInfo(zone)):%H:%M}"


def declare(world: LabWorld, begins: int, ends: int, zone: str = "UTC") -> None:
    window = f'{{coven: vision, from: "{clock(begins, zone)}", to: "{clock(ends, zone)}", timezone: {zone}}}'
    file = world.host_file(world.hosts[0])
    file.write_text(file.read_text(encoding="utf-8") + f"schedule:\n  - {window}\n", encoding="utf-8")


def orders(machine: Machine) -> list[tuple[str, float]]:
    lines = [json.loads(line) for line in machine.path("/var/lib/recon/history.jsonl").read_text().splitlines()]
    return [(line["deed"], line["at"]) for line in lines if line.get("kind") == "schedule"]


def sleep_until(at: float) -> None:
    time.sleep(max(0.0, at - time.time()))


def test_a_host_switches_covens_at_its_minute_and_back_with_no_controller_across_a_reboot(world: LabWorld) -> None:
    settle(world)
    host, machine = world.hosts[0], world.lab.machine(world.hosts[0])
    begins = next_minute(LEAD_S)
    ends = begins + 4 * MINUTE
    declare(world, begins, ends)
    settle(world)
    assert world.serves(host, "reasoning")
    assert orders(machine) == []

    sleep_until(begins)
    wait_until("the window has begun", lambda: world.serves(host, "vision"))
    ((deed, at),) = orders(machine)
    assert deed == "all reasoning → vision"
    assert begins <= at < begins + 30
    assert not world.serves(host, "reasoning")
    wait_until("it is committed", lambda: machine.path("/run/containers/systemd/recon-trial").is_symlink() is False)

    machine.kill()
    machine.start()
    machine.wait_ready()
    wait_until("it boots what the schedule committed", lambda: world.serves(host, "vision"))
    assert time.time() < ends, "the computer is too slow for a window of four minutes"
    assert detailed(world) == 0
    shown = world.recon("status", "--host", host).out
    assert f"slot all: vision is in force until {datetime.fromtimestamp(ends, UTC):%a %Y-%m-%d %H:%M} (UTC)" in shown

    sleep_until(ends)
    wait_until("the window has ended", lambda: world.serves(host, "reasoning"))
    assert [deed for deed, _ in orders(machine)] == ["all reasoning → vision", "all vision → reasoning"]
    assert ends <= orders(machine)[1][1] < ends + 30
    wait_until("it is committed", lambda: detailed(world) == 0, every_s=2.0)
    last = world.status(host)["executor"]["last"]["value"]
    assert (last["owner"], last["state"], last["live"]) == ("schedule", "applied", {"all": "reasoning"})


def test_a_host_that_was_off_at_the_edge_does_what_is_due_when_it_is_back(world: LabWorld) -> None:
    settle(world)
    host, machine = world.hosts[0], world.lab.machine(world.hosts[0])
    begins = next_minute(LEAD_S)
    declare(world, begins, begins + 20 * MINUTE)
    settle(world)
    machine.kill()
    sleep_until(begins + 5)
    machine.start()
    machine.wait_ready()

    wait_until("it does what is due", lambda: world.serves(host, "vision"), at_most_s=180.0)
    assert [deed for deed, _ in orders(machine)] == ["all reasoning → vision"]
    wait_until("it is committed", lambda: detailed(world) == 0, every_s=2.0)


def test_a_zone_whose_data_the_host_does_not_have_is_refused_and_one_that_it_has_is_systemds_too(
    world: LabWorld,
) -> None:
    settle(world)
    machine, berlin = world.lab.machine(world.hosts[0]), ZoneInfo("Europe/Berlin")
    begins = next_minute(3600)
    declare(world, begins, begins + 3600, zone="Europe/Berlin")
    machine.run(["mv", ZONE, f"{ZONE}.away"])
    try:
        ran = world.recon("apply", "--yes")
    finally:
        machine.run(["mv", f"{ZONE}.away", ZONE])

    assert ran.code == 3
    assert "[REC7342]" in ran.out + ran.err
    assert not machine.path("/etc/systemd/system/recon-schedule.timer").exists()
    settle(world)
    told = machine.run(["systemctl", "show", "-P", "TimersCalendar", "recon-schedule.timer"]).stdout.decode()
    assert f"OnCalendar=*-*-* {datetime.fromtimestamp(begins, berlin):%H:%M}:00 Europe/Berlin" in told
    assert f"next_elapse={datetime.fromtimestamp(begins, UTC):%a %Y-%m-%d %H:%M}:00 UTC" in told
