"""Lines that verify: every cut and every flipped bit is told, and one bad line takes no other with it."""

from __future__ import annotations

import errno

import pytest

from reconciler.agent import history, lines, places
from reconciler.agent.record import write_record
from reconciler.sim.machine import SimMachine

BODIES = [{"seq": number, "text": f"event {number} ü"} for number in range(1, 5)]


def bodies(found: lines.Lines) -> list[dict[str, object]]:
    return [lines.body_of(raw) for raw in found.good]


def test_lines_come_back_as_they_were_written() -> None:
    data, last = lines.again(BODIES)
    found = lines.read_lines(data)

    assert (bodies(found), found.bad, found.torn, found.last, found.problem) == (BODIES, [], False, last, None)


def test_half_a_line_at_the_end_is_no_line_and_no_fault() -> None:
    data, _ = lines.again(BODIES)
    for cut in range(1, len(data)):
        found = lines.read_lines(data[:cut])
        whole = data[:cut].count(b"\n")
        assert bodies(found) == BODIES[:whole]
        assert found.bad == []
        assert found.torn == (not data[:cut].endswith(b"\n"))


def test_every_bit_that_flips_is_told_and_the_lines_after_the_next_still_count() -> None:
    data, _ = lines.again(BODIES)
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            found = lines.read_lines(bytes(changed))
            assert found.bad or found.torn, (at, bit)
            assert all(body in BODIES for body in bodies(found)), (at, bit)


def test_a_line_that_was_taken_out_or_put_elsewhere_is_told() -> None:
    one, two, three, four = lines.again(BODIES)[0].splitlines(keepends=True)

    assert lines.read_lines(one + three + four).problem == "line 2 is not as it was written"
    assert lines.read_lines(two + one + three + four).problem == "line 1, 2, 3 is not as it was written"


def test_a_line_that_a_later_recon_wrote_is_not_read_as_one_of_ours() -> None:
    raw, _ = lines.line({"v": 2, "seq": 1}, "")

    assert lines.read_lines(raw).problem == "line 1 is not as it was written"


def a_host() -> SimMachine:
    machine = SimMachine.new("h-1")
    machine.mkdir(places.STATE)
    for number in range(3):
        history.append(machine, {"txid": f"t{number}", "epoch": number, "state": "applied"})
    return machine


def test_a_history_that_was_changed_or_cut_is_told() -> None:
    machine = a_host()
    data = machine.read(places.HISTORY)
    assert history.examine(machine)[1] is None

    for cut in range(len(data)):
        machine.write(places.HISTORY, data[:cut])
        assert history.examine(machine)[1] is not None, cut
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            machine.write(places.HISTORY, bytes(changed))
            assert history.examine(machine)[1] is not None, (at, bit)


def test_the_next_line_puts_a_bad_history_aside_and_keeps_what_verifies() -> None:
    machine = a_host()
    bad = machine.read(places.HISTORY).replace(b'"t1"', b'"tX"')
    machine.write(places.HISTORY, bad)

    history.append(machine, {"txid": "t9", "epoch": 9})

    assert machine.read(places.HISTORY + ".corrupt-1") == bad
    assert history.examine(machine)[1] is None
    assert [line["txid"] for line in history.recent(machine)] == ["t0", "t2", "t9"]


def test_a_power_cut_between_a_line_and_its_count_is_no_fault() -> None:
    machine = a_host()
    head = machine.read(places.HISTORY_HEAD)
    history.append(machine, {"txid": "t9", "epoch": 9})
    machine.write(places.HISTORY_HEAD, head)

    assert history.examine(machine)[1] is None
    history.append(machine, {"txid": "t10", "epoch": 10})
    assert len(history.recent(machine)) == 5


def test_a_line_that_nobody_counted_is_written_again_and_stands_once() -> None:
    """Its writer may have died of a sync that failed: what a later look finds there need not be on the disk."""
    machine = a_host()

    def fail(when: str, what: str) -> None:
        if when == "before" and what == f"write {places.HISTORY_HEAD}":
            raise OSError(errno.EIO, "Input/output error")

    machine.hook = fail
    with pytest.raises(OSError, match="Input/output error"):
        history.append(machine, {"txid": "t9", "epoch": 9, "state": "applied"})
    assert not history.has(machine, "t9")
    seen: list[str] = []
    machine.hook = lambda when, what: seen.append(what) if when == "before" else None

    history.append(machine, {"txid": "t9", "epoch": 9, "state": "applied"})

    assert seen == [f"write {places.HISTORY}", f"append {places.HISTORY}", f"write {places.HISTORY_HEAD}"]
    assert [line["txid"] for line in history.recent(machine)] == ["t0", "t1", "t2", "t9"]
    assert history.examine(machine)[1] is None
    assert history.has(machine, "t9")


def test_a_line_of_the_watchdog_that_nobody_counted_is_not_taken_for_the_next_one() -> None:
    machine = a_host()
    head = machine.read(places.HISTORY_HEAD)
    history.append(machine, {"kind": "watchdog", "deed": "restarted a"})
    machine.write(places.HISTORY_HEAD, head)

    history.append(machine, {"kind": "watchdog", "deed": "restarted b"})

    assert [line.get("deed") for line in history.recent(machine)][3:] == ["restarted a", "restarted b"]


@pytest.mark.parametrize("txid", ["t9", "t10"])
def test_a_disk_without_room_for_the_whole_takes_a_line_and_none_twice(txid: str) -> None:
    machine = a_host()
    head = machine.read(places.HISTORY_HEAD)
    history.append(machine, {"txid": "t9", "epoch": 9, "state": "applied"})
    machine.write(places.HISTORY_HEAD, head)

    def full(when: str, what: str) -> None:
        if what == f"write {places.HISTORY}":
            raise OSError(errno.ENOSPC, "No space left on device")

    machine.hook = full
    history.append(machine, {"txid": txid, "epoch": 9, "state": "applied"})

    assert history.examine(machine) == (history.examine(machine).lines, None, [])
    assert [line["txid"] for line in history.recent(machine)] == ["t0", "t1", "t2", *dict.fromkeys(("t9", txid))]


def test_half_a_line_at_the_end_is_cut_off_by_the_next() -> None:
    machine = a_host()
    machine.append(places.HISTORY, b'{"v":1,"txid":"t')

    history.append(machine, {"txid": "t9", "epoch": 9})

    assert [line["txid"] for line in history.recent(machine)] == ["t0", "t1", "t2", "t9"]
    assert machine.stat(places.HISTORY + ".corrupt-1") is None


def test_a_count_that_does_not_verify_is_put_aside() -> None:
    machine = a_host()
    machine.write(places.HISTORY_HEAD, b"torn")
    history.append(machine, {"txid": "t9", "epoch": 9})
    write_record(machine, places.EPOCH, {"epoch": 9})

    assert machine.read(places.HISTORY_HEAD + ".corrupt-1") == b"torn"
    assert history.examine(machine)[1] is None
