from __future__ import annotations

import pytest

from reconciler.agent.journal import Journal, read_events
from reconciler.model.outcome import JournalEvent
from reconciler.sim.machine import SimMachine

PATH = "/var/lib/recon/txn/t/journal.jsonl"


@pytest.fixture
def machine() -> SimMachine:
    machine = SimMachine.new("h-1")
    machine.mkdir("/var/lib/recon/txn/t")
    return machine


def test_events_are_numbered_timed_and_harmless_to_show(machine: SimMachine) -> None:
    journal = Journal(machine, PATH)
    journal.say("claim", "begin", "claiming")
    machine.clock.advance(1.5)
    journal.say("drain", "progress", "busy:\x1b[31m 3\n", "all")

    events = [JournalEvent.model_validate(event) for event in read_events(machine, PATH, 0)]
    assert events == [
        JournalEvent(seq=1, t=0.0, step="claim", slot=None, status="begin", text="claiming"),
        JournalEvent(seq=2, t=1.5, step="drain", slot="all", status="progress", text="busy:\\x1b[31m 3"),
    ]
    assert [event["seq"] for event in read_events(machine, PATH, 1)] == [2]
    assert not journal.resumed


def test_a_second_writer_goes_on_counting_after_a_torn_line(machine: SimMachine) -> None:
    first = Journal(machine, PATH)
    first.say("claim", "begin", "claiming")
    machine.append(PATH, b'{"seq":2,"t":0.1,"st')
    machine.clock.advance(10.0)

    second = Journal(machine, PATH)
    second.say("rollback", "begin", "going back")

    events = read_events(machine, PATH, 0)
    assert [(event["seq"], event["step"]) for event in events] == [(1, "claim"), (2, "rollback")]
    assert events[1]["t"] >= events[0]["t"]
    assert second.resumed


def test_a_transaction_without_a_journal_has_no_events(machine: SimMachine) -> None:
    assert read_events(machine, "/var/lib/recon/txn/none/journal.jsonl", 0) == []


def test_an_event_is_on_disk_before_the_call_returns(machine: SimMachine) -> None:
    seen: list[str] = []
    machine.hook = lambda when, what: seen.append(f"{when} {what}")

    Journal(machine, PATH).say("claim", "begin", "claiming")

    assert seen == [f"before append {PATH}", f"after append {PATH}"]
