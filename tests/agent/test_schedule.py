"""The schedule in virtual time, with no controller: at its minute, over a reboot and the nights of moved clocks."""

from __future__ import annotations

import datetime
import json
import zoneinfo
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.agent import alerts, dispatch, executor, observe, places, schedule, schedule_order
from reconciler.agent.record import read_record, write_record
from reconciler.agent.target import target_of
from reconciler.diff import diff_host, ignored_facts
from reconciler.model.desired import Coven, Drain, MemorySpec, Watchdog
from reconciler.model.digest import target_digest
from reconciler.model.observed import HostState, Known
from reconciler.model.outcome import Outcome
from reconciler.model.plan import HostPlan
from reconciler.model.subject import look_at
from reconciler.model.window import Window
from reconciler.planner import plan_host
from reconciler.sim.deeds import hold_memory, stop_unit
from reconciler.sim.faults import clear_fault, set_fault
from reconciler.sim.fleet import run_agent
from reconciler.sim.machine import PowerCutError
from reconciler.sim.services import add_requests
from reconciler.sim.state import Kind, Node
from tests.agent.bench import CONTEXT, REASONING, VISION, Bench, a_coven, a_service, ending_before

BERLIN = "Europe/Berlin"
NIGHT = {"coven": "vision", "from": "02:00", "to": "04:00", "timezone": BERLIN}
DAY_S = 86400.0
REASONS = ["recon-reasoning-rerank", "recon-reasoning-vllm"]
SEES = ["recon-vision-llama"]


def at(text: str, zone: str = BERLIN) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(zone)).timestamp()


class Scheduled(Bench):
    """A host with windows, and its timers run; `until` lets it live on to a time on the wall."""

    def __init__(
        self,
        *windows: dict[str, Any],
        begins: str = "2026-01-05T12:00",
        declared: tuple[str | None, ...] = ("reasoning",),
        covens: tuple[Coven, ...] = (),
        watchdog: Watchdog | None = None,
        **more: Any,
    ) -> None:
        super().__init__(*covens, **more)
        self.watchdog = watchdog
        self.schedule = tuple(Window.model_validate(window) for window in windows or (NIGHT,))
        self.declared = declared
        self.attend()
        self.until(begins)
        assert self.run(*declared).state == "applied"

    def attend(self) -> None:
        self.machine.manager.program = lambda argv: run_agent(self.machine, argv)

    def until(self, text: str, zone: str = BERLIN) -> None:
        self.machine.clock.advance(at(text, zone) - self.machine.wall())

    def state(self) -> HostState:
        return HostState.model_validate(observe.observe(self.machine, {**self.question(), "zones": [BERLIN]}, CONTEXT))

    def plan(self) -> HostPlan:
        rendered, host = self.rendered(*self.declared)
        state = self.state()
        subject = look_at(rendered, host, state)
        return plan_host(subject, diff_host(subject), fleet="studio", ignored=ignored_facts(state))

    def said(self) -> str:
        fact = self.state().schedule
        assert isinstance(fact, Known), fact
        return fact.value.said

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.machine.read(places.HISTORY).splitlines()]

    def orders(self) -> list[str]:
        return [line["deed"] for line in self.lines() if line.get("kind") == "schedule"]

    def committed(self) -> dict[str, Any]:
        return read_record(self.machine, self.machine.read_link(places.COMMITTED) + "/manifest.json")


@pytest.fixture
def host() -> Iterator[Scheduled]:
    made = Scheduled()
    yield made
    assert made.machine.unknown == []


def test_a_window_begins_and_ends_at_its_minute_with_no_controller(host: Scheduled) -> None:
    host.until("2026-01-06T01:59")
    assert host.serving() == REASONS

    host.until("2026-01-06T02:02")
    assert host.serving() == SEES
    assert host.committed()["live"] == {"all": "vision"}

    host.until("2026-01-06T03:59")
    assert host.serving() == SEES
    host.until("2026-01-06T04:03")
    assert host.serving() == REASONS
    assert host.orders() == ["all reasoning → vision", "all vision → reasoning"]


def test_a_switch_by_the_schedule_is_told_with_its_owner_and_the_commit_that_was_reviewed(host: Scheduled) -> None:
    before = host.committed()
    host.until("2026-01-06T02:05")

    after, last = host.committed(), host.lines()[-1]
    assert (last["state"], last["owner"], last["source_commit"]) == ("applied", "schedule", "c0ffee")
    kept = ("source_commit", "plan_digest", "files", "groups", "schedule", "watchdog", "residents")
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    assert after["generation"] == before["generation"] + 1
    assert [line["reason"] for line in host.lines() if line.get("kind") == "schedule"] == ["a window began or ended"]


def test_inside_a_window_a_plan_finds_nothing_to_do_and_says_what_comes_next(host: Scheduled) -> None:
    host.until("2026-01-06T02:10")

    planned = host.plan()
    assert (planned.order, planned.changes, planned.transitions, planned.refusals) == (None, (), (), ())
    assert [(now.coven, now.declared, now.until, now.then) for now in planned.schedule] == [
        ("vision", "reasoning", int(at("2026-01-06T04:00")), "reasoning")
    ]


def test_a_host_that_was_off_does_what_is_due_now_and_replays_nothing(host: Scheduled) -> None:
    host.until("2026-01-06T01:50")
    host.machine.reboot(down_s=3.5 * 3600)
    host.attend()
    host.machine.clock.advance(120.0)
    assert host.serving() == REASONS
    assert host.orders() == []

    host.until("2026-01-07T01:50")
    host.machine.reboot(down_s=3600)
    host.attend()
    host.machine.clock.advance(180.0)
    assert host.serving() == SEES
    assert host.orders() == ["all reasoning → vision"]

    host.machine.reboot(down_s=60)
    host.attend()
    host.machine.clock.advance(120.0)
    assert host.serving() == SEES, "what was committed by the schedule is what boots"
    host.until("2026-01-07T04:03")
    assert host.serving() == REASONS


@pytest.mark.parametrize(
    ("night", "hours"), [("2026-03-29", 1.0), ("2026-10-25", 3.0), ("2026-07-01", 2.0)], ids=["23 h", "25 h", "24 h"]
)
def test_on_the_nights_of_moved_clocks_a_window_is_what_the_clock_on_the_wall_says(night: str, hours: float) -> None:
    host = Scheduled(begins=f"{night}T01:00")
    changed: list[tuple[float, list[str]]] = []
    end = at(f"{night}T06:00")
    while host.machine.wall() < end:
        host.machine.clock.advance(60.0)
        if not changed or changed[-1][1] != host.serving():
            changed.append((host.machine.wall(), host.serving()))

    first, last = (
        next(when for when, names in changed[start:] if names == wanted) for start, wanted in ((0, SEES), (2, REASONS))
    )
    assert abs((last - first) / 3600 - hours) < 0.1
    assert host.orders() == ["all reasoning → vision", "all vision → reasoning"]


def test_a_hold_keeps_the_schedule_away_and_it_goes_on_within_a_minute_after(host: Scheduled) -> None:
    host.until("2026-01-06T01:50")
    host.machine.write(places.HOLD, b'{"owner": "ann", "reason": "benchmark", "since": 1}')
    host.until("2026-01-06T02:30")
    assert host.serving() == REASONS
    assert host.said() == "left alone: held by ann: benchmark"

    host.machine.remove(places.HOLD)
    host.machine.clock.advance(150.0)
    assert host.serving() == SEES


def test_a_hold_that_lasts_to_the_end_of_the_window_leaves_no_switch_to_be_made_up_for(host: Scheduled) -> None:
    host.until("2026-01-06T01:50")
    host.machine.write(places.HOLD, b'{"owner": "ann", "reason": "benchmark", "since": 1}')
    host.until("2026-01-06T04:10")
    host.machine.remove(places.HOLD)
    host.until("2026-01-06T05:00")

    assert (host.serving(), host.orders()) == (REASONS, [])


def test_a_switch_that_failed_is_not_tried_again_before_the_next_edge(host: Scheduled) -> None:
    set_fault(host.machine.state, "crash-at-start", "recon-vision-llama.service")
    host.until("2026-01-06T03:50")

    assert host.serving() == REASONS
    assert host.orders() == ["all reasoning → vision", "gave up until the next edge: all reasoning → vision"]
    assert "not tried again before the next edge" in host.said()
    fact = host.state().watchdog
    assert isinstance(fact, Known)
    assert [(alert.code, alert.about) for alert in fact.value.alerts] == [("REC7341", "h-1")]

    clear_fault(host.machine.state)
    host.until("2026-01-06T05:00")
    assert host.serving() == REASONS
    host.until("2026-01-07T02:10")
    assert host.serving() == SEES
    assert not isinstance(host.state().watchdog, Known)


def test_a_new_commit_lets_a_failed_switch_be_tried_again(host: Scheduled) -> None:
    set_fault(host.machine.state, "crash-at-start", "recon-vision-llama.service")
    host.until("2026-01-06T02:40")
    assert len(host.orders()) == 2
    clear_fault(host.machine.state)
    host.watchdog = Watchdog()

    planned = host.plan()
    assert planned.transitions[0].reason == "slot all runs reasoning, in force is vision by the schedule"
    assert host.run("reasoning").state == "applied"
    assert host.serving() == SEES


def test_after_its_alert_is_cleared_a_failed_switch_is_tried_again(host: Scheduled) -> None:
    set_fault(host.machine.state, "crash-at-start", "recon-vision-llama.service")
    host.until("2026-01-06T02:40")
    clear_fault(host.machine.state)

    alerts.clear(host.machine)
    host.machine.clock.advance(180.0)

    assert host.serving() == SEES


def test_a_host_that_was_left_held_and_booted_well_goes_on_when_a_person_has_seen_it(host: Scheduled) -> None:
    for unit in (*REASONS, *SEES):
        set_fault(host.machine.state, "crash-at-start", f"{unit}.service")
    host.until("2026-01-06T02:40")
    assert [line["state"] for line in host.lines() if "txid" in line][-1] == "held"
    clear_fault(host.machine.state)
    host.machine.reboot()
    host.attend()
    host.machine.clock.advance(180.0)
    before, said = host.serving(), host.said()

    alerts.clear(host.machine)
    host.machine.clock.advance(180.0)

    assert (before, said.endswith("left it to a person")) == (REASONS, True)
    assert host.serving() == SEES


def test_a_transition_whose_end_is_damaged_keeps_nobody_away_when_a_person_has_seen_it(host: Scheduled) -> None:
    (txid,) = [line["txid"] for line in host.lines() if "txid" in line]
    host.machine.files.put(f"{places.transaction(txid)}/outcome.json", Node.of(b"{"))
    host.until("2026-01-06T02:05")
    before, said = host.serving(), host.said()

    alerts.clear(host.machine)
    host.machine.clock.advance(180.0)

    assert (before, said) == (REASONS, f"left alone: transaction {txid} has no end that can be read")
    assert host.serving() == SEES


def test_work_that_is_not_done_in_time_keeps_the_old_coven_as_the_plan_says(host: Scheduled) -> None:
    host.until("2026-01-06T01:59")
    host.busy(8001, 3600.0)
    host.until("2026-01-06T02:30")

    assert host.serving() == REASONS
    assert host.lines()[-1]["deed"].startswith("gave up until the next edge")


def test_a_stranger_on_the_gpu_disturbs_nobody_and_the_switch_comes_when_it_is_gone(host: Scheduled) -> None:
    host.until("2026-01-06T01:59")
    hold_memory(host.machine, 10 << 30, "train")
    host.until("2026-01-06T02:10")

    assert (host.serving(), host.orders()) == (REASONS, [])
    assert "train" in host.said()


def test_a_window_starts_nothing_beside_what_its_coven_would_take_over() -> None:
    llama = a_service("llamacpp", 8003, memory="100GiB", adopts="llama.service")
    host = Scheduled(covens=(REASONING, a_coven("vision", llama=llama)))
    host.machine.files.put("/etc/systemd/system/llama.service", Node.of(b"[Service]\nExecStart=/bin/llama\n"))
    host.machine.manager.daemon_reload()
    assert host.machine.run(["systemctl", "start", "llama.service"], 60.0).rc == 0

    host.until("2026-01-06T02:02")
    assert (host.serving(), host.active("llama.service")) == (REASONS, "active")
    said = "llama.service runs, and a schedule takes nothing over; recon apply does"
    assert host.said() == f"left alone: {said}"

    assert host.machine.run(["systemctl", "stop", "llama.service"], 60.0).rc == 0
    host.until("2026-01-06T02:05")
    assert host.serving() == SEES


def test_priorities_settle_overlaps_and_what_ends_gives_way_to_what_is_still_open() -> None:
    host = Scheduled(
        {**NIGHT, "from": "01:00", "to": "06:00", "priority": 10},
        {**NIGHT, "coven": "speech", "priority": 90},
        covens=(REASONING, VISION, SPEECH),
    )
    seen = []
    for text in ("00:59", "01:05", "02:05", "03:59", "04:05", "06:05"):
        host.until(f"2026-01-06T{text}")
        seen.append(host.serving()[0].split("-")[1])

    assert seen == ["reasoning", "vision", "speech", "speech", "vision", "reasoning"]


SPEECH = a_coven("speech", tts=a_service("llamacpp", 8004, memory="20GiB"))


def test_a_window_that_requires_drained_waits_for_idleness_and_cuts_nothing() -> None:
    host = Scheduled({**NIGHT, "require": "drained"})
    host.until("2026-01-06T01:59")
    host.busy(8001, 3600.0)
    host.until("2026-01-06T02:50")
    assert (host.serving(), host.orders()) == (REASONS, [])
    assert "vision waits on slot all: reasoning is busy: vllm 1" in host.said()
    planned = host.plan()
    assert (planned.order, planned.schedule[0].coven, planned.schedule[0].waits) == (None, "reasoning", "vision")

    host.until("2026-01-06T03:10")
    assert host.serving() == SEES
    assert host.plan().order is None
    host.until("2026-01-06T04:05")
    assert host.serving() == REASONS


def test_work_that_comes_between_the_look_and_the_drain_is_not_cut_and_the_window_waits_again() -> None:
    coven = a_coven(
        "reasoning", vllm=a_service("vllm", 8001, memory="80GiB", drain={"timeout": "30s", "on_timeout": "force"})
    )
    host = Scheduled({**NIGHT, "require": "drained"}, covens=(coven, VISION))
    host.until("2026-01-06T01:59")
    told = host.machine.hook

    def hook(when: str, what: str) -> None:
        if when == "before" and what.startswith("run systemd-run --unit=recon-executor"):
            host.machine.hook = told
            for server in host.machine.podman.servers.matching(":8001"):
                add_requests(server, host.machine.clock.now, 600.0, 1, 0.0)

    host.machine.hook = hook
    host.until("2026-01-06T02:05")
    assert host.serving() == ["recon-reasoning-vllm"]
    assert host.lines()[-1]["state"] == "aborted"

    host.until("2026-01-06T02:20")
    assert host.serving() == SEES


def test_a_window_that_yields_begins_after_so_much_idleness() -> None:
    host = Scheduled({**NIGHT, "yields": "20m"})
    host.until("2026-01-06T02:10")
    host.busy(8001, 120.0)
    host.until("2026-01-06T02:28")
    assert host.serving() == REASONS

    host.until("2026-01-06T02:36")
    assert host.serving() == SEES


def test_two_slots_have_windows_of_their_own() -> None:
    one, two = VISION, SPEECH
    host = Scheduled(
        {**NIGHT, "coven": "speech", "slot": "right"},
        covens=(a_coven("reasoning", vllm=a_service("vllm", 8001, memory="60GiB")), one, two),
        slots={"left": ("0",), "right": ("1",)},
        declared=("reasoning", "vision"),
    )
    kept = host.pid("recon-reasoning-vllm.service")
    host.until("2026-01-06T02:05")

    assert host.serving() == ["recon-reasoning-vllm", "recon-speech-tts"]
    assert host.pid("recon-reasoning-vllm.service") == kept
    host.until("2026-01-06T04:05")
    assert host.serving() == ["recon-reasoning-vllm", "recon-vision-llama"]


def test_a_slot_that_declares_nothing_is_empty_again_when_its_window_ends() -> None:
    host = Scheduled(declared=(None,))
    host.until("2026-01-06T02:05")
    assert host.serving() == SEES
    host.until("2026-01-06T04:05")
    assert host.serving() == []


def test_an_order_made_before_an_edge_is_stale_after_it(host: Scheduled) -> None:
    host.until("2026-01-06T01:58")
    host.watchdog = Watchdog()
    intent = host.intent("reasoning")
    host.machine.write(places.HOLD, b'{"owner": "ann", "reason": "benchmark", "since": 1}')
    host.until("2026-01-06T02:10")
    host.machine.remove(places.HOLD)

    ended = host.execute(host.looked_at(intent))

    assert (ended.state, ended.code) == ("stale", "REC7340")
    assert "its schedule says vision" in (ended.reason or "")


def test_the_first_commit_of_a_schedule_inside_a_window_runs_the_coven_of_the_window() -> None:
    host = Scheduled(begins="2026-01-06T02:30")

    assert host.serving() == SEES
    assert host.active(places.SCHEDULE_TIMER) == "active"


def test_a_schedule_that_goes_takes_its_timer_along(host: Scheduled) -> None:
    host.schedule = ()
    assert host.run("reasoning").state == "applied"

    assert host.active(places.SCHEDULE_TIMER) == "inactive"
    assert host.machine.stat(f"{places.NATIVE}/{places.SCHEDULE_TIMER}") is None
    host.until("2026-01-06T02:10")
    assert host.serving() == REASONS


def test_a_timer_that_somebody_stopped_is_drift_and_is_started_again(host: Scheduled) -> None:
    stop_unit(host.machine, places.SCHEDULE_TIMER)

    assert [change.reason for change in host.plan().changes] == [
        "recon-schedule.timer is not running: no window begins or ends by itself"
    ]
    assert host.run("reasoning").state == "applied"
    assert host.active(places.SCHEDULE_TIMER) == "active"


def test_inside_a_window_another_declared_coven_is_committed_without_a_transition() -> None:
    host = Scheduled(covens=(REASONING, VISION, SPEECH))
    host.until("2026-01-06T02:10")
    host.declared = ("speech",)

    planned = host.plan()
    assert ([change.address for change in planned.changes], planned.transitions) == (["h-1/setting/schedule"], ())
    assert host.run("speech").state == "applied"
    assert host.serving() == SEES
    host.until("2026-01-06T04:05")
    assert host.serving() == ["recon-speech-tts"]


def test_drift_of_a_live_coven_is_measured_by_what_is_in_force(host: Scheduled) -> None:
    host.until("2026-01-06T02:10")
    stop_unit(host.machine, "recon-gate-all-vision.service")

    assert [(move.from_coven, move.to_coven, move.cause) for move in host.plan().transitions] == [
        (None, "vision", "drift")
    ]


def test_a_look_while_all_is_as_it_should_be_changes_nothing(host: Scheduled) -> None:
    before = host.state().fingerprint

    assert host.doing(lambda: schedule.schedule(host.machine, CONTEXT)) == []
    assert host.said() == "as it should be: all reasoning"
    assert host.state().fingerprint == before


def test_a_zone_that_the_host_cannot_read_is_an_alert_and_moves_nothing(
    host: Scheduled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoneinfo.ZoneInfo", _no_zone)
    schedule.schedule(host.machine, CONTEXT)

    told = [(alert["code"], alert["fix"]) for alert in alerts.standing(host.machine)]
    assert told == [("REC7342", "on the host: apt install tzdata")]
    monkeypatch.undo()
    host.machine.clock.advance(120.0)
    assert alerts.standing(host.machine) == []


def _no_zone(name: str) -> Any:
    raise zoneinfo.ZoneInfoNotFoundError(name)


def test_a_host_that_does_not_say_which_machine_it_is_moves_nothing_and_says_why(
    host: Scheduled, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = host.machine.read

    def read(path: str, limit: int = 1 << 24) -> bytes:
        return b"" if path == "/etc/machine-id" else really(path, limit)

    monkeypatch.setattr(host.machine, "read", read)
    host.until("2026-01-06T02:02")
    monkeypatch.setattr(host.machine, "read", really)

    assert host.said() == "left alone: the host does not say which machine it is: /etc/machine-id is empty"
    assert host.serving() == REASONS


def test_an_executor_that_is_killed_leaves_no_second_switch_in_its_window(host: Scheduled) -> None:
    host.until("2026-01-06T01:59")
    set_fault(host.machine.state, "never-healthy", "recon-vision-llama.service")
    host.until("2026-01-06T03:30")

    assert host.serving() == REASONS
    assert len([line for line in host.orders() if not line.startswith("gave up")]) == 1


# -- the order of the host is the order of the planner --------------------------------------------------------------

MEMORIES = st.builds(
    lambda release, drop: MemorySpec.model_validate({"drop_caches": drop, **({"release": release} if release else {})}),
    st.sampled_from([None, "30s", "7m"]),
    st.booleans(),
)


def sized(name: str, port: int, sizes: tuple[int, ...]) -> Coven:
    services = {f"s{n}": a_service("llamacpp", port + n, memory=f"{gib}GiB") for n, gib in enumerate(sizes)}
    return Coven(name=name, description=None, services=services, drain=Drain())


COVENS = {
    each.name: each for each in (sized("one", 8100, (3, 5)), sized("two", 8200, (7,)), sized("three", 8300, (1, 2, 4)))
}


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["h200", "gb10", "gh200"]),
    memory=MEMORIES,
    reserve=st.sampled_from([None, 1 << 30, 9 << 30]),
    slots=st.sampled_from([{"all": "all"}, {"left": ("0",), "right": ("1",)}]),
    runs=st.sampled_from(["one", "two", None]),
    night=st.sampled_from(["two", "three"]),
    shared=st.booleans(),
    watched=st.booleans(),
)
def test_the_order_that_a_host_makes_is_what_a_plan_would_hand_it(
    kind: Kind,
    memory: MemorySpec,
    reserve: int | None,
    slots: dict[str, Any],
    runs: str | None,
    night: str,
    shared: bool,
    watched: bool,
) -> None:
    two = len(slots) > 1
    if runs == night:
        return
    host = Bench(*COVENS.values(), slots=slots, kind=kind if not two else "h200", memory=memory)
    host.shared = ("qdrant.service",) if shared else ()
    host.reserve = reserve
    host.watchdog = Watchdog() if watched else None
    last = next(reversed(slots))
    host.schedule = (Window.model_validate({**NIGHT, "coven": night, **({"slot": last} if two else {})}),)
    other = "one" if runs != "one" else "two"
    live = (other if other != night else None, runs) if two else (runs,)
    host.machine.clock.advance(at("2026-01-06T01:00") - host.machine.wall())
    assert host.run(*live).state == "applied"
    host.machine.clock.advance(at("2026-01-06T02:30") - host.machine.wall())

    planned = host.intent(*live)
    number = int(host.machine.read_link(places.COMMITTED).rpartition("/")[2])
    body = read_record(host.machine, places.generation(number) + "/manifest.json")
    state = observe.observe(host.machine, schedule_order.question(body["schedule"]), CONTEXT)
    made = schedule_order.order(host.machine, body, number, state, {**body["live"], last: night})

    for each in (planned, made):
        each["boot"] = sorted(each["boot"])
        del each["fingerprint_parts"]
    named = {"txid": planned["txid"], "owner": planned["owner"]}
    assert {**made, **named} == planned
    rendered, declared = host.rendered(*live)
    wanted = look_at(rendered, declared, HostState.model_validate(observe.observe(host.machine, {}, CONTEXT))).rendered
    assert target_of(made) == target_digest(wanted), "a controller that wants the same joins it"
    made.update(txid="2026-9999")
    ended = Outcome.model_validate(executor.execute(host.machine, host.submit(made)))
    assert (ended.state, ended.live[last]) == ("applied", night)


def test_a_sure_switch_of_one_slot_is_not_held_up_by_a_window_of_another_that_may_give_up_again() -> None:
    host = Scheduled(
        {**NIGHT, "coven": "speech", "slot": "right", "require": "drained"},
        {**NIGHT, "coven": "other", "slot": "left"},
        covens=(
            a_coven("reasoning", vllm=a_service("vllm", 8001, memory="60GiB")),
            a_coven("other", vllm=a_service("vllm", 8011, memory="60GiB")),
            VISION,
            SPEECH,
        ),
        slots={"left": ("0",), "right": ("1",)},
        declared=("reasoning", "vision"),
    )
    host.until("2026-01-06T02:05")

    assert host.orders() == ["left reasoning → other", "right vision → speech"]
    assert host.serving() == ["recon-other-vllm", "recon-speech-tts"]


PAIR = {"left": ("0",), "right": ("1",)}
DAY_OF_TWO = a_coven("reasoning", vllm=a_service("vllm", 8001, memory="60GiB"))
OTHER = a_coven("other", vllm=a_service("vllm", 8011, memory="60GiB"))
THIRD = a_coven("third", vllm=a_service("vllm", 8012, memory="60GiB"))
LATER = {"from": "04:00", "to": "06:00"}


def of_two(*windows: dict[str, Any]) -> Scheduled:
    """A host of two slots that runs reasoning and vision outside of its windows."""
    covens = (DAY_OF_TWO, OTHER, THIRD, VISION, SPEECH)
    return Scheduled(*windows, covens=covens, slots=PAIR, declared=("reasoning", "vision"))


def after_a_window_one_that_waits() -> Scheduled:
    """A host of two slots on which, at 04:00, one switches surely and a window that is over gives way to idleness."""
    return of_two(
        {**NIGHT, "coven": "speech", "slot": "right"},
        {**NIGHT, **LATER, "coven": "third", "slot": "right", "require": "drained"},
        {**NIGHT, **LATER, "coven": "other", "slot": "left"},
    )


def test_a_slot_that_waits_for_its_turn_after_its_window_ended_keeps_no_other_from_switching() -> None:
    host = after_a_window_one_that_waits()
    host.until("2026-01-06T04:05")
    within = host.serving()
    host.until("2026-01-06T06:05")

    assert within == ["recon-other-vllm", "recon-third-vllm"]
    assert host.orders() == [
        "right vision → speech",
        "left reasoning → other",
        "right speech → third",
        "left other → reasoning, right third → vision",
    ]
    assert host.serving() == ["recon-reasoning-vllm", "recon-vision-llama"]


def test_a_slot_that_waits_for_its_turn_is_not_brought_back_to_what_is_over() -> None:
    host = after_a_window_one_that_waits()
    host.until("2026-01-06T03:59")
    stop_unit(host.machine, "recon-gate-right-speech.service")
    host.until("2026-01-06T04:05")

    assert host.serving() == ["recon-other-vllm", "recon-third-vllm"]
    assert "stale" not in [line.get("state") for line in host.lines()]


BOTH = ({**NIGHT, "coven": "speech", "slot": "right"}, {**NIGHT, "coven": "other", "slot": "left"})


def lock(host: Scheduled, slot: str, hours: float) -> None:
    said = {"owner": "ada", "reason": "a benchmark", "host": "h-1"}
    dispatch.handle(host.machine, "lock", {"deed": "acquire", "slot": slot, "ttl_s": hours * 3600.0, **said}, CONTEXT)


def test_a_lock_of_one_slot_keeps_the_schedule_from_no_other_and_the_slot_follows_when_it_is_free() -> None:
    host = of_two(*BOTH)
    host.until("2026-01-06T01:50")
    lock(host, "right", 1.0)
    kept = host.pid("recon-vision-llama.service")
    host.until("2026-01-06T02:05")
    assert host.serving() == ["recon-other-vllm", "recon-vision-llama"]
    assert host.pid("recon-vision-llama.service") == kept
    assert host.said().startswith("left alone: slot right is locked by ada for another 45m")

    host.until("2026-01-06T02:55")
    assert host.serving() == ["recon-other-vllm", "recon-speech-tts"]
    host.until("2026-01-06T04:05")
    assert host.serving() == ["recon-reasoning-vllm", "recon-vision-llama"]
    assert host.orders() == [
        "left reasoning → other",
        "right vision → speech",
        "left other → reasoning, right speech → vision",
    ]


def test_a_slot_that_is_locked_over_the_end_of_its_window_keeps_what_is_over_until_it_is_free() -> None:
    host = of_two(*BOTH)
    host.until("2026-01-06T03:50")
    lock(host, "right", 1.0)
    host.until("2026-01-06T04:05")
    meanwhile = (host.serving(), host.committed()["live"])
    host.until("2026-01-06T04:55")

    assert meanwhile == (["recon-reasoning-vllm", "recon-speech-tts"], {"left": "reasoning", "right": "speech"})
    assert host.serving() == ["recon-reasoning-vllm", "recon-vision-llama"]
    assert "stale" not in [line.get("state") for line in host.lines()]


def test_a_locked_slot_that_is_due_keeps_no_other_from_beginning_for_idleness() -> None:
    host = of_two(BOTH[0], {**BOTH[1], "require": "drained"})
    host.until("2026-01-06T01:50")
    lock(host, "right", 3.0)
    host.until("2026-01-06T02:05")

    assert (host.serving(), host.orders()) == (["recon-other-vllm", "recon-vision-llama"], ["left reasoning → other"])


def test_a_locked_slot_that_waits_for_idleness_begins_when_it_is_free_and_not_before() -> None:
    host = of_two({**BOTH[0], "yields": "20m"}, BOTH[1])
    host.until("2026-01-06T01:50")
    lock(host, "right", 1.0)
    host.until("2026-01-06T02:45")
    meanwhile = host.serving()
    host.until("2026-01-06T02:55")

    assert meanwhile == ["recon-other-vllm", "recon-vision-llama"]
    assert host.serving() == ["recon-other-vllm", "recon-speech-tts"], "idle under the lock counts as idle"


def test_a_locked_slot_whose_coven_somebody_stopped_is_left_like_that_and_the_other_one_switches() -> None:
    host = of_two(*BOTH)
    host.until("2026-01-06T01:50")
    lock(host, "right", 1.0)
    stop_unit(host.machine, "recon-gate-right-vision.service")
    host.until("2026-01-06T02:05")

    assert host.serving() == ["recon-other-vllm"]


def test_a_lock_of_a_slot_that_the_host_does_not_have_keeps_the_schedule_out_altogether() -> None:
    host = of_two(*BOTH)
    host.until("2026-01-06T01:50")
    lock(host, "right", 3.0)
    book = read_record(host.machine, places.LOCKS)
    write_record(host.machine, places.LOCKS, {"locks": [{**each, "slot": "middle"} for each in book["locks"]]})
    host.until("2026-01-06T02:05")

    assert (host.serving(), host.orders()) == (["recon-reasoning-vllm", "recon-vision-llama"], [])
    assert host.said().startswith("left alone: slot middle is locked by ada")


@pytest.mark.parametrize("waits", [False, True], ids=["ordered-together", "free-later"])
def test_a_slot_whose_switch_failed_keeps_no_other_slot_from_switching(waits: bool) -> None:
    host = of_two(*BOTH)
    set_fault(host.machine.state, "crash-at-start", "recon-speech-tts.service")
    host.until("2026-01-06T01:50")
    if waits:
        lock(host, "left", 1.0)
    host.until("2026-01-06T03:50")

    assert host.serving() == ["recon-other-vllm", "recon-vision-llama"]
    assert host.orders() == [
        "right vision → speech" if waits else "left reasoning → other, right vision → speech",
        "gave up until the next edge: right vision → speech",
        "left reasoning → other",
    ]
    assert "not tried again before the next edge" in host.said()
    fact = host.state().watchdog
    assert isinstance(fact, Known)
    assert [(alert.code, alert.about) for alert in fact.value.alerts] == [("REC7341", "h-1")]

    clear_fault(host.machine.state)
    host.until("2026-01-06T04:05")
    assert host.serving() == ["recon-reasoning-vllm", "recon-vision-llama"]
    host.until("2026-01-07T02:10")
    assert host.serving() == ["recon-other-vllm", "recon-speech-tts"]


def test_a_slot_that_came_up_at_its_second_attempt_is_not_blamed_for_the_other_one() -> None:
    host = of_two(*BOTH)
    for unit in ("recon-speech-tts.service", "recon-other-vllm.service"):
        set_fault(host.machine.state, "crash-at-start", unit)
    starts: list[str] = []

    def hook(when: str, what: str) -> None:
        if when == "before" and what.startswith("run systemctl start") and what.endswith("recon-coven-other.target"):
            starts.append(what)
            if len(starts) == 2:
                clear_fault(host.machine.state, "crash-at-start", "recon-other-vllm.service")

    host.machine.hook = hook
    host.until("2026-01-06T03:50")

    assert host.serving() == ["recon-other-vllm", "recon-vision-llama"]
    assert host.orders() == [
        "left reasoning → other, right vision → speech",
        "gave up until the next edge: right vision → speech",
        "left reasoning → other",
    ]


def test_a_failure_stays_one_when_the_books_of_its_transaction_are_gone(host: Scheduled) -> None:
    set_fault(host.machine.state, "crash-at-start", "recon-vision-llama.service")
    host.until("2026-01-06T02:40")
    txid = next(line["order"] for line in host.lines() if line.get("kind") == "schedule")
    host.machine.remove_tree(places.transaction(txid))
    clear_fault(host.machine.state)
    host.until("2026-01-06T03:50")

    assert (host.serving(), len(host.orders())) == (REASONS, 2)


def test_nobody_else_writes_the_history_at_the_same_time(host: Scheduled) -> None:
    host.until("2026-01-06T01:59")
    host.machine.state.locked.append(places.LOCK)
    host.until("2026-01-06T02:10")
    assert (host.orders(), host.said()) == ([], "left alone: somebody has the host's lock")

    host.machine.state.locked.clear()
    host.until("2026-01-06T02:15")
    assert host.serving() == SEES


def test_a_book_that_does_not_verify_is_put_aside_and_named(host: Scheduled) -> None:
    host.until("2026-01-06T02:10")
    host.machine.write(places.SCHEDULE, b"torn")
    host.until("2026-01-06T04:05")

    assert host.serving() == REASONS
    assert [found.path for found in host.state().damaged] == [f"{places.SCHEDULE}.corrupt-1"]


def test_a_switch_that_a_power_cut_interrupted_is_ended_by_the_schedule_where_there_is_no_watchdog(
    host: Scheduled,
) -> None:
    host.until("2026-01-06T01:59")
    host.machine.hook = ending_before("symlink /run/containers/systemd/recon-trial", PowerCutError)
    with pytest.raises(PowerCutError):
        host.until("2026-01-06T02:05")
    host.machine.hook = None
    host.machine.reboot()
    host.attend()
    host.until("2026-01-06T02:20")

    assert host.serving() == SEES
    assert [line["state"] for line in host.lines() if "state" in line] == ["applied", "aborted", "applied"]

    host.until("2026-01-07T01:59")
    for _ in range(2):
        host.machine.hook = ending_before("symlink /run/containers/systemd/recon-trial", PowerCutError)
        with pytest.raises(PowerCutError):
            host.machine.clock.advance(600.0)
        host.machine.hook = None
        host.machine.reboot()
        host.attend()
    host.until("2026-01-07T03:50")
    assert host.serving() == REASONS, "a switch that brings the host down is not tried all night"


def test_a_slot_that_is_locked_over_an_edge_gets_no_order_and_is_switched_when_it_is_free() -> None:
    host = Scheduled()
    said = {"owner": "ada", "reason": "a benchmark", "host": "h-1"}
    host.until("2026-01-06T01:50")
    dispatch.handle(host.machine, "lock", {"deed": "acquire", "slot": "all", "ttl_s": 3600.0, **said}, CONTEXT)
    before = host.machine.listdir(places.TRANSACTIONS)

    host.until("2026-01-06T02:30")
    meanwhile = (host.machine.listdir(places.TRANSACTIONS), host.serving())
    host.until("2026-01-06T03:00")

    assert meanwhile == (before, REASONS)
    assert host.serving() == SEES
