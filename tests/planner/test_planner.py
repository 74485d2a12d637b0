"""What is planned for one host, and what refuses it."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.diff import diff_host, ignored_facts
from reconciler.model.desired import Fleet, Host, MemorySpec, Policy, Service, Slot, Source
from reconciler.model.digest import target_digest
from reconciler.model.intent import Call, HookCall, PauseProbe, SleepProbe
from reconciler.model.observed import (
    Executor,
    Gpu,
    Health,
    Hold,
    HostState,
    Known,
    Lease,
    ManagedFile,
    NotApplicable,
    Unit,
    Unreachable,
)
from reconciler.model.plan import HostPlan
from reconciler.model.rendered import RenderedHost
from reconciler.model.subject import look_at
from reconciler.planner import assemble, plan_host, plan_unreachable
from tests.builders import (
    GIB,
    GPU,
    a_file,
    a_gpu,
    a_group,
    a_host,
    a_member,
    a_process,
    a_rendered,
    a_shared,
    a_state,
    a_state_running,
    a_unit,
    unknown,
)

FLEET = Fleet(name="studio", transport="ssh", policy=Policy(), covens={}, hosts={})
REASONING = a_group("reasoning")
VISION = a_group("vision", a_member("vision", "vllm", memory=40 * GIB))
WANTS_REASONING = a_rendered(REASONING, VISION, live={"all": "reasoning"})
WANTS_VISION = a_rendered(REASONING, VISION, live={"all": "vision"})


def plan(rendered: RenderedHost, state: HostState, **host: Any) -> HostPlan:
    wanted = a_host(coven=rendered.live["all"], **host)
    return planned_for(rendered, wanted, state)


def planned_for(rendered: RenderedHost, wanted: Host, state: HostState, *, fleet: str = "studio") -> HostPlan:
    subject = look_at(rendered, wanted, state)
    return plan_host(subject, diff_host(subject), fleet=fleet, ignored=ignored_facts(state))


def addresses(planned: HostPlan) -> list[tuple[str, tuple[str, ...], str, str]]:
    return [(change.address, change.actions, change.action_reason, change.cause) for change in planned.changes]


def codes(planned: HostPlan) -> list[str]:
    return [refusal.code for refusal in planned.refusals]


def test_a_host_that_runs_what_is_declared_has_nothing_to_do() -> None:
    planned = plan(WANTS_REASONING, a_state_running(WANTS_REASONING))

    assert (planned.status, planned.changes, planned.transitions, planned.order) == ("ok", (), (), None)


def test_a_new_host_starts_its_coven_and_gets_every_file() -> None:
    planned = plan(WANTS_REASONING, a_state())

    assert [(t.from_coven, t.to_coven, t.disruption, t.cause) for t in planned.transitions] == [
        (None, "reasoning", "start", "desired")
    ]
    assert planned.order is not None
    assert planned.order.from_generation is None
    assert len(planned.order.quadlets) == 2
    assert {change.action_reason for change in planned.changes} == {"coven_switch", "file_new"}


def test_a_changed_coven_line_plans_one_switch_with_every_step() -> None:
    planned = plan(WANTS_VISION, a_state_running(WANTS_REASONING))

    assert [(t.slot, t.from_coven, t.to_coven, t.disruption, t.cause) for t in planned.transitions] == [
        ("all", "reasoning", "vision", "switch", "desired")
    ]
    assert [step.step for step in planned.transitions[0].steps] == [
        "claim",
        "stage",
        "drain",
        "stop",
        "verify_memory",
        "trial",
        "start",
        "warm",
        "commit",
        "finish",
    ]
    assert all(step.deadline_s for step in planned.transitions[0].steps if step.step != "commit")


def test_a_stopped_coven_is_drift_and_is_started_again() -> None:
    state = a_state_running(WANTS_REASONING, units=Known(value=(a_unit(REASONING.gate, active="inactive"),)))

    planned = plan(WANTS_REASONING, state)

    assert addresses(planned) == [("spark-1/coven/all", ("start",), "coven_stopped", "drift")]
    assert planned.transitions[0].disruption == "start"


def test_a_stopped_member_is_drift_and_only_it_is_started() -> None:
    group = a_group("reasoning", a_member("reasoning", "vllm"), a_member("reasoning", "rerank"))
    rendered = a_rendered(group, live={"all": "reasoning"})
    units = (
        a_unit(group.gate),
        a_unit("recon-reasoning-vllm.service", config_hash="aaaa000000000001"),
        a_unit("recon-reasoning-rerank.service", active="failed"),
    )

    planned = plan(rendered, a_state_running(rendered, units=Known(value=units)), may_run=("reasoning",))

    assert addresses(planned) == [("spark-1/member/reasoning/rerank", ("restart",), "unit_failed", "drift")]
    assert planned.order is not None
    assert [(move.kind, move.restart) for move in planned.order.moves] == [("restart", ("rerank",))]


def test_a_changed_member_of_the_live_coven_restarts_that_member_only() -> None:
    before = a_group("reasoning", a_member("reasoning", "vllm"), a_member("reasoning", "rerank"))
    after = a_group("reasoning", a_member("reasoning", "vllm"), a_member("reasoning", "rerank", config_hash="b" * 16))
    old, new = (a_rendered(group, live={"all": "reasoning"}) for group in (before, after))

    planned = plan(new, a_state_running(old), may_run=("reasoning",))

    assert [(t.disruption, t.members, t.cause) for t in planned.transitions] == [("restart", ("rerank",), "desired")]
    assert addresses(planned) == [
        ("spark-1/member/reasoning/rerank", ("restart",), "config_changed", "desired"),
        ("spark-1/file/recon-reasoning-rerank.container", ("write",), "config_changed", "desired"),
    ]


def test_a_member_taken_out_of_the_live_coven_is_stopped() -> None:
    before = a_group("reasoning", a_member("reasoning", "vllm"), a_member("reasoning", "rerank"))
    old = a_rendered(before, live={"all": "reasoning"})

    planned = plan(
        WANTS_REASONING.model_copy(
            update={"files": a_rendered(REASONING, live={"all": "reasoning"}).files, "groups": {"reasoning": REASONING}}
        ),
        a_state_running(old),
        may_run=("reasoning",),
    )

    assert addresses(planned) == [
        ("spark-1/member/reasoning/rerank", ("stop",), "member_gone", "desired"),
        ("spark-1/file/recon-reasoning-rerank.container", ("delete",), "file_extra", "desired"),
    ]


def test_files_of_a_coven_that_does_not_run_change_without_touching_anything() -> None:
    after = a_group("vision", a_member("vision", "vllm", memory=40 * GIB, config_hash="b" * 16))
    new = a_rendered(REASONING, after, live={"all": "reasoning"})

    planned = plan(new, a_state_running(WANTS_REASONING))

    assert planned.transitions == ()
    assert planned.order is not None
    assert (planned.order.moves, planned.order.stop_units) == ((), ())


def test_a_changed_drain_is_recorded_on_the_host_without_touching_anything() -> None:
    after = a_group("reasoning", a_member("reasoning", "vllm", drain_timeout_s=60.0))
    new = a_rendered(after, VISION, live={"all": "reasoning"})

    planned = plan(new, a_state_running(WANTS_REASONING))

    assert addresses(planned) == [("spark-1/setting/reasoning", ("write",), "settings_changed", "desired")]
    assert planned.order is not None
    assert (planned.order.moves, planned.order.stop_units) == ((), ())


def test_what_a_newer_recon_asks_a_server_is_no_change_of_git() -> None:
    old = a_member("reasoning", "vllm")
    asked = old.model_copy(
        update={
            "paused": PauseProbe(url="http://127.0.0.1:8000/is_paused", field="is_paused"),
            "asleep": SleepProbe(url="http://127.0.0.1:8000/metrics", metric="m", label="l", awake="awake"),
            "in_flight": tuple(probe.model_copy(update={"exact": True}) for probe in old.in_flight),
        }
    )
    resident = old.model_copy(update={"unit": "recon-resident-vllm.service"})
    before = a_rendered(a_group("reasoning", old), live={"all": "reasoning"}, residents=(resident,))
    after = a_rendered(
        a_group("reasoning", asked),
        live={"all": "reasoning"},
        residents=(asked.model_copy(update={"unit": "recon-resident-vllm.service"}),),
    )

    assert addresses(plan(after, a_state_running(before))) == addresses(plan(before, a_state_running(before)))
    assert after.groups["reasoning"].members[0].asleep is not None


def test_a_coven_that_leaves_is_drained_as_git_says_now_and_asked_as_it_was_started() -> None:
    recorded = a_member("reasoning", "vllm", drain_timeout_s=300.0, on_timeout="abort")
    said: dict[str, Any] = {"drain_timeout_s": 10.0, "on_timeout": "force"}
    declared = a_member("reasoning", "vllm", health="http://127.0.0.1:9/new", stop_timeout_s=99.0, **said)
    running = a_rendered(a_group("reasoning", recorded), VISION, live={"all": "reasoning"})
    wanted = a_rendered(a_group("reasoning", declared), VISION, live={"all": "vision"})

    planned = plan(wanted, a_state_running(running))

    assert planned.order is not None
    old = planned.order.moves[0].old
    assert old == a_group("reasoning", recorded.model_copy(update=said))
    assert [step.deadline_s for step in planned.transitions[0].steps if step.step == "drain"] == [10.0]
    assert planned.transitions[0].cuts_off == (
        "clients of reasoning (vllm) are without service for a time not recorded yet; "
        "what vllm still does at the drain deadline is cut (on_timeout: force)"
    )


def test_a_hand_edited_file_of_the_live_coven_is_drift_with_a_restart() -> None:
    state = a_state_running(WANTS_REASONING)
    assert isinstance(state.files, Known)
    edited = tuple(
        file.model_copy(update={"body_sha256": "e" * 64}) if file.path.endswith("reasoning-vllm.container") else file
        for file in state.files.value
    )

    planned = plan(WANTS_REASONING, a_state_running(WANTS_REASONING, files=Known(value=edited)))

    assert addresses(planned) == [
        ("spark-1/member/reasoning/vllm", ("restart",), "edited_by_hand", "drift"),
        ("spark-1/file/recon-reasoning-vllm.container", ("write",), "edited_by_hand", "drift"),
    ]


def test_a_stranger_on_the_gpu_is_drift_that_is_only_reported() -> None:
    gpus: Known[tuple[Gpu, ...]] = Known(value=(a_gpu(processes=(a_process(unit=None, comm="trainer"),)),))

    planned = plan(WANTS_REASONING, a_state_running(WANTS_REASONING, gpus=gpus))

    assert addresses(planned) == [(f"spark-1/gpu/{GPU}/trainer", ("report",), "foreign_process", "drift")]
    assert (planned.status, planned.order) == ("ok", None)


def test_a_stranger_on_the_slot_refuses_a_transition_and_is_named() -> None:
    gpus: Known[tuple[Gpu, ...]] = Known(value=(a_gpu(processes=(a_process(comm="trainer"),)),))

    planned = plan(WANTS_VISION, a_state_running(WANTS_REASONING, gpus=gpus))

    assert codes(planned) == ["REC8003"]
    assert "trainer (pid 4242, no unit), 1GiB" in planned.refusals[0].detail
    assert planned.order is None


def test_desktop_processes_are_ignored_and_counted() -> None:
    gpus: Known[tuple[Gpu, ...]] = Known(value=(a_gpu(processes=(a_process(comm="Xorg", kind="G"),)),))

    planned = plan(WANTS_REASONING, a_state_running(WANTS_REASONING, gpus=gpus))

    assert (planned.changes, planned.ignored) == ((), 1)


def test_a_coven_over_budget_is_refused_with_the_sum() -> None:
    planned = plan(
        WANTS_REASONING, a_state(gpus=Known(value=(a_gpu(total=80 * GIB),))), shared=(a_shared(memory=8 * GIB),)
    )

    assert codes(planned) == ["REC8001"]
    assert planned.refusals[0].detail == (
        "capacity 80GiB - reserve 14GiB - shared 8GiB - residents 0B = 58GiB, needed 60GiB"
    )


@pytest.mark.parametrize(
    ("over", "code"),
    [
        ({"memory_class": unknown("nvml_timeout")}, "REC8002"),
        ({"gpus": unknown("driver not loaded")}, "REC8002"),
        ({"units": unknown("systemctl took too long")}, "REC8008"),
        ({"files": unknown("permission denied")}, "REC8008"),
        ({"generation": unknown("symlink points outside")}, "REC8008"),
        ({"hold": Known(value=Hold(owner="ada", reason="hardware test", since=1.0, until=None))}, "REC8012"),
        ({"executor": Executor(active=True, txid="t1", last=NotApplicable(na="-"))}, "REC8013"),
        ({"lease": unknown("torn"), "epoch": Known(value=7)}, "REC7150"),
    ],
)
def test_what_is_unknown_or_held_refuses_and_gives_no_order(over: dict[str, Any], code: str) -> None:
    planned = plan(WANTS_REASONING, a_state(**over))

    assert code in codes(planned)
    assert planned.order is None
    assert planned.status == ("locked" if code in {"REC7150", "REC8012", "REC8013"} else "refused")


def test_who_runs_a_transition_is_told_with_its_age_and_step() -> None:
    now = a_state().identity.boottime_s
    lease = Lease(epoch=7, owner="ada", txid="t1", boot_id="b", step="drain", since=now - 75, renewed=now, ttl_s=60.0)
    running = Executor(active=True, txid="t1", last=NotApplicable(na="-"))
    told = plan(WANTS_REASONING, a_state(executor=running, lease=Known(value=lease))).refusals[0].detail
    begun = plan(WANTS_REASONING, a_state(executor=running)).refusals[0].detail

    assert told == "ada runs transaction t1 for 1m15s, step drain"
    assert begun == "transaction t1, just begun"


def test_a_transition_that_already_does_what_is_declared_is_joined_and_no_other() -> None:
    same = target_digest(WANTS_REASONING)
    running = [
        Executor(active=active, txid="t1", last=NotApplicable(na="-"), target=target)
        for active, target in ((True, same), (True, "another"), (True, None), (False, same))
    ]
    found = [plan(WANTS_REASONING, a_state(executor=executor)) for executor in running]

    assert [planned.joins for planned in found] == ["t1", None, None, None]
    assert [planned.order is None for planned in found] == [True, True, True, False]


def test_unified_hosts_are_budgeted_by_all_memory() -> None:
    state = a_state(
        memory_class=Known(value="unified"),
        gpus=Known(value=(a_gpu(memory=NotApplicable(na="unified memory")),)),
    )

    planned = plan(WANTS_REASONING, state)

    assert planned.transitions[0].budget is not None
    assert planned.transitions[0].budget.capacity == 256 * GIB
    assert planned.refusals == ()


def test_a_file_with_our_name_that_is_not_ours_refuses() -> None:
    state = a_state_running(WANTS_REASONING)
    assert isinstance(state.files, Known)
    stray = ManagedFile(
        path="/run/containers/systemd/recon-reasoning-vllm.container",
        owner=None,
        config_hash=None,
        source_commit=None,
        body_sha256="f" * 64,
        tier="stray",
    )

    planned = plan(WANTS_VISION, a_state_running(WANTS_REASONING, files=Known(value=(*state.files.value, stray))))

    assert codes(planned) == ["REC8004"]


def test_two_covens_up_or_enabled_refuse() -> None:
    state = a_state_running(WANTS_REASONING)
    assert isinstance(state.units, Known)
    both_up: Known[tuple[Unit, ...]] = Known(value=(*state.units.value, a_unit(VISION.gate)))
    both_enabled: Known[tuple[str, ...]] = Known(value=(REASONING.target, VISION.target))

    assert codes(plan(WANTS_REASONING, a_state_running(WANTS_REASONING, units=both_up))) == ["REC8005"]
    assert codes(plan(WANTS_REASONING, a_state_running(WANTS_REASONING, boot_targets=both_enabled))) == ["REC8005"]


def test_a_host_with_covens_for_which_nothing_is_declared_any_more_is_refused() -> None:
    nothing = a_rendered(live={"all": None})

    assert codes(plan(nothing, a_state_running(WANTS_REASONING), may_run=())) == ["REC8006"]


def test_a_coven_outside_may_run_is_refused() -> None:
    assert codes(plan(WANTS_VISION, a_state_running(WANTS_REASONING), may_run=("reasoning",))) == ["REC8007"]


def test_podman_older_than_declared_is_refused_by_name() -> None:
    state = a_state()
    old = state.identity.model_copy(update={"podman": Known(value="4.9.3")})

    planned = plan(WANTS_REASONING, state.model_copy(update={"identity": old}))

    assert codes(planned) == ["REC2022"]
    assert planned.refusals[0].summary == "podman 4.9.3 is older than 5.3"


def test_an_unreachable_host_has_no_plan_and_says_why() -> None:
    planned = plan_unreachable(a_host(), Unreachable(code="REC6006", reason="no answer", elapsed_s=5.0))

    assert (planned.status, planned.reason, planned.order) == ("unreachable", "[REC6006] no answer", None)


def test_a_coven_that_is_no_longer_declared_anywhere_stops() -> None:
    nothing = a_rendered(REASONING, VISION, live={"all": None})

    planned = plan(nothing, a_state_running(WANTS_REASONING))

    assert [(t.from_coven, t.to_coven, t.disruption) for t in planned.transitions] == [("reasoning", None, "stop")]


def test_the_native_file_of_a_removed_coven_is_removed() -> None:
    only = a_rendered(REASONING, live={"all": "reasoning"})

    planned = plan(only, a_state_running(WANTS_REASONING), may_run=("reasoning",))

    assert planned.order is not None
    assert planned.order.remove_natives == ("recon-coven-vision.target", "recon-gate-all-vision.service")
    assert planned.transitions == ()


def test_extra_file_by_hand_in_our_directory_is_drift() -> None:
    state = a_state_running(WANTS_REASONING)
    assert isinstance(state.files, Known)
    extra = state.files.value[0].model_copy(update={"path": "/etc/recon/generations/1/recon-x-y.container"})

    planned = plan(WANTS_REASONING, a_state_running(WANTS_REASONING, files=Known(value=(*state.files.value, extra))))

    assert addresses(planned) == [("spark-1/file/recon-x-y.container", ("delete",), "file_extra", "drift")]
    assert a_file("x").kind == "quadlet"


def test_a_coven_behind_the_gate_of_a_slot_that_is_gone_refuses() -> None:
    renamed = a_rendered(a_group("reasoning", slot="main"), live={"main": "reasoning"})
    wanted = a_host(slots=(Slot(name="main", gpus=("0",), coven="reasoning"),), may_run=("reasoning",))
    state = a_state_running(WANTS_REASONING)

    planned = planned_for(renamed, wanted, state)

    assert "REC8011" in codes(planned)
    assert planned.order is None


def test_a_member_that_runs_past_its_gate_refuses() -> None:
    units = (a_unit(REASONING.gate, active="inactive"), a_unit("recon-reasoning-vllm.service", config_hash="a" * 16))

    planned = plan(WANTS_REASONING, a_state_running(WANTS_REASONING, units=Known(value=units)))

    assert codes(planned) == ["REC8005"]


def test_one_gpu_named_by_index_and_by_uuid_in_two_slots_refuses() -> None:
    slots = (Slot(name="a", gpus=("0",), coven="reasoning"), Slot(name="b", gpus=(GPU,), coven="vision"))
    rendered = a_rendered(
        a_group("reasoning", slot="a"), a_group("vision", slot="b"), live={"a": "reasoning", "b": "vision"}
    )
    wanted = a_host(slots=slots)

    planned = planned_for(rendered, wanted, a_state())

    assert "REC2029" in codes(planned)


@pytest.mark.parametrize(("formerly", "expected"), [(None, ["REC8004"]), ("studio/spark-1", [])])
def test_units_of_another_fleet_or_name_refuse_until_the_rename_is_declared(
    formerly: str | None, expected: list[str]
) -> None:
    state = a_state_running(WANTS_REASONING)
    wanted = a_host(formerly=formerly)

    planned = planned_for(WANTS_REASONING, wanted, state, fleet="farm")

    assert codes(planned) == expected


def test_a_resident_that_does_not_fit_beside_the_live_coven_refuses() -> None:
    resident = a_member("resident", "parser", memory=100 * GIB)
    rendered = WANTS_REASONING.model_copy(update={"residents": (resident,)})
    service = Service.model_construct(runtime="none", image="registry.example.net/a", memory=100 * GIB)

    planned = plan(rendered, a_state_running(WANTS_REASONING), residents={"parser": service})

    assert codes(planned) == ["REC8001"]


def test_a_service_left_running_is_a_stop_that_the_plan_says() -> None:
    units = a_state_running(WANTS_REASONING).units
    assert isinstance(units, Known)
    left: Known[tuple[Unit, ...]] = Known(
        value=(*units.value, a_unit("recon-resident-parser.service", config_hash="a" * 16))
    )

    planned = plan(WANTS_REASONING, a_state_running(WANTS_REASONING, units=left))

    assert addresses(planned) == [("spark-1/orphan/recon-resident-parser.service", ("stop",), "unit_gone", "desired")]
    assert planned.order is not None
    assert planned.order.stop_units == ("recon-resident-parser.service",)


def test_gpus_that_cannot_be_read_are_said_and_make_the_plan_incomplete() -> None:
    planned = plan(WANTS_REASONING, a_state_running(WANTS_REASONING, gpus=unknown("NVML: driver mismatch")))
    whole = assemble(FLEET, [planned], {}, source=Source(commit=None, dirty=False), now=0.0)

    assert planned.unknowns == ("the GPUs and who uses them: NVML: driver mismatch",)
    assert whole.complete is False


def test_a_crash_loop_is_called_one_and_a_start_under_way_is_left_alone() -> None:
    def with_unit(sub: str, restarts: int = 4, last_exit: str = "exit status 1") -> HostPlan:
        over: dict[str, Any] = {"sub": sub, "restarts": restarts, "last_exit": last_exit}
        member = a_unit("recon-reasoning-vllm.service", active="activating", config_hash=None, **over)
        units: Known[tuple[Unit, ...]] = Known(value=(a_unit(REASONING.gate), member))
        return plan(WANTS_REASONING, a_state_running(WANTS_REASONING, units=units))

    assert addresses(with_unit("auto-restart")) == [
        ("spark-1/member/reasoning/vllm", ("restart",), "unit_failed", "drift")
    ]
    assert [change.reason for change in with_unit("auto-restart-queued").changes] == [
        "recon-reasoning-vllm.service crashes again and again (5 times, last with exit status 1)"
    ]
    # systemd forgets how it ended when the next process starts.
    again = with_unit("start", last_exit="")
    assert (again.changes, again.warnings) == (
        (),
        ("recon-reasoning-vllm.service crashes again and again (4 times), and is starting again",),
    )
    assert with_unit("start", 1, "").warnings == ("recon-reasoning-vllm.service crashed once, and is starting again",)
    assert with_unit("start", 0, "").warnings == ("recon-reasoning-vllm.service is starting",)


@pytest.mark.parametrize(
    ("restarts", "warning"),
    [
        (0, "recon-reasoning-vllm.service runs but is not healthy: 503"),
        (1, "recon-reasoning-vllm.service runs but is not healthy: 503"),
        (3, "recon-reasoning-vllm.service crashes again and again (3 times) and is not healthy: 503"),
    ],
)
def test_a_server_that_is_up_between_two_crashes_is_not_called_running(restarts: int, warning: str) -> None:
    member = a_unit("recon-reasoning-vllm.service", restarts=restarts, config_hash="aaaa000000000001")
    units: Known[tuple[Unit, ...]] = Known(value=(a_unit(REASONING.gate), member))
    ill: dict[str, Known[Health]] = {
        "recon-reasoning-vllm.service": Known(value=Health(ok=False, status=503, detail="503"))
    }

    assert plan(WANTS_REASONING, a_state_running(WANTS_REASONING, units=units, health=ill)).warnings == (warning,)


def test_a_definition_that_systemd_has_not_read_again_is_drift() -> None:
    member = a_unit("recon-reasoning-vllm.service", config_hash="aaaa000000000001", need_reload=True)
    units: Known[tuple[Unit, ...]] = Known(value=(a_unit(REASONING.gate), member))

    planned = plan(WANTS_REASONING, a_state_running(WANTS_REASONING, units=units))

    assert addresses(planned) == [("spark-1/member/reasoning/vllm", ("restart",), "reload_needed", "drift")]


def test_a_new_member_of_the_live_coven_is_a_start_by_git() -> None:
    both = a_group("reasoning", a_member("reasoning", "vllm"), a_member("reasoning", "rerank"))
    new = a_rendered(both, live={"all": "reasoning"})
    old = a_rendered(REASONING, live={"all": "reasoning"})

    planned = plan(new, a_state_running(old), may_run=("reasoning",))

    assert [(t.disruption, t.members, t.cause, t.cuts_off) for t in planned.transitions] == [
        ("start", ("rerank",), "desired", "nobody is without service: nothing that serves is stopped")
    ]


def test_strangers_are_told_once_each_and_do_not_move_the_digest() -> None:
    def with_strangers(*comms: str) -> HostPlan:
        processes = tuple(a_process(comm=comm, pid=number) for number, comm in enumerate(comms, 100))
        gpus: Known[tuple[Gpu, ...]] = Known(value=(a_gpu(processes=processes),))
        return plan(WANTS_REASONING, a_state_running(WANTS_REASONING, gpus=gpus))

    source = Source(commit=None, dirty=False)
    digests = {
        assemble(FLEET, [with_strangers(*comms)], {}, source=source, now=0.0).plan_digest
        for comms in ((), ("a",), ("b", "a"), ("a", "a", "b"))
    }

    assert len(with_strangers("a", "a", "b").changes) == 2
    assert len(digests) == 1


def test_the_plan_shows_every_hook_and_the_firewall_where_they_stand() -> None:
    def hook(event: Any, on_timeout: Any = "abort") -> HookCall:
        return HookCall(event=event, argv=("/usr/local/bin/gw", event), timeout_s=30.0, on_timeout=on_timeout)

    call = Call(method="POST", url="http://127.0.0.1:9000/x")
    old_hooks = (
        hook("before_drain"),
        HookCall(event="drain", call=call, timeout_s=60.0, on_timeout="continue"),
        hook("after_stop"),
        hook("on_rollback", "continue"),
    )
    blind = a_member("reasoning", "asr", in_flight=(), firewall=True, port=9000)
    old = a_group("reasoning", blind).model_copy(update={"hooks": old_hooks})
    new = VISION.model_copy(update={"hooks": (hook("before_start"), hook("after_warm", "continue"))})
    state = a_state_running(a_rendered(old, new, live={"all": "reasoning"}))

    planned = plan(a_rendered(old, new, live={"all": "vision"}), state)

    steps = planned.transitions[0].steps
    shown = [(step.step, step.text, step.on_failure) for step in steps]
    aborts = "abort: the old coven goes on serving"
    assert [each for each in shown if each[0] in ("hook", "admission")] == [
        ("hook", "before_drain of reasoning: run /usr/local/bin/gw before_drain", aborts),
        (
            "admission",
            "refuse new connections to 9000 (asr) by nftables, until it has stopped or on every way back",
            aborts,
        ),
        ("hook", "drain of reasoning: POST http://127.0.0.1:9000/x", "go on"),
        ("hook", "after_stop of reasoning: run /usr/local/bin/gw after_stop", "roll back"),
        ("hook", "before_start of vision: run /usr/local/bin/gw before_start", "roll back"),
        ("hook", "after_warm of vision: run /usr/local/bin/gw after_warm", "go on, after 5s more for it to end"),
        (
            "hook",
            "only on the way back: on_rollback of reasoning: run /usr/local/bin/gw on_rollback",
            "go on, after 5s more for it to end",
        ),
    ]
    assert [step.step for step in steps] == [
        *("claim", "stage", "hook", "admission", "hook", "drain", "stop", "hook", "hook", "verify_memory", "trial"),
        *("start", "warm", "hook", "commit", "finish", "hook"),
    ]
    assert planned.transitions[0].cuts_off == (
        "clients of reasoning (asr) are without service for a time not recorded yet; "
        "new connections to asr are refused first, open ones go on until it stops; "
        "work of asr cannot be seen and is waited for by the drain hook alone"
    )
    assert [step.text for step in steps if step.step == "drain"] == [
        "nothing more to wait for than the hook did: asr cannot say what it does"
    ]


@pytest.mark.parametrize(("kind", "wanted"), [("unified", "41GiB"), ("gh200", "40GiB"), ("discrete", None)])
def test_dropping_the_page_cache_is_a_line_of_the_plan_where_there_is_any(kind: Any, wanted: str | None) -> None:
    state = a_state_running(a_rendered(REASONING, VISION, live={"all": "reasoning"})).model_copy(
        update={"memory_class": Known(value=kind)}
    )

    planned = plan(WANTS_VISION, state, memory=MemorySpec(drop_caches=True), reserve=GIB)

    steps = [step for step in planned.transitions[0].steps if step.step == "drop_caches"]
    text = f"drop the page cache, if less than {wanted} is free without it and enough would be"
    assert [(step.text, step.on_failure) for step in steps] == ([(text, "go on")] if wanted else [])


def test_files_that_cannot_be_read_are_not_called_removed() -> None:
    planned = plan(WANTS_REASONING, a_state_running(WANTS_REASONING, files=unknown("permission denied")))

    assert [change for change in planned.changes if change.kind == "file"] == []
    assert [refusal.code for refusal in planned.refusals] == ["REC8008"]


def test_what_boots_is_told_by_what_is_missing_and_what_is_too_much() -> None:
    other = a_state_running(WANTS_REASONING, boot_targets=Known(value=("recon-old.timer",)))

    (found,) = [change for change in plan(WANTS_REASONING, other).changes if change.kind == "boot"]

    missing = "recon-coven-reasoning.target does not start at boot"
    assert found.reason == f"{missing}; recon-old.timer starts at boot and is not declared to"
