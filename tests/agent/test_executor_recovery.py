"""What an executor, or the power, left half done is brought to an end, and the end is told."""

from __future__ import annotations

import contextlib
import errno
import json
from typing import Any

import pytest

from reconciler.agent import alerts, executor, observe, places
from reconciler.agent.record import read_record, write_record
from reconciler.model.desired import Coven
from reconciler.model.outcome import Outcome
from reconciler.sim.deeds import end_process
from reconciler.sim.faults import clear_fault, set_fault
from reconciler.sim.machine import KilledError, PowerCutError, StoppedError
from tests.agent.bench import CONTEXT, VISION, Bench, a_coven, a_service, ending_before

REASONING = ["recon-reasoning-rerank", "recon-reasoning-vllm"]
TXID = "2026-0002"
GATE = "/etc/systemd/system/recon-gate-all-other.service"
INTERRUPTED = "interrupted by a power cut or reboot; the committed generation booted"


@pytest.fixture
def bench() -> Bench:
    """A host on which reasoning serves and a switch to vision was handed over; the switch also brings a third coven."""
    bench = Bench()
    assert bench.run("reasoning").state == "applied"
    bench.covens["other"] = a_coven("other", one=a_service("llamacpp", 8004, memory="8GiB"))
    bench.submit(bench.intent("vision"))
    return bench


def stop_before(bench: Bench, what: str, how: type[StoppedError]) -> None:
    """End the executor right before its first change that begins with these words; after a power cut, boot."""
    bench.strike(TXID, ending_before(what, how))
    if how is not KilledError:
        bench.machine.reboot()
        bench.machine.clock.advance(90.0)


def die(bench: Bench, unit: str, in_s: float = 0.0) -> None:
    """Let the server of a unit end by itself, with an error, in some seconds."""
    state = bench.machine.state
    container = next(container for container in state.containers.values() if container.unit == unit)
    bench.machine.clock.schedule(in_s, "server.dies", container=container.id, code=1, why="crashed")
    bench.machine.clock.advance(0.5)


def again(bench: Bench) -> Outcome:
    return Outcome.model_validate(executor.execute(bench.machine, TXID))


def failing(path: str) -> Any:
    return failing_at(f"write {path}")


def failing_at(*changes: str) -> Any:
    def hook(when: str, change: str) -> None:
        if when == "before" and change in changes:
            raise OSError(errno.EIO, "Input/output error", change.partition(" ")[2])

    return hook


def natives(bench: Bench) -> list[str]:
    return [name for name in bench.machine.listdir(places.NATIVE) if name.startswith("recon-")]


def last(bench: Bench) -> dict[str, Any]:
    found: dict[str, Any] = observe.observe(bench.machine, {"memory": "auto"}, CONTEXT)["executor"]["last"]
    return found


def history(bench: Bench) -> list[dict[str, Any]]:
    """Return the lines of how transactions ended."""
    lines = [json.loads(line) for line in bench.machine.read(places.HISTORY).splitlines()]
    return [line for line in lines if line.get("kind") != "started"]


def test_an_outcome_that_nobody_knows_to_be_on_the_disk_is_written_again_before_its_line(bench: Bench) -> None:
    path = places.transaction(TXID) + "/outcome.json"

    def strike(call: str) -> None:
        if call == f"fsync {places.transaction(TXID)}" and bench.machine.stat(path) is not None:
            bench.machine.on_call = None
            raise KilledError

    bench.machine.on_call = strike
    with pytest.raises(KilledError):
        executor.execute(bench.machine, TXID)
    bench.machine.revive()
    assert again(bench).state == "applied"

    bench.machine.reboot(luck=lambda: 0.9)

    assert bench.machine.stat(path) is not None
    assert [line["state"] for line in history(bench) if line["txid"] == TXID] == ["applied"]


def test_a_recovery_that_fails_with_something_changed_holds_the_host(bench: Bench) -> None:
    stop_before(bench, "run systemctl start", KilledError)
    bench.machine.hook = failing(places.EPOCH)

    outcome = again(bench)

    assert (outcome.state, outcome.code, outcome.fix) == ("held", "REC7190", "recon apply --host h-1")
    assert outcome.reason == (
        "the executor ended before the transaction did (killed, or out of memory); then bringing the host to an end "
        f"failed: OSError: [Errno 5] Input/output error: '{places.EPOCH}'"
    )


def test_a_recovery_that_fails_with_nothing_changed_is_an_aborted_transaction(bench: Bench) -> None:
    stop_before(bench, "mkdir /etc/recon/generations/2", KilledError)
    bench.machine.hook = failing(places.EPOCH)

    outcome = again(bench)

    assert (outcome.state, outcome.code, outcome.fix) == ("aborted", "REC7199", "recon apply --host h-1")
    assert bench.serving() == REASONING


def test_a_recovery_that_fails_after_the_commit_is_still_applied(bench: Bench) -> None:
    stop_before(bench, f"remove {places.TRIAL}", KilledError)
    bench.machine.hook = failing(places.EPOCH)

    outcome = again(bench)

    assert (outcome.state, outcome.committed, outcome.live) == ("applied", 2, {"all": "vision"})


def test_a_recovery_after_the_commit_that_cannot_write_its_first_line_is_still_applied(bench: Bench) -> None:
    stop_before(bench, f"remove {places.TRIAL}", KilledError)
    bench.machine.hook = failing_at(f"append {places.transaction(TXID)}/journal.jsonl")

    outcome = again(bench)

    assert (outcome.state, outcome.committed, outcome.live) == ("applied", 2, {"all": "vision"})


@pytest.mark.parametrize("how", [KilledError(), OSError(errno.EIO, "Input/output error")], ids=["killed", "failed"])
def test_a_commit_that_nobody_knows_to_be_on_the_disk_is_made_again(bench: Bench, how: BaseException) -> None:
    struck: list[str] = []

    def strike(call: str) -> None:
        # Renamed, and its directory not synced yet.
        if (
            call == "fsync /etc/containers/systemd"
            and not struck
            and bench.machine.read_link(places.COMMITTED)[-1] == "2"
        ):
            struck.append(call)
            raise how

    bench.machine.on_call = strike
    with contextlib.suppress(KilledError):
        executor.execute(bench.machine, TXID)
    bench.machine.revive()
    outcome = again(bench)
    assert (struck, outcome.state, outcome.committed) == (["fsync /etc/containers/systemd"], "applied", 2)

    bench.machine.reboot(luck=lambda: 0.9)
    bench.machine.clock.advance(90.0)

    assert bench.machine.read_link(places.COMMITTED) == places.generation(2)
    assert bench.serving() == ["recon-vision-llama"]


def test_an_undo_record_that_does_not_verify_is_not_taken_for_nothing_changed(bench: Bench) -> None:
    stop_before(bench, "run systemctl start", KilledError)
    path = places.transaction(TXID) + "/undo.json"
    bench.machine.write(path, bench.machine.read(path).replace(b'"from":1', b'"from":7'))

    outcome = again(bench)

    assert (outcome.state, outcome.code) == ("held", "REC7190")
    assert f"{path}: its sum is wrong" in outcome.reason


def test_a_coven_that_was_left_on_trial_is_judged_before_it_is_committed(bench: Bench) -> None:
    set_fault(bench.machine.state, "never-healthy", "recon-vision-llama.service")

    def hook(when: str, change: str) -> None:
        if when == "after" and change == "run systemctl start --no-block --job-mode=fail recon-coven-vision.target":
            raise KilledError

    bench.strike(TXID, hook)
    bench.machine.clock.advance(5.0)

    outcome = bench.run("vision")

    assert (outcome.state, outcome.code, outcome.committed) == ("aborted", "REC7106", 1)
    assert outcome.reason.startswith("llama: not up after 120 s")
    bench.machine.reboot()
    bench.machine.clock.advance(90.0)
    assert bench.serving() == REASONING


def test_a_coven_that_was_left_on_trial_and_serves_is_committed(bench: Bench) -> None:
    stop_before(bench, "symlink /etc/containers/systemd/recon", KilledError)
    bench.machine.clock.advance(60.0)

    outcome = bench.run("vision")

    assert (outcome.state, outcome.live) == ("applied", {"all": "vision"})
    assert "warm" in bench.steps(outcome.txid)
    assert "start" not in bench.steps(outcome.txid)


def test_crashes_of_before_are_not_held_against_a_coven_that_was_left_on_trial(bench: Bench) -> None:
    """A count of restarts goes on for as long as a unit runs: it must not keep one from ever being committed."""
    stop_before(bench, "symlink /etc/containers/systemd/recon", KilledError)
    for _ in range(2):
        die(bench, "recon-vision-llama.service")
        bench.machine.clock.advance(60.0)
    assert bench.machine.manager.run_of("recon-vision-llama.service").restarts == 2

    outcome = bench.run("vision")

    assert (outcome.state, outcome.live) == ("applied", {"all": "vision"})


def test_a_coven_that_was_left_on_trial_and_goes_on_crashing_is_not_committed(bench: Bench) -> None:
    stop_before(bench, "symlink /etc/containers/systemd/recon", KilledError)
    set_fault(bench.machine.state, "never-healthy", "recon-vision-llama.service")
    for _ in range(2):
        die(bench, "recon-vision-llama.service")
        bench.machine.clock.advance(60.0)

    def crash(when: str, change: str) -> None:
        if when == "before" and change.startswith("mkdir /etc/recon/generations/"):
            bench.machine.hook = None
            set_fault(bench.machine.state, "crash-at-start", "recon-vision-llama.service")
            die(bench, "recon-vision-llama.service", in_s=5.0)

    bench.machine.hook = crash
    outcome = bench.run("vision")

    assert (outcome.state, outcome.code, outcome.committed) == ("aborted", "REC7105", 1)
    assert outcome.reason.startswith("llama: crash loop: crashed 2 times")


def test_a_name_given_by_a_clock_that_was_ahead_does_not_hide_what_ended_since() -> None:
    bench = Bench()
    assert bench.run("reasoning").state == "applied"
    set_fault(bench.machine.state, "crash-at-start", "recon-vision-llama.service")
    assert bench.execute({**bench.intent("vision"), "txid": "9999-0001"}).state == "rolled_back"
    clear_fault(bench.machine.state)

    outcome = bench.run("vision")

    assert outcome.state == "applied"
    assert (last(bench)["value"]["txid"], last(bench)["value"]["state"]) == (outcome.txid, "applied")


def lose_the_order(bench: Bench) -> str:
    path = places.transaction(TXID) + "/intent.json"
    bench.machine.write(path, bench.machine.read(path, 1 << 22)[:-40])
    return path


def test_an_order_that_is_lost_with_something_changed_is_never_called_refused(bench: Bench) -> None:
    stop_before(bench, "run systemctl start", KilledError)
    path = lose_the_order(bench)

    outcome = Outcome.model_validate(executor.execute(bench.machine, TXID, recover=True))

    assert (outcome.state, outcome.code, outcome.fix) == ("held", "REC7115", "recon apply")
    assert f"how to go back is lost: the intent cannot be read: {path}" in outcome.reason
    assert [alert["about"] for alert in alerts.standing(bench.machine)] == [TXID]
    assert bench.run("vision").state == "applied"
    assert bench.serving() == ["recon-vision-llama"]


HELD_BOOKS = (
    f"append {places.HISTORY}",
    f"write {places.HISTORY_HEAD}",
    f"write {places.ALERTS}",
    f"remove {places.LEASE}",
)


def held_and_killed(bench: Bench, what: str, *, order_is_lost: bool = False) -> None:
    """End a recovery that leaves the host held right before its first change that begins with these words."""
    stop_before(bench, "run systemctl start", KilledError)
    if order_is_lost:
        lose_the_order(bench)

    def hook(when: str, change: str) -> None:
        if when == "before" and change == f"write {places.EPOCH}":
            raise OSError(errno.EIO, "Input/output error", places.EPOCH)
        if when == "before" and change.startswith(what) and bench.machine.stat(path) is not None:
            raise KilledError

    path = places.transaction(TXID) + "/outcome.json"
    bench.strike(TXID, hook)


@pytest.mark.parametrize("order_is_lost", [False, True], ids=["", "order-lost"])
@pytest.mark.parametrize("what", HELD_BOOKS)
def test_an_executor_killed_after_it_held_the_host_has_called_a_person_or_the_next_one_does(
    bench: Bench, what: str, order_is_lost: bool
) -> None:
    held_and_killed(bench, what, order_is_lost=order_is_lost)

    assert again(bench).state == "held"

    found = [(alert["code"], alert["about"]) for alert in alerts.standing(bench.machine)]
    assert found == [("REC7115" if order_is_lost else "REC7190", TXID)]
    assert [line["state"] for line in history(bench) if line["txid"] == TXID] == ["held"]


@pytest.mark.parametrize("is_told", [False, True], ids=["untold", "told"])
@pytest.mark.parametrize("what", HELD_BOOKS)
def test_an_alert_of_a_held_host_that_a_person_has_cleared_does_not_come_back(
    bench: Bench, what: str, is_told: bool
) -> None:
    held_and_killed(bench, what)
    if is_told:
        again(bench)
    alerts.clear(bench.machine, "h-1")

    again(bench)

    assert alerts.standing(bench.machine) == []


@pytest.mark.parametrize(("wants", "called"), [("another", [TXID]), ("vision", [])])
def test_a_person_is_called_by_whoever_tells_the_end_unless_the_host_went_on(
    bench: Bench, wants: str, called: list[str]
) -> None:
    held_and_killed(bench, f"append {places.HISTORY}")
    bench.machine.remove(places.ALERTS)

    outcome = bench.execute({**bench.intent("vision"), **({"fingerprint": wants} if wants == "another" else {})})

    assert outcome.state == ("stale" if wants == "another" else "applied")
    assert [alert["about"] for alert in alerts.standing(bench.machine)] == called


def test_an_order_that_is_lost_before_anything_was_replaced_is_refused(bench: Bench) -> None:
    stop_before(bench, "mkdir /etc/recon/generations/2", KilledError)
    lose_the_order(bench)

    outcome = Outcome.model_validate(executor.execute(bench.machine, TXID, recover=True))

    assert (outcome.state, outcome.code, bench.serving()) == ("refused", "REC7115", REASONING)


def test_an_order_that_is_lost_after_the_commit_is_applied(bench: Bench) -> None:
    stop_before(bench, f"remove {places.TRIAL}", KilledError)
    lose_the_order(bench)

    outcome = Outcome.model_validate(executor.execute(bench.machine, TXID, recover=True))

    assert (outcome.state, outcome.committed) == ("applied", 2)


def test_a_host_held_by_a_failed_recovery_is_brought_on_by_the_next_apply(bench: Bench) -> None:
    stop_before(bench, "run systemctl start", KilledError)
    bench.machine.hook = failing(places.EPOCH)
    assert again(bench).state == "held"
    bench.machine.hook = None

    outcome = bench.run("vision")

    assert (outcome.state, outcome.live) == ("applied", {"all": "vision"})


def test_a_transaction_that_lost_power_is_said_to_have(bench: Bench) -> None:
    stop_before(bench, "run systemctl start", PowerCutError)

    assert last(bench) == {
        "unknown": f"transaction {TXID} was {INTERRUPTED}; the next apply tidies up: recon plan --host h-1"
    }


def test_an_executor_that_died_without_a_reboot_is_not_called_a_power_cut(bench: Bench) -> None:
    stop_before(bench, "run systemctl start", KilledError)

    assert last(bench) == {"unknown": f"transaction {TXID} has no outcome: it runs, or was cut off"}


def test_the_next_executor_ends_a_transaction_that_lost_power(bench: Bench) -> None:
    before = natives(bench)
    stop_before(bench, "run systemctl start", PowerCutError)
    assert (GATE.rpartition("/")[2] in natives(bench), GATE.rpartition("/")[2] in before) == (True, False)
    del bench.covens["other"]
    bench.covens["vision"] = VISION
    txid = bench.submit(bench.intent("vision"))
    cut: list[list[str]] = []

    def look(when: str, change: str) -> None:
        if when == "before" and change == "mkdir /etc/recon/generations/3":
            cut.append(natives(bench))
            assert bench.machine.stat(places.generation(2)) is None
            assert read_record(bench.machine, places.transaction(TXID) + "/outcome.json")["state"] == "aborted"

    bench.machine.hook = look
    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))

    assert (outcome.state, outcome.committed, outcome.live) == ("applied", 3, {"all": "vision"})
    assert cut == [before]
    ended = Outcome.model_validate(read_record(bench.machine, places.transaction(TXID) + "/outcome.json"))
    assert (ended.state, ended.code, ended.reason, ended.fix, ended.committed, ended.live, ended.owner) == (
        "aborted",
        "REC7116",
        INTERRUPTED,
        "recon apply --host h-1",
        1,
        {"all": "reasoning"},
        "ci@example.net",
    )
    assert [(line["txid"], line["state"]) for line in history(bench)] == [
        ("2026-0001", "applied"),
        (TXID, "aborted"),
        (txid, "applied"),
    ]


def test_a_transaction_that_lost_power_after_its_commit_counts_as_applied(bench: Bench) -> None:
    stop_before(bench, f"remove {places.TRIAL}", PowerCutError)
    assert bench.serving() == ["recon-vision-llama"]

    assert bench.run("reasoning").state == "applied"

    ended = Outcome.model_validate(read_record(bench.machine, places.transaction(TXID) + "/outcome.json"))
    assert (ended.state, ended.code, ended.reason) == (
        "applied",
        None,
        "interrupted by a power cut or reboot after the commit of generation 2, which booted",
    )
    assert GATE.rpartition("/")[2] in natives(bench)


def test_a_transaction_that_lost_its_executor_and_its_trial_is_not_called_a_power_cut(bench: Bench) -> None:
    stop_before(bench, "run systemctl start", KilledError)
    bench.machine.remove(places.TRIAL)

    assert bench.run("reasoning").state == "applied"

    ended = Outcome.model_validate(read_record(bench.machine, places.transaction(TXID) + "/outcome.json"))
    assert (ended.state, ended.reason) == ("aborted", "its executor ended before it did, without a reboot")


def test_what_was_interrupted_is_not_ended_before_the_host_is_seen_to_be_as_planned(bench: Bench) -> None:
    stop_before(bench, "run systemctl start", PowerCutError)
    intent = bench.intent("vision")
    before = bench.disk()

    outcome = bench.execute({**intent, "fingerprint": "sha256:" + "0" * 64})

    assert outcome.state == "stale"
    assert bench.disk() == before
    assert bench.machine.stat(places.transaction(TXID) + "/outcome.json") is None


def test_natives_are_not_put_back_over_those_of_a_later_commit(bench: Bench) -> None:
    stop_before(bench, "run systemctl start", PowerCutError)
    path = places.transaction(TXID) + "/outcome.json"
    assert bench.run("vision").state == "applied"
    bench.machine.remove(path)
    before = bench.disk()

    intent = bench.intent("reasoning")
    set_fault(bench.machine.state, "never-healthy", "recon-reasoning-vllm.service")
    assert bench.execute(intent).state == "rolled_back"

    assert bench.disk() == before
    assert read_record(bench.machine, path)["state"] == "aborted"


def test_an_interrupted_transaction_without_a_readable_record_does_not_refuse_the_next(bench: Bench) -> None:
    stop_before(bench, "run systemctl start", PowerCutError)
    undo = places.transaction(TXID) + "/undo.json"
    bench.machine.write(undo, b"torn")

    assert bench.run("vision").state == "applied"

    reason = read_record(bench.machine, places.transaction(TXID) + "/outcome.json")["reason"]
    assert reason == f"{INTERRUPTED}; native units of it may be left: {undo}: it is not JSON"


def test_a_trial_that_could_not_be_dropped_goes_with_the_next_apply(bench: Bench) -> None:
    bench.machine.hook = failing_at(f"remove {places.TRIAL}")
    outcome = Outcome.model_validate(executor.execute(bench.machine, TXID))
    bench.machine.hook = None
    assert (outcome.state, outcome.reason[:28]) == ("applied", "applied; left to tidy up: [E")
    assert bench.machine.stat(places.TRIAL) is not None

    outcome = bench.run("vision")

    assert (outcome.state, outcome.committed, outcome.live) == ("applied", 3, {"all": "vision"})
    assert bench.machine.stat(places.TRIAL) is None
    assert bench.serving() == ["recon-vision-llama"]


def test_a_transaction_that_could_not_say_that_it_committed_is_ended_by_the_next(bench: Bench) -> None:
    bench.machine.hook = failing_at(f"remove {places.TRIAL}", f"write {places.transaction(TXID)}/outcome.json")
    with pytest.raises(OSError, match="Input/output error"):
        executor.execute(bench.machine, TXID)
    bench.machine.hook = None

    assert bench.run("vision").state == "applied"

    ended = Outcome.model_validate(read_record(bench.machine, places.transaction(TXID) + "/outcome.json"))
    assert (ended.state, ended.code, ended.reason) == (
        "applied",
        None,
        "its executor ended after the commit of generation 2 and before it could say so",
    )


def test_a_transaction_whose_trial_stayed_open_is_ended_by_the_one_that_commits_next(bench: Bench) -> None:
    full = False

    def hook(when: str, change: str) -> None:
        nonlocal full
        if full and when == "before" and not change.startswith("run"):
            raise OSError(errno.ENOSPC, "No space left on device")
        full = full or change == f"symlink {places.TRIAL}"

    bench.machine.hook = hook
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            executor.execute(bench.machine, TXID)
    bench.machine.hook = None
    assert bench.machine.stat(places.TRIAL) is not None

    outcome = bench.run("vision")

    assert (outcome.state, outcome.committed, outcome.live) == ("applied", 3, {"all": "vision"})
    ended = Outcome.model_validate(read_record(bench.machine, places.transaction(TXID) + "/outcome.json"))
    assert (ended.state, ended.code, ended.reason) == (
        "aborted",
        "REC7116",
        "its executor ended before it did, and another transaction took its place",
    )
    assert bench.machine.listdir(places.GENERATIONS) == ["1", "3"]


def test_a_recovery_waits_for_whoever_has_the_lock_for_a_moment(bench: Bench) -> None:
    """The watchdog may have it between the death of the executor and its successor; it gives it back at once."""
    stop_before(bench, "run systemctl start", KilledError)
    bench.machine.state.locked.append(places.LOCK)
    bench.machine.clock.on("given back", lambda _args: bench.machine.state.locked.clear())
    bench.machine.clock.schedule(30.0, "given back")

    outcome = Outcome.model_validate(executor.execute(bench.machine, TXID, recover=True))

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7116")
    assert bench.serving() == REASONING


def test_a_lock_that_a_dead_executor_keeps_holds_the_host(bench: Bench) -> None:
    stop_before(bench, "run systemctl start", KilledError)
    bench.machine.state.locked.append(places.LOCK)
    ended: list[dict[str, Any]] = []

    seen = bench.doing(lambda: ended.append(executor.execute(bench.machine, TXID, recover=True)))

    outcome = Outcome.model_validate(ended[0])
    assert (outcome.state, outcome.code) == ("held", "REC7231")
    assert outcome.fix == "reboot the host, then: recon apply --host h-1"
    assert seen == []


def test_an_end_that_its_own_recovery_could_not_tell_is_told_by_the_next_executor(bench: Bench) -> None:
    """Who ends another one's transaction may be killed between the outcome and its line, and then nobody ends it."""
    path = places.transaction(TXID) + "/outcome.json"
    stop_before(bench, "mkdir /etc/recon/generations/2/units", PowerCutError)
    second = bench.submit(bench.intent("vision"))

    def strike(call: str) -> None:
        if call == f"fsync {places.transaction(TXID)}" and bench.machine.stat(path) is not None:
            bench.machine.on_call = None
            raise KilledError

    bench.machine.on_call = strike
    with pytest.raises(KilledError):
        executor.execute(bench.machine, second)
    bench.machine.revive()
    assert executor.execute(bench.machine, second)["state"] == "aborted"

    third = bench.run("vision")
    bench.machine.reboot(luck=lambda: 0.9)

    assert bench.machine.stat(path) is not None
    assert [(line["txid"], line["state"]) for line in history(bench)[1:]] == [
        (TXID, "aborted"),
        (second, "aborted"),
        (third.txid, "applied"),
    ]


def test_a_coven_started_by_hand_without_its_services_is_brought_up_whole() -> None:
    """A power cut before the first commit leaves its gate and target, and a person may start the target."""
    bench = half_a_coven()

    outcome = bench.run("reasoning")

    assert (outcome.state, outcome.live) == ("applied", {"all": "reasoning"})
    assert bench.serving() == REASONING


def test_a_coven_that_had_no_services_before_is_left_as_it_was_when_they_do_not_come_up() -> None:
    bench = half_a_coven()
    set_fault(bench.machine.state, "crash-at-start", "recon-reasoning-vllm.service")

    outcome = bench.run("reasoning")

    assert (outcome.state, outcome.code, outcome.live) == ("rolled_back", "REC7105", {"all": "reasoning"})
    assert bench.serving() == []


def half_a_coven() -> Bench:
    """Return a host on which gate and target of a coven are up, and nothing was ever committed."""
    bench = Bench()
    txid = bench.submit(bench.intent("reasoning"))
    bench.strike(txid, ending_before("run systemctl reset-failed", PowerCutError))
    bench.machine.reboot()
    bench.machine.clock.advance(60.0)
    bench.machine.run(["systemctl", "start", "--no-block", "recon-coven-reasoning.target"], 30.0)
    bench.machine.clock.advance(5.0)
    assert bench.serving() == []
    return bench


def killed_on_the_way_back(bench: Bench) -> None:
    """End the executor right after its rollback has asked for the old coven, and let that come up as far as it does."""

    def hook(when: str, change: str) -> None:
        if when == "after" and change.startswith("run systemctl start") and "recon-coven-reasoning.target" in change:
            raise KilledError

    set_fault(bench.machine.state, "crash-at-start", "recon-vision-llama.service")
    bench.strike(TXID, hook)
    bench.machine.clock.advance(5.0)


def test_an_old_coven_that_a_killed_rollback_has_started_is_judged_and_not_stopped(bench: Bench) -> None:
    killed_on_the_way_back(bench)
    kept = bench.pid("recon-reasoning-vllm.service")

    outcome = again(bench)

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7116")
    assert bench.serving() == REASONING
    assert bench.pid("recon-reasoning-vllm.service") == kept


def test_an_old_coven_that_a_killed_rollback_has_started_and_that_fails_holds_the_host(bench: Bench) -> None:
    set_fault(bench.machine.state, "never-healthy", "recon-reasoning-vllm.service")
    killed_on_the_way_back(bench)

    outcome = again(bench)

    assert (outcome.state, outcome.code) == ("held", "REC7190")


def test_a_record_of_an_older_agent_does_not_say_that_nothing_was_started_again(bench: Bench) -> None:
    killed_on_the_way_back(bench)
    path = places.transaction(TXID) + "/undo.json"
    undo = read_record(bench.machine, path)
    del undo["ran"]
    write_record(bench.machine, path, undo)

    assert again(bench).state == "rolled_back"


def masks(bench: Bench) -> list[str]:
    return [path for path in bench.machine.state.files if path.startswith(f"{places.MASKS}/recon-")]


def a_bench_that_drops_reasoning() -> tuple[Bench, dict[str, Coven]]:
    """Return a host on which reasoning serves and git has vision alone, and what git said before."""
    bench = Bench()
    assert bench.run("reasoning").state == "applied"
    before = dict(bench.covens)
    bench.covens = {"vision": before["vision"]}
    return bench, before


def test_a_coven_that_a_held_transaction_has_masked_comes_back_when_git_is_reverted() -> None:
    bench, before = a_bench_that_drops_reasoning()
    intent = bench.intent("vision")
    set_fault(bench.machine.state, "never-healthy", "recon-vision-llama.service")
    set_fault(bench.machine.state, "unkillable", "recon-vision-llama.service", text="D")
    assert bench.execute(intent).state == "held"
    assert masks(bench) == []  # what does not stop keeps neither the trial nor its masks
    clear_fault(bench.machine.state)
    for pid in [pid for pid, process in bench.machine.state.processes.items() if "vision" in process.cgroup]:
        end_process(bench.machine, pid)
    bench.machine.clock.advance(200.0)
    bench.covens = before

    outcome = bench.run("reasoning")

    assert (outcome.state, outcome.reason) == ("applied", "generation 3 is committed")
    assert bench.serving() == REASONING
    assert masks(bench) == []


@pytest.mark.parametrize(
    "where",
    [
        "run systemctl start --no-block --job-mode=fail recon-coven-vision",
        f"symlink {places.COMMITTED}",
        f"remove {places.MASKS}",
        f"remove {places.TRIAL}",
    ],
)
@pytest.mark.parametrize(("live", "serving"), [("reasoning", REASONING), ("vision", ["recon-vision-llama"])])
def test_masks_of_an_executor_that_nobody_followed_go_with_the_next_transaction(
    where: str, live: str, serving: list[str]
) -> None:
    bench, before = a_bench_that_drops_reasoning()
    bench.strike(bench.submit(bench.intent("vision")), ending_before(where))
    assert masks(bench) != [] or where.endswith(places.TRIAL)
    bench.machine.clock.advance(100.0)
    if live == "reasoning":
        bench.covens = before

    outcome = bench.run(live)

    assert (outcome.state, outcome.reason.rpartition(" ")[0]) == ("applied", "generation 3 is"), outcome
    assert bench.serving() == serving
    assert (masks(bench), bench.machine.stat(places.TRIAL)) == ([], None)


def test_a_way_back_takes_the_masks_of_every_transaction_away() -> None:
    bench, before = a_bench_that_drops_reasoning()
    bench.strike(bench.submit(bench.intent("vision")), ending_before(f"symlink {places.COMMITTED}"))
    bench.machine.clock.advance(100.0)
    bench.covens = before
    txid = bench.submit(bench.intent("reasoning"))
    bench.strike(txid, ending_before("run systemctl stop"))

    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))

    assert outcome.state in ("aborted", "rolled_back")
    assert bench.run("reasoning").state == "applied"
    assert (bench.serving(), masks(bench)) == (REASONING, [])
