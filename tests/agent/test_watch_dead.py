"""A transaction whose executors have all died is brought to its end by one that the watchdog starts."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.agent import executor, history, lease, lines, places
from reconciler.agent.dispatch import handle
from reconciler.agent.launch import launch_argv
from reconciler.agent.machine import Completed
from reconciler.agent.record import read_record, write_record
from reconciler.model.outcome import Outcome
from reconciler.sim.fleet import run_launched
from reconciler.sim.machine import KilledError
from tests.agent.bench import CONTEXT, a_coven, a_service
from tests.agent.test_watch import SERVING, Watched

TXID = "2026-0002"
START = "run systemctl start --no-block --job-mode=fail recon-coven-vision.target"
LAUNCH = "run systemd-run --unit=recon-executor.service"


def ordered() -> Watched:
    """Return a host that was handed an order to switch to vision, whose executor has not begun."""
    host = Watched()
    host.machine.mkdir(places.AGENTS)
    host.machine.symlink(f"{places.AGENTS}/simulated", places.CURRENT_AGENT)
    host.submit(host.intent("vision"))
    return host


@pytest.fixture
def host() -> Watched:
    """A host in the middle of a switch to vision: what was started is on trial, and nobody is left to judge it."""
    host = ordered()
    kill_at(host, START)
    return host


def kill_at(host: Watched, what: str, txid: str = TXID) -> None:
    def hook(when: str, change: str) -> None:
        if when == "after" and change == what:
            raise KilledError

    host.machine.hook = hook
    with pytest.raises(KilledError):
        executor.execute(host.machine, txid)
    host.machine.revive()
    host.attend()


def launches(seen: list[str]) -> list[str]:
    return [what for what in seen if what.startswith(LAUNCH)]


def end_of(host: Watched) -> Outcome:
    return Outcome.model_validate(read_record(host.machine, places.transaction(TXID) + "/outcome.json"))


def test_the_next_look_starts_an_executor_that_goes_back(host: Watched) -> None:
    seen = host.looks(1)

    assert launches(seen) == ["run " + " ".join(launch_argv(host.machine.read_link(places.CURRENT_AGENT), TXID))]
    assert host.told().said == f"started an executor again for transaction {TXID}, whose own had all died"
    run_launched(host.machine)
    assert (end_of(host).state, end_of(host).code, host.serving()) == ("rolled_back", "REC7116", SERVING)
    assert launches(host.looks(2)) == []
    assert host.alerts() == []


def test_one_whose_claim_and_trial_are_gone_too_is_followed(host: Watched) -> None:
    host.machine.remove(places.LEASE)
    host.machine.remove(places.TRIAL)

    host.looks(1)
    run_launched(host.machine)

    assert (end_of(host).state, end_of(host).code, host.serving()) == ("rolled_back", "REC7116", SERVING)


def test_one_that_runs_or_is_about_to_is_left_alone(host: Watched) -> None:
    assert len(launches(host.looks(1))) == 1

    assert launches(host.looks(3)) == []
    assert host.told().said == f"left alone: claimed by ci@example.net, transaction {TXID}"


@pytest.mark.parametrize("whose", ["held", "claimed", "locked"])
def test_a_host_that_is_somebodys_is_left_alone(host: Watched, whose: str) -> None:
    if whose == "held":
        held = {"owner": "ada@example.net", "reason": "a disk is changed", "since": 0.0, "until": None}
        write_record(host.machine, places.HOLD, held)
    elif whose == "claimed":
        lease.borrow(host.machine, owner="ada@example.net", txid="2026-0009", boot_id="b", doing="something else")
    else:
        host.machine.state.locked.append(places.LOCK)

    assert launches(host.looks(2)) == []


def another(host: Watched, txid: str) -> None:
    """Let another order be carried out under a name of its own, until its executors are dead too."""
    intent = {**host.intent_anyway("third"), "txid": txid}
    for member in intent["moves"][0]["old"]["members"]:
        member.update(drain_timeout_s=1.0, on_timeout="force")  # what the one before has started still loads
    host.submit(intent)
    kill_at(host, "run systemctl start --no-block --job-mode=fail recon-coven-third.target", txid)


@pytest.mark.parametrize("name", ["2026-0001-slower", "2026-0009"])
def test_of_two_the_one_that_came_last_goes_back_first_whatever_it_is_called(name: str) -> None:
    host = Watched()
    host.covens["third"] = a_coven("third", one=a_service("llamacpp", 8009, memory="8GiB"))
    host.machine.mkdir(places.AGENTS)
    host.machine.symlink(f"{places.AGENTS}/simulated", places.CURRENT_AGENT)
    host.submit(host.intent("vision"))
    kill_at(host, START)
    another(host, name)

    host.looks(1)

    assert host.machine.state.launched == [f"{places.EXECUTOR} {name}"]


def test_of_two_that_nobody_claims_none_is_chosen(host: Watched) -> None:
    host.machine.mkdir(places.transaction("2026-0001-more"))
    journal = host.machine.read(places.transaction(TXID) + "/journal.jsonl")
    host.machine.write(places.transaction("2026-0001-more") + "/journal.jsonl", journal)
    host.machine.remove(places.LEASE)

    assert launches(host.looks(2)) == []


def test_one_that_died_between_its_commit_and_the_end_of_its_trial_is_followed_and_finished() -> None:
    host = ordered()
    kill_at(host, "symlink /etc/containers/systemd/recon")

    assert len(launches(host.looks(1))) == 1
    run_launched(host.machine)

    assert (end_of(host).state, end_of(host).committed) == ("applied", 2)
    host.looks(2)
    assert host.told().said == "all is well"


def test_one_whose_journal_does_not_say_its_boot_is_not_followed(host: Watched) -> None:
    path = places.transaction(TXID) + "/journal.jsonl"
    bodies = [lines.body_of(raw) for raw in lines.read_lines(host.machine.read(path)).good]
    without = [{key: value for key, value in body.items() if key != "boot_id"} for body in bodies]
    host.machine.write(path, lines.again(without)[0])

    assert launches(host.looks(2)) == []


def force_release(host: Watched, name: str = "release-1") -> None:
    args = {"epoch": lease.current(host.machine), "reason": "it hangs", "owner": "ann", "host": "h-1", "id": name}
    assert handle(host.machine, "release", args, CONTEXT)["released"] is True


def test_what_a_person_took_the_claim_from_is_left_to_that_person(host: Watched) -> None:
    force_release(host)

    assert launches(host.looks(2)) == []
    assert history.recent(host.machine)[-1]["taken_from"] == TXID


def test_a_deed_of_a_person_that_died_at_any_change_is_theirs_when_they_ask_again() -> None:
    changes = 0
    while True:
        host = ordered()
        kill_at(host, START)
        args = {"epoch": 2, "reason": "it hangs", "owner": "ann", "host": "h-1", "id": "release-1"}
        if not died_before_change(host, changes, args):
            break
        host.attend()
        was_told = history.recent(host.machine)[-1].get("taken_from") == TXID
        looked = launches(host.looks(1)) if was_told else []

        again = handle(host.machine, "release", args, CONTEXT)
        assert again == {"released": True, "epoch": lease.current(host.machine), "stopped": None}
        assert (looked, launches(host.looks(2))) == ([], []), changes
        assert [line["taken_from"] for line in history.recent(host.machine) if line.get("state") == "released"] == [
            TXID
        ]
        assert [host.machine.stat(path) for path in (places.LEASE, places.RELEASE)] == [None, None]
        changes += 1
    assert changes == 6


def died_before_change(host: Watched, number: int, args: dict[str, Any]) -> bool:
    """Ask for the host and die before that change; say whether there was one."""
    seen = 0

    def hook(when: str, _change: str) -> None:
        nonlocal seen
        if when == "before":
            if seen == number:
                raise KilledError
            seen += 1

    host.machine.hook = hook
    try:
        handle(host.machine, "release", args, CONTEXT)
    except KilledError:
        host.machine.revive()
        return True
    return False


@pytest.mark.parametrize("how", ["torn", "gone"])
def test_of_a_claim_that_nobody_can_tell_whose_it_was_everything_begun_by_then_is_left_alone(
    host: Watched, how: str
) -> None:
    host.machine.write(places.LEASE, b"torn")
    if how == "gone":
        host.machine.remove(places.LEASE)
    force_release(host)

    assert launches(host.looks(2)) == []
    assert history.recent(host.machine)[-1]["taken_from"] is None


def test_a_claim_that_was_taken_before_it_began_or_from_another_does_not_keep_one_from_being_followed() -> None:
    host = ordered()
    host.machine.write(places.LEASE, b"torn")
    force_release(host)
    host.submit({**host.intent_anyway("vision"), "txid": "2026-0003"})
    kill_at(host, START, "2026-0003")
    lease.take(host.machine, owner="ann", txid="2026-0009", boot_id="b")
    force_release(host, "release-2")

    host.looks(1)

    assert host.machine.state.launched == [f"{places.EXECUTOR} 2026-0003"]


def test_one_after_another_that_held_the_host_is_followed_all_the_same(host: Watched) -> None:
    path = places.transaction("2026-0001") + "/outcome.json"
    write_record(host.machine, path, {**read_record(host.machine, path), "state": "held"})

    assert len(launches(host.looks(1))) == 1


def test_one_that_finds_the_lock_taken_waits_for_it_and_never_says_that_nothing_was_done(host: Watched) -> None:
    assert len(launches(host.looks(1))) == 1
    host.machine.state.locked.append(places.LOCK)
    host.machine.clock.on("given back", lambda _args: host.machine.state.locked.clear())
    host.machine.clock.schedule(30.0, "given back")

    run_launched(host.machine)

    assert (end_of(host).state, end_of(host).code, host.serving()) == ("rolled_back", "REC7116", SERVING)


def test_an_order_that_nobody_began_is_not_begun() -> None:
    host = ordered()
    journal = places.transaction(TXID) + "/journal.jsonl"
    host.machine.append(journal, b"")

    assert launches(host.looks(2)) == []


def test_after_three_more_that_died_a_person_is_called(host: Watched) -> None:
    for _ in range(3):
        assert len(launches(host.looks(1))) == 1
        die(host)

    assert launches(host.looks(3)) == []
    assert host.alerts() == [("REC7177", TXID)]
    (alert,) = host.told().alerts
    assert alert.text == (
        f"transaction {TXID} has no end: its executors all died, and so did those that the watchdog started"
    )
    assert alert.fix == "recon apply --host h-1"
    assert len(launches(host.looks(20))) == 1
    die(host)

    outcome = host.run("vision")

    assert (outcome.state, outcome.live) == ("applied", {"all": "vision"})
    assert host.alerts() == []


def test_the_call_for_a_person_is_taken_back_when_it_came_to_its_end_all_the_same(host: Watched) -> None:
    for _ in range(3):
        host.looks(1)
        die(host)
    host.looks(3)
    assert host.alerts() == [("REC7177", TXID)]
    host.looks(20)
    run_launched(host.machine)
    assert end_of(host).state == "rolled_back"

    host.looks(2)

    assert host.alerts() == []


def test_a_count_that_cannot_be_read_is_no_reason_to_begin_again(host: Watched) -> None:
    host.machine.write(places.FOLLOWED, b"torn")

    assert launches(host.looks(2)) == []
    assert host.alerts() == [("REC7177", TXID)]


def die(host: Watched) -> None:
    """Let every executor of what was launched be killed before its first change."""

    def hook(when: str, change: str) -> None:
        host.note(when, change)
        if TXID in change and "journal" in change:
            raise KilledError

    host.machine.hook = hook
    run_launched(host.machine)
    host.attend()


def test_an_agent_that_is_gone_is_told(host: Watched) -> None:
    host.machine.remove(places.CURRENT_AGENT)

    host.looks(1)

    assert host.told().said.startswith(f"left alone: transaction {TXID} has no executor, and none could be started: ")


def test_a_systemd_that_refuses_is_told(host: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(argv: Any) -> Completed:
        return Completed(1, b"", b"Failed to start transient service unit: out of memory\n")

    monkeypatch.setattr(host.machine._systemctl, "systemd_run", refuse)

    host.looks(1)

    assert host.told().said == (
        f"left alone: transaction {TXID} has no executor, and none could be started: "
        "Failed to start transient service unit: out of memory"
    )
