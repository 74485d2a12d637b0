"""The executor and the spiral: it yields to a transition, and comes back on every way out; down is down."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import pytest

from reconciler.agent import down, executor, history, places
from reconciler.agent.machine import Completed
from reconciler.agent.wire import RequestError
from reconciler.diff import diff_host
from reconciler.model.desired import Spiral
from reconciler.model.subject import look_at
from reconciler.planner import plan_host
from reconciler.sim import systemd
from reconciler.sim.faults import set_fault
from reconciler.sim.machine import KilledError, PowerCutError, SimMachine, StoppedError
from reconciler.sim.state import Node
from reconciler.views.paint import Paint
from reconciler.views.status import status_lines
from tests.agent.bench import ending_at, ending_before
from tests.agent.spirals import ALL, CONTROL, CONTROLLER, GPU_LANE, LOOP, ROOT, SpiralBench

BY = {"owner": "anna@example.net", "reason": "runaway queue", "host": "h-1"}


def running(coven: str = "reasoning", **over: Any) -> SpiralBench:
    bench = SpiralBench(**over)
    assert bench.run(coven).state == "applied"
    bench.wait()
    assert bench.up() == ALL
    return bench


def changes(bench: SpiralBench, coven: str | None) -> list[tuple[str, str, str]]:
    subject = look_at(*bench.rendered(coven), bench.state())
    return [(change.kind, change.name, change.word) for change in diff_host(subject)]


def test_it_starts_with_the_commit_and_the_next_plan_is_empty() -> None:
    bench = running()

    assert changes(bench, "reasoning") == []


def test_the_gpu_lane_yields_to_a_switch_and_comes_back_after_the_commit() -> None:
    bench = running()
    before = {unit: bench.pid(unit) for unit in ALL}

    seen = bench.doing(lambda: bench.run("vision"))
    bench.wait()

    verbs = [line for line in seen if line.startswith("run systemctl st")]
    lane = next(n for n, line in enumerate(verbs) if " stop " in line and GPU_LANE[0] in line)
    coven = next(n for n, line in enumerate(verbs) if " stop " in line and "recon-gate-" in line)
    new = next(n for n, line in enumerate(verbs) if " start " in line and "recon-coven-vision" in line)
    back = next(n for n, line in enumerate(verbs) if " start " in line and GPU_LANE[0] in line)
    assert lane < coven < new < back
    assert bench.up() == ALL
    assert [unit for unit in ALL if bench.pid(unit) == before[unit]] == [CONTROLLER]


def test_a_loop_that_waits_for_its_start_does_not_come_up_in_the_middle_of_a_switch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench, loop = running(), GPU_LANE[0]
    bench.machine.run(["systemctl", "stop", loop], 60.0)
    text = f"[Unit]\nBefore={loop}\n[Service]\nType=oneshot\nExecStart=/bin/away\n"
    bench.machine.files.put("/etc/systemd/system/away.service", Node.of(text.encode()))
    bench.machine.manager.daemon_reload()
    with monkeypatch.context() as patched:
        patched.setattr(systemd, "_ONESHOT_S", 20.0)
        bench.machine.run(["systemctl", "start", "--no-block", "away.service", loop], 60.0)
    starts: list[str] = []

    def hook(when: str, change: str) -> None:
        if when == "before" and "systemctl start" in change and "recon-coven-vision" in change:
            bench.machine.clock.advance(30.0)
            starts.append(bench.active(loop))

    bench.machine.hook = hook
    assert bench.run("vision").state == "applied"
    bench.wait(30.0)

    assert starts == ["inactive"]
    assert bench.up() == ALL


def test_the_gpu_lane_comes_back_when_the_drain_is_aborted_or_the_new_coven_does_not_come_up() -> None:
    aborted, rolled_back = running(), running()
    aborted.busy(8001, 10_000)
    set_fault(rolled_back.machine.state, "crash-at-start", "recon-vision-llama.service")

    assert aborted.run("vision").state == "aborted"
    assert rolled_back.run("vision").state == "rolled_back"

    for bench in (aborted, rolled_back):
        bench.wait()
        assert bench.up() == ALL
        assert "recon-reasoning-vllm" in bench.serving()


def test_the_gpu_lane_does_not_come_back_while_a_guardrail_is_broken_and_the_outcome_is_the_same() -> None:
    bench = running()
    intent = bench.intent("vision")
    bench.machine.files.drop_tree(CONTROL)
    set_fault(bench.machine.state, "crash-at-start", "recon-vision-llama.service")

    outcome = bench.execute(bench.looked_at(intent))
    bench.wait()

    why = f"guardrail rate-caps: the control file {CONTROL} is not there"
    notes = [event.text for event in bench.events(intent["txid"]) if "GPU lane" in event.text]
    assert (outcome.state, bench.up()) == ("rolled_back", [CONTROLLER])
    assert notes[-1] == f"the GPU lane of the spiral is not started again: {why}"


@pytest.mark.parametrize("how", [KilledError, PowerCutError])
def test_it_comes_back_whenever_the_executor_dies(how: type[StoppedError]) -> None:
    for number in range(0, 1000, 5):
        bench = running()
        txid = bench.submit(bench.intent("vision"))
        seen: list[str] = []
        bench.machine.hook = ending_at(number, how, seen)
        with contextlib.suppress(how):
            executor.execute(bench.machine, txid)
        bench.machine.hook = None
        if how is PowerCutError:
            bench.machine.reboot()
        else:
            bench.machine.revive()
        executor.execute(bench.machine, txid, recover=True)
        bench.wait(200.0)

        assert bench.up() == ALL, seen[-1]
        if len(seen) <= number:
            return
    pytest.fail("it never came to its end")


def test_a_unit_that_changes_is_restarted_and_no_other() -> None:
    bench = running()
    before = {unit: bench.pid(unit) for unit in ALL}
    units = {**LOOP["units"], "controller": {**LOOP["units"]["controller"], "nice": 3}}
    bench.loop = {**LOOP, "units": units}

    assert bench.run("reasoning").state == "applied"
    bench.wait()

    assert bench.up() == ALL
    assert [unit for unit in ALL if bench.pid(unit) != before[unit]] == [CONTROLLER]


def test_a_unit_that_is_declared_no_more_is_stopped() -> None:
    bench = running()
    bench.loop = {**LOOP, "units": {name: unit for name, unit in LOOP["units"].items() if name != "controller"}}

    assert bench.run("reasoning").state == "applied"
    bench.wait()

    assert bench.up() == GPU_LANE
    assert changes(bench, "reasoning") == []


def test_switching_it_off_stops_it_and_it_does_not_boot() -> None:
    bench = running()
    bench.own = Spiral(rate_caps={"jobs_per_hour": 12})

    assert bench.run("reasoning").state == "applied"
    bench.wait()
    bench.machine.reboot()
    bench.wait(60.0)

    assert bench.up() == []
    assert changes(bench, "reasoning") == []


def test_it_boots_with_the_host() -> None:
    bench = running()

    bench.machine.reboot()
    bench.wait(60.0)

    assert bench.up() == ALL


def test_what_stopped_by_itself_is_drift() -> None:
    bench = running()
    bench.machine.run(["systemctl", "stop", CONTROLLER], 10)

    assert changes(bench, "reasoning") == [("spiral", "controller", "unit_stopped")]
    assert bench.run("reasoning").state == "applied"
    bench.wait()
    assert bench.up() == ALL


def test_its_memory_counts_in_the_budget_of_its_slot() -> None:
    bench = SpiralBench()
    subject = look_at(*bench.rendered("reasoning"), bench.state())

    budget = plan_host(subject, diff_host(subject), fleet="studio", ignored=0).transitions[0].budget

    assert budget is not None
    assert budget.spiral == 12 << 30
    assert budget.available == (budget.capacity or 0) - budget.reserve - (12 << 30)


def test_down_stops_it_at_once_and_no_boot_and_no_apply_brings_it_back() -> None:
    bench = running()

    reply = down.down(bench.machine, {"scope": "spiral", **BY})

    assert reply["down"] == ["spiral"]
    assert set(ALL) <= set(reply["stopped"])
    assert (reply["ending"], bench.up()) == ([], [])
    assert changes(bench, "reasoning") == []
    bench.machine.reboot()
    bench.wait(60.0)
    assert bench.up() == []
    assert bench.run("vision").state == "applied"
    bench.wait(60.0)
    assert bench.up() == []
    subject = look_at(*bench.rendered("vision"), bench.state())
    plan = plan_host(subject, diff_host(subject), fleet="studio", ignored=0)
    held = "spiral is down by anna@example.net: runaway queue; recon up spiral --host h-1 --reason TEXT"
    assert (plan.status, plan.held) == ("ok", (held,))
    assert [line["kind"] for line in history.recent(bench.machine) if "kind" in line] == ["started", "down", "started"]


def test_the_mark_of_down_is_durable_before_anything_stops() -> None:
    bench = running()
    bench.machine.hook = ending_before("run systemctl stop", PowerCutError)

    with pytest.raises(PowerCutError):
        down.down(bench.machine, {"scope": "all", **BY})
    bench.machine.hook = None
    bench.machine.reboot()
    bench.wait(60.0)

    assert (bench.up(), bench.serving()) == ([], [])


def test_covens_that_are_down_stay_down_and_the_plan_says_held() -> None:
    bench = running()

    reply = down.down(bench.machine, {"scope": "coven", **BY})

    assert reply["ending"] == []
    assert bench.serving() == ["recon-spiral-gemma"]
    bench.machine.reboot()
    bench.wait(60.0)
    assert bench.serving() == ["recon-spiral-gemma"]
    subject = look_at(*bench.rendered("reasoning"), bench.state())
    plan = plan_host(subject, diff_host(subject), fleet="studio", ignored=0)
    assert (plan.status, [each.code for each in plan.refusals]) == ("locked", ["REC8021"])

    down.up(bench.machine, {"scope": "coven", **BY})
    assert bench.run("reasoning").state == "applied"
    assert "recon-reasoning-vllm" in bench.serving()


def test_an_order_that_came_before_the_mark_is_refused_as_locked() -> None:
    bench = running()
    intent = bench.intent("vision")
    down.down(bench.machine, {"scope": "coven", **BY})

    outcome = bench.execute(bench.looked_at(intent))

    assert (outcome.state, outcome.code) == ("locked", "REC7360")


@pytest.mark.parametrize("scope", ["coven", "all"])
def test_down_in_the_middle_of_a_transition_leaves_old_or_new_or_none_and_never_two(scope: str) -> None:
    for number in range(0, 60, 4):
        bench = running()
        txid = bench.submit(bench.intent("vision"))
        seen = 0

        def hook(when: str, _what: str, bench: SpiralBench = bench, number: int = number) -> None:
            nonlocal seen
            seen += when == "before"
            if when == "before" and seen == number + 1:
                bench.machine.hook = None
                down.down(bench.machine, {"scope": scope, **BY})

        bench.machine.hook = hook
        outcome = executor.execute(bench.machine, txid)
        bench.machine.hook = None
        bench.wait(60.0)

        covens = {name.split("-")[1] for name in bench.serving()} - {"spiral"}
        marked = bench.machine.stat(places.DOWN_COVEN) is not None
        assert not marked or covens == set(), (number, outcome)
        assert len(covens) <= 1
        if marked and outcome["state"] not in ("applied", "locked", "refused"):
            assert outcome["state"] in ("held", "aborted"), (number, outcome)
        if marked:
            bench.machine.reboot()
            bench.wait(60.0)
            assert {name.split("-")[1] for name in bench.serving()} - {"spiral"} == set()


def test_a_storm_of_restarts_ends_with_down() -> None:
    bench = running()
    for unit in (CONTROLLER, *GPU_LANE):
        pid = bench.pid(unit)
        bench.machine.state.processes.pop(pid, None)
        bench.machine.manager.main_exited(unit, 1)
    assert {bench.active(unit) for unit in ALL} == {"activating"}

    reply = down.down(bench.machine, {"scope": "spiral", **BY})
    bench.wait(2000.0)

    assert reply["ending"] == []
    assert {bench.active(unit) for unit in ALL} <= {"inactive", "failed"}


class BusySystemd(SimMachine):
    """A machine whose systemd gives no list in time, so many times, but takes stops."""

    silent = 1

    def run(
        self, argv: Sequence[str], timeout_s: float, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> Completed:
        if list(argv[:2]) == ["systemctl", "show"] and self.silent:
            self.silent -= 1
            self.clock.advance(timeout_s)
            return Completed(124, b"", b"")
        return super().run(argv, timeout_s, stdin, env)


@pytest.mark.parametrize("scope", ["spiral", "coven", "all"])
def test_down_goes_on_when_systemd_is_too_busy_to_say_what_runs(scope: str) -> None:
    bench = running()

    reply = down.down(BusySystemd(bench.machine.state), {"scope": scope, **BY})

    covens = [name for name in bench.serving() if name != "recon-spiral-gemma"]
    assert (reply["ending"], bench.up(), bool(covens)) == (
        [],
        ALL if scope == "coven" else [],
        scope == "spiral",
    )
    assert [line["kind"] for line in history.recent(bench.machine) if "kind" in line] == ["started", "down"]


def test_down_that_never_learns_what_runs_stops_the_loops_all_the_same_and_says_so() -> None:
    bench = running()
    machine = BusySystemd(bench.machine.state)
    machine.silent = 1000

    with pytest.raises(RequestError) as caught:
        down.down(machine, {"scope": "all", **BY})
    bench.wait(60.0)

    why = "systemctl show: exit status 124"
    assert (caught.value.code, caught.value.detail) == ("REC7389", f"nothing of it starts again; {why}")
    assert caught.value.fix == "recon down all --host h-1 --reason TEXT"
    line = history.recent(bench.machine)[-1]
    assert (line["kind"], line["scopes"], line["unseen"]) == ("down", ["spiral", "coven"], why)
    assert (bench.up(), bench.machine.stat(places.DOWN_COVEN) is not None) == ([], True)


def test_up_starts_it_again_when_everything_holds() -> None:
    bench = running()
    down.down(bench.machine, {"scope": "spiral", **BY})

    reply = down.up(bench.machine, {"scope": "spiral", **BY})
    bench.wait()

    assert sorted(reply["started"]) == ALL
    assert (reply["against"], bench.up()) == ([], ALL)


def test_up_refuses_against_a_guardrail_or_the_flag_and_force_is_recorded_and_shown_until_cleared() -> None:
    bench = running()
    bench.own = Spiral(rate_caps={"jobs_per_hour": 12})
    assert bench.run("reasoning").state == "applied"
    bench.machine.files.drop_tree(CONTROL)
    against = [
        "git says 'enabled: false', so nothing holds its caps, or stops it",
        f"guardrail rate-caps: the control file {CONTROL} is not there",
    ]

    with pytest.raises(RequestError) as caught:
        down.up(bench.machine, {"scope": "spiral", **BY})
    assert (caught.value.code, caught.value.detail) == ("REC7361", "; ".join(against))
    assert bench.up() == []

    reply = down.up(bench.machine, {"scope": "spiral", "force": True, **BY})
    bench.wait()

    assert (reply["against"], bench.up()) == (against, ALL)
    subject = look_at(*bench.rendered("reasoning"), bench.state())
    plan = plan_host(subject, diff_host(subject), fleet="studio", ignored=0)
    said = f"the spiral was started by anna@example.net: runaway queue, against {'; '.join(against)}"
    caps, files = "nothing holds its rate caps or backs off", "nothing deletes what is over its budget"
    idle = (f"recon-spiral.timer does not run: {caps}", f"recon-reaper.timer does not run: {files}")
    assert (plan.changes, plan.held) == ((), (f"{said}; recon up --clear --host h-1", *idle))
    shown = list(status_lines((subject.host,), {"h-1": subject.state}, Paint(on=False), details=False))
    assert [line for line in shown if "does not run" in line] == [f"h-1: spiral {text}" for text in idle]

    down.up(bench.machine, {"clear": True, **BY})
    assert [change[2] for change in changes(bench, "reasoning")] == ["unit_runs"] * 4


def test_up_of_all_lifts_the_covens_where_git_has_the_spiral_off_and_says_that_it_stays_down() -> None:
    bench = running()
    bench.own = Spiral(rate_caps={"jobs_per_hour": 12})
    assert bench.run("reasoning").state == "applied"
    down.down(bench.machine, {"scope": "all", **BY})

    with pytest.raises(RequestError) as caught:
        down.up(bench.machine, {"scope": "all", **BY})

    flag = "git says 'enabled: false', so nothing holds its caps, or stops it"
    insist = "correct it, or: recon up spiral --host h-1 --force --reason TEXT"
    assert (caught.value.code, caught.value.summary, caught.value.detail, caught.value.fix) == (
        "REC7361",
        "the covens may run again, and the spiral must not be started",
        flag,
        f"recon apply --host h-1, for the covens; for the spiral {insist}",
    )
    assert [bench.machine.stat(mark) is not None for mark in (places.DOWN_COVEN, places.DOWN_SPIRAL)] == [False, True]
    line = history.recent(bench.machine)[-1]
    assert (line["kind"], line["scopes"], line["started"]) == ("up", ["coven"], [])
    assert bench.run("reasoning").state == "applied"
    assert (bench.up(), "recon-reasoning-vllm" in bench.serving()) == ([], True)


def test_down_needs_a_reason() -> None:
    with pytest.raises(RequestError) as caught:
        down.down(SpiralBench().machine, {"scope": "spiral", "owner": "anna", "reason": " "})

    assert caught.value.code == "REC7362"


def test_a_mark_that_cannot_be_read_is_still_a_mark() -> None:
    bench = running()
    down.down(bench.machine, {"scope": "spiral", **BY})
    bench.machine.write(places.DOWN_SPIRAL, b"{torn")

    bench.machine.reboot()
    bench.wait(60.0)

    assert bench.up() == []
    held = bench.state().down
    assert "cannot be read" in str(held)


def test_the_watchdog_leaves_covens_alone_that_a_person_has_down() -> None:
    from reconciler.agent import watch
    from reconciler.model.desired import Watchdog

    bench = SpiralBench()
    bench.watchdog = Watchdog()
    assert bench.run("reasoning").state == "applied"
    down.down(bench.machine, {"scope": "coven", **BY})

    said = watch.watch(bench.machine)["said"]

    assert said == "left alone: the covens are down by anna@example.net: runaway queue"


def test_nothing_is_asked_of_a_host_without_a_spiral() -> None:
    bench = SpiralBench()
    bench.own = Spiral()

    assert "spiral" not in bench.question()
    assert ROOT not in str(bench.intent("reasoning")["groups"])
