"""The watchdog in virtual time: its timer, what it restarts, when it holds off, and whom it leaves alone."""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reconciler.agent import down, executor, lease, observe, places, watch, watch_deeds
from reconciler.agent.dispatch import handle
from reconciler.agent.machine import Completed
from reconciler.agent.record import read_record
from reconciler.agent.wire import RequestError
from reconciler.diff import diff_host, ignored_facts
from reconciler.model.desired import MemorySpec, Service, Watchdog
from reconciler.model.observed import HostState, Known, Unknown, WatchdogState
from reconciler.model.subject import look_at
from reconciler.planner import plan_host
from reconciler.sim.deeds import edit_unit, end_process, hold_memory, stop_unit
from reconciler.sim.faults import clear_fault, set_fault
from reconciler.sim.fleet import run_agent, run_launched
from reconciler.sim.machine import KilledError, PowerCutError, StoppedError
from reconciler.sim.state import Kind
from reconciler.views.paint import Paint
from reconciler.views.status import status_lines
from tests.agent.bench import CONTEXT, Bench, a_coven, a_service, ending_at

VLLM = "recon-reasoning-vllm.service"
RERANK = "recon-reasoning-rerank.service"
GATE = "recon-gate-all-reasoning.service"
SERVING = ["recon-reasoning-rerank", "recon-reasoning-vllm"]
EVERY_S = 30.0
STOP = f"run systemctl stop --no-block --job-mode=fail {VLLM}"
START = f"run systemctl start --no-block --job-mode=fail {VLLM}"


class Watched(Bench):
    """A host on which reasoning serves and the watchdog's timer runs."""

    def __init__(
        self,
        *,
        residents: dict[str, Service] | None = None,
        kind: Kind = "h200",
        memory: MemorySpec | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(residents=residents, kind=kind, memory=memory)
        self.watchdog = Watchdog.model_validate(settings)
        self.seen: list[str] = []
        self.attend()
        assert self.run("reasoning").state == "applied"
        # So that the watchdog has seen everybody well once.
        self.looks(2)

    def attend(self) -> None:
        """Let the host run its watchdog, and note every program that changes something."""
        self.machine.manager.program = lambda argv: run_agent(self.machine, argv)
        self.machine.hook = self.note

    def note(self, when: str, what: str) -> None:
        if when == "before" and what.startswith("run "):
            self.seen.append(what)

    def looks(self, number: float) -> list[str]:
        """Let time pass for some looks; return what was run meanwhile."""
        self.seen.clear()
        self.machine.clock.advance(number * (EVERY_S + 3.0))
        return list(self.seen)

    def state(self) -> HostState:
        return HostState.model_validate(observe.observe(self.machine, self.question(), CONTEXT))

    def told(self) -> WatchdogState:
        fact = self.state().watchdog
        assert isinstance(fact, Known), fact
        return fact.value

    def alerts(self) -> list[tuple[str, str]]:
        return [(alert.code, alert.about) for alert in self.told().alerts]

    def history(self) -> list[str]:
        lines = [json.loads(line) for line in self.machine.read(places.HISTORY).splitlines()]
        return [line["deed"] for line in lines if line.get("kind") == "watchdog"]

    def healing_after(self, starts: int, start: str = START) -> None:
        """Take all faults away at the n-th start."""
        counted: list[str] = []

        def hook(when: str, what: str) -> None:
            self.note(when, what)
            if when == "before" and what == start:
                counted.append(what)
                if len(counted) == starts:
                    clear_fault(self.machine.state)

        self.machine.hook = hook

    def crash(self, unit: str, code: int = 1) -> None:
        container = self.machine.podman.of_unit(unit)
        assert container is not None
        self.machine.podman.exited(container.id, code)


@pytest.fixture
def host() -> Iterator[Watched]:
    made = Watched()
    yield made
    assert made.machine.unknown == []


def test_the_commit_starts_the_timer_and_the_host_boots_with_it(host: Watched) -> None:
    assert host.active(places.WATCHDOG_TIMER) == "active"
    host.machine.reboot()
    host.attend()
    host.machine.clock.advance(90.0)

    assert host.active(places.WATCHDOG_TIMER) == "active"
    assert host.told().said == "all is well"


def test_a_host_that_is_well_is_looked_at_and_nothing_is_run(host: Watched) -> None:
    before = host.state().fingerprint

    assert host.looks(20) == []

    told = host.told()
    assert (told.said, told.attempts, told.held_off, told.alerts) == ("all is well", {}, {}, ())
    assert told.looked_s is not None
    assert told.looked_s <= EVERY_S + 1
    assert host.state().fingerprint == before
    assert host.machine.unknown == []


def test_a_stuck_server_is_restarted_alone_after_three_bad_looks(host: Watched) -> None:
    kept, gate = host.pid(RERANK), host.machine.manager.run_of(GATE).invocation
    set_fault(host.machine.state, "unhealthy", VLLM)
    host.healing_after(1)

    assert host.looks(2) == []
    assert host.looks(2) == [STOP, f"run systemctl reset-failed -- {VLLM}", START]

    host.looks(4)
    assert (host.pid(RERANK), host.machine.manager.run_of(GATE).invocation) == (kept, gate)
    assert host.told().said == "all is well"
    assert host.told().attempts == {VLLM: 1}
    assert host.history() == [f"restarted {VLLM} (attempt 1 of 3)"]


@pytest.mark.parametrize(("generation", "said"), [(1, "all is well"), (2, "left alone: a generation is on trial")])
def test_a_trial_that_could_not_be_taken_away_after_the_commit_keeps_nobody_from_looking(
    host: Watched, generation: int, said: str
) -> None:
    assert host.machine.read_link(places.COMMITTED) == places.generation(1)
    host.machine.symlink(places.generation(generation), places.TRIAL)

    host.looks(2)

    assert host.told().said == said


def test_a_restart_of_the_watchdog_is_no_drift_and_makes_no_plan_stale(host: Watched) -> None:
    intent = host.intent("vision")
    fingerprint = host.state().fingerprint
    set_fault(host.machine.state, "unhealthy", VLLM)
    host.healing_after(1)
    host.looks(6)
    assert host.history() != []
    assert host.serving() == SERVING

    assert host.state().fingerprint == fingerprint
    assert host.execute(intent).state == "applied"


def test_a_restart_waits_until_the_memory_is_free(host: Watched) -> None:
    set_fault(host.machine.state, "unhealthy", VLLM)
    set_fault(host.machine.state, "slow-release", VLLM, 25.0)
    held: list[int] = []
    host.machine.hook = lambda when, what: (
        held.append(sum(each.bytes for each in host.machine.state.holdings if "vllm" in each.owner))
        if (when, what) == ("before", START)
        else None
    )

    host.looks(5)

    assert held[:1] == [0]


def test_restarts_are_forgotten_when_it_was_well_for_the_window(host: Watched) -> None:
    set_fault(host.machine.state, "unhealthy", VLLM)
    host.healing_after(1)
    host.looks(6)
    assert host.told().attempts == {VLLM: 1}

    host.looks(40)

    assert host.told().attempts == {}


def test_a_crash_is_left_to_systemd(host: Watched) -> None:
    host.crash(VLLM)

    assert host.looks(6) == []
    assert host.serving() == SERVING


def test_a_unit_that_systemd_gave_up_is_started_again(host: Watched) -> None:
    set_fault(host.machine.state, "crash-at-start", VLLM)
    host.crash(VLLM)
    run = host.machine.manager.run_of(VLLM)
    host.machine.clock.advance(20.0)
    run.active, run.sub, run.result = "failed", "failed", "start-limit-hit"
    run.turn += 1
    host.healing_after(1)

    ran = host.looks(4)
    host.looks(4)

    assert ran == [f"run systemctl reset-failed -- {VLLM}", START]
    assert host.serving() == SERVING


def test_a_crash_loop_is_ended_with_its_memory_reclaimed(host: Watched) -> None:
    set_fault(host.machine.state, "crash-at-start", VLLM)
    host.crash(VLLM)
    host.healing_after(1)

    ran = host.looks(20)

    assert ran == [STOP, f"run systemctl reset-failed -- {VLLM}", START]
    assert host.serving() == SERVING


def test_what_was_stopped_in_order_is_told_and_not_started(host: Watched) -> None:
    stop_unit(host.machine, VLLM)

    assert host.looks(8) == []

    assert host.alerts() == [("REC7176", VLLM)]
    assert host.active(VLLM) == "inactive"


def test_an_engine_that_sleeps_is_told_and_neither_woken_nor_restarted(host: Watched) -> None:
    """Its health address says 200 all the time; and a request would be the end of it."""
    server = host.machine.podman.servers.matching(":8001")[0]
    server.sleeping = "weights_offloaded"
    ran, alerts = host.looks(8), host.alerts()
    text = next(alert.text for alert in host.told().alerts)
    server.sleeping = None

    assert (ran, alerts) == ([], [("REC7241", VLLM)])
    sleeps = "is asleep (weights_offloaded) and is committed: it serves nobody until whoever put it to sleep wakes it"
    assert text == sleeps
    assert host.looks(2) == []
    assert host.alerts() == []


def test_status_and_plan_say_of_an_engine_that_sleeps_that_it_does(host: Watched) -> None:
    host.machine.podman.servers.matching(":8001")[0].sleeping = "weights_offloaded"
    rendered, declared = host.rendered("reasoning")
    state = host.state()
    subject = look_at(rendered, declared, state)

    planned = plan_host(subject, diff_host(subject), fleet="studio", ignored=ignored_facts(state))
    shown = "\n".join(status_lines((declared,), {"h-1": state}, Paint(on=False), details=False))

    sleeps = "asleep (weights_offloaded)"
    assert planned.transitions == ()
    assert f"{VLLM} runs and is {sleeps}: it serves nobody, and recon does not wake it" in planned.warnings
    assert f"vllm {sleeps}, rerank ok" in shown


def test_an_alert_goes_when_its_matter_is_settled(host: Watched) -> None:
    stop_unit(host.machine, VLLM)
    host.looks(5)
    host.machine.run(["systemctl", "start", VLLM], 600.0)

    host.looks(4)

    assert host.alerts() == []


def held_for_a_while(host: Watched) -> None:
    hold(host)
    host.looks(2)
    host.machine.remove(places.HOLD)


def rebooted(host: Watched) -> None:
    host.machine.reboot()
    host.attend()


def over_quota(host: Watched, more: int = 20 << 30, whose: str = "vllm") -> None:
    for holding in host.machine.state.holdings:
        if whose in holding.owner:
            holding.bytes += more


@pytest.mark.parametrize("meanwhile", [held_for_a_while, rebooted])
def test_an_alert_goes_also_when_what_was_counted_was_forgotten(
    host: Watched, meanwhile: Callable[[Watched], None]
) -> None:
    stop_unit(host.machine, VLLM)
    host.looks(5)
    assert host.alerts() == [("REC7176", VLLM)]
    meanwhile(host)
    host.machine.run(["systemctl", "start", VLLM], 600.0)

    host.looks(4)

    assert host.alerts() == []


@pytest.mark.parametrize("meanwhile", [held_for_a_while, rebooted])
def test_an_alert_about_memory_goes_when_the_memory_was_read_and_is_within_what_is_declared(
    host: Watched, meanwhile: Callable[[Watched], None]
) -> None:
    over_quota(host)
    host.looks(5)
    assert host.alerts() == [("REC7174", VLLM)]
    set_fault(host.machine.state, "nvml", "*", 999.0)
    meanwhile(host)
    if meanwhile is held_for_a_while:
        over_quota(host, -(20 << 30))
    host.looks(4)
    assert host.alerts() == [("REC7174", VLLM)]
    clear_fault(host.machine.state)

    host.looks(22)

    assert host.alerts() == []


def test_an_alert_whose_matter_goes_on_stands_through_a_hold_and_is_told_once(host: Watched) -> None:
    stop_unit(host.machine, VLLM)
    over_quota(host, whose="rerank")
    host.looks(5)
    raised = [("REC7174", RERANK), ("REC7176", VLLM)]
    assert host.alerts() == raised
    for _ in range(2):
        held_for_a_while(host)
        for _ in range(5):
            host.looks(1)
            assert host.alerts() == raised

    assert sum("recon alert" in line for line in host.machine.state.logs["recon"]) == len(raised)


def test_that_something_could_not_be_started_is_taken_back_when_all_was_well_for_the_window(host: Watched) -> None:
    set_fault(host.machine.state, "unhealthy", VLLM)
    set_fault(host.machine.state, "slow-release", VLLM, 300.0)
    while not host.alerts():
        host.looks(1)
    assert host.alerts() == [("REC7172", "reasoning")]
    clear_fault(host.machine.state)
    while host.serving() != SERVING:
        host.looks(1)
    host.looks(4)
    assert host.alerts() == [("REC7172", "reasoning")]

    host.looks(40)

    assert host.alerts() == []


def test_a_coven_whose_gate_is_down_is_left_alone(host: Watched) -> None:
    host.machine.run(["systemctl", "stop", GATE], 600.0)

    assert host.looks(8) == []
    assert host.serving() == []


def test_a_server_that_loads_is_not_stuck(host: Watched) -> None:
    set_fault(host.machine.state, "slow-load", VLLM, 110.0)
    host.crash(VLLM)

    assert host.looks(6) == []
    assert host.serving() == SERVING


def test_a_late_answer_of_a_server_that_works_is_no_fault_until_the_window_is_over(host: Watched) -> None:
    host.busy(8001, 1e6)
    set_fault(host.machine.state, "hangs", VLLM)

    assert host.looks(20) == []
    assert "1 in flight" in host.told().said

    assert STOP in host.looks(20)


def test_a_server_that_is_late_and_idle_gets_twice_as_many_looks(host: Watched) -> None:
    set_fault(host.machine.state, "hangs", VLLM)

    assert host.looks(4) == []
    assert STOP in host.looks(4)


RESET_STOP = f"run systemctl stop --no-block --job-mode=fail {VLLM} {RERANK}"
RESET_KILL = f"run systemctl kill --kill-whom=all --signal=SIGKILL -- {VLLM} {RERANK}"
RESET_START = f"run systemctl start --no-block --job-mode=fail {VLLM} {RERANK}"


def test_after_three_restarts_the_coven_is_reset_once_and_a_person_is_called(host: Watched) -> None:
    gate = host.machine.manager.run_of(GATE).invocation
    set_fault(host.machine.state, "unhealthy", VLLM)

    ran = host.looks(60)

    assert [what for what in ran if " stop " in what] == [STOP, STOP, STOP, RESET_STOP]
    assert [what for what in ran if " start " in what] == [START, START, START, RESET_START]
    assert host.looks(60) == []
    assert host.machine.manager.run_of(GATE).invocation == gate
    assert host.serving() == SERVING
    assert host.alerts() == [("REC7171", "reasoning")]
    assert list(host.told().held_off) == ["reasoning"]
    assert host.history()[-1] == "reset reasoning after 3 restarts"
    assert any("[REC7171]" in line for line in host.machine.state.logs["recon"])


def test_what_does_not_end_by_sigterm_is_killed_by_its_own_control_groups(host: Watched) -> None:
    other = host.machine.state.processes.copy()
    set_fault(host.machine.state, "unhealthy", VLLM)
    set_fault(host.machine.state, "ignores-sigterm", VLLM)
    slow = host.machine.podman.of_unit(VLLM)
    assert slow is not None

    def hook(when: str, what: str) -> None:
        host.note(when, what)
        container = host.machine.podman.of_unit(VLLM)
        if when == "before" and what == RESET_STOP and container is not None:
            container.stop_timeout = 60.0

    host.machine.hook = hook
    ran = host.looks(60)

    assert RESET_KILL in ran
    assert ran[-1] == RESET_START
    kept = {pid for pid, process in other.items() if "recon-reasoning" not in process.cgroup}
    assert kept <= set(host.machine.state.processes)


@pytest.mark.parametrize("kept", [True, False])
def test_the_reset_command_runs_only_while_nobody_is_on_the_gpus(kept: bool) -> None:
    host = Watched(reset={"command": ("/usr/bin/podman", "--version"), "timeout": "30s"})
    if kept:
        hold_memory(host.machine, 1 << 30)
    set_fault(host.machine.state, "unhealthy", VLLM)
    asked: list[list[str]] = []
    run = host.machine.run
    host.machine.run = lambda argv, *rest, **more: asked.append(list(argv)) or run(argv, *rest, **more)  # type: ignore[method-assign,func-returns-value]

    host.looks(60)

    commands = [argv for argv in asked if argv[0] == "/usr/bin/podman"]
    assert commands == ([] if kept else [["/usr/bin/podman", "--version"]])
    assert host.serving() == SERVING


def test_the_next_applied_transition_clears_everything(host: Watched) -> None:
    set_fault(host.machine.state, "unhealthy", VLLM)
    host.looks(60)
    assert host.alerts() != []

    assert host.run("vision").state == "applied"
    host.looks(3)

    told = host.told()
    assert (told.alerts, told.held_off, told.attempts, told.said) == ((), {}, {}, "all is well")


def hold(host: Watched) -> None:
    host.machine.write(places.HOLD, b'{"owner": "ann", "reason": "benchmark", "since": 1, "until": null}')


def hold_unreadable(host: Watched) -> None:
    host.machine.write(places.HOLD, b"torn")


def a_lock(host: Watched, slot: str | None = None) -> str:
    asked = {"deed": "acquire", "slot": slot, "ttl_s": 7200.0, "owner": "ann", "reason": "benchmark"}
    return str(handle(host.machine, "lock", asked, CONTEXT)["token"])


def a_lock_of_its_slot(host: Watched) -> None:
    a_lock(host, "all")


def locks_unreadable(host: Watched) -> None:
    host.machine.write(places.LOCKS, b"torn")


def lease_of_another(host: Watched) -> None:
    lease.take(host.machine, owner="ci@example.net", txid="2026-0009", boot_id="b")


def trial(host: Watched) -> None:
    host.machine.mkdir("/run/containers/systemd")
    host.machine.symlink(places.generation(2), places.TRIAL)


def interrupted(host: Watched) -> None:
    host.machine.mkdir(places.transaction("2026-0009"))
    host.machine.write(places.transaction("2026-0009") + "/journal.jsonl", b'{"seq": 1, "t": 0.0}\n')


def torn_manifest(host: Watched) -> None:
    host.machine.write(places.generation(1) + "/manifest.json", b"torn")


def torn_record(host: Watched) -> None:
    host.machine.write(places.WATCHDOG, b"torn")


def locked(host: Watched) -> None:
    host.machine.state.locked.append(places.LOCK)


def executor_runs(host: Watched) -> None:
    host.machine.run(["systemd-run", f"--unit={places.EXECUTOR}", "--collect", "/usr/bin/sleep", "x"], 10.0)


@pytest.mark.parametrize(
    "somebody",
    [
        hold,
        hold_unreadable,
        a_lock,
        a_lock_of_its_slot,
        locks_unreadable,
        lease_of_another,
        trial,
        interrupted,
        torn_manifest,
        torn_record,
        locked,
        executor_runs,
    ],
)
def test_a_host_that_is_somebody_elses_is_left_alone(host: Watched, somebody: Callable[[Watched], None]) -> None:
    set_fault(host.machine.state, "unhealthy", VLLM)
    set_fault(host.machine.state, "unhealthy", RERANK)
    somebody(host)
    pids = host.pid(VLLM), host.pid(RERANK)

    assert host.looks(60) == []

    assert (host.pid(VLLM), host.pid(RERANK)) == pids
    assert somebody is a_lock_of_its_slot or read_record(host.machine, places.LOOKS)["said"] != "all is well"


def test_a_host_whose_lock_or_hold_has_ended_is_looked_after_again(host: Watched) -> None:
    set_fault(host.machine.state, "unhealthy", VLLM)
    a_lock(host)
    ends = host.machine.wall() + 7500.0
    host.machine.write(places.HOLD, json.dumps({"owner": "ann", "reason": "x", "since": 1, "until": ends}).encode())
    assert host.looks(200) == []

    assert STOP in host.looks(40)


def test_a_lock_taken_between_the_look_and_the_deed_is_seen(host: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    set_fault(host.machine.state, "unhealthy", VLLM)
    really, taken = host.machine.lock, [False]

    def lock(path: str) -> Any:
        # The look has found what is due, and takes the host's lock to do it.
        if path == places.LOCK and not taken[0]:
            taken[0] = True
            a_lock(host, "all")
        return really(path)

    monkeypatch.setattr(host.machine, "lock", lock)

    assert host.looks(6) == []
    assert taken == [True]


def test_a_lock_of_one_slot_leaves_residents_and_other_slots_looked_after() -> None:
    host = Watched(residents={"embed": a_service("none", None, memory="1GiB")})
    a_lock(host, "all")
    host.crash("recon-resident-embed.service")
    host.machine.manager.jobs.enqueue("recon-resident-embed.service", "stop")
    set_fault(host.machine.state, "unhealthy", VLLM)
    host.looks(6)

    units = read_record(host.machine, places.LOOKS)["units"]
    assert list(units) == ["recon-resident-embed.service"]


def test_a_resident_is_looked_after_while_a_person_has_the_covens_down() -> None:
    host = Watched(residents={"embed": a_service("llamacpp", 8009, memory="2GiB")})
    unit = "recon-resident-embed.service"
    down.down(host.machine, {"scope": "coven", "owner": "ann", "reason": "smoke", "host": "h-1"})
    set_fault(host.machine.state, "unhealthy", unit)
    host.healing_after(1, f"run systemctl start --no-block --job-mode=fail {unit}")

    ran = host.looks(5)

    assert [what for what in ran if unit not in what] == []
    assert host.history() == [f"restarted {unit} (attempt 1 of 3)"]
    assert host.serving() == ["recon-resident-embed"]


def test_what_was_counted_before_a_hold_says_nothing_after_it(host: Watched) -> None:
    set_fault(host.machine.state, "unhealthy", VLLM)
    host.looks(2)
    hold(host)
    host.looks(3)
    host.machine.remove(places.HOLD)

    # It was not seen well since, so it gets its time to load first.
    assert host.looks(3) == []
    assert STOP in host.looks(6)


def test_gpus_that_cannot_be_read_are_no_reason_to_act_and_keep_it_from_acting(host: Watched) -> None:
    set_fault(host.machine.state, "nvml", "*", 999.0)
    assert host.looks(10) == []
    set_fault(host.machine.state, "unhealthy", VLLM)

    assert host.looks(30) == []

    assert "what the GPUs hold is not known" in host.told().said
    assert host.told().attempts == {}
    assert host.serving() == SERVING


def test_systemd_that_does_not_answer_is_no_reason_to_act(host: Watched) -> None:
    set_fault(host.machine.state, "unhealthy", VLLM)
    host.looks(2)
    run = host.machine.run

    def silent(argv: Any, *rest: Any, **more: Any) -> Completed:
        return Completed(124, b"", b"") if argv[:2] == ["systemctl", "show"] else run(argv, *rest, **more)

    host.machine.run = silent  # type: ignore[method-assign]
    assert watch.watch(host.machine) == {"said": "left alone: systemctl show: exit status 124"}


def test_a_unit_edited_by_hand_is_not_started_by_the_watchdog(host: Watched) -> None:
    edit_unit(host.machine, VLLM, "LogDriver=journald", "LogDriver=none")
    set_fault(host.machine.state, "unhealthy", VLLM)

    assert host.looks(10) == []
    assert "not what was committed" in host.told().said


def test_shared_services_and_strangers_are_never_named_to_systemd(host: Watched) -> None:
    host.shared = ("search.service",)
    hold_memory(host.machine, 4 << 30)
    set_fault(host.machine.state, "unhealthy", VLLM)
    asked: list[str] = []
    run = host.machine.run

    def spy(argv: Any, *rest: Any, **more: Any) -> Any:
        asked.append(" ".join(argv))
        return run(argv, *rest, **more)

    host.machine.run = spy  # type: ignore[method-assign]
    host.looks(60)

    deeds = [words for words in asked if "show" not in words]
    assert deeds != []
    for words in deeds:
        units = [word for word in words.split() if word.endswith((".service", ".target", ".timer"))]
        assert set(units) <= {VLLM, RERANK}, words
    assert not any("search.service" in words for words in asked)


def test_memory_beyond_what_is_declared_is_an_alert_and_nothing_else(host: Watched) -> None:
    over_quota(host)

    assert host.looks(10) == []

    assert host.alerts() == [("REC7174", VLLM)]


def test_memory_beyond_what_is_declared_is_a_restart_where_git_says_so() -> None:
    host = Watched(over_memory="restart")
    over_quota(host)

    ran = host.looks(5)

    assert [what for what in ran if what in (STOP, START)] == [STOP, START]


def test_a_resident_is_looked_after_too() -> None:
    host = Watched(residents={"embed": a_service("llamacpp", 8009, memory="2GiB")})
    unit = "recon-resident-embed.service"
    set_fault(host.machine.state, "unhealthy", unit)
    host.healing_after(1, f"run systemctl start --no-block --job-mode=fail {unit}")

    ran = host.looks(5)

    assert [what for what in ran if unit not in what] == []
    assert host.history() == [f"restarted {unit} (attempt 1 of 3)"]


def test_a_watchdog_killed_between_stop_and_start_starts_it_at_its_next_look(host: Watched) -> None:
    set_fault(host.machine.state, "unhealthy", VLLM)
    killed: list[str] = []

    def hook(when: str, what: str) -> None:
        host.note(when, what)
        if when == "before" and what == START and not killed:
            killed.append(what)
            raise KilledError

    host.machine.hook = hook
    host.seen.clear()
    while not killed:
        host.machine.clock.advance(1.0)
    assert host.active(VLLM) == "inactive"
    clear_fault(host.machine.state)

    ran = host.looks(2)
    host.looks(2)

    assert START in ran
    assert host.serving() == SERVING
    assert host.told().attempts == {VLLM: 1}
    assert host.alerts() == []


EMBED = "recon-resident-embed.service"
EMBED_START = f"run systemctl start --no-block --job-mode=fail {EMBED}"


def kills_once(host: Watched) -> list[str]:
    """Let the next watchdog die right before it starts what it stopped; return what it was about to do, once it did."""
    killed: list[str] = []

    def hook(when: str, what: str) -> None:
        if when == "before" and what == START and not killed:
            killed.append(what)
            raise KilledError

    host.machine.hook = hook
    return killed


def killed_before_its_start(host: Watched) -> None:
    """Kill the watchdog between stop and start of a restart; what was ill is well from then on."""
    killed = kills_once(host)
    set_fault(host.machine.state, "unhealthy", VLLM)
    while not killed:
        host.machine.clock.advance(1.0)
    clear_fault(host.machine.state)
    host.attend()


def stopped_for_good(host: Watched, room: int) -> int:
    """Let a service wait to be started again, and a stranger leave that much memory; return its process."""
    killed_before_its_start(host)
    free = host.state().gpus
    assert isinstance(free, Known)
    memory = free.value[0].memory
    assert isinstance(memory, Known)
    hold_memory(host.machine, memory.value.free - room)
    return max(host.machine.state.processes)


def test_what_finds_no_room_keeps_nobody_else_from_being_looked_after() -> None:
    host = Watched(residents={"embed": a_service("llamacpp", 8009, memory="2GiB")})
    stranger = stopped_for_good(host, 10 << 30)
    set_fault(host.machine.state, "unhealthy", EMBED)
    host.healing_after(1, EMBED_START)

    ran = host.looks(6)

    assert (EMBED_START in ran, START in ran) == (True, False)
    assert host.history() == [f"restarted {EMBED} (attempt 1 of 3)"]
    assert VLLM in host.told().said
    end_process(host.machine, stranger)
    assert START in host.looks(3)
    assert host.serving() == ["recon-reasoning-rerank", "recon-reasoning-vllm", "recon-resident-embed"]


def test_a_host_that_is_taken_while_one_finds_no_room_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Watched(residents={"embed": a_service("llamacpp", 8009, memory="2GiB")})
    stopped_for_good(host, 10 << 30)
    set_fault(host.machine.state, "unhealthy", EMBED)
    host.looks(2)
    really = watch_deeds.close_run

    def close_run(run: Any) -> None:
        really(run)
        hold(host)

    monkeypatch.setattr(watch_deeds, "close_run", close_run)

    assert host.looks(6) == []
    assert host.told().said == "left alone: held by ann: benchmark"


DROP = f"poke {places.DROP_CACHES}"


def cached(host: Watched) -> None:
    host.machine.state.page_cache = 60 << 30
    host.machine.state.hbm_cache = (20 << 30) if host.machine.state.kind == "gh200" else 0


def drops_until_served(host: Watched) -> list[str]:
    dropped: list[str] = []

    def hook(when: str, what: str) -> None:
        if when == "before" and what in (DROP, START):
            dropped.append(what)
        if what == START:
            clear_fault(host.machine.state)
        if (when, what) == ("after", STOP):
            cached(host)

    host.machine.hook = hook
    host.looks(12)
    return dropped


@pytest.mark.parametrize(
    ("kind", "drops", "seen"),
    [
        ("gb10", True, [DROP, START]),
        ("gb10", False, [START]),  # it is available, and the server may refuse to start all the same
        ("gh200", True, [DROP, START]),
        ("gh200", False, []),
        ("h200", True, [START]),  # the page cache is not in the memory of its GPU
    ],
)
def test_a_restart_drops_the_page_cache_only_where_that_makes_the_room_and_git_says_so(
    kind: Kind, drops: bool, seen: list[str]
) -> None:
    host = Watched(kind=kind, memory=MemorySpec(drop_caches=drops))
    set_fault(host.machine.state, "unhealthy", VLLM)

    assert drops_until_served(host) == seen


@pytest.mark.parametrize(("kind", "drops"), [("gb10", True), ("gh200", True), ("gh200", False)])
def test_what_an_earlier_look_stopped_finds_its_room_where_the_page_cache_may_be_dropped(
    kind: Kind, drops: bool
) -> None:
    host = Watched(kind=kind, memory=MemorySpec(drop_caches=drops))
    killed_before_its_start(host)
    cached(host)

    assert drops_until_served(host) == ([DROP, START] if drops else [])
    assert (host.serving() == SERVING) is drops


def test_memory_that_only_counts_as_cached_keeps_nobody_else_from_the_watchdog() -> None:
    host = Watched(
        kind="gb10",
        memory=MemorySpec(drop_caches=True),
        residents={"embed": a_service("llamacpp", 8009, memory="2GiB")},
    )
    killed_before_its_start(host)
    host.machine.state.tmpfs = 90 << 30
    set_fault(host.machine.state, "unhealthy", EMBED)

    ran = host.looks(10)

    assert [what for what in ran if DROP in what] == []
    assert EMBED_START in ran
    assert START not in ran


def test_a_reboot_in_the_middle_of_a_restart_boots_the_committed_coven(host: Watched) -> None:
    set_fault(host.machine.state, "unhealthy", VLLM)
    kills_once(host)
    host.looks(4)
    clear_fault(host.machine.state)
    host.machine.reboot()
    host.attend()

    assert host.looks(4) == []
    assert host.serving() == SERVING
    assert host.told().said == "all is well"


def test_a_server_that_is_bad_after_a_reboot_goes_on_where_it_was(host: Watched) -> None:
    set_fault(host.machine.state, "unhealthy", VLLM)
    while host.told().attempts.get(VLLM, 0) < 2:
        host.looks(1)
    host.machine.reboot()
    host.attend()

    ran = host.looks(60)

    assert [what for what in ran if " start " in what] == [START, RESET_START]


def test_an_apply_while_the_watchdog_acts_is_told_the_host_is_locked(host: Watched) -> None:
    intent = host.intent("vision")
    set_fault(host.machine.state, "unhealthy", VLLM)
    ended: list[dict[str, Any]] = []

    def hook(when: str, what: str) -> None:
        if when == "before" and what == START and not ended:
            host.machine.hook = None
            ended.append(executor.execute(host.machine, host.submit(intent)))

    host.machine.hook = hook
    host.looks(5)

    why = f"restarting {VLLM}, because {VLLM} health answered 500: engine is dead"
    assert [(outcome["state"], outcome["code"], outcome["fix"]) for outcome in ended] == [
        ("locked", "REC7232", "recon apply --host h-1")
    ]
    assert ended[0]["reason"].startswith("recon watchdog has the host for ")
    assert ended[0]["reason"].endswith(f" s: {why}; it ends by itself")


def test_who_takes_the_claim_away_while_the_watchdog_acts_is_told_what_it_does_and_that_it_ends(host: Watched) -> None:
    set_fault(host.machine.state, "unhealthy", VLLM)
    refused: list[RequestError] = []
    epoch = lease.current(host.machine)

    def hook(when: str, what: str) -> None:
        if when == "before" and what == START and not refused:
            asked = {"epoch": epoch, "reason": "it hangs", "owner": "ann", "host": "h-1", "id": "release-1"}
            with pytest.raises(RequestError) as caught:
                handle(host.machine, "release", asked, CONTEXT)
            refused.append(caught.value)
            clear_fault(host.machine.state)

    host.machine.hook = hook
    host.looks(5)

    (error,) = refused
    why = f"restarting {VLLM}, because {VLLM} health answered 500: engine is dead"
    assert (error.code, error.fix) == ("REC7232", f"recon lock force-release h-1 --epoch {epoch} --reason TEXT")
    assert error.detail.startswith("recon watchdog has the host for ")
    assert error.detail.endswith(f" s: {why}; it ends by itself")
    assert (host.serving(), lease.current(host.machine)) == (SERVING, epoch)


def test_a_plan_while_the_watchdog_acts_is_told_what_it_does_and_since_when(host: Watched) -> None:
    set_fault(host.machine.state, "unhealthy", VLLM)
    seen: list[HostState] = []

    def hook(when: str, what: str) -> None:
        if when == "before" and what == START and not seen:
            seen.append(host.state())

    host.machine.hook = hook
    host.looks(5)

    (state,) = seen
    rendered, declared = host.rendered("vision")
    subject = look_at(rendered, declared, state)
    planned = plan_host(subject, diff_host(subject), fleet="studio", ignored=ignored_facts(state))
    why = f"restarting {VLLM}, because {VLLM} health answered 500: engine is dead"
    (refusal,) = planned.refusals
    assert (planned.status, refusal.code, refusal.fix) == ("locked", "REC7232", "recon apply --host h-1")
    assert refusal.detail.endswith(f": {why}; it ends by itself")
    told = "\n".join(status_lines((declared,), {"h-1": state}, Paint(on=False), details=False))
    assert f": {why}\n  it ends by itself; an apply is refused until then" in told
    assert "void" not in told


def test_a_transition_is_never_disturbed(host: Watched) -> None:
    set_fault(host.machine.state, "slow-load", "recon-vision-llama.service", 100.0)
    intent = host.intent("vision")
    host.seen.clear()

    outcome = host.execute(intent)

    assert (outcome.state, outcome.live) == ("applied", {"all": "vision"})
    assert host.history() == []
    assert read_record(host.machine, places.LOOKS)["said"].startswith("left alone")


def test_a_held_host_has_an_alert_and_is_left_to_a_person(host: Watched) -> None:
    intent = host.intent("vision")
    set_fault(host.machine.state, "crash-at-start", "recon-*")
    assert host.execute(intent).state == "held"

    assert host.looks(10) == []

    assert host.alerts() == [("REC7190", intent["txid"])]
    assert "left it to a person" in host.told().said


def test_the_first_look_after_a_power_cut_calls_the_person_that_a_held_host_still_owed(host: Watched) -> None:
    intent = host.intent("vision")
    set_fault(host.machine.state, "crash-at-start", "recon-*")
    outcome = places.transaction(host.submit(intent)) + "/outcome.json"

    def cut(when: str, change: str) -> None:
        is_due = host.machine.stat(outcome) is not None and host.machine.stat(places.ALERTS) is None
        if when == "before" and is_due and change in (f"write {places.ALERTS}", f"append {places.HISTORY}"):
            raise PowerCutError

    host.strike(intent["txid"], cut)
    host.machine.reboot()
    host.looks(10)

    assert host.alerts() == [("REC7190", intent["txid"])]
    assert host.told().said == f"left alone: transaction {intent['txid']} left it to a person"


def test_an_order_that_changed_nothing_does_not_release_a_held_host(host: Watched) -> None:
    intent = host.intent("vision")
    set_fault(host.machine.state, "crash-at-start", "recon-*")
    assert host.execute(intent).state == "held"
    assert host.execute({**host.intent("vision"), "fingerprint": "another"}).state == "stale"

    assert host.looks(10) == []
    assert host.told().said == f"left alone: transaction {intent['txid']} left it to a person"

    clear_fault(host.machine.state)
    assert host.run("reasoning").state == "applied"
    host.looks(1)
    assert "left alone" not in host.told().said


def test_a_watchdog_taken_out_of_git_looks_no_more(host: Watched) -> None:
    host.watchdog = None
    assert host.run("reasoning").state == "applied"

    assert host.active(places.WATCHDOG_TIMER) == "inactive"
    assert host.machine.stat(f"{places.NATIVE}/{places.WATCHDOG_TIMER}") is None
    assert not isinstance(host.state().watchdog, Known)


def test_a_changed_interval_takes_effect_at_once(host: Watched) -> None:
    before = host.machine.manager.run_of(places.WATCHDOG_TIMER).since
    host.watchdog = Watchdog.model_validate({"every": "60s"})

    assert host.run("reasoning").state == "applied"

    assert host.machine.manager.run_of(places.WATCHDOG_TIMER).since > before


def test_a_timer_that_somebody_stopped_is_drift_and_comes_back(host: Watched) -> None:
    stop_unit(host.machine, places.WATCHDOG_TIMER)

    assert host.run("reasoning").state == "applied"

    assert host.active(places.WATCHDOG_TIMER) == "active"


@pytest.mark.parametrize("path", [places.WATCHDOG, places.ALERTS])
def test_a_damaged_record_is_unknown_and_never_all_is_well(host: Watched, path: str) -> None:
    set_fault(host.machine.state, "unhealthy", VLLM)
    host.looks(60)
    data = host.machine.read(path)
    for damaged in (data[:-5], data[:40], b"", data.replace(b'"generation":1', b'"generation":2')):
        host.machine.write(path, damaged)
        fact = host.state().watchdog
        assert not isinstance(fact, Known), (path, damaged)


UNTIL_RESET_S = 420.0
BOOKS = ("journal.jsonl", "watchdog.jsonl", "lease.json", places.LOOKS)


def changes_of_a_deed(host: Watched, faults: Callable[[Watched], None]) -> list[str]:
    """Return every change a host sees while its watchdog works on a fault, book-keeping included."""
    other = copy_of(host)
    seen: list[str] = []
    other.machine.hook = lambda when, what: seen.append(what) if when == "before" else None
    faults(other)
    other.machine.clock.advance(UNTIL_RESET_S)
    return seen


def copy_of(host: Watched) -> Watched:
    other = host.copy()
    assert isinstance(other, Watched)
    other.machine.manager.program = lambda argv: run_agent(other.machine, argv)
    return other


def ill(host: Watched) -> None:
    set_fault(host.machine.state, "unhealthy", VLLM)


@pytest.mark.parametrize("how", [KilledError, PowerCutError])
def test_a_watchdog_that_ends_before_any_of_its_changes_leaves_a_host_that_serves(
    how: type[StoppedError],
) -> None:
    host = Watched(looks=2, attempts=1)
    changes = changes_of_a_deed(host, ill)
    worth = [number for number, what in enumerate(changes) if not what.endswith(BOOKS)]
    assert [changes[number] for number in worth if " start " in changes[number]] == [START, RESET_START]
    for number in worth:
        other = copy_of(host)
        seen: list[str] = []

        other.machine.hook = ending_at(number, how, seen)
        ill(other)
        with contextlib.suppress(PowerCutError):
            other.machine.clock.advance(UNTIL_RESET_S)
        other.machine.hook = None
        clear_fault(other.machine.state)
        if how is PowerCutError:
            other.machine.reboot()
        other.machine.clock.advance(8 * (EVERY_S + 3.0))

        where = f"{how.__name__} before {changes[number]} ({number})"
        assert other.serving() == SERVING, where
        assert other.machine.stat(places.LEASE) is None or how is KilledError, where
        assert other.run("vision").state == "applied", where


def test_a_claim_that_is_taken_by_force_stops_the_watchdog_before_its_next_change(host: Watched) -> None:
    set_fault(host.machine.state, "unhealthy", VLLM)

    def hook(when: str, what: str) -> None:
        host.note(when, what)
        if (when, what) == ("after", STOP) and host.seen.count(STOP) == 1:
            lease.advance(host.machine)

    host.machine.hook = hook
    host.seen.clear()
    while STOP not in host.seen:
        host.machine.clock.advance(1.0)

    assert START not in host.seen
    assert "is over" in host.told().said


def cut_at(host: Watched, intent: dict[str, Any], number: int) -> tuple[Watched, str]:
    """Return a host whose power was cut before one change of a transition, and which change that was."""
    other, seen = copy_of(host), list[str]()
    other.machine.hook = ending_at(number, PowerCutError, seen)
    with contextlib.suppress(PowerCutError):
        executor.execute(other.machine, other.submit(intent))
    other.machine.hook = None
    if len(seen) <= number:
        return other, ""
    other.machine.reboot()
    other.attend()
    return other, seen[number]


def test_what_a_power_cut_interrupted_is_brought_to_its_end_by_the_watchdog_wherever_it_was(host: Watched) -> None:
    """At every single change of a transition: the outcome says what is committed, and nobody has to come for it."""
    host.covens["other"] = a_coven("other", one=a_service("llamacpp", 8004, memory="8GiB"))
    intent = host.intent("vision")
    before = set(host.machine.state.files)
    ends: set[str] = set()
    number = 0
    while True:
        other, where = cut_at(host, intent, number)
        number += 1
        if not where:
            break
        other.looks(4)

        committed = other.state().generation
        assert isinstance(committed, Known), where
        assert committed.value is not None, where
        last = other.state().executor.last
        journal = other.machine.stat(places.transaction(intent["txid"]) + "/journal.jsonl")
        if journal is None:
            continue  # the transaction never began
        assert isinstance(last, Known), where
        expected = "applied" if committed.value.number == 2 else "aborted"
        assert last.value["state"] in (expected, "aborted" if journal.size == 0 else expected), where
        ends.add(str(last.value["state"]))
        lines = [json.loads(line) for line in other.machine.read(places.HISTORY).splitlines()]
        assert [line["state"] for line in lines if line.get("txid") == intent["txid"]] == [expected], where
        assert other.told().said == "all is well", where
        assert other.machine.stat(places.LEASE) is None, where
        if expected == "aborted":
            extra = {path for path in set(other.machine.state.files) - before if path.startswith(places.NATIVE)}
            assert extra == set(), where
        assert other.serving() == (SERVING if expected == "aborted" else ["recon-vision-llama"]), where
    assert ends == {"applied", "aborted"}


def unwritable(host: Watched, txid: str) -> None:
    """Run a transaction, and all who follow its executor, on a host that takes no outcome."""

    def hook(when: str, what: str) -> None:
        if when == "before" and what == f"write {places.transaction(txid)}/outcome.json":
            raise OSError(errno.EROFS, "Read-only file system")

    host.machine.hook = hook
    for recover in (False, True, True):
        with pytest.raises(OSError, match="Read-only"):
            executor.execute(host.machine, txid, recover=recover)
    host.attend()


def test_a_commit_that_nobody_could_tell_of_is_told_by_an_executor_that_the_watchdog_starts(host: Watched) -> None:
    """It would stay away for ever without its outcome, and an apply finds nothing to do."""
    host.machine.mkdir(places.AGENTS)
    host.machine.symlink(f"{places.AGENTS}/simulated", places.CURRENT_AGENT)
    txid = host.submit(host.intent("vision"))
    unwritable(host, txid)
    last = host.state().executor.last
    assert last == Unknown(
        unknown=f"transaction {txid} has no executor and no outcome; "
        "the watchdog, or the next apply, brings it to its end"
    )

    assert watch.watch(host.machine) == {
        "said": f"started an executor again for transaction {txid}, whose own had all died"
    }
    run_launched(host.machine)
    host.looks(2)

    last = host.state().executor.last
    assert isinstance(last, Known)
    assert (last.value["state"], last.value["reason"], last.value["committed"]) == (
        "applied",
        "generation 2 is committed",
        2,
    )
    lines = [json.loads(line) for line in host.machine.read(places.HISTORY).splitlines()]
    assert [line["state"] for line in lines if line.get("txid") == txid] == ["applied"]
    assert host.told().said == "all is well"
    assert host.machine.stat(places.LEASE) is None
    assert host.serving() == ["recon-vision-llama"]


def test_a_commit_that_nobody_told_of_is_left_alone_while_its_executor_runs(host: Watched) -> None:
    txid = host.submit(host.intent("vision"))
    unwritable(host, txid)
    executor_runs(host)

    host.looks(2)

    assert host.told().said == f"left alone: claimed by ci@example.net, transaction {txid}"


@pytest.mark.parametrize("number", [10, 40, 70, 100])
def test_what_a_power_cut_interrupted_comes_to_its_end_while_a_person_has_the_covens_down(
    host: Watched, number: int
) -> None:
    """The end is told and nothing is started for it; what was taken down is down."""
    intent = host.intent("vision")
    other, _ = cut_at(host, intent, number)
    down.down(other.machine, {"scope": "all", "owner": "ann", "reason": "fire", "host": "h-1"})

    other.looks(4)

    last = other.state().executor.last
    assert isinstance(last, Known)
    assert (last.value["txid"], last.value["state"]) in {(intent["txid"], "aborted"), (intent["txid"], "applied")}
    assert other.serving() == []
    assert other.told().said.startswith("left alone: the covens are down by ann: fire")


def test_what_a_power_cut_interrupted_waits_while_a_person_holds_the_host(host: Watched) -> None:
    intent = host.intent("vision")
    other, _ = cut_at(host, intent, 40)
    hold(other)

    other.looks(4)
    assert other.told().said == "left alone: held by ann: benchmark"
    other.machine.remove(places.HOLD)
    other.looks(4)

    last = other.state().executor.last
    assert isinstance(last, Known)
    assert (last.value["state"], last.value["code"]) == ("aborted", "REC7116")
