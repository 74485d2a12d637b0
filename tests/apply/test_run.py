"""Carrying a plan out over several hosts: who begins when, and what is made of every answer."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from reconciler.apply.events import HostEvent, HostFinished, HostJoined, HostLost, HostProgress, HostStarted
from reconciler.apply.run import Options, apply_plan, new_run_id
from reconciler.errors import ReconError, StaleError
from reconciler.model.outcome import JournalEvent, Outcome
from reconciler.model.plan import Plan
from tests.apply.plans import (
    Answer,
    FakePace,
    Hosts,
    ScriptedHost,
    a_fleet,
    a_host_plan,
    a_plan,
    an_event,
    an_outcome,
    files_only,
    lost,
    news,
    refusal,
)
from tests.builders import a_host

LAUNCHED = {"launched": True, "txid": "t1"}


class Watcher:
    """Collects events; the first word of each is enough to compare."""

    def __init__(self) -> None:
        self.events: list[HostEvent] = []

    def __call__(self, event: HostEvent) -> None:
        self.events.append(event)

    @property
    def words(self) -> list[str]:
        return [f"{event.host} {type(event).__name__}" for event in self.events]


def run(plan: Plan, hosts: Hosts, *, at_a_time: int = 1, **over: Any) -> tuple[tuple[Outcome, ...], Watcher]:
    watcher = Watcher()
    fleet = a_fleet(*hosts.by_name, at_a_time=at_a_time)
    options = Options(run_id="t1", pace=FakePace())
    found = apply_plan(plan, fleet, hosts, owner="ann@laptop", on_event=watcher, options=options, **over)
    return found, watcher


def one_host(*script: Answer) -> tuple[Outcome, ScriptedHost, Watcher]:
    host = ScriptedHost(*script)
    found, watcher = run(a_plan(a_host_plan("spark-1")), Hosts(spark_1=host))
    return found[0], host, watcher


def words(outcome: Outcome) -> tuple[str, str | None, str | None]:
    return outcome.state, outcome.code, outcome.fix


def test_a_host_gets_its_order_and_is_followed_to_its_end() -> None:
    host = ScriptedHost(
        LAUNCHED, news(an_event(1)), news(), news(an_event(2, "commit", "done"), outcome=an_outcome("spark-1"))
    )
    plan = a_plan(a_host_plan("spark-1"))
    found, watcher = run(plan, Hosts(spark_1=host))

    outcome = Outcome.model_validate(an_outcome("spark-1"))
    assert found == (outcome,)
    assert watcher.events == [
        HostStarted("spark-1", "t1", 1),
        HostProgress("spark-1", JournalEvent.model_validate(an_event(1))),
        HostProgress("spark-1", JournalEvent.model_validate(an_event(2, "commit", "done"))),
        HostFinished("spark-1", outcome),
    ]
    assert host.verbs == ["apply", "follow", "follow", "follow"]
    assert host.asked[0][1]["intent"]["txid"] == "t1"
    assert [args["after_seq"] for _, args in host.asked[1:]] == [0, 1, 1]
    assert host.connections == 1


def test_a_plan_that_was_changed_reaches_no_host() -> None:
    host = ScriptedHost()
    plan = a_plan(a_host_plan("spark-1")).model_copy(update={"plan_digest": "sha256:0"})
    with pytest.raises(StaleError):
        run(plan, Hosts(spark_1=host))

    assert host.asked == []


def test_a_plan_with_a_host_the_fleet_does_not_have_reaches_no_host() -> None:
    host = ScriptedHost()
    with pytest.raises(ReconError) as caught:
        run(a_plan(a_host_plan("spark-1"), a_host_plan("spark-9")), Hosts(spark_1=host))

    assert (caught.value.problems[0].code, host.asked) == ("REC7032", [])


def test_hosts_without_an_order_are_left_alone() -> None:
    host = ScriptedHost()
    found, watcher = run(a_plan(a_host_plan("spark-1", order=None)), Hosts(spark_1=host))

    assert (found, watcher.events, host.connections) == ((), [], 0)


def test_transitions_come_one_after_the_other_in_the_plans_order() -> None:
    names = ["spark-3", "spark-1", "spark-2"]
    hosts = Hosts(**{name: ScriptedHost(LAUNCHED, news(outcome=an_outcome(name))) for name in names})
    found, watcher = run(a_plan(*[a_host_plan(name) for name in names]), hosts)

    assert [outcome.host for outcome in found] == names
    assert watcher.words == [f"{name} {word}" for name in names for word in ("HostStarted", "HostFinished")]


def test_as_many_transitions_run_at_a_time_as_the_policy_allows() -> None:
    both = threading.Barrier(2, timeout=20)

    def met(name: str) -> Answer:
        def answer() -> dict[str, Any]:
            both.wait()
            return news(outcome=an_outcome(name))

        return answer

    names = ["spark-1", "spark-2", "spark-3", "spark-4"]
    hosts = Hosts(**{name: ScriptedHost(LAUNCHED, met(name)) for name in names})
    found, _ = run(a_plan(*[a_host_plan(name) for name in names]), hosts, at_a_time=2)

    assert [outcome.state for outcome in found] == ["applied"] * 4


def test_hosts_with_files_only_do_not_wait_for_a_transition() -> None:
    files_are_done = threading.Event()

    def transition() -> dict[str, Any]:
        assert files_are_done.wait(20)
        return news(outcome=an_outcome("spark-1"))

    def files() -> dict[str, Any]:
        files_are_done.set()
        return news(outcome=an_outcome("spark-2"))

    hosts = Hosts(spark_1=ScriptedHost(LAUNCHED, transition), spark_2=ScriptedHost(LAUNCHED, files))
    found, _ = run(a_plan(a_host_plan("spark-1"), files_only("spark-2")), hosts)

    assert [outcome.state for outcome in found] == ["applied", "applied"]


@pytest.mark.parametrize("state", ["rolled_back", "held", "unknown"])
def test_a_transition_that_ended_badly_stops_those_that_have_not_begun(state: str) -> None:
    first = ScriptedHost(LAUNCHED, news(outcome=an_outcome("spark-1", state=state)))
    second = ScriptedHost()
    found, watcher = run(a_plan(a_host_plan("spark-1"), a_host_plan("spark-2")), Hosts(spark_1=first, spark_2=second))

    assert [outcome.state for outcome in found] == [state, "refused"]
    assert words(found[1]) == ("refused", "REC6020", "recon plan --host spark-2")
    assert (found[1].committed, found[1].live) == (3, {"all": "reasoning"})
    assert second.asked == []
    assert watcher.words[-1] == "spark-2 HostFinished"


@pytest.mark.parametrize("state", ["applied", "nothing", "refused", "stale", "locked", "aborted"])
def test_an_ending_that_says_nothing_about_others_stops_nobody(state: str) -> None:
    first = ScriptedHost(LAUNCHED, news(outcome=an_outcome("spark-1", state=state)))
    second = ScriptedHost(LAUNCHED, news(outcome=an_outcome("spark-2")))
    found, _ = run(a_plan(a_host_plan("spark-1"), a_host_plan("spark-2")), Hosts(spark_1=first, spark_2=second))

    assert [outcome.state for outcome in found] == [state, "applied"]


def test_stop_begins_no_further_host_and_follows_the_running_one() -> None:
    stop = threading.Event()

    def interrupted() -> dict[str, Any]:
        stop.set()
        return news(an_event(1))

    first = ScriptedHost(LAUNCHED, interrupted, news(outcome=an_outcome("spark-1")))
    second = ScriptedHost()
    found, _ = run(
        a_plan(a_host_plan("spark-1"), a_host_plan("spark-2")), Hosts(spark_1=first, spark_2=second), stop=stop
    )

    assert [words(outcome)[:2] for outcome in found] == [("applied", None), ("refused", "REC6020")]
    assert second.asked == []


def test_detach_leaves_at_once_and_says_how_to_come_back() -> None:
    detach = threading.Event()

    def left() -> dict[str, Any]:
        detach.set()
        return news(an_event(1))

    host = ScriptedHost(LAUNCHED, left)
    found, _ = run(a_plan(a_host_plan("spark-1")), Hosts(spark_1=host), detach=detach)

    assert words(found[0]) == ("unknown", "REC6021", "recon apply --attach t1 --host spark-1")
    assert host.verbs == ["apply", "follow"]


def test_another_executor_is_named_with_what_it_does() -> None:
    lease = {"epoch": 4, "owner": "bob@ci", "txid": "t0", "boot_id": "b", "step": "drain", "since": 50.0, "age_s": 75.0}
    outcome, host, _ = one_host({"launched": False, "lease": lease})

    assert words(outcome) == ("locked", "REC8013", "recon apply --attach t0 --host spark-1")
    assert outcome.reason == ("a transition runs on spark-1: bob@ci runs transaction t0 for 1m15s, step drain")
    assert host.verbs == ["apply"]


@pytest.mark.parametrize("age_s", [float("inf"), float("nan"), -5.0, "75", None])
def test_an_age_that_is_none_is_left_out(age_s: object) -> None:
    outcome, _, _ = one_host({"launched": False, "lease": {"owner": "bob@ci", "txid": "t0", "age_s": age_s}})

    assert words(outcome) == ("locked", "REC8013", "recon apply --attach t0 --host spark-1")
    assert "bob@ci runs transaction t0, step unknown" in outcome.reason


def test_a_mistake_of_ours_about_one_host_loses_none_of_the_others() -> None:
    def mistake() -> dict[str, Any]:
        raise ZeroDivisionError("of ours")

    names = ["spark-1", "spark-2", "spark-3"]
    hosts = Hosts(
        spark_1=ScriptedHost(LAUNCHED, mistake),
        spark_2=ScriptedHost(),
        spark_3=ScriptedHost(LAUNCHED, news(outcome=an_outcome("spark-3"))),
    )
    found, watcher = run(a_plan(a_host_plan(names[0]), a_host_plan(names[1]), files_only(names[2])), hosts)

    assert words(found[0]) == ("unknown", "REC7488", "recon apply --attach t1 --host spark-1")
    assert "ZeroDivisionError: of ours" in found[0].reason
    assert [words(outcome)[:2] for outcome in found[1:]] == [("refused", "REC6020"), ("applied", None)]
    assert "spark-1 HostFinished" in watcher.words


def test_a_listener_that_fails_loses_no_outcome() -> None:
    hosts = Hosts(spark_1=ScriptedHost(LAUNCHED, news(outcome=an_outcome("spark-1"))))

    def fails(_event: HostEvent) -> None:
        raise ZeroDivisionError

    options = Options(run_id="t1", pace=FakePace())
    plan = a_plan(a_host_plan("spark-1"))
    found = apply_plan(plan, a_fleet("spark-1"), hosts, owner="ann@laptop", on_event=fails, options=options)

    assert words(found[0])[:2] == ("unknown", "REC7488")


def test_a_mistake_of_ours_about_a_host_that_is_joined_is_unknown_too() -> None:
    def mistake() -> dict[str, Any]:
        raise ZeroDivisionError

    plan = a_plan(a_host_plan("spark-1", order=None, status="locked", joins="t0"))
    found, _ = run(plan, Hosts(spark_1=ScriptedHost(mistake)))

    assert words(found[0]) == ("unknown", "REC7488", "recon apply --attach t0 --host spark-1")


def test_another_executor_without_a_lease_yet_is_locked_too() -> None:
    outcome, _, _ = one_host({"launched": False, "lease": None})

    assert words(outcome) == ("locked", "REC8013", "recon status --host spark-1")


@pytest.mark.parametrize("code", ["REC6001", "REC6002", "REC6004", "REC6005", "REC6007", "REC6009", "REC6010"])
def test_a_host_that_never_got_the_order_is_said_to_be_untouched(code: str) -> None:
    outcome, host, watcher = one_host(lost(code))

    assert outcome.code == code
    assert outcome.reason == "lost: in the dark; spark-1 was not touched"
    assert host.verbs == ["apply"]
    assert watcher.words == ["spark-1 HostStarted", "spark-1 HostFinished"]


def test_an_order_lost_on_the_way_is_given_again_under_the_same_name() -> None:
    outcome, host, watcher = one_host(lost(), lost("REC6007"), LAUNCHED, news(outcome=an_outcome("spark-1")))

    assert outcome.state == "applied"
    assert host.verbs == ["apply", "apply", "apply", "follow"]
    assert host.asked[0] == host.asked[1] == host.asked[2]
    assert host.connections == 3
    assert [event for event in watcher.events if isinstance(event, HostLost)] == [
        HostLost("spark-1", "REC6008: lost"),
        HostLost("spark-1", "REC6007: lost"),
    ]


@pytest.mark.parametrize("lease", [None, {"txid": "t1", "owner": "ann@laptop"}])
def test_an_order_that_did_get_there_before_the_connection_broke_is_followed(lease: dict[str, Any] | None) -> None:
    outcome, _, _ = one_host(lost(), {"launched": False, "lease": lease}, news(outcome=an_outcome("spark-1")))

    assert outcome.state == "applied"


def test_an_order_lost_for_good_is_an_unknown_outcome_with_the_way_back() -> None:
    outcome, host, _ = one_host(lost())

    assert words(outcome) == ("unknown", "REC6008", "recon apply --attach t1 --host spark-1")
    assert outcome.reason == (
        "the outcome is not known: lost (REC6008: in the dark); if spark-1 got its order, it goes on by itself"
    )
    assert set(host.verbs) == {"apply"}
    assert 50.0 < outcome.elapsed_s <= 60.0


def test_a_refusal_by_the_agent_is_a_refusal_when_the_host_knows_nothing_of_it() -> None:
    outcome, host, _ = one_host(refusal("REC7019"), news(active=False))

    assert words(outcome) == ("refused", "REC7019", "do this")
    assert host.verbs == ["apply", "follow"]


def test_an_answer_that_could_not_be_read_is_looked_behind() -> None:
    outcome, host, _ = one_host(refusal("REC5005"), news(an_event(1)), news(outcome=an_outcome("spark-1")))

    assert outcome.state == "applied"
    assert host.verbs == ["apply", "follow", "follow"]


@pytest.mark.parametrize("code", ["REC5005", "REC5006", "REC5007", "REC5008", "REC5014"])
def test_an_answer_that_proves_nothing_is_never_a_refusal(code: str) -> None:
    outcome, host, _ = one_host(refusal(code), refusal("REC5005"))

    assert words(outcome) == ("unknown", "REC6008", "recon apply --attach t1 --host spark-1")
    assert set(host.verbs[1:]) == {"follow"}


@pytest.mark.parametrize("code", ["REC6009", "REC6010"])
def test_a_host_that_does_not_let_the_agent_run_refused_the_order(code: str) -> None:
    outcome, host, _ = one_host(refusal(code), refusal(code))

    assert words(outcome) == ("refused", code, "do this")
    assert host.verbs == ["apply", "follow"]


@pytest.mark.parametrize("code", ["REC6009", "REC6010"])
def test_a_host_that_lets_the_agent_run_no_more_after_an_order_was_lost_is_not_said_to_have_refused_it(
    code: str,
) -> None:
    outcome, _, _ = one_host(lost(), refusal(code), refusal(code))

    assert words(outcome) == ("unknown", "REC6008", "recon apply --attach t1 --host spark-1")


def test_an_order_without_an_answer_that_never_began_is_not_said_to_be_refused() -> None:
    outcome, _, _ = one_host(refusal("REC5005"), news(active=False))

    assert (outcome.state, outcome.code) == ("unknown", "REC6022")


def test_an_agent_that_failed_before_it_began_refused_the_order() -> None:
    outcome, host, _ = one_host(refusal("REC5014"), news(active=False))

    assert words(outcome) == ("refused", "REC5014", "do this")
    assert host.verbs == ["apply", "follow"]


def test_an_agent_that_failed_after_it_began_is_followed() -> None:
    outcome, _, _ = one_host(refusal("REC5014"), news(), news(outcome=an_outcome("spark-1")))

    assert outcome.state == "applied"


def test_run_ids_sort_by_time() -> None:
    pace = FakePace()
    first = new_run_id(pace)
    pace.wait(1.0, threading.Event())

    assert first.startswith("20231114T221320.000Z-")
    assert first < new_run_id(pace)


def test_a_host_that_already_does_what_is_wanted_is_followed_to_its_end() -> None:
    outcome = an_outcome("spark-1", txid="t0", owner="bob@ci")
    host = ScriptedHost(news(an_event(1)), news(outcome=outcome))
    plan = a_plan(a_host_plan("spark-1", order=None, status="locked", joins="t0"))
    found, watcher = run(plan, Hosts(spark_1=host))

    assert found == (Outcome.model_validate(outcome),)
    assert watcher.words == [f"spark-1 {word}" for word in ("HostJoined", "HostProgress", "HostFinished")]
    assert host.asked[0] == ("follow", {"txid": "t0", "after_seq": 0, "wait_s": 2.0})


def test_an_order_that_comes_second_after_one_that_wants_the_same_follows_that_one() -> None:
    lease = {"owner": "bob@ci", "txid": "t0", "step": "launch", "age_s": 0.0}
    outcome, host, watcher = one_host(
        {"launched": False, "lease": lease, "joins": "t0"}, news(outcome=an_outcome("spark-1", txid="t0"))
    )

    assert (outcome.state, outcome.txid) == ("applied", "t0")
    assert host.asked[1] == ("follow", {"txid": "t0", "after_seq": 0, "wait_s": 2.0})
    assert HostJoined("spark-1", "t0", "bob@ci runs transaction t0 for 0s, step launch") in watcher.events


def test_one_that_began_under_the_old_name_of_the_host_is_followed_too() -> None:
    fleet = a_fleet("spark-1")
    renamed = fleet.model_copy(update={"hosts": {"spark-1": a_host(name="spark-1", formerly="studio/old-1")}})
    plan = a_plan(a_host_plan("spark-1", order=None, status="locked", joins="t0"))
    hosts = Hosts(spark_1=ScriptedHost(news(outcome=an_outcome("old-1", txid="t0"))))
    options = Options(run_id="t1", pace=FakePace())
    found = apply_plan(plan, renamed, hosts, owner="ann@laptop", on_event=lambda _: None, options=options)

    assert (found[0].state, found[0].txid) == ("applied", "t0")


def test_a_host_that_says_why_it_is_held_is_locked_for_that_reason() -> None:
    problem = {"code": "REC7150", "summary": "no telling", "detail": "torn", "fix": "recon lock force-release spark-1"}
    outcome, host, _ = one_host({"launched": False, "lease": None, "problem": problem})

    assert words(outcome) == ("locked", "REC7150", "recon lock force-release spark-1")
    assert host.verbs == ["apply"]


def test_a_plan_of_another_recon_reaches_no_host() -> None:
    host = ScriptedHost()
    plan = a_plan(a_host_plan("spark-1")).model_copy(update={"recon_version": "9.9.9"})
    with pytest.raises(StaleError) as caught:
        run(plan, Hosts(spark_1=host))

    assert (caught.value.problems[0].code, host.asked) == ("REC7155", [])
