"""What a plan says about windows: what is in force by the host's clock, what can never be, and whose jobs are met."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from reconciler.diff import diff_host
from reconciler.model import jobs, week
from reconciler.model.digest import target_digest
from reconciler.model.observed import HostState, Known
from reconciler.model.observed_schedule import Job, ScheduleState
from reconciler.model.plan import HostPlan
from reconciler.model.subject import look_at
from reconciler.model.window import Window
from reconciler.planner import plan_host
from tests.agent.bench import CONTEXT, PARSER, Bench, a_coven, a_service

NIGHT = {"coven": "vision", "from": "02:00", "to": "04:00"}


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


class Planned(Bench):
    """A host that was just installed, with windows, seen at a time."""

    def __init__(self, *windows: dict[str, Any], covens: tuple[Any, ...] = (), when: str = "2026-01-06T12:00") -> None:
        super().__init__(*covens)
        self.schedule = tuple(Window.model_validate(window) for window in windows or (NIGHT,))
        self.machine.clock.advance(at(when) - self.machine.wall())

    def state(self, **over: Any) -> HostState:
        from reconciler.agent import observe

        found = HostState.model_validate(observe.observe(self.machine, self.question(), CONTEXT))
        return found.model_copy(update=over)

    def plan(self, coven: str | None = "reasoning", **over: Any) -> HostPlan:
        rendered, host = self.rendered(coven)
        subject = look_at(rendered, host, self.state(**over))
        return plan_host(subject, diff_host(subject), fleet="studio", ignored=0)


def codes(plan: HostPlan) -> list[str]:
    return [refusal.code for refusal in plan.refusals]


@pytest.mark.parametrize(("when", "coven"), [("2026-01-06T12:00", "reasoning"), ("2026-01-06T03:00", "vision")])
def test_the_first_plan_starts_what_is_in_force_by_the_clock_of_the_host(when: str, coven: str) -> None:
    plan = Planned(when=when).plan()

    assert [(move.from_coven, move.to_coven) for move in plan.transitions] == [(None, coven)]
    assert plan.order is not None
    assert plan.order.live == {"all": coven}
    assert plan.order.boot == (f"recon-coven-{coven}.target", "recon-schedule.timer")
    assert plan.order.schedule is not None
    assert plan.order.schedule.declared == {"all": "reasoning"}


def test_a_coven_of_a_window_that_does_not_fit_is_refused_by_day() -> None:
    huge = a_coven("vision", llama=a_service("llamacpp", 8003, memory="400GiB"))
    plan = Planned(covens=(a_coven("reasoning", vllm=a_service("vllm", 8001)), huge)).plan()

    assert codes(plan) == ["REC7343"]
    assert plan.refusals[0].summary == "vision of the schedule does not fit slot all of h-1"


def test_a_declared_coven_that_does_not_fit_is_refused_by_night_too() -> None:
    huge = a_coven("reasoning", vllm=a_service("vllm", 8001, memory="400GiB"))
    small = a_coven("vision", llama=a_service("llamacpp", 8003))

    assert codes(Planned(covens=(huge, small), when="2026-01-06T03:00").plan()) == ["REC7343"]


@pytest.mark.parametrize("condition", [{"require": "drained"}, {"yields": "10m"}])
def test_a_window_that_waits_for_idleness_that_nobody_can_tell_is_refused(condition: dict[str, str]) -> None:
    blind = a_coven("reasoning", vllm=a_service("vllm", 8001), parser=PARSER)
    plan = Planned({**NIGHT, **condition}, covens=(blind, a_coven("vision", llama=a_service("llamacpp", 8003)))).plan()

    assert codes(plan) == ["REC7344"]
    assert "parser of reasoning cannot say how busy it is" in plan.refusals[0].detail


def test_a_coven_of_the_window_itself_need_not_say_how_busy_it_is() -> None:
    blind = a_coven("vision", parser=PARSER)
    plan = Planned(
        {**NIGHT, "require": "drained"}, covens=(a_coven("reasoning", vllm=a_service("vllm", 8001)), blind)
    ).plan()

    assert codes(plan) == []


def test_a_zone_that_the_host_cannot_read_is_refused() -> None:
    seen = ScheduleState(looked_s=None, said="", unread={"Europe/Berlin": "no data"})

    assert codes(Planned().plan(schedule=Known(value=seen))) == ["REC7342"]


def test_a_plan_warns_of_a_job_that_runs_now_and_of_one_that_a_window_will_meet() -> None:
    now = Job(name="index", owner="ann", lasts_s=3600.0, at=at("2026-01-06T11:30"))
    night = Job(name="backup", owner="bob", lasts_s=60.0, clock="02:05", days="Wed", timezone="UTC")
    far = Job(name="far", owner="bob", lasts_s=60.0, at=at("2026-06-06T11:30"))

    assert list(Planned().plan(registry=Known(value=(far, now, night))).warnings) == [
        "a transition now would fall on index of ann, which runs until Tue 2026-01-06 12:30 (UTC)",
        "the switch of slot all to vision at Wed 2026-01-07 02:00 (UTC) would fall on backup of bob",
    ]


def test_a_job_is_met_by_a_transition_alone_where_there_are_no_windows() -> None:
    host = Planned()
    host.schedule = ()
    now = Job(name="index", owner="ann", lasts_s=3600.0, every_s=7200.0, since=at("2026-01-01T01:30"))

    assert host.plan(registry=Known(value=(now,))).warnings == (
        "a transition now would fall on index of ann, which runs until Tue 2026-01-06 12:30 (UTC)",
    )


@pytest.mark.parametrize(
    ("job", "runs"),
    [
        ({"at": 50.0}, [(50.0, 80.0)]),
        ({"at": 500.0}, []),
        ({"every_s": 60.0, "since": 0.0}, [(60.0, 90.0), (120.0, 150.0)]),
        ({"every_s": 60.0, "since": 130.0}, [(130.0, 160.0)]),
        ({"clock": "00:01", "days": "Thu", "timezone": "UTC"}, [(60.0, 90.0)]),
        ({"clock": "00:01", "days": "Fri", "timezone": "UTC"}, []),
    ],
)
def test_when_a_job_runs(job: dict[str, Any], runs: list[tuple[float, float]]) -> None:
    found = Job.model_validate({"name": "j", "owner": "o", "lasts_s": 30.0, **job})

    assert list(jobs.runs_of(found, 45.0, 180.0)) == runs


def test_what_a_host_is_to_become_names_its_windows() -> None:
    host = Planned()
    rendered, _ = host.rendered("reasoning")
    host.schedule = (Window.model_validate({**NIGHT, "to": "05:00"}),)
    other, _ = host.rendered("reasoning")

    assert target_digest(rendered) != target_digest(other)


def test_what_the_schedule_says_is_said_in_a_sentence() -> None:
    host = Planned({**NIGHT, "require": "drained"}, {**NIGHT, "from": "05:00", "to": "06:00"})
    spec = host.rendered("reasoning")[0].schedule
    assert spec is not None
    texts = [
        week.said(week.now_of(spec, {"all": live}, at(when))[0])
        for when, live in (
            ("2026-01-06T01:00", "reasoning"),
            ("2026-01-06T02:30", "reasoning"),
            ("2026-01-06T02:30", "vision"),
        )
    ]

    assert texts == [
        "slot all: reasoning is declared until Tue 2026-01-06 02:00 (UTC), then vision",
        "slot all: reasoning is declared while vision waits to begin, until Tue 2026-01-06 04:00 (UTC), then reasoning",
        "slot all: vision is in force until Tue 2026-01-06 04:00 (UTC), then reasoning",
    ]


def test_hosts_of_one_kind_share_files_and_differ_in_what_they_declare() -> None:
    host = Planned()
    one, other = host.rendered("reasoning")[0], host.rendered("vision")[0]
    assert one.schedule is not None
    assert other.schedule is not None

    assert [file.body for file in one.files] == [file.body for file in other.files]
    assert (one.schedule.declared, other.schedule.declared) == ({"all": "reasoning"}, {"all": "vision"})
