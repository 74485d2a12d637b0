from __future__ import annotations

import errno
import random

import pytest

from reconciler.agent.journal import Journal, read_events
from reconciler.model.outcome import JournalEvent
from reconciler.sim.machine import SimMachine
from reconciler.sim.pages import PAGE

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


def test_what_failed_to_sync_is_written_whole_with_the_next_line(machine: SimMachine) -> None:
    """A failed sync leaves pages that count as clean: they are seen by everybody, and lost with the power."""
    journal = Journal(machine, PATH)
    for number in range(60):
        journal.say("drain", "progress", f"{number} " + "in flight " * 6)
    size = machine.stat(PATH)
    assert size is not None

    def fail(call: str) -> None:
        if call == f"fsync {PATH}":
            machine.on_call = None
            raise OSError(errno.EIO, "Input/output error")

    machine.disk.luck = lambda: random.Random(3)  # type: ignore[method-assign]  # what failed to sync is lost
    machine.on_call = fail
    with pytest.raises(OSError, match="Input/output error"):
        journal.say("stop", "begin", "x" * (2 * PAGE))
    journal.say("rollback", "begin", "going back")
    before = machine.read(PATH)

    machine.reboot(luck=lambda: 0.9)

    assert machine.read(PATH) == before


def test_a_second_writer_writes_again_what_the_first_may_have_failed_to_sync(machine: SimMachine) -> None:
    Journal(machine, PATH).say("claim", "begin", "claiming")
    whole = machine.read(PATH)
    seen: list[str] = []
    machine.hook = lambda when, what: seen.append(what) if when == "before" else None

    Journal(machine, PATH).say("rollback", "begin", "going back")

    assert seen == [f"write {PATH}", f"append {PATH}"]
    assert machine.read(PATH).startswith(whole)


def test_a_second_writer_goes_on_where_there_is_no_room_to_write_it_again(machine: SimMachine) -> None:
    Journal(machine, PATH).say("claim", "begin", "claiming")

    def full(when: str, what: str) -> None:
        if what == f"write {PATH}":
            raise OSError(errno.ENOSPC, "No space left on device")

    machine.hook = full
    Journal(machine, PATH).say("rollback", "begin", "going back")

    assert [event["step"] for event in read_events(machine, PATH, 0)] == ["claim", "rollback"]
