"""Locks: who has the token passes, everybody else waits, and the clock since boot frees what nobody gives back."""

from __future__ import annotations

import errno
import hmac
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.agent import history, locks, observe, places
from reconciler.agent.dispatch import handle
from reconciler.agent.journal import boot_id
from reconciler.agent.record import read_record, write_record
from reconciler.agent.wire import RequestError
from reconciler.model.observed import HostState, Known
from reconciler.model.outcome import Outcome
from reconciler.sim.fleet import run_launched
from reconciler.sim.state import Node
from tests.agent.bench import CONTEXT, Bench, a_coven, a_service, ending_before

OLD = ["recon-reasoning-rerank", "recon-reasoning-vllm"]
NEW = ["recon-vision-llama"]
WANTED = {"ttl_s": 600.0, "owner": "ann@laptop", "reason": "measuring"}
A = a_coven("a", one=a_service("llamacpp", 8001, memory="90GiB"))
B = a_coven("b", two=a_service("llamacpp", 8002, memory="90GiB"))
C = a_coven("c", three=a_service("llamacpp", 8003, memory="90GiB"))
D = a_coven("d", four=a_service("llamacpp", 8004, memory="90GiB"))


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    assert bench.run("reasoning").state == "applied"
    return bench


@pytest.fixture
def two() -> Bench:
    """A host with two slots: a runs on the left one, b on the right one."""
    bench = Bench(A, B, C, D, slots={"left": ("0",), "right": ("1",)})
    assert bench.run("a", "b").state == "applied"
    return bench


def deed(bench: Bench, name: str, **args: Any) -> dict[str, Any]:
    return handle(bench.machine, "lock", {"deed": name, "host": "h-1", **args}, CONTEXT)


def acquire(bench: Bench, **over: Any) -> dict[str, Any]:
    return deed(bench, "acquire", **{**WANTED, **over})


def refused(bench: Bench, name: str, **args: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        deed(bench, name, **args)
    return caught.value


def seen(bench: Bench, *tokens: str) -> list[tuple[str | None, str, float, bool]]:
    answer = observe.observe(bench.machine, {**bench.question(), "tokens": list(tokens)}, CONTEXT)
    found = HostState.model_validate(answer).locks
    assert isinstance(found, Known), found
    return [(lock.slot, lock.owner, lock.left_s, lock.yours) for lock in found.value]


def lines(bench: Bench) -> list[dict[str, Any]]:
    return [line for line in history.recent(bench.machine) if line.get("kind") == "lock"]


def launched(bench: Bench, intent: dict[str, Any], *tokens: str) -> Outcome:
    """Hand an order over as a controller does, let its executor run, and return how it ended."""
    told = {"tokens": list(tokens)} if tokens else {}
    assert handle(bench.machine, "apply", {"intent": intent, **told}, CONTEXT)["launched"] is True
    run_launched(bench.machine)
    return Outcome.model_validate(read_record(bench.machine, places.transaction(intent["txid"]) + "/outcome.json"))


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_a_lock_is_told_with_its_token_once_and_only_a_salted_hash_of_it_is_kept(bench: Bench) -> None:
    told = acquire(bench)

    token = told["token"]
    assert token.startswith("recon_lock_")
    kept = read_record(bench.machine, places.LOCKS)["locks"]
    assert told["lock"] == {"id": kept[0]["id"], "slot": None, **WANTED, "left_s": 600.0}
    assert kept[0]["hash"] == locks.hashed(kept[0]["salt"], token) != locks.hashed("", token)
    files = bench.machine.state.files
    assert [path for path, node in files.items() if token.encode() in node.data] == []
    assert "salt" not in str(observe.observe(bench.machine, bench.question(), CONTEXT)["locks"])


def test_two_locks_never_have_the_same_salt_or_token(two: Bench) -> None:
    left, right = acquire(two, slot="left"), acquire(two, slot="right")
    kept = read_record(two.machine, places.LOCKS)["locks"]

    assert left["token"] != right["token"]
    assert len({lock["salt"] for lock in kept}) == 2


def test_every_deed_is_a_line_of_the_history_and_no_line_has_the_token(bench: Bench) -> None:
    told = acquire(bench)
    deed(bench, "renew", token=told["token"], ttl_s=900.0)
    deed(bench, "release", token=told["token"])
    again = acquire(bench)["lock"]["id"]
    deed(bench, "force", lock=again, owner="bob@desk", reason="she is on leave")

    first = {"kind": "lock", "host": "h-1", "lock": told["lock"]["id"], "slot": None}
    hers = {"owner": "ann@laptop", "reason": "measuring"}
    assert [{key: value for key, value in line.items() if key != "at"} for line in lines(bench)] == [
        {**first, **hers, "deed": "acquired", "ttl_s": 600.0},
        {**first, **hers, "deed": "renewed", "ttl_s": 900.0},
        {**first, **hers, "deed": "released", "ttl_s": 900.0},
        {**first, **hers, "deed": "acquired", "ttl_s": 600.0, "lock": again},
        {
            **first,
            "deed": "forced",
            "lock": again,
            "holder": "ann@laptop",
            "owner": "bob@desk",
            "reason": "she is on leave",
        },
    ]
    assert told["token"].encode() not in bench.machine.read(places.HISTORY)
    assert history.examine(bench.machine).problem is None


# -- who gets one ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "is_free"),
    [
        (None, None, False),
        (None, "left", False),
        ("left", None, False),
        ("left", "left", False),
        ("left", "right", True),
    ],
)
def test_a_host_and_its_slots_are_locked_by_one_at_a_time(
    two: Bench, first: str | None, second: str | None, is_free: bool
) -> None:
    acquire(two, slot=first)

    if is_free:
        acquire(two, slot=second, owner="bob")
        assert [(slot, owner) for slot, owner, _, _ in seen(two)] == [("left", "ann@laptop"), ("right", "bob")]
        return
    error = refused(two, "acquire", **{**WANTED, "slot": second, "owner": "bob"})
    what = f"slot {first} is locked" if first else "locked"
    assert (error.code, error.detail) == ("REC7300", f"{what} by ann@laptop for another 10m: measuring")
    assert [owner for _, owner, _, _ in seen(two)] == ["ann@laptop"]


def test_two_who_want_it_at_once_do_not_both_get_it(bench: Bench) -> None:
    """The second one comes in the middle of the first: the lock of the book is taken, and it waits in vain."""
    second: list[str] = []

    def hook(when: str, what: str) -> None:
        if when == "before" and what == f"write {places.LOCKS}":
            bench.machine.hook = None
            second.append(refused(bench, "acquire", **{**WANTED, "owner": "bob"}).code)

    bench.machine.hook = hook
    acquire(bench)

    assert second == ["REC7308"]
    assert [owner for _, owner, _, _ in seen(bench)] == ["ann@laptop"]


def test_a_host_in_transition_is_not_locked_by_anybody(bench: Bench) -> None:
    handle(bench.machine, "apply", {"intent": bench.intent("vision")}, CONTEXT)

    error = refused(bench, "acquire", **WANTED)

    assert (error.code, error.fix) == ("REC7308", "recon status --host h-1")
    assert bench.machine.stat(places.LOCKS) is None


def test_what_was_killed_and_has_no_end_keeps_the_host_from_being_locked(bench: Bench) -> None:
    txid = bench.submit(bench.intent("vision"))
    bench.strike(txid, ending_before("run systemctl start"))

    assert refused(bench, "acquire", **WANTED).code == "REC7308"


@pytest.mark.parametrize(
    ("over", "code"),
    [
        ({"ttl_s": 0}, "REC7303"),
        ({"ttl_s": -5}, "REC7303"),
        ({"ttl_s": 86401}, "REC7303"),
        ({"ttl_s": float("nan")}, "REC7303"),
        ({"ttl_s": "30m"}, "REC7303"),
        ({"ttl_s": True}, "REC7303"),
        ({"ttl_s": None}, "REC7303"),
        ({"owner": ""}, "REC7304"),
        ({"owner": "  "}, "REC7304"),
        ({"owner": None}, "REC7304"),
        ({"owner": "a" * 201}, "REC7304"),
        ({"reason": ""}, "REC7304"),
        ({"reason": "two\nlines"}, "REC7304"),
        ({"reason": "red \x1b[31m"}, "REC7304"),
        ({"reason": "reversed \u202e"}, "REC7304"),
        ({"reason": "x" * 501}, "REC7304"),
        ({"slot": ""}, "REC7305"),
        ({"slot": "../left"}, "REC7305"),
        ({"slot": 3}, "REC7305"),
    ],
)
def test_what_is_no_lock_is_refused_by_name_and_nothing_is_written(
    bench: Bench, over: dict[str, Any], code: str
) -> None:
    assert refused(bench, "acquire", **{**WANTED, **over}).code == code
    assert bench.machine.stat(places.LOCKS) is None
    assert lines(bench) == []


def test_an_unknown_deed_is_no_request(bench: Bench) -> None:
    assert refused(bench, "steal").code == "REC5016"


# -- the token ---------------------------------------------------------------------------------------------------------


def test_only_the_token_renews_and_releases(bench: Bench) -> None:
    token = acquire(bench)["token"]

    for name in ("renew", "release"):
        for wrong in ("", token[:-1], token + "x", token.swapcase(), None, 3, "recon_lock_"):
            assert refused(bench, name, token=wrong).code == "REC7302"
    assert [left for _, _, left, _ in seen(bench)] == [600.0]
    bench.machine.clock.advance(500.0)
    assert deed(bench, "renew", token=token)["lock"]["left_s"] == 600.0
    deed(bench, "release", token=token)
    assert seen(bench) == []
    assert bench.machine.stat(places.LOCKS) is None


def test_a_token_of_one_slot_is_none_of_another(two: Bench) -> None:
    left, right = acquire(two, slot="left")["token"], acquire(two, slot="right")["token"]

    assert refused(two, "release", token=left, slot="right").code == "REC7302"
    deed(two, "release", token=right, slot="right")
    assert [slot for slot, _, _, _ in seen(two)] == ["left"]


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """Note the lengths of everything that is compared in constant time."""
    calls: list[tuple[int, int]] = []
    really = hmac.compare_digest

    def spy(one: Any, other: Any) -> bool:
        calls.append((len(one), len(other)))
        return really(one, other)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    return iter([calls])


def test_a_right_and_a_wrong_token_and_one_of_no_lock_are_compared_in_the_same_way(
    two: Bench, compared: Iterator[list[tuple[int, int]]]
) -> None:
    calls = next(compared)

    def comparisons(token: str) -> list[tuple[int, int]]:
        calls.clear()
        handle(two.machine, "observe", {**two.question(), "tokens": [token]}, CONTEXT)
        return list(calls)

    none = comparisons("recon_lock_of_nobody")
    token = acquire(two, slot="left")["token"]
    acquire(two, slot="right")
    right, wrong, short = comparisons(token), comparisons(token[:-1] + "!"), comparisons("x")

    assert none == [(64, 64)]
    assert right == wrong == short == [(64, 64)] * 3


def test_a_wrong_token_and_a_lock_that_is_not_there_get_the_same_answer(bench: Bench) -> None:
    nobody = refused(bench, "release", token="recon_lock_x")
    acquire(bench)
    wrong = refused(bench, "release", token="recon_lock_x")

    assert (nobody.code, nobody.summary, nobody.detail, nobody.fix) == (
        wrong.code,
        wrong.summary,
        wrong.detail,
        wrong.fix,
    )


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_lock_whose_time_is_up_is_nobodys_without_a_deed_of_anyone(bench: Bench) -> None:
    intent = bench.intent("vision")
    token = acquire(bench)["token"]
    bench.machine.clock.advance(599.0)
    assert [owner for _, owner, _, _ in seen(bench)] == ["ann@laptop"]
    bench.machine.clock.advance(1.5)

    assert seen(bench, token) == []
    assert refused(bench, "renew", token=token).code == "REC7302"
    assert acquire(bench, owner="bob")["lock"]["owner"] == "bob"
    assert [lock["owner"] for lock in read_record(bench.machine, places.LOCKS)["locks"]] == ["bob"]
    bench.machine.clock.advance(601.0)
    assert launched(bench, bench.looked_at(intent)).state == "applied"


def test_no_jump_of_the_clock_on_the_wall_makes_a_lock_longer_or_shorter(bench: Bench) -> None:
    acquire(bench)
    (lock,) = locks.standing(bench.machine)
    assert lock.ttl_s == 600.0
    for jump in (86400.0 * 365, -86400.0 * 999):
        bench.machine.state.epoch += jump
        # To look takes a twentieth of a second, and a tenth may be the next one then.
        left_s = round(lock.since + 600.0 - bench.machine.boottime(), 1)
        assert [left for _, _, left, _ in seen(bench)] == [left_s]


def test_a_reboot_never_makes_a_lock_shorter_and_it_still_frees_itself(bench: Bench) -> None:
    token = acquire(bench)["token"]
    bench.machine.clock.advance(300.0)
    bench.machine.reboot()
    after = bench.machine.boottime()

    assert [left for _, _, left, _ in seen(bench)] == [round(600.0 - after, 1)]
    assert deed(bench, "renew", token=token)["lock"]["left_s"] == 600.0
    bench.machine.reboot()
    bench.machine.clock.advance(601.0)
    assert seen(bench) == []


def look(bench: Bench, name: str) -> None:
    """Let the host do what it does by itself, or begin an order of somebody; what becomes of that is all the same."""
    if name == "an order":
        order = {**Bench().intent("vision"), "txid": f"2026-{bench.machine.wall():.0f}"}
        handle(bench.machine, "apply", {"intent": order}, CONTEXT)
        run_launched(bench.machine)
    else:
        handle(bench.machine, name, {}, CONTEXT)


LOOKS = ("watch", "schedule", "an order")


@pytest.mark.parametrize("name", LOOKS)
def test_a_lock_that_ran_out_before_a_look_never_comes_back(bench: Bench, name: str) -> None:
    acquire(bench)
    bench.machine.clock.advance(700.0)
    look(bench, name)

    assert bench.machine.stat(places.LOCKS) is None
    bench.machine.reboot()
    assert seen(bench) == []


@pytest.mark.parametrize("name", LOOKS)
def test_a_lock_of_an_earlier_boot_counts_from_this_one_once_after_a_look(bench: Bench, name: str) -> None:
    token = acquire(bench)["token"]
    bench.machine.clock.advance(300.0)
    bench.machine.reboot()
    before = seen(bench, token)
    look(bench, name)

    kept = locks.read_book(bench.machine)[0]
    assert (kept.boot_id, kept.since, kept.expires) == (boot_id(bench.machine), 0.0, 600.0)
    assert [(slot, owner, yours) for slot, owner, _, yours in before] == [(None, "ann@laptop", True)]
    assert seen(bench, token)[0][2] == pytest.approx(600.0 - bench.machine.boottime(), abs=1.0)
    bench.machine.clock.advance(601.0)
    look(bench, name)
    for _ in range(3):
        bench.machine.reboot()
        assert seen(bench) == []


@pytest.mark.parametrize("name", [*LOOKS, "observe"])
def test_a_look_writes_no_book_that_is_as_it_should_be_and_an_observation_writes_none(bench: Bench, name: str) -> None:
    acquire(bench)
    if name == "observe":
        bench.machine.clock.advance(700.0)
    written: list[str] = []
    bench.machine.hook = lambda when, what: written.append(what)
    look(bench, name)

    assert [what for what in written if places.LOCKS in what] == []


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_leaves_a_book_alone_that_cannot_be_read_or_written(bench: Bench, name: str) -> None:
    def full(when: str, what: str) -> None:
        if when == "before" and what == f"write {places.LOCKS}":
            raise OSError(errno.ENOSPC, "No space left on device", places.LOCKS)

    machine = bench.machine
    acquire(bench)
    bench.machine.reboot()
    machine.hook, before = full, machine.read(places.LOCKS)
    look(bench, name)
    assert machine.read(places.LOCKS) == before
    machine.hook = None
    machine.write(places.LOCKS, before[:-20])
    look(bench, name)
    assert machine.read(places.LOCKS) == before[:-20]


def test_where_a_reboot_does_not_begin_the_clock_anew_a_lock_is_counted_from_the_boot_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container has a boot of its own, and the clock of the kernel that it shares with others."""
    acquire(bench)
    bench.machine.reboot()
    read, boottime = bench.machine.read, bench.machine.boottime
    monkeypatch.setattr(bench.machine, "boottime", lambda: boottime() + 50000.0)
    first = b"1 (systemd) S " + b"0 " * 18 + b"5000000 0 0\n"
    monkeypatch.setattr(
        bench.machine, "read", lambda path, *rest: first if path == "/proc/1/stat" else read(path, *rest)
    )

    assert [left for _, _, left, _ in seen(bench)] == [round(600.0 - boottime(), 1)]


def test_a_lock_is_not_cut_short_where_the_kernel_does_not_say_which_boot_it_is(bench: Bench) -> None:
    acquire(bench)
    bench.machine.clock.advance(590.0)
    bench.machine.clock.advance(50000.0)
    acquire(bench)
    found = locks.read_book(bench.machine)[0]

    assert locks.left_s(bench.machine, found) == pytest.approx(600.0, abs=1.0)
    assert locks.left_s(bench.machine, found._replace(boot_id="another")) < 0


# -- force -------------------------------------------------------------------------------------------------------------


def test_a_person_takes_a_lock_away_by_its_id_with_a_reason(two: Bench) -> None:
    left = acquire(two, slot="left")
    acquire(two, slot="right")

    assert refused(two, "force", lock=left["lock"]["id"], owner="bob", reason=" ").code == "REC7304"
    assert refused(two, "force", lock="00000000", owner="bob", reason="x").code == "REC7307"
    assert refused(two, "force", lock="unreadable", owner="bob", reason="x").code == "REC7307"
    assert deed(two, "force", lock=left["lock"]["id"], owner="bob", reason="x")["lock"]["slot"] == "left"
    assert [slot for slot, _, _, _ in seen(two)] == ["right"]
    assert refused(two, "renew", token=left["token"]).code == "REC7302"


# -- damage and full disks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["torn", "a lock that is not whole", "a time that is none", "no list", "a directory"])
def test_a_book_that_cannot_be_read_counts_as_locked_until_a_person_puts_it_aside(bench: Bench, how: str) -> None:
    intent = bench.intent("vision")
    token = acquire(bench)["token"]
    machine = bench.machine
    if how == "torn":
        machine.write(places.LOCKS, machine.read(places.LOCKS)[:-20])
    elif how == "no list":
        write_record(machine, places.LOCKS, {"locks": 3})
    elif how == "a directory":
        machine.remove(places.LOCKS)
        machine.mkdir(places.LOCKS)
    else:
        body = read_record(machine, places.LOCKS)
        if how == "a time that is none":
            body["locks"][0]["expires"] = float("nan")
        else:
            del body["locks"][0]["expires"]
        write_record(machine, places.LOCKS, body)

    outcome = launched(bench, bench.looked_at(intent), token)
    assert (outcome.state, outcome.code) == ("locked", "REC7301")
    assert outcome.fix == "recon lock force-release h-1 --lock unreadable --reason TEXT"
    for name in ("acquire", "renew", "release"):
        assert refused(bench, name, **WANTED, token=token).code == "REC7301"
    done = deed(bench, "force", lock="unreadable", owner="bob", reason="a bad disk")
    assert done == {"lock": None, "aside": f"{places.LOCKS}.corrupt-1"}
    assert seen(bench) == []
    assert lines(bench)[-1]["deed"] == "forced"


def test_a_full_disk_gives_no_lock_and_leaves_none_and_lets_one_go(bench: Bench) -> None:
    full = True

    def hook(when: str, what: str) -> None:
        if full and when == "before" and what.startswith(("write", "append")):
            raise OSError(errno.ENOSPC, "No space left on device", what.split(" ")[1])

    bench.machine.hook = hook
    error = refused(bench, "acquire", **WANTED)
    assert (error.code, bench.machine.stat(places.LOCKS)) == ("REC7309", None)
    full = False
    token = acquire(bench)["token"]
    full = True
    assert refused(bench, "renew", token=token).code == "REC7309"
    forced = refused(bench, "force", lock=locks.standing(bench.machine)[0].id, owner="bob", reason="x")
    assert (forced.code, len(seen(bench))) == ("REC7309", 1)
    deed(bench, "release", token=token)
    assert seen(bench) == []


def test_a_lock_that_the_history_does_not_tell_of_is_not_given(bench: Bench) -> None:
    def hook(when: str, what: str) -> None:
        if when == "before" and what == f"append {places.HISTORY}":
            raise OSError(errno.ENOSPC, "No space left on device", places.HISTORY)

    bench.machine.hook = hook

    assert refused(bench, "acquire", **WANTED).code == "REC7309"
    assert seen(bench) == []


# -- transitions -------------------------------------------------------------------------------------------------------


def test_an_order_without_the_token_is_refused_and_names_owner_reason_and_time(bench: Bench) -> None:
    intent = bench.intent("vision")
    acquire(bench)
    bench.machine.clock.advance(60.0)

    outcome = launched(bench, bench.looked_at(intent))

    assert (outcome.state, outcome.code, outcome.fix) == ("locked", "REC7300", "recon apply --host h-1 --lock-token -")
    assert outcome.reason == "h-1: locked by ann@laptop for another 9m: measuring"
    assert bench.serving() == OLD
    assert bench.machine.stat(places.LEASE) is None


def test_the_token_passes_and_is_nowhere_on_the_disk(bench: Bench) -> None:
    intent = bench.intent("vision")
    token = acquire(bench)["token"]

    assert launched(bench, intent, "recon_lock_wrong", token).state == "applied"

    assert bench.serving() == NEW
    passed = read_record(bench.machine, places.transaction(intent["txid"]) + "/passes.json")
    assert passed == {"locks": [locks.standing(bench.machine)[0].id]}
    assert [path for path, node in bench.machine.state.files.items() if token.encode() in node.data] == []


@pytest.mark.parametrize("token", ["recon_lock_wrong", "", "x" * 5000])
def test_a_wrong_token_does_not_pass(bench: Bench, token: str) -> None:
    intent = bench.intent("vision")
    acquire(bench)

    assert launched(bench, intent, token).state == "locked"
    assert bench.machine.stat(places.transaction(intent["txid"]) + "/passes.json") is None
    assert bench.serving() == OLD


def test_a_pass_is_of_one_lock_and_not_of_the_one_after_it(bench: Bench) -> None:
    """Between launch and claim the lock runs out and somebody else takes one."""
    intent = bench.intent("vision")
    token = acquire(bench)["token"]
    handle(bench.machine, "apply", {"intent": intent, "tokens": [token]}, CONTEXT)
    deed(bench, "release", token=token)
    # As soon as the executor is gone from systemd's eyes; it only wakes up late.
    book = bench.copy()
    book.machine.manager.finish_transient(places.EXECUTOR, 0)
    acquire(book, owner="bob")
    bench.machine.files.put(places.LOCKS, Node.of(book.machine.read(places.LOCKS)))

    run_launched(bench.machine)

    outcome = read_record(bench.machine, places.transaction(intent["txid"]) + "/outcome.json")
    assert (outcome["state"], outcome["reason"]) == ("locked", "h-1: locked by bob for another 10m: measuring")


def test_a_recovery_goes_on_with_what_began_with_the_token(bench: Bench) -> None:
    intent = bench.intent("vision")
    token = acquire(bench)["token"]
    set_killed = ending_before("run systemctl start --no-block --job-mode=fail recon-coven-vision.target")
    txid = bench.submit(intent)
    handle(bench.machine, "apply", {"intent": intent, "tokens": [token]}, CONTEXT)
    bench.machine.state.launched.clear()
    bench.strike(txid, set_killed)

    outcome = handle(bench.machine, "recover", {"txid": txid}, CONTEXT)

    assert outcome["state"] == "rolled_back"
    assert bench.serving() == OLD
    assert [owner for _, owner, _, _ in seen(bench)] == ["ann@laptop"]


@pytest.mark.parametrize(("to", "state"), [(("c", "b"), "locked"), (("a", "d"), "applied")])
def test_a_lock_of_a_slot_keeps_out_what_moves_that_slot_only(two: Bench, to: tuple[str, str], state: str) -> None:
    intent = two.intent(*to)
    acquire(two, slot="left")

    outcome = launched(two, intent)

    assert outcome.state == state
    if state == "locked":
        assert outcome.reason == "h-1: slot left is locked by ann@laptop for another 10m: measuring"


def test_every_lock_of_a_slot_that_moves_must_be_passed(two: Bench) -> None:
    intent = two.intent("c", "d")
    left, right = acquire(two, slot="left")["token"], acquire(two, slot="right")["token"]

    assert launched(two, intent, left).state == "locked"
    assert launched(two, {**intent, "txid": "2026-0099"}, right, left).state == "applied"


def test_what_a_lock_of_a_slot_keeps_out_beside_moves() -> None:
    nothing = {"moves": [], "stop_units": [], "manifest_live": {"left": "a", "right": "b"}}
    moving = {**nothing, "moves": [{"slot": "left"}]}
    found: list[dict[str, Any]] = [{"id": "h", "slot": None}, {"id": "l", "slot": "left"}, {"id": "r", "slot": "right"}]
    gone = [{"id": "g", "slot": "gone"}]

    def kept_out(intent: dict[str, Any], *passed: str) -> list[str]:
        return [lock["id"] for lock in locks.against(intent, [*found, *gone], passed)]

    assert kept_out(nothing) == ["h", "g"]
    assert kept_out(moving) == ["h", "l", "g"]
    assert kept_out(moving, "l", "g") == ["h"]
    assert kept_out({**nothing, "stop_units": ["recon-x-y.service"]}) == ["h", "l", "r", "g"]


def test_files_alone_are_kept_out_by_a_lock_of_the_host_and_not_by_one_of_a_slot(two: Bench) -> None:
    two.machine.remove(f"{places.NATIVE}/recon-boot.target")
    intent = two.intent("a", "b")
    assert intent["moves"] == []
    token = acquire(two)["token"]
    assert launched(two, intent).state == "locked"
    deed(two, "release", token=token)
    acquire(two, slot="left")

    assert launched(two, {**intent, "txid": "2026-0099"}).state == "applied"


def test_a_lock_is_no_drift_and_makes_no_plan_stale(bench: Bench) -> None:
    before = observe.observe(bench.machine, bench.question(), CONTEXT)["fingerprint"]
    acquire(bench)

    assert observe.observe(bench.machine, bench.question(), CONTEXT)["fingerprint"] == before


def test_a_holder_renews_while_its_transition_goes_on_and_the_history_tells_both(bench: Bench) -> None:
    intent = bench.intent("vision")
    token = acquire(bench)["token"]
    handle(bench.machine, "apply", {"intent": intent, "tokens": [token]}, CONTEXT)

    def hook(when: str, what: str) -> None:
        if when == "before" and what.startswith("run systemctl start"):
            bench.machine.hook = None
            deed(bench, "renew", token=token)

    bench.machine.hook = hook
    run_launched(bench.machine)

    assert bench.serving() == NEW
    lines = [line for line in history.recent(bench.machine) if line.get("kind") != "started"]
    told = [line.get("deed") or line["state"] for line in lines]
    assert told == ["applied", "acquired", "renewed", "applied"]
    assert history.examine(bench.machine).problem is None
