"""The order of transactions is that in which they ended on the host, whatever clock named them."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from reconciler.agent import damage, history, outcome, places, transactions
from reconciler.agent.record import seal, write_record
from reconciler.sim.machine import KilledError, SimMachine
from tests.agent.fakehost import FakeHost

EARLY, NOW, LATE = "20160101T000000.000Z-aa", "20260101T000000.000Z-bb", "20360101T000000.000Z-cc"


def a_host(*ended: str) -> SimMachine:
    machine = SimMachine.new("h-1")
    for txid in ended:
        end(machine, txid)
    return machine


def end(machine: SimMachine, txid: str, **more: Any) -> None:
    begin(machine, txid)
    body = {"state": "applied", "txid": txid, **more}
    write_record(machine, f"{places.transaction(txid)}/outcome.json", body)
    told = {"host": "h-1", "code": None, "fix": None, "reason": "", "committed": 1}
    outcome.settle(machine, {**told, **body}, is_on_disk=True)


def begin(machine: SimMachine, txid: str) -> None:
    machine.mkdir(places.transaction(txid))
    machine.write(f"{places.transaction(txid)}/journal.jsonl", b"")


@pytest.mark.parametrize("ended", [(LATE, NOW, EARLY), (EARLY, LATE, NOW), (NOW, EARLY, LATE)])
def test_the_newest_is_what_ended_last_whatever_its_name(ended: tuple[str, ...]) -> None:
    machine = a_host(*ended)

    assert transactions.in_order(machine) == list(ended)
    assert transactions.newest(machine) == (ended[-1], {"value": {"state": "applied", "txid": ended[-1]}})


def test_what_began_and_has_no_end_is_newer_than_what_ended() -> None:
    machine = a_host(NOW, LATE)
    begin(machine, EARLY)

    assert transactions.in_order(machine) == [NOW, LATE, EARLY]
    assert transactions.unfinished(machine) == [EARLY]
    assert transactions.newest(machine) == (
        EARLY,
        {"unknown": f"transaction {EARLY} has no outcome: it runs, or was cut off"},
    )


def test_an_end_whose_line_a_power_cut_kept_from_the_history_is_the_newest() -> None:
    machine = a_host(LATE, NOW)
    begin(machine, EARLY)
    body = {"state": "aborted", "txid": EARLY, "committed": 1}
    write_record(machine, f"{places.transaction(EARLY)}/outcome.json", body)

    assert transactions.in_order(machine) == [LATE, NOW, EARLY]
    end(machine, "20250101T000000.000Z-ee")
    assert transactions.in_order(machine) == [LATE, NOW, EARLY, "20250101T000000.000Z-ee"]


def test_an_order_that_never_began_is_older_than_all() -> None:
    machine = a_host(NOW, EARLY)
    machine.mkdir(places.transaction(LATE))

    assert transactions.in_order(machine) == [LATE, NOW, EARLY]


@pytest.mark.parametrize("damage", ["torn", None])
def test_without_the_head_of_the_history_its_lines_tell_the_order(damage: str | None) -> None:
    machine = a_host(LATE, EARLY)
    if damage is None:
        machine.remove(places.HISTORY_HEAD)
    else:
        machine.write(places.HISTORY_HEAD, damage.encode())

    assert transactions.in_order(machine) == [LATE, EARLY]
    end(machine, NOW)
    assert history.ended(machine) == [LATE, EARLY, NOW]


def test_lines_that_are_of_no_transaction_push_none_out_of_the_order() -> None:
    machine = a_host(LATE, NOW)
    for number in range(60):
        history.append(machine, {"kind": "watchdog", "deed": str(number)})

    assert transactions.in_order(machine) == [LATE, NOW]


def test_the_books_that_go_first_are_those_of_what_ended_first() -> None:
    names = [LATE, *(f"2026{number:04}T000000.000Z-dd" for number in range(101, 121)), EARLY]
    machine = a_host(*names)

    outcome._prune(machine, EARLY)

    assert machine.listdir(places.TRANSACTIONS) == sorted(names[-outcome.KEEP :])


@pytest.mark.parametrize("number", range(6))
def test_books_whose_removal_was_cut_off_are_not_those_of_a_transaction_without_an_end(number: int) -> None:
    machine = a_host(*(f"2026{number:04}T000000.000Z-dd" for number in range(101, 122)))
    calls: list[str] = []

    def strike(call: str) -> None:
        calls.append(call)
        if len(calls) > number:
            raise KilledError

    machine.on_call = strike
    with contextlib.suppress(KilledError):
        outcome._prune(machine, NOW)
    machine.on_call = None
    machine.revive()

    assert transactions.unfinished(machine) == []


def test_the_books_of_what_is_left_to_a_person_stay_until_one_has_seen_it() -> None:
    machine = a_host("20251231T000000.000Z-dd")
    end(machine, EARLY, state="held", host="h-1", reason="why", code="REC7190", fix="recon apply --host h-1")
    orders = [f"2026{number:04}T000000.000Z-dd" for number in range(101, 131)]
    for txid in orders:
        end(machine, txid, state="stale")
        outcome._prune(machine, txid)

    assert transactions.in_order(machine) == [EARLY, *orders[-outcome.KEEP :]]
    assert transactions.left_to_a_person(machine) == EARLY
    machine.write(f"{places.transaction(EARLY)}/{transactions.SEEN}", b"")
    outcome._prune(machine, LATE)
    assert transactions.in_order(machine) == orders[-outcome.KEEP :]


def test_a_host_without_transactions_has_none() -> None:
    assert transactions.newest(FakeHost()) == (None, {"na": "no transaction was ever run here"})


def test_an_outcome_that_does_not_verify_is_unknown() -> None:
    path = "/var/lib/recon/txn/t1/outcome.json"

    assert transactions.newest(FakeHost({path: b"{}"})) == ("t1", {"unknown": f"{path}: it has no body"})


def swap(machine: SimMachine, txid: str, other: str, name: str = "outcome.json") -> str:
    path = f"{places.transaction(txid)}/{name}"
    machine.write(path, machine.read(f"{places.transaction(other)}/{name}"))
    return path


def test_the_outcome_of_another_transaction_is_none_and_the_host_stays_held() -> None:
    machine = a_host(EARLY)
    end(machine, NOW, state="held")
    path = swap(machine, NOW, EARLY)
    why = f"it is of transaction {EARLY}"

    assert transactions.newest(machine) == (NOW, {"unknown": f"{path}: {why}"})
    assert (transactions.left_to_a_person(machine), transactions.unreadable(machine)) == (NOW, NOW)
    assert damage.survey(machine) == [{"path": path, "code": "REC5020", "reason": why}]


@pytest.mark.parametrize("how", ["swapped", "torn"])
def test_an_end_that_cannot_be_read_holds_the_host_also_after_an_order_that_changed_nothing(how: str) -> None:
    machine = a_host(EARLY)
    end(machine, NOW, state="held")
    path = swap(machine, NOW, EARLY)
    if how == "torn":
        machine.write(path, b"torn")
    end(machine, LATE, state="refused")

    assert transactions.left_to_a_person(machine) == NOW
    assert [each["path"] for each in damage.survey(machine)] == [path]
    machine.write(f"{places.transaction(NOW)}/{transactions.SEEN}", b"")
    assert transactions.left_to_a_person(machine) is None


def test_what_was_applied_since_releases_what_cannot_be_read() -> None:
    machine = a_host(EARLY, NOW)
    machine.write(f"{places.transaction(EARLY)}/outcome.json", b"torn")

    assert transactions.left_to_a_person(machine) is None
    assert damage.survey(machine) == []


@pytest.mark.parametrize("name", ["intent.json", "undo.json"])
def test_the_order_or_way_back_of_another_transaction_is_damage(name: str) -> None:
    machine = a_host(EARLY, NOW)
    for txid in (EARLY, NOW):
        write_record(machine, f"{places.transaction(txid)}/{name}", {"txid": txid})
    path = swap(machine, NOW, EARLY, name)

    assert damage.survey(machine) == [{"path": path, "code": "REC5020", "reason": f"it is of transaction {EARLY}"}]


def test_the_order_of_another_transaction_says_nothing_of_whose_an_end_is() -> None:
    machine = SimMachine.new("h-1")
    order = {"host": "h-1", "owner": "ada", "source_commit": "", "plan_digest": "", "manifest_live": {}}
    machine.mkdir(places.transaction(NOW))
    body = {**order, "groups": [], "moves": [], "txid": EARLY}
    write_record(machine, f"{places.transaction(NOW)}/intent.json", body)

    ended = outcome.conclude_for(machine, NOW, outcome.End("refused", "the intent cannot be read"))

    assert (ended["txid"], ended["host"], ended["owner"]) == (NOW, "", "")


def test_the_only_transaction_is_the_newest() -> None:
    directory = "/var/lib/recon/txn/t1"

    assert transactions.newest(FakeHost({f"{directory}/outcome.json": seal({"state": "held"})})) == (
        "t1",
        {"value": {"state": "held"}},
    )
