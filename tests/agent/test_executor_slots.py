"""Several slots move in one transaction: drained and stopped together, brought up one by one, and back in reverse."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Literal

import pytest

from reconciler.agent import down_mark, executor, places
from reconciler.model.desired import Hooks
from reconciler.model.outcome import Outcome
from reconciler.sim.faults import clear_fault, set_fault
from reconciler.sim.machine import KilledError
from reconciler.sim.services import add_requests
from tests.agent.bench import Bench, a_coven, a_service

A = a_coven("a", one=a_service("llamacpp", 8001, memory="90GiB"))
B = a_coven("b", two=a_service("llamacpp", 8002, memory="90GiB"))
C = a_coven("c", three=a_service("llamacpp", 8003, memory="90GiB"))
D = a_coven("d", four=a_service("llamacpp", 8004, memory="90GiB"))
BEFORE = ["recon-a-one", "recon-b-two"]
AFTER = ["recon-c-three", "recon-d-four"]


@pytest.fixture
def bench() -> Bench:
    """A host with two slots: a runs on the left one, b on the right one."""
    bench = Bench(A, B, C, D, slots={"left": ("0",), "right": ("1",)})
    assert bench.run("a", "b").state == "applied"
    assert bench.serving() == BEFORE
    return bench


def test_both_slots_are_drained_together_and_move_with_one_commit(bench: Bench) -> None:
    outcome = bench.run("c", "d")

    assert (outcome.state, outcome.committed, outcome.live) == ("applied", 2, {"left": "c", "right": "d"})
    up = ["verify_memory", "trial", "start", "warm"]
    assert bench.steps(outcome.txid) == ["claim", "stage", "drain", "stop", "stop", *up, *up, "commit", "finish"]
    assert bench.serving() == AFTER


def test_every_slot_can_be_emptied_and_filled_again(bench: Bench) -> None:
    outcome = bench.run(None, None)

    assert (outcome.state, outcome.live) == ("applied", {"left": None, "right": None})
    assert bench.serving() == []
    assert bench.run("a", "b").state == "applied"
    assert bench.serving() == BEFORE


def test_masks_that_could_not_be_taken_away_go_with_the_next_apply(bench: Bench) -> None:
    def full(when: Literal["before", "after"], what: str) -> None:
        if when == "before" and what == "remove /run/systemd/system/recon-a-one.service":
            raise OSError(errno.ENOSPC, "no space left on device")

    bench.machine.hook = full
    outcome = bench.run("c", "d")
    bench.machine.hook = None
    assert (outcome.state, "left to tidy up" in outcome.reason) == ("applied", True)

    assert bench.run("c", "d").state == "applied"

    assert [path for path in bench.machine.state.files if path.startswith("/run/systemd/system/recon-")] == []
    assert bench.run("a", "b").state == "applied"
    assert bench.serving() == BEFORE


def test_a_second_move_that_fails_takes_the_first_one_back_too(bench: Bench) -> None:
    before = bench.disk()
    txid = bench.submit(bench.intent("c", "d"))
    set_fault(bench.machine.state, "crash-at-start", "recon-d-four.service")

    seen = bench.doing(lambda: executor.execute(bench.machine, txid))

    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))
    assert (outcome.state, outcome.code, outcome.live) == ("rolled_back", "REC7105", {"left": "a", "right": "b"})
    assert bench.serving() == BEFORE
    assert bench.disk() == before
    starts = [what.rpartition(" ")[2] for what in seen if what.startswith("run systemctl start")]
    assert starts == [f"recon-coven-{coven}.target" for coven in ("c", "d", "d", "d", "b", "a")]


def test_a_drain_that_is_given_up_on_one_slot_leaves_every_slot_alone(bench: Bench) -> None:
    kept = bench.pid("recon-a-one.service"), bench.pid("recon-b-two.service")
    intent = bench.intent("c", "d")
    bench.busy(8002, 1000.0)

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code, outcome.live) == ("aborted", "REC7101", {"left": "a", "right": "b"})
    assert bench.serving() == BEFORE
    assert (bench.pid("recon-a-one.service"), bench.pid("recon-b-two.service")) == kept
    assert bench.machine.state.cut == []


def test_work_that_comes_to_one_slot_while_the_other_drains_is_not_cut(bench: Bench) -> None:
    intent = bench.intent("c", "d")
    bench.busy(8002, 20.0)
    (server,) = bench.machine.podman.servers.matching(":8001")
    add_requests(server, bench.machine.clock.now, 8.0, 1, 15.0)

    outcome = bench.execute(intent)

    assert outcome.state == "applied"
    assert bench.machine.state.cut == []


def test_services_of_one_name_on_two_slots_are_told_apart() -> None:
    env = {"VLLM_SERVER_DEV_MODE": "1"}
    left, right = (
        a_coven(name, vllm=a_service("vllm", port, memory="90GiB", env=env))
        for name, port in (("a", 8001), ("b", 8002))
    )
    bench = Bench(left, right, C, D, slots={"left": ("0",), "right": ("1",)})
    assert bench.run("a", "b").state == "applied"
    intent = bench.intent("c", "d")
    bench.busy(8001, 1000.0)

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("aborted", "REC7101")
    assert bench.serving() == ["recon-a-vllm", "recon-b-vllm"]
    assert [bench.machine.podman.servers.matching(f":{port}")[0].paused for port in (8001, 8002)] == [False, False]
    assert bench.machine.state.cut == []


def test_a_slot_that_does_not_move_is_not_touched(bench: Bench) -> None:
    kept = bench.pid("recon-a-one.service")

    outcome = bench.run("a", "c")

    assert bench.pid("recon-a-one.service") == kept
    assert (outcome.state, outcome.live) == ("applied", {"left": "a", "right": "c"})
    assert bench.serving() == ["recon-a-one", "recon-c-three"]


def test_a_stop_that_fails_on_one_slot_lets_the_other_serve_again() -> None:
    gate = "/usr/local/bin/gateway"
    hooks = {
        event: {"argv": (gate, event), "timeout": "10s", "on_timeout": "continue"}
        for event in ("before_drain", "on_rollback")
    }
    env = {"VLLM_SERVER_DEV_MODE": "1"}
    left, right = (
        a_coven(
            name,
            hooks=Hooks.model_validate({event: {**hook, "argv": (gate, name, event)} for event, hook in hooks.items()}),
            vllm=a_service("vllm", port, memory="90GiB", env=env),
        )
        for name, port in (("a", 8001), ("b", 8002))
    )
    bench = Bench(left, right, C, D, slots={"left": ("0",), "right": ("1",)})
    bench.program(gate, "exit 0")
    assert bench.run("a", "b").state == "applied"
    bench.machine.state.hooks.clear()
    set_fault(bench.machine.state, "unkillable", "recon-a-vllm.service", text="D")

    outcome = bench.run("c", "d")

    assert (outcome.state, outcome.live["right"]) == ("held", "b")
    assert [server.paused for server in bench.machine.podman.servers.matching(":8002")] == [False]
    assert bench.machine.state.hooks == [
        f"{gate} a before_drain",
        f"{gate} b before_drain",
        f"{gate} b on_rollback",
    ]


D_LLAMA = "recon-d-llama.service"
RESIDENT = "recon-resident-embed.service"
GATEWAY = "/usr/local/bin/gateway"
EMBED = a_service("llamacpp", 8010, memory="1GiB")


def a_host_to_go_back_on() -> Bench:
    """Return a host where a and b run, each with a hook that is told of a way back, and a resident that goes."""
    olds = (
        a_coven(
            name,
            hooks=Hooks.model_validate(
                {"on_rollback": {"argv": (GATEWAY, name), "timeout": "10s", "on_timeout": "continue"}}
            ),
            llama=a_service("llamacpp", port, memory="20GiB"),
        )
        for name, port in (("a", 8001), ("b", 8002))
    )
    c = a_coven("c", llama=a_service("llamacpp", 8003, memory="20GiB"))
    d = a_coven("d", llama=a_service("llamacpp", 8004, memory="20GiB"))
    bench = Bench(*olds, c, d, residents={"embed": EMBED}, slots={"left": ("0",), "right": ("1",)})
    bench.program(GATEWAY, "exit 0")
    assert bench.run("a", "b").state == "applied"
    bench.residents = {}
    return bench


def going_back(bench: Bench, deed: Callable[[], None], fails: str = D_LLAMA) -> tuple[Outcome, list[str]]:
    """Switch to c and d, of which one unit fails, do something right before the way back, return what that starts."""
    txid = bench.submit(bench.intent("c", "d"))
    bench.machine.state.hooks.clear()
    set_fault(bench.machine.state, "never-healthy", fails)
    began: list[str] = []
    starts: list[str] = []

    def hook(when: str, what: str) -> None:
        # The room is given at the beginning of the way back, and once more at its end.
        if when == "before" and what == f"remove {places.transaction(txid)}/room" and not began:
            began.append(what)
            deed()
        elif when == "before" and what.startswith("run systemctl start") and began:
            starts.append(what.rpartition(" ")[2])

    bench.machine.hook = hook
    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))
    bench.machine.hook = None
    bench.machine.clock.advance(5.0)
    return outcome, starts


def sticking(bench: Bench, unit: str) -> None:
    """Let the process of a unit outlive every signal."""
    set_fault(bench.machine.state, "unkillable", unit, text="D")


def test_an_old_coven_that_does_not_come_back_keeps_nothing_else_from_coming_back() -> None:
    bench = a_host_to_go_back_on()

    outcome, _ = going_back(bench, lambda: set_fault(bench.machine.state, "unhealthy", "recon-b-llama.service"))

    assert (outcome.state, outcome.code) == ("held", "REC7190")
    assert "; then going back failed: llama: not up after 120 s" in outcome.reason
    assert {"recon-a-llama", "recon-resident-embed"} <= set(bench.serving())
    assert bench.machine.state.hooks == [f"{GATEWAY} a"]


def test_an_old_coven_that_stands_and_is_not_up_keeps_nothing_else_from_coming_back() -> None:
    bench = a_host_to_go_back_on()
    txid = bench.submit(bench.intent("c", "d"))
    bench.machine.state.hooks.clear()
    set_fault(bench.machine.state, "crash-at-start", D_LLAMA)
    set_fault(bench.machine.state, "never-healthy", "recon-b-llama.service")

    def hook(when: str, what: str) -> None:
        if when == "after" and what.startswith("run systemctl start") and what.endswith(" recon-coven-b.target"):
            raise KilledError

    bench.strike(txid, hook)
    bench.machine.clock.advance(5.0)
    kept = bench.pid("recon-b-llama.service")

    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))
    bench.machine.clock.advance(5.0)

    assert (outcome.state, outcome.code) == ("held", "REC7190")
    assert "; then going back failed: llama: not up after 120 s" in outcome.reason
    assert bench.pid("recon-b-llama.service") == kept
    assert {"recon-a-llama", "recon-resident-embed"} <= set(bench.serving())
    assert bench.machine.state.hooks == [f"{GATEWAY} a"]


def test_a_start_that_systemd_refuses_keeps_nothing_else_from_coming_back() -> None:
    bench = a_host_to_go_back_on()
    gate, target = "recon-gate-right-b.service", "recon-coven-b.target"
    began: list[str] = []

    def a_person_stops_it_meanwhile(when: str, what: str) -> None:
        if when == "before" and what.startswith("run systemctl start") and what.endswith(target) and not began:
            began.append(what)
            set_fault(bench.machine.state, "ignores-sigterm", "recon-b-llama.service")
            for verb, unit in (("start", target), ("stop", gate)):
                argv = ["systemctl", verb, "--no-block", "--job-mode=fail", unit]
                assert bench.machine.run(argv, 10.0).rc == 0
                bench.machine.clock.advance(2.0)

    txid = bench.submit(bench.intent("c", "d"))
    bench.machine.state.hooks.clear()
    set_fault(bench.machine.state, "crash-at-start", D_LLAMA)
    bench.machine.hook = a_person_stops_it_meanwhile
    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))
    bench.machine.clock.advance(5.0)

    assert (outcome.state, outcome.code) == ("held", "REC7190")
    assert "destructive" in outcome.reason
    assert {"recon-a-llama", "recon-resident-embed"} <= set(bench.serving())
    assert bench.machine.state.hooks == [f"{GATEWAY} a"]


@pytest.mark.parametrize("kills", [False, True], ids=["in-one-go", "killed"])
def test_an_old_coven_whose_first_start_crashes_has_its_other_attempts_also_after_a_kill(kills: bool) -> None:
    bench = a_host_to_go_back_on()
    txid = bench.submit(bench.intent("c", "d"))
    set_fault(bench.machine.state, "crash-at-start", D_LLAMA)
    starts: list[str] = []

    def hook(when: str, what: str) -> None:
        if not (what.startswith("run systemctl start") and what.endswith(" recon-coven-b.target")):
            return
        if when == "before":
            starts.append(what)
            clear_fault(bench.machine.state)
            if len(starts) == 1:
                set_fault(bench.machine.state, "crash-at-start", "recon-b-llama.service")
        elif kills and len(starts) == 1:
            raise KilledError

    bench.machine.hook = hook
    if kills:
        with pytest.raises(KilledError):
            executor.execute(bench.machine, txid)
        bench.machine.revive()
        bench.machine.clock.advance(0.5)
    outcome = Outcome.model_validate(executor.execute(bench.machine, txid, recover=kills))
    bench.machine.clock.advance(5.0)

    assert (outcome.state, len(starts)) == ("rolled_back", 2)
    assert bench.serving() == ["recon-a-llama", "recon-b-llama", "recon-resident-embed"]


def test_a_new_coven_that_does_not_stop_keeps_only_its_own_slot_from_going_back() -> None:
    bench = a_host_to_go_back_on()

    outcome, starts = going_back(bench, lambda: sticking(bench, "recon-c-llama.service"))

    assert (outcome.state, outcome.code) == ("held", "REC7190")
    assert "; then going back failed: not gone after 25 s: recon-c-llama.service" in outcome.reason
    assert starts == ["recon-coven-b.target", RESIDENT]
    assert bench.machine.state.hooks == [f"{GATEWAY} b"]


@pytest.mark.parametrize("by", ["index", "UUID"])
def test_a_slot_whose_gpu_was_given_to_what_does_not_stop_is_left_alone_too(by: str) -> None:
    bench = a_host_to_go_back_on()
    first, second = ("0", "1") if by == "index" else (gpu.uuid for gpu in bench.machine.state.gpus)
    bench.slots = {"left": (second,), "right": (first,)}

    outcome, starts = going_back(bench, lambda: sticking(bench, "recon-c-llama.service"))

    assert outcome.state == "held"
    assert starts == [RESIDENT]
    assert bench.machine.state.hooks == []


def test_a_resident_that_does_not_stop_keeps_no_coven_from_coming_back() -> None:
    bench = a_host_to_go_back_on()
    bench.residents = {"embed": EMBED.model_copy(update={"env": {"LEVEL": "debug"}})}

    outcome, starts = going_back(bench, lambda: sticking(bench, RESIDENT), fails=RESIDENT)

    assert (outcome.state, outcome.code) == ("held", "REC7190")
    assert f"; then going back failed: not gone after 25 s: {RESIDENT}" in outcome.reason
    assert starts == ["recon-coven-b.target", "recon-coven-a.target"]
    assert bench.machine.state.hooks == [f"{GATEWAY} b", f"{GATEWAY} a"]


def test_a_person_who_has_the_covens_down_by_then_ends_all_of_the_way_back() -> None:
    bench = a_host_to_go_back_on()

    outcome, starts = going_back(
        bench, lambda: down_mark.put(bench.machine, down_mark.COVEN, owner="ci@example.net", reason="smoke")
    )

    assert (outcome.state, outcome.code) == ("held", "REC7190")
    assert "the covens of this host are down" in outcome.reason
    assert starts == []
