"""A long history goes on in a new part: what every look reads is bounded, nothing is lost, nothing goes unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reconciler.agent import damage, history, history_parts, history_told, lease, lines, places
from reconciler.agent.record import write_record
from reconciler.sim.machine import PowerCutError, SimMachine
from reconciler.sim.state import SimState

COUNT = 600
WIDE = "x" * 2000
FIRST = places.history_part(1)


def a_line(number: int) -> dict[str, Any]:
    return {"txid": f"t{number:04}", "epoch": number, "state": "applied", "reason": WIDE}


def long_host(count: int = COUNT) -> SimMachine:
    """Return a host whose history is long, as so many lines one by one would have made it."""
    machine = SimMachine.new("h-1")
    machine.mkdir(places.STATE)
    data, last = lines.again([a_line(number) for number in range(count)])
    machine.write(places.HISTORY, data)
    write_record(machine, places.HISTORY_HEAD, {"lines": count, "sum": last})
    assert history.examine(machine)[1] is None
    return machine


def copy_of(machine: SimMachine) -> SimMachine:
    return SimMachine(SimState.model_validate_json(machine.state.model_dump_json()))


def txids(machine: SimMachine) -> list[str]:
    return [line["txid"] for line in history.recent(machine)]


def size(machine: SimMachine) -> int:
    found = machine.stat(places.HISTORY)
    assert found is not None
    return found.size


def test_a_long_history_goes_on_in_a_new_part_with_its_last_lines() -> None:
    machine = long_host()
    whole = machine.read(places.HISTORY, 1 << 30)

    history.append(machine, a_line(COUNT))

    assert machine.read(FIRST, 1 << 30) == whole
    assert size(machine) < 200_000
    assert txids(machine) == [f"t{number:04}" for number in range(COUNT - 49, COUNT + 1)]
    assert [history.has(machine, f"t{number:04}") for number in (0, COUNT - 1, COUNT, COUNT + 1)] == [
        *(True, True, True),
        False,
    ]
    assert lease.newest(machine) == COUNT
    assert damage.survey(machine) == []
    assert list(history_parts.verify(machine)) == []


def test_how_a_transaction_ended_is_found_in_whichever_part_its_line_lies() -> None:
    machine = long_host()
    for number in range(COUNT, 2 * COUNT + 50):
        history.append(machine, a_line(number))
    history.append(machine, {"txid": "t-taken", "state": "released"})
    assert len(history_parts.numbers(machine)) > 1

    assert [history.end_of(machine, f"t{number:04}") for number in (0, COUNT, 2 * COUNT)] == [
        a_line(number) for number in (0, COUNT, 2 * COUNT)
    ]
    assert [history.end_of(machine, txid) for txid in ("t-never", "t-taken")] == [None, None]
    data = machine.read(FIRST, 1 << 30)
    machine.write(FIRST, data.replace(b'"epoch":0,', b'"epoch":9,'))
    assert history.end_of(machine, "t0000") is None


def test_a_short_history_is_left_in_one_part() -> None:
    machine = long_host(20)

    history.append(machine, a_line(20))

    assert machine.stat(FIRST) is None
    assert len(history.examine(machine)[0].good) == 21


def test_parts_follow_each_other() -> None:
    machine = long_host()
    for number in range(COUNT, 2 * COUNT + 50):
        history.append(machine, a_line(number))

    assert machine.stat(places.history_part(2)) is not None
    assert machine.stat(places.history_part(3)) is None
    assert list(history_parts.verify(machine)) == []
    assert damage.survey(machine) == []
    assert size(machine) < history_parts.LONG


@pytest.mark.parametrize("number", range(40))
def test_a_power_cut_at_any_call_of_the_turn_loses_nothing_and_is_no_fault(number: int) -> None:
    machine = long_host()
    seen: list[str] = []

    def on_call(call: str) -> None:
        seen.append(call)
        if len(seen) - 1 == number:
            raise PowerCutError

    machine.on_call = on_call
    try:
        history.append(machine, a_line(COUNT))
    except PowerCutError:
        machine.on_call = None
        machine.reboot()
    machine.on_call = None

    where = seen[-1]
    assert history.examine(machine)[1] is None, where
    assert f"t{COUNT - 1:04}" in txids(machine), where
    assert history.has(machine, "t0000"), where
    history.append(machine, a_line(COUNT + 1))
    assert history.examine(machine)[1] is None, where
    assert txids(machine)[-1] == f"t{COUNT + 1:04}", where
    assert list(history_parts.verify(machine)) == [], where


def test_a_live_part_that_was_cut_or_changed_is_told_as_ever() -> None:
    machine = long_host()
    history.append(machine, a_line(COUNT))
    data = machine.read(places.HISTORY, 1 << 30)

    for cut in (0, 1, len(data) // 2, len(data) - 1, data.rindex(b"\n", 0, -1) + 1):
        machine.write(places.HISTORY, data[:cut])
        assert history.examine(machine)[1] is not None, cut
    for at in range(0, len(data), 997):
        changed = bytearray(data)
        changed[at] ^= 4
        machine.write(places.HISTORY, bytes(changed))
        assert history.examine(machine)[1] is not None, at


def test_a_part_before_that_was_cut_changed_or_lost_is_told_to_who_asks() -> None:
    machine = long_host()
    history.append(machine, a_line(COUNT))
    data = machine.read(FIRST, 1 << 30)

    for wrong, said in (
        (data[:-5], f"{FIRST}: it ends in half a line"),
        (data[: data.rindex(b"\n", 0, -1) + 1], f"{FIRST}: it is not the part that the next one follows"),
        (data.replace(b"t0003", b"tX003"), f"{FIRST}: line 4 is not as it was written"),
    ):
        machine.write(FIRST, wrong)
        assert said in list(history_parts.verify(machine))
        assert damage.survey(machine) == []
    machine.remove(FIRST)
    assert list(history_parts.verify(machine)) == [f"{FIRST}: No such file or directory"]


def test_a_live_part_that_was_made_again_never_takes_the_place_of_an_older_one() -> None:
    """Its first line, which says what came before, was the one that was damaged."""
    machine = long_host()
    history.append(machine, a_line(COUNT))
    first = machine.read(FIRST, 1 << 30)
    machine.write(places.HISTORY, machine.read(places.HISTORY, 1 << 30).replace(b"lines_before", b"lines_bef0re"))

    for number in range(COUNT + 1, 2 * COUNT + 50):
        history.append(machine, a_line(number))

    assert machine.read(FIRST, 1 << 30) == first
    assert machine.stat(places.history_part(2)) is not None
    assert list(history_parts.verify(machine)) == []


def test_deeds_beside_transactions_push_none_of_them_out_of_sight() -> None:
    machine = SimMachine.new("h-1")
    machine.mkdir(places.STATE)
    for number in range(60):
        history.append(machine, {"txid": f"t-{number:02}", "state": "applied", "epoch": number})
    for number in range(200):
        history.append(machine, {"kind": "lock", "deed": "renewed", "at": float(number)})

    told = history.recent(machine)

    ended = [line["txid"] for line in told if "txid" in line]
    assert ended == [f"t-{number:02}" for number in range(10, 60)]
    assert [line["at"] for line in told if "kind" in line] == [float(number) for number in range(150, 200)]
    assert lease.newest(machine) == 59


def test_transactions_stay_in_sight_over_many_parts_of_other_deeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_parts, "LONG", 20_000)
    machine = SimMachine.new("h-1")
    machine.mkdir(places.STATE)
    for number in range(60):
        history.append(machine, {"txid": f"t-{number:02}", "state": "applied", "epoch": number})
    for number in range(900):
        history.append(machine, {"kind": "lock", "deed": "renewed", "at": float(number)})

    told = history.recent(machine)

    assert len(history_parts.numbers(machine)) >= 3
    assert [line["txid"] for line in told if "txid" in line] == [f"t-{number:02}" for number in range(10, 60)]
    assert [line["at"] for line in told if "kind" in line] == [float(number) for number in range(850, 900)]
    assert lease.newest(machine) == 59
    assert list(history_parts.verify(machine)) == []


def meanwhile(machine: SimMachine, monkeypatch: pytest.MonkeyPatch, path: str, deed: Callable[[], None]) -> None:
    """Let somebody do a deed right after a file was read for the first time."""
    read, left = machine.read, [deed]

    def then(name: str, *limit: int) -> bytes:
        data = read(name, *limit)
        if name == path and left:
            left.pop()()
        return data

    monkeypatch.setattr(machine, "read", then)


@pytest.mark.parametrize("path", [places.HISTORY, places.HISTORY_HEAD])
@pytest.mark.parametrize("what", ["a line", "a part", "a new file"])
def test_who_reads_while_somebody_writes_sees_no_damage(monkeypatch: pytest.MonkeyPatch, path: str, what: str) -> None:
    machine = long_host(20)

    def write() -> None:
        if what == "a new file":
            machine.remove(places.HISTORY)
            data, _ = lines.again([a_line(number) for number in range(3)])
            machine.write(places.HISTORY, data)
            write_record(machine, places.HISTORY_HEAD, {"lines": 3, "sum": lines.read_lines(data).last, "ended": []})
        history.append(machine, a_line(20))
        while what == "a part" and machine.stat(FIRST) is None:
            history.append(machine, a_line(21))

    meanwhile(machine, monkeypatch, path, write)

    assert history.examine(machine).problem is None
    assert damage.survey(machine) == []
    assert history_told.tell(machine, {"limit": 5})["problems"] == []


def test_lines_that_are_gone_are_told_while_somebody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = long_host(20)
    data, _ = lines.again([a_line(number) for number in range(3)])

    meanwhile(machine, monkeypatch, places.HISTORY_HEAD, lambda: machine.write(places.HISTORY, data))

    assert history.examine(machine).problem == "it has 3 lines, 20 were written"
