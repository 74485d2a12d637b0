"""Timers of the simulated systemd, and what its `kill` reaches."""

from __future__ import annotations

import pytest

from reconciler.sim.machine import SimMachine
from tests.sim.covens import active, gate, install, member, put, systemctl, target

SERVICE = "look.service"
TIMER = "look.timer"


@pytest.fixture
def machine() -> SimMachine:
    machine = SimMachine.new("h-1")
    put(
        machine,
        f"/etc/systemd/system/{SERVICE}",
        "[Service]\nType=oneshot\nExecStart=/usr/bin/python3 -I look\n",
    )
    put(machine, f"/etc/systemd/system/{TIMER}", "[Timer]\nOnActiveSec=10s\nOnUnitInactiveSec=30s\n")
    return machine


def looks(machine: SimMachine, takes_s: float = 0.0, code: int = 0) -> list[float]:
    """Let the service note when it runs, and take its time."""
    seen: list[float] = []

    def program(argv: list[str]) -> int:
        assert argv == ["/usr/bin/python3", "-I", "look"]
        seen.append(round(machine.clock.now))
        machine.clock.advance(takes_s)
        return code

    machine.manager.program = program
    return seen


def test_a_timer_counts_from_its_start_and_then_from_the_end_of_its_service(machine: SimMachine) -> None:
    seen = looks(machine, takes_s=5.0)
    began = round(machine.clock.now)
    systemctl(machine, "start", TIMER)

    machine.clock.advance(100.0)

    assert [at - began for at in seen] == [10, 45, 80]
    assert active(machine, TIMER, SERVICE) == ["active", "inactive"]


def test_a_service_that_fails_is_started_again_by_its_timer(machine: SimMachine) -> None:
    seen = looks(machine, code=1)
    systemctl(machine, "start", TIMER)

    machine.clock.advance(60.0)

    assert len(seen) == 2
    assert active(machine, SERVICE) == ["failed"]


def test_a_timer_that_is_stopped_or_started_anew_forgets_what_it_counted(machine: SimMachine) -> None:
    seen = looks(machine)
    systemctl(machine, "start", TIMER)
    systemctl(machine, "stop", TIMER)
    machine.clock.advance(100.0)
    assert seen == []

    systemctl(machine, "start", TIMER)
    machine.clock.advance(6.0)
    systemctl(machine, "restart", TIMER)
    machine.clock.advance(6.0)
    assert seen == []
    machine.clock.advance(6.0)
    assert len(seen) == 1


def test_time_that_a_program_took_is_not_given_back(machine: SimMachine) -> None:
    looks(machine, takes_s=500.0)
    systemctl(machine, "start", TIMER)
    began = machine.clock.now

    machine.clock.advance(11.0)

    assert machine.clock.now - began >= 500.0


def test_kill_reaches_the_control_groups_that_are_named_and_no_other() -> None:
    machine = SimMachine.new("h-1")
    install(machine, ("a",))
    systemctl(machine, "start", target("a"))
    put(machine, "/etc/systemd/system/other.service", "[Service]\nExecStart=/usr/bin/other\n")
    systemctl(machine, "start", "other.service")

    done = machine.run(["systemctl", "kill", "--kill-whom=all", "--signal=SIGKILL", "--", member("a")], 10.0)

    assert (done.rc, active(machine, member("a"), gate("a"), "other.service")) == (0, ["failed", "active", "active"])


def test_calendar_lines_are_due_by_the_clock_of_their_zone_and_beside_what_is_counted(machine: SimMachine) -> None:
    seen = looks(machine)
    put(
        machine,
        f"/etc/systemd/system/{TIMER}",
        "[Timer]\nOnCalendar=Thu *-*-* 01:05:00 Europe/Berlin\nOnCalendar=*-*-* 00:20:00 UTC\n"
        "OnUnitInactiveSec=10min\n",
    )
    systemctl(machine, "start", TIMER)

    machine.clock.advance(26 * 60.0)

    # A Thursday, 2026-01-01 00:00 UTC, and ten minutes after the end of each.
    assert [at // 60 for at in seen] == [5, 15, 20]


def test_the_time_since_boot_elapses_at_once_for_a_timer_that_begins_later(machine: SimMachine) -> None:
    seen = looks(machine)
    put(machine, f"/etc/systemd/system/{TIMER}", "[Timer]\nOnBootSec=30s\n")
    machine.clock.advance(60.0)
    systemctl(machine, "start", TIMER)
    machine.clock.advance(60.0)

    assert [round(at - machine.state.booted_at) for at in seen] == [65]
