"""Random days of a host with windows: reboots, holds, work, faults and kills; never two covens, and it converges."""

from __future__ import annotations

import random

import pytest

from reconciler.agent import places, week
from reconciler.model.desired import Watchdog
from reconciler.sim.faults import clear_fault, set_fault
from reconciler.sim.fleet import run_agent
from reconciler.sim.machine import KilledError, PowerCutError
from tests.agent.bench import REASONING, VISION
from tests.agent.test_schedule import BERLIN, SPEECH, Scheduled

WINDOWS = (
    {"coven": "vision", "from": "01:00", "to": "05:00", "timezone": BERLIN, "days": "Mon..Fri"},
    {"coven": "speech", "from": "03:00", "to": "03:40", "timezone": "America/New_York", "priority": 80},
    {"coven": "speech", "from": "12:00", "to": "15:00", "require": "drained", "priority": 20},
    {"coven": "vision", "from": "20:30", "to": "00:10", "timezone": "Asia/Kolkata", "yields": "15m", "priority": 30},
)
DEEDS = 14
MINUTE = 60.0


class Lived(Scheduled):
    """A host on which things happen; after each of them at most one coven has a container."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        day = self.random.choice(["2026-03-28", "2026-10-24", "2026-06-03"])
        watchdog = self.random.choice([None, Watchdog.model_validate({"every": "10m"})])
        covens = (REASONING, VISION, SPEECH)
        super().__init__(*WINDOWS, begins=f"{day}T18:00", covens=covens, watchdog=watchdog)
        self.done: list[str] = []

    def happen(self) -> None:
        deed = self.random.choice(["live", "live", "live", "reboot", "hold", "work", "fault", "heal", "kill", "cut"])
        self.done.append(f"{self.machine.wall():.0f} {deed}")
        getattr(self, f"do_{deed}")()
        self.one_coven()

    def do_live(self) -> None:
        self.live(self.random.uniform(5, 300) * MINUTE)

    def do_reboot(self) -> None:
        self.machine.reboot(down_s=self.random.choice([20.0, 1800.0, 9000.0]))
        self.attend()
        self.live(3 * MINUTE)

    def do_hold(self) -> None:
        self.machine.write(places.HOLD, b'{"owner": "ann", "reason": "looks", "since": 1}')
        self.live(self.random.uniform(1, 200) * MINUTE)
        self.machine.remove(places.HOLD)

    def do_work(self) -> None:
        for port in (8001, 8003, 8004):
            self.busy(port, self.random.uniform(1, 60) * MINUTE)

    def do_fault(self) -> None:
        set_fault(self.machine.state, self.random.choice(["crash-at-start", "slow-release"]), "recon-vision-*", 20.0)

    def do_heal(self) -> None:
        clear_fault(self.machine.state)

    def do_kill(self) -> None:
        self._end(KilledError)

    def do_cut(self) -> None:
        self._end(PowerCutError)

    def _end(self, how: type[KilledError | PowerCutError]) -> None:
        """End whoever changes the machine at some change of the next hours."""
        left = self.random.randrange(1, 60)

        def hook(when: str, what: str) -> None:
            nonlocal left
            left -= when == "before"
            if left == 0:
                raise how

        self.machine.hook = hook
        self.live(180 * MINUTE)
        self.machine.hook = None

    def live(self, seconds: float) -> None:
        """Let time pass; who is killed is followed by systemd, and who lost power boots."""
        try:
            self.machine.clock.advance(seconds)
        except KilledError:
            self.machine.hook = None
            self.machine.revive()
        except PowerCutError:
            self.machine.hook = None
            self.machine.reboot()
            self.machine.manager.program = lambda argv: run_agent(self.machine, argv)
        self.one_coven()

    def one_coven(self) -> None:
        covens = {name.split("-")[1] for name in self.serving()}
        assert len(covens) <= 1, (covens, self.done)

    def wanted(self) -> list[str | None]:
        spec = self.committed()["schedule"]
        return [choice.coven for choice in week.chain(spec["windows"], spec["declared"], "all", self.machine.wall())]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_a_host_comes_to_what_is_in_force_and_never_runs_two_covens(seed: int) -> None:
    host = Lived(seed)
    for _ in range(DEEDS):
        host.happen()

    clear_fault(host.machine.state)
    host.live(3 * MINUTE)
    # To the next edge at least, and long enough for work to end and for what yields.
    host.live(26 * 60 * MINUTE)

    assert host.committed()["live"]["all"] in host.wanted(), host.done
    assert {name.split("-")[1] for name in host.serving()} == {host.committed()["live"]["all"]}, host.done
    assert host.plan().order is None, host.done
