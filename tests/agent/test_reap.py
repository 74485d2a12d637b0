"""The request to reap on a simulated host: who may, what may be touched, and what is said and written of it."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.agent import alerts, dispatch, history, places, reaper
from reconciler.agent.wire import RequestError
from reconciler.sim.machine import SimMachine
from reconciler.sim.state import Node
from tests.agent.ticks import HOST, ROOT, commit, spec

CONTEXT = {"digest": "simulated", "mode": "simulated", "bundle": None}
RENDERS = f"{ROOT}/renders"


@pytest.fixture
def machine() -> SimMachine:
    machine = SimMachine.new(HOST, "h200", seed=3)
    machine.files.make_dirs(f"{RENDERS}/job")
    for name in ("a", "b", "job/c", "job/d"):
        machine.files.put(f"{RENDERS}/{name}", Node.of(b"x"))
        machine.sleep(120.0)
    commit(machine, spec())
    return machine


def reap(machine: SimMachine, **args: Any) -> dict[str, Any]:
    return dispatch.handle(machine, "reap", args, CONTEXT)


def there(machine: SimMachine) -> list[str]:
    return [path[len(RENDERS) + 1 :] for path in machine.files.walk(RENDERS)]


def test_without_go_it_is_only_said_what_would_go(machine: SimMachine) -> None:
    said = reap(machine, owner="anna")

    assert (said["go"], said["gone"], said["stay"]) == (
        False,
        {"files": 2, "bytes": 8192},
        {"files": 2, "bytes": 8192},
    )
    assert [each["path"] for each in said["listed"]] == [f"{RENDERS}/a", f"{RENDERS}/b"]
    assert (there(machine), history.recent(machine)) == (["a", "b", "job/c", "job/d"], [])


def test_with_go_they_go_and_it_is_in_the_history_who_did_it(machine: SimMachine) -> None:
    done = reap(machine, go=True, owner="anna")

    assert (done["go"], there(machine)) == (True, ["job/c", "job/d"])
    line = history.recent(machine)[-1]
    assert (line["kind"], line["owner"], line["files"], line["bytes"]) == ("reap", "anna", 2, 8192)


def test_the_timer_does_it_as_recon_itself_and_a_second_time_does_nothing(machine: SimMachine) -> None:
    reap(machine, go=True, by="timer")
    again = reap(machine, go=True, by="timer")

    assert again["gone"] == {"files": 0, "bytes": 0}
    assert [line["owner"] for line in history.recent(machine)] == ["recon"]


def test_a_link_in_place_of_a_declared_directory_is_told_and_not_followed(machine: SimMachine) -> None:
    machine.files.drop_tree(RENDERS)
    machine.files.make_dirs("/srv/models/precious")
    machine.files.put("/srv/models/precious/weights", Node.of(b"x"))
    machine.files.put(RENDERS, Node(kind="link", target="/srv/models/precious"))
    machine.sleep(1000.0)

    done = reap(machine, go=True)

    assert (done["gone"]["files"], done["skipped_files"]) == (0, 1)
    assert machine.files.walk("/srv/models/precious") == ["/srv/models/precious/weights"]


def test_a_reaper_that_cannot_get_within_its_budget_calls_a_person(machine: SimMachine) -> None:
    for name in ("e", "f", "g"):
        machine.files.put(f"{RENDERS}/{name}", Node.of(b"x"))
    reap(machine, go=True, by="timer")
    called = [alert["code"] for alert in alerts.standing(machine)]
    machine.sleep(120.0)
    reap(machine, go=True, by="timer")

    assert (called, alerts.standing(machine)) == (["REC7385"], [])


def test_a_timer_that_does_not_get_into_a_declared_directory_calls_a_person_until_it_does(machine: SimMachine) -> None:
    machine.files.make_dirs("/data")
    machine.files.drop_tree(ROOT)
    machine.files.put(ROOT, Node(kind="link", target="/data"))
    machine.files.make_dirs("/data/renders")
    reap(machine, go=True, by="timer")
    called = [(alert["code"], alert["text"], alert["fix"]) for alert in alerts.standing(machine)]
    machine.files.drop(ROOT)
    machine.files.make_dirs(RENDERS)
    reap(machine, go=True, by="timer")

    text = f"the reaper does not get into a directory of its own: {RENDERS} Too many levels of symbolic links"
    fix = "make it a directory, or correct reaper.paths in desired/workloads/spiral.yaml: no link goes"
    assert called == [("REC7385", text, f"on {HOST}, {fix}")]
    assert alerts.standing(machine) == []


class Slow(SimMachine):
    """A host on which every look at the clock is a minute later, and so there is never the time to count."""

    def monotonic(self) -> float:
        self.clock.advance(3600.0)
        return super().monotonic()


def test_a_timer_that_has_no_time_to_count_calls_a_person_until_it_has(
    machine: SimMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "LOOK_AT_CLOCK_EVERY", 1)
    with pytest.raises(RequestError) as caught:
        reap(Slow(machine.state), go=True, by="timer")
    called = [(alert["code"], alert["text"]) for alert in alerts.standing(machine)]
    before = there(machine)
    reap(machine, go=True, by="timer")

    text = "the reaper has no time to count the files: 1 files were counted, and there are more"
    assert (caught.value.code, called, before) == ("REC7386", [("REC7386", text)], ["a", "b", "job/c", "job/d"])
    assert (alerts.standing(machine), there(machine)) == ([], ["job/c", "job/d"])


def code_of(machine: SimMachine, **args: Any) -> str:
    with pytest.raises(RequestError) as caught:
        reap(machine, **args)
    assert there(machine) == ["a", "b", "job/c", "job/d"]
    return caught.value.code


def test_a_held_host_loses_nothing_and_a_look_is_allowed(machine: SimMachine) -> None:
    machine.files.put(places.HOLD, Node.of(b'{"owner": "anna", "reason": "measuring", "since": 0.0}'))

    assert (code_of(machine, go=True), reap(machine)["gone"]["files"]) == ("REC7382", 2)


def test_two_reapers_at_once_are_one(machine: SimMachine) -> None:
    machine.mkdir(places.RUN)
    with machine.lock(places.REAPER_LOCK):
        assert code_of(machine, go=True) == "REC7381"


def test_without_a_committed_reaper_there_is_nothing_to_do(machine: SimMachine) -> None:
    commit(machine, spec(reaper=None), number=2)
    none = code_of(machine, go=True)
    commit(machine, None, number=3)

    assert (none, code_of(machine)) == ("REC7380", "REC7380")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/srv",
        "srv/spiral/renders",
        "/srv/spiral/../../etc/recon",
        "/srv/spiral/renders/",
        "/srv//spiral/renders",
        "/srv/spiral/./renders",
        "//srv/spiral/renders",
        "/etc/recon",
        "/usr/lib",
        "/run/recon",
        "/var/lib",
        "/var/lib/recon/txn",
        "/var/lib/containers/storage",
        "/srv/spiral",
        "/srv/spiral/renders\0",
    ],
)
def test_a_directory_that_no_reaper_may_touch_refuses_the_whole_round(machine: SimMachine, path: str) -> None:
    budget = {"every_s": 1.0, "keep_bytes": None, "keep_age_s": None, "keep_count": 0}
    commit(machine, spec(reaper={**budget, "paths": [RENDERS, path]}), number=2)

    assert code_of(machine, go=True) == "REC7383"


def test_a_directory_inside_another_is_counted_once(machine: SimMachine) -> None:
    budget = {"every_s": 1.0, "keep_bytes": None, "keep_age_s": None, "keep_count": 9}
    commit(machine, spec(reaper={**budget, "paths": [f"{RENDERS}/job", RENDERS]}), number=2)

    assert (reap(machine)["paths"], reap(machine)["found"]["files"]) == ([RENDERS], 4)
