"""A coven that does not come up is tried again, with everything of the failed attempt taken away in between."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.agent import executor, places
from reconciler.agent.machine import Response
from reconciler.agent.record import write_record
from reconciler.model.outcome import Outcome
from reconciler.sim.faults import clear_fault, set_fault
from reconciler.sim.machine import KilledError, PowerCutError, SimMachine, StoppedError
from tests.agent.bench import REASONING, VISION, Bench, a_coven, a_service, ending_at

LLAMA = "recon-vision-llama.service"
VLLM = "recon-reasoning-vllm.service"
OLD = ["recon-reasoning-rerank", "recon-reasoning-vllm"]
START = "run systemctl start --no-block --job-mode=fail recon-coven-vision.target"
STOP = "run systemctl stop --no-block --job-mode=fail recon-gate-all-vision.service"
AGAIN = ["stop", "verify_memory", "start", "warm"]


@pytest.fixture
def bench() -> Bench:
    """A host on which the reasoning coven serves."""
    bench = Bench()
    assert bench.run("reasoning").state == "applied"
    return bench


def healing_at(bench: Bench, start: str, number: int, seen: list[str] | None = None) -> None:
    """Take all faults away right before the n-th start."""
    starts: list[str] = []

    def hook(when: str, what: str) -> None:
        if when != "before":
            return
        if seen is not None and what.startswith("run systemctl"):
            seen.append(what)
        if what.startswith(start):
            starts.append(what)
            if len(starts) == number:
                clear_fault(bench.machine.state)

    bench.machine.hook = hook


def attempts(outcome: Outcome) -> list[tuple[str, int, int, bool]]:
    return [(each.what, each.used, each.allowed, each.back) for each in outcome.attempts]


def texts(bench: Bench, outcome: Outcome, step: str, status: str = "begin") -> list[str]:
    return [event.text for event in bench.events(outcome.txid) if (event.step, event.status) == (step, status)]


def test_a_coven_that_comes_up_at_the_third_attempt_is_applied(bench: Bench) -> None:
    intent = bench.intent("vision")
    set_fault(bench.machine.state, "crash-at-start", LLAMA, text="RuntimeError: no")
    seen: list[str] = []
    healing_at(bench, START, 3, seen)

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.committed, outcome.live) == ("applied", 2, {"all": "vision"})
    assert attempts(outcome) == [("vision", 3, 3, False)]
    reset = f"run systemctl reset-failed -- recon-gate-all-vision.service recon-coven-vision.target {LLAMA}"
    assert [what for what in seen if "vision" in what] == [reset, START, STOP, reset, START, STOP, reset, START]
    assert bench.steps(outcome.txid) == [
        *("claim", "stage", "drain", "stop", "verify_memory", "trial", "start", "warm"),
        *AGAIN,
        *AGAIN,
        *("commit", "finish"),
    ]
    why = "llama: crash loop: crashed 2 times"
    assert texts(bench, outcome, "start") == [
        f"starting vision: {LLAMA}",
        f"starting vision: {LLAMA} (attempt 2 of 3: {why})",
        f"starting vision: {LLAMA} (attempt 3 of 3: {why})",
    ]


def test_a_coven_that_comes_up_at_once_says_so(bench: Bench) -> None:
    assert attempts(bench.run("vision")) == [("vision", 1, 3, False)]


def test_after_the_last_attempt_the_old_coven_comes_back(bench: Bench) -> None:
    before = bench.disk()
    intent = bench.intent("vision")
    set_fault(bench.machine.state, "crash-at-start", LLAMA)

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7105")
    assert outcome.reason == "llama: crash loop: crashed 2 times; attempt 3 of 3"
    assert attempts(outcome) == [("vision", 3, 3, False), ("reasoning", 1, 3, True)]
    assert (bench.serving(), bench.disk()) == (OLD, before)


@pytest.mark.parametrize("kind", ["crash-at-start", "crash-after-ready"])
def test_a_crash_loop_is_called_within_fifteen_seconds_of_each_start(bench: Bench, kind: str) -> None:
    bench.covens["vision"] = a_coven("vision", llama=a_service("llamacpp", 8003, memory="8GiB"))
    intent = bench.intent("vision")
    # Ready after 2 s, dead 2.5 s later: up for one good look at its health, and never for two and a warm-up.
    set_fault(bench.machine.state, "slow-load", LLAMA, 4.0)
    set_fault(bench.machine.state, kind, LLAMA, 0.2 if kind == "crash-after-ready" else 0.0)

    outcome = bench.execute(intent)

    began: list[float] = []
    called: list[float] = []
    for event in bench.events(outcome.txid):
        if (event.step, event.status) == ("start", "begin"):
            began.append(event.t)
        if (event.step, event.status) == ("warm", "failed"):
            called.append(event.t)
    assert (outcome.state, outcome.code, len(called)) == ("rolled_back", "REC7105", 3)
    assert [end - start <= 15.0 for start, end in zip(began, called, strict=True)] == [True, True, True]


def test_each_attempt_waits_until_the_memory_of_the_one_before_is_free(bench: Bench) -> None:
    intent = bench.intent("vision")
    set_fault(bench.machine.state, "slow-release", LLAMA, 20.0)
    set_fault(bench.machine.state, "crash-after-ready", LLAMA, 0.2)
    starts: list[int] = []

    def hook(when: str, what: str) -> None:
        if when == "before" and what.startswith(START):
            starts.append(sum(holding.bytes for holding in bench.machine.state.holdings))

    bench.machine.hook = hook
    outcome = bench.execute(intent)

    assert outcome.state == "rolled_back"
    assert starts == [0] * len(starts)
    assert len(starts) == 2, "the third would have begun after the time for all of them"
    assert outcome.steps_s["verify_memory"] >= 20.0


def test_an_attempt_whose_memory_does_not_come_back_is_the_last_one(bench: Bench) -> None:
    intent = bench.intent("vision")
    set_fault(bench.machine.state, "slow-release", LLAMA, 1e9)
    set_fault(bench.machine.state, "crash-after-ready", LLAMA, 0.2)

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("held", "REC7190")
    assert outcome.reason.startswith("llama: crash loop: crashed 2 times; then the memory is not free after")
    assert bench.serving() == []


def test_a_server_that_never_answers_costs_its_time_once(bench: Bench) -> None:
    intent = bench.intent("vision")
    set_fault(bench.machine.state, "never-healthy", LLAMA)

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code, attempts(outcome)[0]) == ("rolled_back", "REC7106", ("vision", 1, 3, False))
    assert 120.0 <= outcome.steps_s["warm"] < 125.0


def test_the_time_to_warm_up_is_one_for_all_attempts(bench: Bench) -> None:
    intent = bench.intent("vision")
    set_fault(bench.machine.state, "crash-at-start", LLAMA)
    starts: list[str] = []

    def hook(when: str, what: str) -> None:
        if when == "before" and what.startswith(START):
            starts.append(what)
            if len(starts) == 2:
                clear_fault(bench.machine.state)
                set_fault(bench.machine.state, "never-healthy", LLAMA)

    bench.machine.hook = hook
    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code, attempts(outcome)[0]) == ("rolled_back", "REC7106", ("vision", 2, 3, False))
    waited = sum(outcome.steps_s[step] for step in ("start", "warm")) + outcome.steps_s["verify_memory"]
    assert waited < 120.0 + 10.0


def test_what_starting_again_cannot_change_is_not_started_again(bench: Bench) -> None:
    intent = bench.intent("vision")
    intent["moves"][0]["new"]["members"][0]["config_hash"] = "0" * 16

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code, attempts(outcome)[0]) == ("rolled_back", "REC7108", ("vision", 1, 3, False))


def test_a_wrong_model_is_not_loaded_three_times(bench: Bench) -> None:
    intent = bench.intent("vision")
    set_fault(bench.machine.state, "wrong-model", LLAMA, text="another")
    warm = intent["moves"][0]["new"]["members"][0]["warm"]
    warm.update(model_url="http://127.0.0.1:8003/v1/models", expect_model="the-right-one")

    outcome = bench.execute(intent)

    assert (outcome.code, attempts(outcome)[0]) == ("REC7107", ("vision", 1, 3, False))


def test_a_healthy_server_that_refuses_to_work_is_started_again(bench: Bench) -> None:
    bench.covens["vision"] = a_coven("vision", llama=a_service("llamacpp", 8003, memory="8GiB"))
    intent = bench.intent("vision")
    call = intent["moves"][0]["new"]["members"][0]["warm"]["call"]
    call["url"] = "http://127.0.0.1:8003/metrics"
    set_fault(bench.machine.state, "no-metrics", LLAMA)

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code, attempts(outcome)[0]) == ("rolled_back", "REC7107", ("vision", 3, 3, False))


HANGS_S = 100.0


def holding_the_warm_up(monkeypatch: pytest.MonkeyPatch, port: int) -> list[float]:
    """Let the POSTs to a port take as long as the caller waits; return what it waited for each of them."""
    waited: list[float] = []
    real = SimMachine.http

    def http(machine: SimMachine, method: str, url: str, timeout_s: float, *rest: Any) -> Response:
        if method != "POST" or f":{port}/" not in url:
            return real(machine, method, url, timeout_s, *rest)
        waited.append(timeout_s)
        machine.pass_time(min(HANGS_S, timeout_s))
        return Response(0, f"no answer within {timeout_s:g} s".encode())

    monkeypatch.setattr(SimMachine, "http", http)
    return waited


def test_a_warm_up_that_hangs_does_not_keep_a_crash_loop_of_another_member_from_being_seen(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm = {"timeout": "120s", "attempts": 1}
    flaky = a_service("llamacpp", 8004, memory="8GiB", warm=warm)
    llama = a_service("llamacpp", 8003, memory="8GiB", warm=warm)
    bench.covens["vision"] = a_coven("vision", llama=llama, flaky=flaky)
    intent = bench.intent("vision")
    set_fault(bench.machine.state, "crash-after-ready", "recon-vision-flaky.service", value=3)
    waited = holding_the_warm_up(monkeypatch, 8003)
    at: dict[str, float] = {}

    def hook(_: str, what: str) -> None:
        at.setdefault(what, bench.machine.monotonic())

    bench.machine.hook = hook

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7105"), outcome
    assert outcome.reason.startswith("flaky: crash loop"), outcome.reason
    assert len(waited) == 1
    assert at[STOP] - at[START] < HANGS_S / 2


def test_a_warm_up_is_waited_for_no_longer_than_the_member_may_take(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama = a_service("llamacpp", 8003, memory="8GiB", warm={"timeout": "40s"})
    bench.covens["vision"] = a_coven("vision", llama=llama)
    intent = bench.intent("vision")
    waited = holding_the_warm_up(monkeypatch, 8003)

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7107"), outcome
    left = f"no answer within {waited[0]:g} s"
    assert outcome.reason == f"llama: not up after 40 s, POST http://127.0.0.1:8003/completion did not answer: {left}"
    assert [0.0 < each < 40.0 for each in waited] == [True]


@pytest.mark.parametrize(("mine", "used"), [(1, 1), (2, 2), (5, 5)])
def test_the_service_that_fails_says_how_often_it_may(bench: Bench, mine: int, used: int) -> None:
    flaky = a_service("llamacpp", 8004, memory="8GiB", warm={"timeout": "120s", "attempts": mine})
    bench.covens["vision"] = a_coven("vision", llama=VISION.services["llama"], flaky=flaky)
    intent = bench.intent("vision")
    set_fault(bench.machine.state, "crash-at-start", "recon-vision-flaky.service")

    outcome = bench.execute(intent)

    assert attempts(outcome)[0] == ("vision", used, max(3, mine), False)


def test_only_the_member_that_changed_is_tried_again(bench: Bench) -> None:
    kept = bench.pid("recon-reasoning-rerank.service")
    other = a_service("vllm", 8001, env={"VLLM_SERVER_DEV_MODE": "1", "VLLM_LOGGING_LEVEL": "DEBUG"})
    bench.covens["reasoning"] = a_coven("reasoning", vllm=other, rerank=REASONING.services["rerank"])
    intent = bench.intent("reasoning")
    set_fault(bench.machine.state, "crash-at-start", VLLM)
    healing_at(bench, f"run systemctl start --no-block --job-mode=fail {VLLM}", 2)

    outcome = bench.execute(intent)

    assert (outcome.state, attempts(outcome)) == ("applied", [("reasoning", 2, 3, False)])
    assert bench.pid("recon-reasoning-rerank.service") == kept


def test_a_resident_is_tried_again_too() -> None:
    bench = Bench(residents={"embed": a_service("llamacpp", 8009, memory="2GiB")})
    intent = bench.intent("reasoning")
    unit = "recon-resident-embed.service"
    set_fault(bench.machine.state, "crash-at-start", unit)
    healing_at(bench, f"run systemctl start --no-block --job-mode=fail {unit}", 2)

    outcome = bench.execute(intent)

    assert (outcome.state, attempts(outcome)) == ("applied", [("reasoning", 1, 3, False), ("embed", 2, 3, False)])


def test_the_way_back_has_its_attempts_and_then_the_host_is_held(bench: Bench) -> None:
    intent = bench.intent("vision")
    set_fault(bench.machine.state, "crash-at-start", "recon-*")
    txid = bench.submit(intent)

    seen = bench.doing(lambda: executor.execute(bench.machine, txid))

    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))
    assert (outcome.state, outcome.code, outcome.fix) == ("held", "REC7190", "recon apply --host h-1")
    assert attempts(outcome) == [("vision", 3, 3, False), ("reasoning", 3, 3, True)]
    starts = [what.rpartition(" ")[2] for what in seen if what.startswith("run systemctl start")]
    assert starts == ["recon-coven-vision.target"] * 3 + ["recon-coven-reasoning.target"] * 3


def test_a_way_back_that_needs_two_attempts_ends_rolled_back(bench: Bench) -> None:
    intent = bench.intent("vision")
    set_fault(bench.machine.state, "crash-at-start", "recon-*")
    healing_at(bench, "run systemctl start --no-block --job-mode=fail recon-coven-reasoning.target", 2)

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7105")
    assert attempts(outcome) == [("vision", 3, 3, False), ("reasoning", 2, 3, True)]
    assert bench.serving() == OLD


def test_a_coven_that_does_not_come_up_where_nothing_ran_before_holds_the_host() -> None:
    bench = Bench()
    before = bench.disk()
    intent = bench.intent("reasoning")
    set_fault(bench.machine.state, "crash-at-start", VLLM)

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code, outcome.fix) == ("held", "REC7170", "recon apply --host h-1")
    assert outcome.reason.endswith("; there is nothing to go back to: nothing ran there before")
    assert (bench.serving(), outcome.live) == ([], {"all": None})
    assert set(bench.disk()) - set(before) == set()
    bench.machine.state.faults.clear()
    assert bench.run("reasoning").state == "applied"


def test_a_claim_that_was_taken_over_starts_no_further_attempt(bench: Bench) -> None:
    txid = bench.submit(bench.intent("vision"))
    set_fault(bench.machine.state, "crash-at-start", LLAMA)
    seen: list[str] = []

    def hook(when: str, what: str) -> None:
        if when == "before" and what.startswith("run systemctl"):
            seen.append(what)
        if when == "after" and what == STOP and seen.count(STOP) == 1:
            bench.machine.write(places.EPOCH, b"99\n")

    bench.machine.hook = hook
    executor.execute(bench.machine, txid)

    assert seen.count(START) == 1


def changes(bench: Bench, txid: str) -> list[str]:
    other = bench.copy()
    seen: list[str] = []
    other.machine.hook = lambda when, what: seen.append(what) if when == "before" else None
    executor.execute(other.machine, txid)
    return seen


def stopped_at(bench: Bench, number: int, how: type[StoppedError]) -> Bench:
    """Return the host as it is when its executor ended right before its n-th change."""
    other = bench.copy()
    other.strike("2026-0002", ending_at(number, how, []))
    return other


def in_the_attempts(seen: list[str]) -> list[int]:
    """Return the changes from the first start of the new coven to the last stop of it, book-keeping left out."""
    first, last = seen.index(START), len(seen) - 1 - seen[::-1].index(STOP)
    kept = [number for number, what in enumerate(seen) if "journal.jsonl" not in what and "lease.json" not in what]
    return [number for number in kept if first <= number <= last + 1]


@pytest.fixture(scope="module")
def failing() -> Bench:
    """A host on which a switch was handed over to a coven that crashes each time."""
    bench = Bench()
    assert bench.run("reasoning").state == "applied"
    bench.submit(bench.intent("vision"))
    set_fault(bench.machine.state, "crash-at-start", LLAMA)
    return bench


def test_an_executor_killed_in_any_attempt_is_followed_by_one_that_goes_back(failing: Bench) -> None:
    numbers = in_the_attempts(changes(failing, "2026-0002"))
    assert len(numbers) >= 9, "three starts, three stops, and what is between"
    for number in numbers:
        bench = stopped_at(failing, number, KilledError)
        bench.machine.revive()
        bench.machine.clock.advance(30.0)

        outcome: dict[str, Any] = executor.execute(bench.machine, "2026-0002")

        assert (outcome["state"], outcome["code"], number) == ("rolled_back", "REC7116", number)
        assert (bench.serving(), bench.machine.stat(places.TRIAL)) == (OLD, None), number


def test_a_power_cut_in_any_attempt_boots_the_committed_coven(failing: Bench) -> None:
    for number in in_the_attempts(changes(failing, "2026-0002")):
        bench = stopped_at(failing, number, PowerCutError)
        bench.machine.reboot()
        bench.machine.clock.advance(90.0)

        assert (bench.serving(), number) == (OLD, number)


def test_a_claim_that_is_lost_before_the_start_leaves_an_empty_slot_empty_and_is_no_failure_of_the_coven() -> None:
    bench = Bench()
    intent = bench.intent("vision")

    def hook(when: str, what: str) -> None:
        if when == "after" and what == f"symlink {places.TRIAL}":
            write_record(bench.machine, places.EPOCH, {"epoch": 9})

    bench.machine.hook = hook
    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code, outcome.live) == ("rolled_back", "REC7113", {"all": None})
    assert bench.serving() == []
