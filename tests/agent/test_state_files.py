"""Every file of recon's on a host: whatever is cut off it or flipped in it is noticed, and leads to nothing wrong."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.agent import claims, damage, executor, history, lease, observe, places
from reconciler.agent.dispatch import handle
from reconciler.agent.journal import read_events
from reconciler.agent.record import FutureError, RecordError, read_record, seal, unseal, write_record
from reconciler.model.observed import HostState
from reconciler.model.outcome import Outcome
from reconciler.sim.state import Node
from tests.agent.bench import CONTEXT, Bench, ending_before

TXID = "2026-0002"
TXN = places.transaction(TXID)
SERVING = {1: ["recon-reasoning-rerank", "recon-reasoning-vllm"], 2: ["recon-vision-llama"]}
HOLD = {"owner": "ada", "reason": "a benchmark", "since": 1, "until": None}


@pytest.fixture(scope="module")
def whole() -> Bench:
    """A host with every state file there can be; vision serves."""
    bench = Bench()
    assert bench.run("reasoning").state == "applied"
    assert bench.run("vision").state == "applied"
    machine = bench.machine
    body = {"epoch": 2, "owner": "ann", "txid": TXID, "boot_id": "b", "step": "drain", "since": 1.0}
    write_record(machine, places.LEASE, {**body, "renewed": 1.0, "ttl_s": 60.0})
    write_record(machine, places.RELEASE, {"epoch": 2, "txid": TXID})
    write_record(machine, places.FACTS, {"podman": {"program": {"path": "/usr/bin/podman"}, "version": "5.4.2"}})
    machine.mkdir("/etc/recon")
    write_record(machine, places.HOLD, HOLD)
    lock = {"slot": None, "ttl_s": 600.0, "owner": "ann", "reason": "a demo"}
    handle(machine, "lock", {"deed": "acquire", **lock}, CONTEXT)
    write_record(machine, TXN + "/passes.json", {"locks": ["5f2c91ab"]})
    machine.mkdir(places.AGENTS + "/simulated")
    machine.write(places.AGENTS + "/simulated/.ok", b"simulated\n")
    assert damage.survey(machine) == []
    return bench


FILES = (
    places.EPOCH,
    places.LAST_GENERATION,
    places.TIMINGS,
    places.HISTORY,
    places.HISTORY_HEAD,
    places.LEASE,
    places.RELEASE,
    places.FACTS,
    places.IDLE,
    places.KEPT,
    places.HOLD,
    places.LOCKS,
    places.AGENTS + "/simulated/.ok",
    TXN + "/intent.json",
    TXN + "/passes.json",
    TXN + "/undo.json",
    TXN + "/outcome.json",
    TXN + "/journal.jsonl",
    places.generation(2) + "/manifest.json",
)


def test_every_file_that_recon_keeps_is_in_the_list(whole: Bench) -> None:
    ours = ("/var/lib/recon/", "/run/recon/", "/etc/recon/")
    locks = ("/lock", "/launch.lock", "/locks.lock", "/history.lock")
    other = ("/recon_agent/", "/pynvml", "__main__.py", ".container", "/units/", "/boot.wants/", *locks, "2026-0001")
    kept = {path for path, node in whole.machine.state.files.items() if path.startswith(ours) and node.kind == "file"}

    assert {path for path in kept if not any(word in path for word in other)} - set(FILES) == {
        places.generation(1) + "/manifest.json"
    }


def named(bench: Bench, path: str) -> bool:
    """Say whether a survey of this one file finds fault with it."""
    machine = bench.machine
    if path == places.HISTORY:
        return history.examine(machine)[1] is not None
    if path == places.HOLD:
        try:
            claims.hold(machine)
        except ValueError:
            return True
        return False
    if path.endswith((".ok", ".jsonl")):
        return any(each["path"] == path for each in damage.survey(machine))
    try:
        read_record(machine, path)
    except RecordError:
        return True
    return False


def flips(data: bytes) -> Iterator[bytes]:
    """Every bit of a small file; of a big one a bit of every byte, for the sum is over all of them alike."""
    for at in range(len(data)):
        for bit in range(8) if len(data) < 1500 else (at % 8,):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            yield bytes(changed)


@pytest.mark.parametrize("path", FILES)
def test_every_truncation_and_every_flipped_bit_is_noticed(whole: Bench, path: str) -> None:
    bench = whole.copy()
    data = bench.machine.read(path)
    step = 1 if not path.endswith((".ok", "journal.jsonl")) else 11
    checked = missed = 0
    cuts = range(0, len(data), 1 if len(data) < 6000 else 7)
    for changed in (*(data[:cut] for cut in cuts), *list(flips(data))[::step]):
        bench.machine.files.put(path, Node.of(changed))
        checked += 1
        missed += not named(bench, path)

    assert missed == 0, f"{missed} of {checked}"


def test_status_and_plan_name_what_is_damaged_and_with_which_code(whole: Bench) -> None:
    bench = whole.copy()
    machine = bench.machine
    machine.write(places.EPOCH, b"torn")
    machine.write(places.TIMINGS, seal({}).replace(b'"v":1', b'"v":2'))
    machine.write(places.HISTORY, machine.read(places.HISTORY).replace(b"applied", b"aborted", 1))
    state = HostState.model_validate(observe.observe(machine, bench.question(), CONTEXT))

    assert [(each.path, each.code, each.reason) for each in state.damaged] == [
        (places.EPOCH, "REC5020", "it is not JSON"),
        (places.TIMINGS, "REC5021", "it is of version 2, this recon knows 1"),
        (places.HISTORY, "REC5022", "line 2 is not as it was written"),
    ]


def test_a_file_that_a_later_recon_wrote_is_called_that() -> None:
    with pytest.raises(FutureError, match="it is of version 2, this recon knows 1"):
        unseal(seal({"epoch": 1}).replace(b'"v":1', b'"v":2'))


DAMAGES: dict[str, Any] = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "last byte gone": lambda data: data[:-1],
    "a bit in the middle": lambda data: (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
    ),
    "zeroes": lambda data: bytes(len(data)),
    "a later version": lambda data: data.replace(b'"v":1', b'"v":2', 1),
    "another file": lambda data: seal({"epoch": 1000}, "epoch"),
    "hostile": lambda data: b'{"v":1,"sha256":"\x1b[2J","body":' + b"[" * 2000,
}
RESTING = (
    places.EPOCH,
    places.LAST_GENERATION,
    places.TIMINGS,
    places.HISTORY,
    places.HISTORY_HEAD,
    places.FACTS,
    places.RELEASE,
    places.transaction("2026-0001") + "/outcome.json",
    places.transaction("2026-0001") + "/undo.json",
    places.transaction("2026-0001") + "/intent.json",
    places.transaction("2026-0001") + "/journal.jsonl",
)


@pytest.fixture(scope="module")
def serving() -> Bench:
    bench = Bench()
    assert bench.run("reasoning").state == "applied"
    bench.machine.mkdir(places.RUN)
    write_record(bench.machine, places.FACTS, {})
    write_record(bench.machine, places.RELEASE, {"epoch": 1, "txid": None})
    return bench


@pytest.mark.parametrize("path", RESTING)
def test_no_damaged_file_keeps_the_next_transition_from_being_right(serving: Bench, path: str) -> None:
    for how, change in DAMAGES.items():
        bench = serving.copy()
        bench.machine.write(path, change(bench.machine.read(path)))

        outcome = bench.run("vision")

        assert (outcome.state, outcome.committed, outcome.live) == ("applied", 2, {"all": "vision"}), (how, outcome)
        assert bench.serving() == SERVING[2], how
        assert lease.read_epoch(bench.machine) >= 2, how
        assert history.examine(bench.machine)[1] is None, how
        left = {each["path"] for each in damage.survey(bench.machine)}
        assert left <= {f"{path}.corrupt-1", places.FACTS, places.RELEASE}, (how, left)


@pytest.mark.parametrize("path", [path for path in RESTING if path != places.RELEASE])
@pytest.mark.parametrize("what", ["a directory", "a link to nothing"])
def test_what_is_no_file_in_the_place_of_one_is_put_aside_whole(serving: Bench, path: str, what: str) -> None:
    bench = serving.copy()
    bench.machine.remove(path)
    if what == "a directory":
        bench.machine.mkdir(path)
        bench.machine.write(f"{path}/notes", b"somebody's")
    else:
        bench.machine.symlink("/nowhere", path)

    for coven in ("vision", "reasoning"):
        outcome = bench.run(coven)
        assert (outcome.state, outcome.live) == ("applied", {"all": coven}), outcome

    assert lease.read_epoch(bench.machine) >= 3
    assert history.examine(bench.machine)[1] is None
    assert bench.machine.stat(places.LEASE) is None
    if what == "a directory":
        kept = [each for each in (path, f"{path}.corrupt-1") if bench.machine.stat(f"{each}/notes") is not None]
        assert [bench.machine.read(f"{each}/notes") for each in kept] == [b"somebody's"]


@pytest.mark.parametrize("path", [places.LEASE, places.HOLD, places.LOCKS])
def test_a_claim_hold_or_lock_that_cannot_be_read_is_held_whatever_is_wrong_with_it(whole: Bench, path: str) -> None:
    for how, change in DAMAGES.items():
        bench = whole.copy()
        for other in (places.LEASE, places.HOLD, places.LOCKS):
            if other != path:
                bench.machine.remove(other)
        bench.machine.write(path, change(bench.machine.read(path)))
        intent = bench.intent_anyway("reasoning")

        assert bench.execute(intent).state == "locked", how
        assert bench.serving() == SERVING[2], how


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("intent.json", {"held"}),
        ("undo.json", {"held"}),
        ("journal.jsonl", {"rolled_back"}),
        ("outcome.json", {"rolled_back"}),
    ],
)
def test_a_book_that_is_damaged_when_its_executor_dies_never_leads_to_a_wrong_end(name: str, ends: set[str]) -> None:
    ready = Bench()
    assert ready.run("reasoning").state == "applied"
    ready.submit(ready.intent("vision"))
    for how, change in DAMAGES.items():
        bench = ready.copy()

        bench.strike(TXID, ending_before("run systemctl start"))
        path = f"{TXN}/{name}"
        before = bench.machine.read(path) if bench.machine.stat(path) else b"{}"
        bench.machine.write(path, change(before))

        outcome = Outcome.model_validate(executor.execute(bench.machine, TXID, recover=True))

        assert outcome.state in ends, (how, outcome)
        assert outcome.committed == 1, how
        if outcome.state == "rolled_back":
            assert bench.serving() == SERVING[1], how
        else:
            assert len(bench.serving()) == 0, how
        assert outcome.code in ("REC7115", "REC7190", "REC7116"), how


def test_a_journal_that_was_damaged_is_kept_and_said_to_be(serving: Bench) -> None:
    bench = serving.copy()
    txid = bench.submit(bench.intent("vision"))
    path = places.transaction(txid) + "/journal.jsonl"

    bench.strike(txid, ending_before("run systemctl start"))
    bad = bench.machine.read(path).replace(b'"claim"', b'"clean"', 1)
    bench.machine.write(path, bad)

    assert executor.execute(bench.machine, txid, recover=True)["state"] == "rolled_back"

    assert bench.machine.read(path + ".corrupt-1") == bad
    texts = [event["text"] for event in read_events(bench.machine, path, 0)]
    assert f"the journal was damaged: line 1 is not as it was written; kept as {path}.corrupt-1" in texts


def test_a_disk_without_room_for_the_copy_does_not_keep_the_new_file_from_being_written(serving: Bench) -> None:
    bench = serving.copy()
    bench.machine.write(places.EPOCH, b"torn")

    def full(when: str, what: str) -> None:
        if when == "before" and ".corrupt-" in what:
            raise OSError(errno.ENOSPC, "No space left on device")

    bench.machine.hook = full

    assert bench.run("vision").state == "applied"
    assert read_record(bench.machine, places.EPOCH) == {"epoch": 2}
