from __future__ import annotations

from typing import Any

import pytest

from reconciler.agent import executor, executor_unit, launch, lease, lines, places, versions
from reconciler.agent.dispatch import handle
from reconciler.agent.machine import Completed
from reconciler.agent.outcome import read_outcome
from reconciler.agent.record import seal
from reconciler.agent.target import target_of
from reconciler.agent.wire import RequestError
from reconciler.model.outcome import Outcome
from tests.agent.bench import CONTEXT, Bench
from tests.agent.fakehost import FakeHost
from tests.agent.test_systemd import PROPERTIES

SHOW = ("systemctl", "show", PROPERTIES, "--")

ARGV = [
    "systemd-run",
    "--unit=recon-executor.service",
    "--collect",
    "--no-block",
    "--no-ask-password",
    "--service-type=exec",
    "--description=recon transaction t1",
    "--property=StandardOutput=journal",
    "--property=StandardError=journal",
    "--property=TimeoutStopSec=30s",
    "--property=NotifyAccess=exec",
    "--property=KillMode=mixed",
    "--property=Restart=on-abnormal",
    "--property=ExecStopPost=-/usr/bin/python3 -I -S /var/lib/recon/agent/d recover t1",
    "--property=ExecStopPost=/usr/bin/python3 -I -S /var/lib/recon/agent/d recover t1",
    "/usr/bin/python3",
    "-I",
    "-S",
    "/var/lib/recon/agent/d",
    "execute",
    "t1",
]


def apply(bench: Bench, intent: dict[str, Any]) -> dict[str, Any]:
    return handle(bench.machine, "apply", {"intent": intent}, CONTEXT)


def follow(bench: Bench, txid: str, after_seq: int = 0, wait_s: float = 5.0) -> dict[str, Any]:
    return handle(bench.machine, "follow", {"txid": txid, "after_seq": after_seq, "wait_s": wait_s}, CONTEXT)


def end_unit(bench: Bench) -> None:
    bench.machine.state.launched.clear()
    bench.machine.manager.finish_transient(places.EXECUTOR, 0)


def test_the_executor_is_started_with_these_words() -> None:
    assert launch.launch_argv("/var/lib/recon/agent/d", "t1") == ARGV


def test_apply_writes_the_intent_before_it_starts_the_executor() -> None:
    bench = Bench()
    intent = bench.intent("reasoning")

    seen = bench.doing(lambda: apply(bench, intent))

    assert [what.split(" ", 2)[:2] for what in seen if what.startswith("run")] == [["run", "systemd-run"]]
    assert bench.machine.state.launched == [f"{places.EXECUTOR} {intent['txid']}"]
    assert executor.execute(bench.machine, intent["txid"])["state"] == "applied"
    assert versions.podman(bench.machine) == {"value": "5.4.2"}


@pytest.mark.parametrize(
    "at", ["mkdir /var/lib/recon/txn/2026-0001", "write /var/lib/recon/txn/2026-0001/intent.json", "run systemd-run"]
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_same_order_handed_over_twice_at_once_is_started_once_and_keeps_its_books(at: str, when: str) -> None:
    bench = Bench()
    intent = bench.intent("reasoning")
    answers: list[dict[str, Any]] = []

    def again(moment: str, what: str) -> None:
        if moment == when and what.startswith(at):
            bench.machine.hook = None
            answers.append(apply(bench, intent))

    bench.machine.hook = again
    answers.append(apply(bench, intent))

    assert answers == [{"launched": True, "txid": intent["txid"]}] * 2
    assert bench.machine.state.launched == [f"{places.EXECUTOR} {intent['txid']}"]
    assert executor.execute(bench.machine, intent["txid"])["state"] == "applied"


def test_a_second_order_learns_who_has_the_host() -> None:
    bench = Bench()
    first, second = bench.intent("reasoning"), bench.intent("vision")
    assert apply(bench, first) == {"launched": True, "txid": first["txid"]}
    lease.take(bench.machine, owner="ann", txid=first["txid"], boot_id="b")

    answer = apply(bench, second)

    assert (answer["launched"], answer["lease"]["owner"], answer["lease"]["txid"]) == (False, "ann", first["txid"])
    assert bench.machine.stat(places.transaction(second["txid"])) is None


class InTurn:
    """Two orders at the same time: the first has its turn, and is launched at the second look of the other."""

    def __init__(self, bench: Bench, first: dict[str, Any]) -> None:
        self.bench, self.first, self.looks = bench, first, 0
        bench.machine.state.locked.append(places.LAUNCH_LOCK)
        bench.machine.sleep = self.sleep  # type: ignore[method-assign]

    def sleep(self, seconds: float) -> None:
        self.bench.machine.clock.advance(seconds)
        self.looks += 1
        if self.looks == 2:
            self.bench.machine.state.locked.clear()
            apply(self.bench, self.first)


@pytest.mark.parametrize(("wants", "joins"), [("vision", None), ("reasoning", "t-first")])
def test_who_comes_while_another_order_is_launched_waits_for_that_and_does_nothing_itself(
    wants: str, joins: str | None
) -> None:
    bench = Bench()
    first, second = {**bench.intent("reasoning"), "txid": "t-first"}, {**bench.intent(wants), "txid": "t-second"}
    InTurn(bench, first)

    answer = apply(bench, second)

    assert (answer["launched"], answer["lease"]["txid"], answer.get("joins")) == (False, "t-first", joins)
    assert bench.machine.state.launched == [f"{places.EXECUTOR} t-first"]
    assert bench.machine.stat(places.transaction("t-second")) is None


def test_the_same_order_sent_again_while_it_is_launched_is_joined() -> None:
    bench = Bench()
    first = bench.intent("reasoning")
    InTurn(bench, first)

    assert apply(bench, first) == {"launched": True, "txid": first["txid"]}
    assert bench.machine.state.launched == [f"{places.EXECUTOR} {first['txid']}"]


def held_up(bench: Bench, note: bytes | None) -> None:
    """Let somebody have the turn and not come to its end."""
    bench.machine.state.locked.append(places.LAUNCH_LOCK)
    bench.machine.mkdir(places.RUN)
    if note is not None:
        bench.machine.write(places.LAUNCHING, note)


@pytest.mark.parametrize("target", ["of somebody else", None])
def test_of_a_launch_that_takes_long_it_is_told_soon_whose_it_is(target: str | None) -> None:
    bench = Bench()
    since = bench.machine.boottime()
    held_up(bench, seal({"owner": "ann\x1b", "txid": "t-first", "since": since, "target": target}))

    answer = apply(bench, bench.intent("reasoning"))

    told = {"owner": "ann\\x1b", "txid": "t-first", "step": "launch", "age_s": pytest.approx(0.5, abs=0.2)}
    assert answer == {"launched": False, "lease": told}
    assert bench.machine.state.launched == []


@pytest.mark.parametrize("what", ["the same", "old", "begun", "none", "rubbish", "no id"])
def test_a_launch_that_never_ends_keeps_nobody_out(what: str) -> None:
    bench = Bench()
    intent, now = bench.intent("reasoning"), bench.machine.boottime()
    note = {"owner": "ann", "txid": "t-first", "since": now, "target": None}
    notes = {
        "the same": seal({**note, "target": target_of(intent)}),
        "old": seal({**note, "since": now - 10}),
        "begun": seal({**note, "txid": "t-before", "target": "of somebody else"}),
        "none": None,
        "rubbish": b"rubbish",
        "no id": seal({**note, "txid": "../x"}),
    }
    bench.machine.mkdir(places.transaction("t-before"))
    bench.machine.write(places.transaction("t-before") + "/journal.jsonl", b"")
    held_up(bench, notes[what])
    before = bench.machine.monotonic()

    assert apply(bench, intent) == {"launched": True, "txid": intent["txid"]}
    assert 10 <= bench.machine.monotonic() - before < 11


def test_a_note_of_an_earlier_launch_does_not_keep_anybody_waiting() -> None:
    bench = Bench()
    first, second = bench.intent("reasoning"), {**bench.intent("vision"), "txid": "t-second"}
    apply(bench, first)
    end_unit(bench)

    assert apply(bench, second) == {"launched": True, "txid": "t-second"}


GROUP = "/sys/fs/cgroup/system.slice/recon-executor.service"
HANDED = "/run/systemd/transient/recon-executor.service"
RUNNING: dict[str, bytes | str] = {"/sys/fs/cgroup/cgroup.procs": "1\n", f"{GROUP}/cgroup.events": "populated 1\n"}


def test_the_unit_that_systemd_was_handed_says_whose_it_is_without_a_program() -> None:
    handed = "# This is a transient unit file\n[Unit]\nDescription=recon transaction t1\n[Service]\nType=exec\n"
    host = FakeHost({**RUNNING, HANDED: handed})

    assert (executor_unit.has_process(host), executor_unit.running_txid(host)) == (True, "t1")
    assert host.ran == []


@pytest.mark.parametrize("handed", [None, "", "[Unit]\nDescription=", "[Unit]\nDescription=recon trans"])
def test_systemd_is_asked_whose_it_is_where_the_file_does_not_tell(handed: str | None) -> None:
    argv = ("systemctl", "show", "--property=Description", "--", "recon-executor.service")
    says = Completed(0, b"Description=recon transaction t2\n", b"")
    host = FakeHost({**RUNNING, **({} if handed is None else {HANDED: handed})}, programs={argv: says})

    assert executor_unit.running_txid(host) == "t2"
    assert host.ran == [argv]


def refusing_to_start(bench: Bench) -> None:
    run = bench.machine.run

    def refuse(argv: Any, timeout_s: float, stdin: bytes = b"", env: dict[str, str] | None = None) -> Completed:
        if argv[0] == "systemd-run":
            return Completed(1, b"", b"Failed to connect to bus")
        return run(argv, timeout_s, stdin, env)

    bench.machine.run = refuse  # type: ignore[method-assign]


def test_an_order_that_systemd_does_not_start_leaves_no_transaction() -> None:
    bench = Bench()
    intent = bench.intent("reasoning")
    refusing_to_start(bench)

    with pytest.raises(RequestError, match="Failed to connect to bus"):
        apply(bench, intent)

    assert bench.machine.stat(places.transaction(intent["txid"])) is None


def test_what_an_earlier_executor_of_this_order_left_outlives_a_start_that_fails() -> None:
    bench = Bench()
    intent = bench.intent("reasoning")
    undo = places.transaction(bench.submit(intent)) + "/undo.json"
    bench.machine.write(undo, b"what to put back")
    refusing_to_start(bench)

    with pytest.raises(RequestError):
        apply(bench, intent)

    assert bench.machine.read(undo) == b"what to put back"


def test_an_order_that_runs_or_has_ended_is_joined_and_not_started_again() -> None:
    bench = Bench()
    intent = bench.intent("reasoning")
    apply(bench, intent)
    executor.execute(bench.machine, intent["txid"])
    end_unit(bench)

    assert bench.doing(lambda: apply(bench, intent)) == []
    assert apply(bench, intent) == {"launched": True, "txid": intent["txid"]}


def test_another_order_under_a_name_already_given_is_refused() -> None:
    bench = Bench()
    intent = bench.intent("reasoning")
    apply(bench, intent)
    executor.execute(bench.machine, intent["txid"])
    end_unit(bench)

    with pytest.raises(RequestError, match="another order has this transaction id"):
        apply(bench, {**intent, "owner": "mallory"})


def test_following_gives_news_and_then_the_outcome() -> None:
    bench = Bench()
    intent = bench.intent("reasoning")
    apply(bench, intent)

    waiting = follow(bench, intent["txid"], wait_s=1.0)
    outcome = executor.execute(bench.machine, intent["txid"])
    first = follow(bench, intent["txid"])
    rest = follow(bench, intent["txid"], after_seq=first["events"][-1]["seq"])

    assert waiting == {"events": [], "outcome": None, "active": True}
    assert first["outcome"] == outcome
    assert first["events"][0]["text"] == "claiming the host for ci@example.net"
    assert rest == {"events": [], "outcome": outcome, "active": True}


def test_an_outcome_is_told_when_the_executor_has_left_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the next plan says that a transition runs, and a pipeline that applies and then plans ends with 4."""
    bench = Bench()
    intent = bench.intent("reasoning")
    apply(bench, intent)
    outcome = executor.execute(bench.machine, intent["txid"])
    sleep, waits = bench.machine.sleep, iter(range(1, 100))

    def leave_at_the_third(seconds: float) -> None:
        sleep(seconds)
        if next(waits) == 3:
            end_unit(bench)

    monkeypatch.setattr(bench.machine, "sleep", leave_at_the_third)
    answer = follow(bench, intent["txid"], wait_s=2.0)

    assert (answer["outcome"], answer["active"], next(waits)) == (outcome, False, 4)


def test_an_executor_that_does_not_leave_delays_the_word_of_its_end_by_two_seconds() -> None:
    bench = Bench()
    intent = bench.intent("reasoning")
    apply(bench, intent)
    outcome = executor.execute(bench.machine, intent["txid"])
    before = bench.machine.monotonic()

    answer = follow(bench, intent["txid"])
    took_s = bench.machine.monotonic() - before
    at_once = follow(bench, intent["txid"], wait_s=0)

    assert (answer["outcome"], answer["active"], round(took_s, 1)) == (outcome, True, 2.0)
    assert (at_once, round(bench.machine.monotonic() - before - took_s, 1)) == (answer, 0.0)


def test_the_end_is_told_when_something_else_is_in_the_place_of_the_journal() -> None:
    bench = Bench()
    intent = bench.intent("reasoning")
    apply(bench, intent)
    outcome = executor.execute(bench.machine, intent["txid"])
    path = places.transaction(intent["txid"]) + "/journal.jsonl"
    bench.machine.remove(path)
    bench.machine.mkdir(path)

    assert follow(bench, intent["txid"]) == {"events": [], "outcome": outcome, "active": True}


def test_an_end_whose_books_are_gone_is_told_from_the_line_of_the_history() -> None:
    bench = Bench()
    outcome = bench.execute({**bench.intent("reasoning"), "fingerprint": "another"})
    assert outcome.state == "stale"
    bench.machine.remove_tree(places.transaction(outcome.txid))

    answer = follow(bench, outcome.txid)

    assert Outcome.model_validate(answer.pop("outcome")) == outcome
    assert answer == {"events": [], "active": False}


def test_an_executor_of_another_transaction_is_none_of_the_one_that_is_followed() -> None:
    bench = Bench()
    first = bench.run("reasoning")
    apply(bench, bench.intent("vision"))

    assert follow(bench, first.txid, wait_s=1.0) == {
        "events": [event.model_dump() for event in bench.events(first.txid)],
        "outcome": read_outcome(bench.machine, first.txid),
        "active": False,
    }
    assert follow(bench, "t-never", wait_s=1.0) == {"events": [], "outcome": None, "active": False}


class Working(FakeHost):
    """A host whose executor has written an event and writes another one at the second wait for it."""

    def __init__(self, populated: str) -> None:
        group = "/sys/fs/cgroup/system.slice/recon-executor.service"
        handed = "[Unit]\nDescription=recon transaction t1\n"
        kernel = {"/sys/fs/cgroup/cgroup.procs": "1\n", f"{group}/cgroup.events": f"populated {populated}\n"}
        super().__init__({**kernel, HANDED: handed})
        self.waits = 0
        self.last = ""
        self.write_event()

    def write_event(self) -> None:
        path = places.transaction("t1") + "/journal.jsonl"
        before = str(self.files.get(path, ""))
        line, self.last = lines.line({"seq": before.count("\n") + 1}, self.last)
        self.files[path] = before + line.decode()

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits += 1
        if self.waits == 2:
            self.write_event()


def test_news_is_gathered_for_a_moment_and_a_process_of_the_executor_is_proof_enough_that_it_runs() -> None:
    host = Working("1")

    answer = handle(host, "follow", {"txid": "t1", "after_seq": 0, "wait_s": 5.0}, CONTEXT)
    at_once = handle(host, "follow", {"txid": "t1", "after_seq": 1, "wait_s": 0.0}, CONTEXT)

    assert answer == {"events": [{"seq": 1}, {"seq": 2}], "outcome": None, "active": True}
    assert at_once == {"events": [{"seq": 2}], "outcome": None, "active": True}
    assert host.ran == []


def test_where_the_executor_has_no_process_systemd_is_asked_and_news_comes_at_once() -> None:
    host = Working("0")
    argv = (*SHOW, "recon-executor.service")
    host.programs[argv] = Completed(0, b"Id=recon-executor.service\nActiveState=inactive\n", b"")

    answer = handle(host, "follow", {"txid": "t1", "after_seq": 0, "wait_s": 5.0}, CONTEXT)

    assert answer == {"events": [{"seq": 1}], "outcome": None, "active": False}
    assert host.ran == [argv]


def test_a_process_that_is_stuck_in_the_kernel_is_no_proof_that_an_executor_runs() -> None:
    """It outlives the unit, for ever perhaps; the next transaction must not wait for it."""
    host = Working("1")
    group = "/sys/fs/cgroup/system.slice/recon-executor.service"
    host.files[f"{group}/cgroup.procs"] = "41\n43\n"
    for pid, state in ((41, "D"), (43, "Z")):
        host.files[f"/proc/{pid}/stat"] = f"{pid} (python3) {state} 1" + " 0" * 40
    argv = (*SHOW, "recon-executor.service")
    host.programs[argv] = Completed(0, b"Id=recon-executor.service\nActiveState=inactive\n", b"")

    assert executor_unit.is_active(host) is False
    assert host.ran == [argv]

    host.files["/proc/43/stat"] = "43 (python3) S 1" + " 0" * 40
    assert executor_unit.is_active(host) is True
    assert host.ran == [argv]


def test_while_something_of_a_dead_executor_is_stuck_the_next_order_is_refused_by_its_name() -> None:
    bench = Bench()
    intent = bench.intent("reasoning")
    group = "/sys/fs/cgroup/system.slice/recon-executor.service"
    read, run = bench.machine.read, bench.machine.run
    kernel = {f"{group}/cgroup.procs": b"41\n", f"{group}/cgroup.events": b"populated 1\n"}
    kernel["/proc/41/stat"] = b"41 (mount.nfs) D 1" + b" 0" * 40
    kernel["/proc/41/status"] = b"Uid:\t0\t0\t0\t0\n"
    kernel["/proc/41/cgroup"] = b"0::/system.slice/recon-executor.service\n"
    bench.machine.read = lambda path, limit=1 << 20: kernel.get(path) or read(path, limit)  # type: ignore[method-assign]
    listed = bench.machine.listdir
    bench.machine.listdir = lambda path: [] if path == group else listed(path)  # type: ignore[method-assign]
    bench.machine.run = lambda argv, *rest, **more: (  # type: ignore[method-assign]
        Completed(1, b"", b"Failed to start transient service unit: Unit recon-executor.service was already loaded\n")
        if argv[0] == "systemd-run"
        else run(argv, *rest, **more)
    )

    with pytest.raises(RequestError) as caught:
        apply(bench, intent)

    assert (caught.value.code, caught.value.fix) == (
        "REC7231",
        "reboot the host: it boots what is committed; then apply again",
    )
    assert caught.value.detail == (
        "pid 41 (mount.nfs, state D: stuck in the kernel: no signal ends it; if it stays, reboot the host)"
    )
    assert not bench.machine.state.files.keys() & {places.transaction(intent["txid"])}


def test_an_executor_that_is_gone_without_an_outcome_is_said_so_after_a_second_look() -> None:
    bench = Bench()
    intent = bench.intent("reasoning")
    apply(bench, intent)
    end_unit(bench)
    before = bench.machine.monotonic()

    assert follow(bench, intent["txid"]) == {"events": [], "outcome": None, "active": False}
    assert bench.machine.monotonic() - before >= 0.5


@pytest.mark.parametrize("txid", ["", "../x", "a/b", ".hidden", "-x", "a b", "a" * 81, 3, None, "a\n"])
def test_a_transaction_id_that_is_not_safe_in_a_path_is_refused(txid: Any) -> None:
    bench = Bench()

    with pytest.raises(RequestError, match=r"transaction id|without txid"):
        handle(bench.machine, "follow", {"txid": txid, "after_seq": 0, "wait_s": 0}, CONTEXT)


def test_apply_without_an_intent_is_refused() -> None:
    with pytest.raises(RequestError, match="without intent"):
        handle(Bench().machine, "apply", {}, CONTEXT)
