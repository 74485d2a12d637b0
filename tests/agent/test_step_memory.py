"""Memory, verified: three steady samples on each kind of host, and every holder named for what it is."""

from __future__ import annotations

import pytest

from reconciler.agent import places
from reconciler.agent.record import read_record
from reconciler.model.desired import MemorySpec
from reconciler.model.outcome import Outcome
from reconciler.sim.deeds import hold_memory
from reconciler.sim.faults import set_fault
from reconciler.sim.state import GiB, Kind
from tests.agent.bench import Bench, a_coven, a_service

KINDS: tuple[Kind, ...] = ("h200", "gb10", "gh200")
SIZE = {"h200": "100GiB", "gb10": "70GiB", "gh200": "60GiB"}
LONGEST_S = {"h200": 60.0, "gb10": 240.0, "gh200": 60.0}
OLD = "recon-reasoning-vllm.service"


def a_bench(kind: Kind, memory: MemorySpec | None = None) -> Bench:
    """Return a host on which one coven serves, and that has no room for two."""
    reasoning = a_coven("reasoning", vllm=a_service("vllm", 8001, memory=SIZE[kind]))
    vision = a_coven("vision", llama=a_service("llamacpp", 8003, memory=SIZE[kind]))
    bench = Bench(reasoning, vision, kind=kind, memory=memory)
    assert bench.run("reasoning").state == "applied"
    return bench


def said(bench: Bench, outcome: Outcome, step: str = "verify_memory") -> list[str]:
    return [event.text for event in bench.events(outcome.txid) if event.step == step and event.status == "progress"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_slow_release_is_waited_for_and_told(kind: Kind) -> None:
    bench = a_bench(kind)
    set_fault(bench.machine.state, "slow-release", OLD, 40.0)

    outcome = bench.run("vision")

    assert outcome.state == "applied"
    told = said(bench, outcome)
    assert len(told) >= 2
    assert told[-1].startswith("free: ")
    assert "MiB are needed" in told[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_release_that_is_too_late_for_its_kind_of_host_is_not_waited_for(kind: Kind) -> None:
    bench = a_bench(kind)
    set_fault(bench.machine.state, "slow-release", OLD, LONGEST_S[kind] + 30.0)

    outcome = bench.run("vision")

    # Going back waits once more, and by then it is there.
    assert (outcome.state, outcome.code) == ("rolled_back", "REC7103")
    assert outcome.reason.startswith(f"the memory is not free after {LONGEST_S[kind]:g} s: ")


@pytest.mark.parametrize("kind", ["h200", "gh200"])
def test_memory_that_is_listed_with_nobody_is_named_as_the_drivers_with_the_way_out(kind: Kind) -> None:
    bench = a_bench(kind)
    set_fault(bench.machine.state, "slow-release", OLD, 1e9)

    outcome = bench.run("vision")

    assert outcome.state == "held"
    size = int(SIZE[kind].removesuffix("GiB")) * 1024
    assert f"{size} MiB on GPU-" in outcome.reason
    assert "nv_queue" in outcome.reason
    assert "nvidia-smi --gpu-reset" in outcome.reason


@pytest.mark.parametrize("kind", KINDS)
def test_what_did_not_come_back_is_told_against_what_was_free_with_nobody_there(kind: Kind) -> None:
    bench = a_bench(kind)
    set_fault(bench.machine.state, "slow-release", OLD, 1e9)

    outcome = bench.run("vision")

    lost = int(SIZE[kind].removesuffix("GiB")) * 1024
    name = "host" if kind == "gb10" else bench.machine.state.gpus[0].uuid
    best = read_record(bench.machine, places.IDLE)["free"]
    assert outcome.state == "held"
    assert list(best) == [name]
    text = f"since the boot {name} had up to {best[name] >> 20} MiB free with nobody on it, {lost} MiB more than now"
    assert text in outcome.reason


def test_what_was_free_before_is_forgotten_with_a_boot_and_not_believed_when_it_is_torn() -> None:
    bench = a_bench("gh200")
    torn = bench.copy()
    torn.machine.write(places.IDLE, b"torn")
    bench.machine.reboot()

    for each in (bench, torn):
        set_fault(each.machine.state, "slow-release", OLD, 1e9)
        outcome = each.run("vision")
        assert (outcome.state, "since the boot" in outcome.reason) == ("held", False)


def test_page_cache_in_a_gh200s_own_memory_is_neither_free_nor_the_drivers_nor_lost() -> None:
    bench = a_bench("gh200")
    bench.machine.state.hbm_cache = 60 * GiB
    bench.machine.state.holdings[0].bytes = 20 * GiB

    outcome = bench.run("vision")

    uuid = bench.machine.state.gpus[0].uuid
    assert (outcome.state, outcome.code) == ("held", "REC7190")
    assert outcome.reason == (
        f"the memory is not free after 60 s: {uuid} has 35881 MiB free, 61440 MiB are needed"
        " (61440 MiB of what is used is page cache); then going back failed for the same reason"
    )


def test_on_a_unified_host_what_is_free_and_what_is_page_cache_are_told_apart() -> None:
    bench = a_bench("gb10")
    set_fault(bench.machine.state, "slow-release", OLD, 1e9)

    outcome = bench.run("vision")

    assert outcome.state == "held"
    assert "host has 46" in outcome.reason
    assert "MiB are not used at all, 8192 MiB are page cache)" in outcome.reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("S", "(foreign, trainer, state S) holds 61440 MiB"),
        ("D", "(foreign, trainer, state D) holds 61440 MiB; it is stuck in the kernel: no signal ends it"),
        ("Z", "(foreign, trainer, state Z) holds 61440 MiB; it is dead, and a thread or child of it is not"),
    ],
)
def test_a_foreign_holder_is_named_with_what_can_be_done_about_it(kind: Kind, state: str, words: str) -> None:
    bench = a_bench(kind)
    intent = bench.intent("vision")

    def hook(when: str, what: str) -> None:
        # It takes what the old coven leaves, the moment it is gone.
        if when == "before" and "systemctl start" not in what and bench.serving() == []:
            bench.machine.hook = None
            bench.machine.state.holdings.clear()
            hold_memory(bench.machine, 60 * GiB, "trainer")
            next(each for each in bench.machine.state.processes.values() if each.comm == "trainer").state = state

    bench.machine.hook = hook
    outcome = bench.execute(intent)

    assert outcome.state == "held"
    assert words in outcome.reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("D", "state D: stuck in the kernel: no signal ends it; if it stays, reboot the host"),
        ("R", "state R: running on after it was killed, inside the driver"),
    ],
)
def test_a_worker_of_the_old_coven_that_no_signal_ends_is_named_and_nothing_starts(
    kind: Kind, state: str, words: str
) -> None:
    bench = a_bench(kind)
    set_fault(bench.machine.state, "unkillable", OLD, text=state)

    outcome = bench.run("vision")

    assert outcome.state == "held"
    assert "recon-reasoning-vllm.service still has processes" in outcome.reason
    assert words in outcome.reason
    assert bench.serving() == []


DROPS = MemorySpec(drop_caches=True)


@pytest.mark.parametrize(
    ("cache_gib", "memory", "dropped"),
    [
        (60, DROPS, True),  # 55 GiB are free without it, 82 GiB are needed
        (20, DROPS, False),  # 95 GiB are free all the same
        (60, MemorySpec(), False),  # nobody asked for it
    ],
)
def test_the_page_cache_is_dropped_only_where_that_makes_the_room_and_git_says_so(
    cache_gib: int, memory: MemorySpec, dropped: bool
) -> None:
    bench = a_bench("gb10", memory)
    bench.machine.state.page_cache = cache_gib * GiB
    txid = bench.submit(bench.intent("vision"))

    seen = bench.doing(lambda: bench_execute(bench, txid))

    pokes = [what for what in seen if what.startswith("poke")]
    assert pokes == (["poke /proc/sys/vm/drop_caches"] if dropped else [])
    assert ("drop_caches" in bench.steps(txid)) is dropped
    assert bench.serving() == ["recon-vision-llama"]


def test_memory_that_only_counts_as_cached_is_not_dropped_in_vain() -> None:
    bench = a_bench("gb10", DROPS)
    intent = bench.intent("vision")
    bench.machine.state.tmpfs = 70 * GiB
    txid = bench.submit(bench.looked_at(intent))

    seen = bench.doing(lambda: bench_execute(bench, txid))

    assert [what for what in seen if what.startswith("poke")] == []


def bench_execute(bench: Bench, txid: str) -> None:
    from reconciler.agent import executor

    executor.execute(bench.machine, txid)


@pytest.mark.parametrize(("kind", "may"), [("h200", False), ("gh200", True)])
def test_page_cache_that_is_not_in_the_gpus_memory_is_left_alone(kind: Kind, may: bool) -> None:
    bench = a_bench(kind, DROPS)
    bench.machine.state.page_cache = 400 * GiB

    assert ("drop_caches" in bench.intent("vision")["moves"][0]) is may
    assert bench.run("vision").state == "applied"
    assert bench.machine.state.page_cache == 400 * GiB


def test_page_cache_in_a_gh200s_own_memory_is_dropped_when_git_says_so() -> None:
    bench = a_bench("gh200", DROPS)
    bench.machine.state.hbm_cache = 60 * GiB
    bench.machine.state.holdings[0].bytes = 20 * GiB

    outcome = bench.run("vision")

    assert outcome.state == "applied"
    assert "drop_caches" in bench.steps(outcome.txid)
    assert bench.machine.state.hbm_cache == 0


def test_page_cache_in_a_gh200s_own_memory_is_left_alone_where_dropping_it_would_not_do() -> None:
    bench = a_bench("gh200", DROPS)
    bench.machine.state.hbm_cache = 20 * GiB
    set_fault(bench.machine.state, "slow-release", OLD, 1e9)

    outcome = bench.run("vision")

    assert (outcome.state, "drop_caches" in bench.steps(outcome.txid)) == ("held", False)


def test_a_cache_that_cannot_be_dropped_is_told_and_does_not_end_the_transition() -> None:
    bench = a_bench("gb10", DROPS)
    bench.machine.state.page_cache = 60 * GiB

    def hook(when: str, what: str) -> None:
        if what.startswith("poke") and when == "before":
            raise PermissionError(13, "Permission denied", "/proc/sys/vm/drop_caches")

    bench.machine.hook = hook
    outcome = bench.run("vision")

    assert outcome.state == "applied"
    told = said(bench, outcome, "drop_caches")
    assert told == ["the page cache could not be dropped: [Errno 13] Permission denied: '/proc/sys/vm/drop_caches'"]


def test_the_reserve_of_a_unified_host_is_kept_free() -> None:
    bench = a_bench("gb10")
    intent = bench.intent("vision")
    move = intent["moves"][0]
    # 115 GiB are there when nothing runs; with its reserve of 12 GiB a coven of 105 GiB has no place on it.
    move["need_bytes"] = move["need_bytes_per_gpu"] = 105 * GiB

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7103")
    assert f"{(105 + 12) * 1024} MiB are needed" in outcome.reason
