"""Residents and orphans: drained before they are stopped, and nothing starts before its memory is free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reconciler.agent import executor, places
from reconciler.model.desired import Service
from reconciler.model.outcome import Outcome
from reconciler.sim.deeds import hold_memory
from reconciler.sim.faults import clear_fault, set_fault
from reconciler.sim.machine import KilledError, SimMachine
from reconciler.sim.state import GiB, Kind, Node
from tests.agent.bench import VISION, Bench, a_coven, a_service, ending_before

SMALL = a_coven("reasoning", vllm=a_service("vllm", 8001, memory="20GiB"))
EMBED = a_service("llamacpp", 8010, memory="10GiB")
OTHER = a_service("llamacpp", 8010, memory="10GiB", env={"LEVEL": "debug"})
UNIT = "recon-resident-embed.service"


def a_bench(kind: Kind = "h200") -> Bench:
    """Return a host that runs a small coven and one resident with GPU memory."""
    bench = Bench(SMALL, VISION, residents={"embed": EMBED})
    bench.machine = SimMachine.new("h-1", kind)
    outcome = bench.run("reasoning")
    assert outcome.state == "applied", outcome
    bench.residents = {"embed": OTHER}
    return bench


@pytest.mark.parametrize("kind", ["h200", "gb10", "gh200"])
def test_a_resident_starts_again_only_when_its_memory_is_free(kind: Kind) -> None:
    bench = a_bench(kind)
    set_fault(bench.machine.state, "slow-release", UNIT, 20.0)
    hold_memory(bench.machine, {"gb10": 80, "gh200": 60, "h200": 105}[kind] * GiB, "ollama")

    outcome = bench.run("reasoning")

    assert outcome.state == "applied"
    assert bench.steps(outcome.txid)[2:8] == ["drain", "stop", "verify_memory", "trial", "start", "warm"]
    assert outcome.steps_s["verify_memory"] >= 19.0


def test_a_resident_whose_memory_never_gets_free_is_not_started() -> None:
    bench = a_bench()
    intent = bench.intent("reasoning")
    set_fault(bench.machine.state, "slow-release", UNIT, 1e9)
    hold_memory(bench.machine, 108 * GiB, "ollama")
    txid = bench.submit(bench.looked_at(intent))

    seen = bench.doing(lambda: executor.execute(bench.machine, txid))

    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))
    assert (outcome.state, outcome.code) == ("held", "REC7190")
    assert outcome.reason.startswith("the memory is not free after 60 s: GPU-")
    assert [what for what in seen if what.startswith("run systemctl start")] == []


def test_a_resident_is_not_stopped_when_what_the_gpus_hold_is_unknown() -> None:
    bench = a_bench()
    kept = bench.pid(UNIT)
    intent = bench.intent("reasoning")
    set_fault(bench.machine.state, "nvml", "*", 999.0)

    outcome = bench.execute(bench.looked_at(intent))

    assert (outcome.state, outcome.code) == ("refused", "REC7124")
    assert outcome.reason == "residents: what its GPUs hold is not known"
    assert bench.pid(UNIT) == kept


def test_figures_that_vanish_while_a_resident_restarts_are_named() -> None:
    bench = a_bench()
    txid = bench.submit(bench.intent("reasoning"))
    bench.machine.hook = lambda when, what: (
        set_fault(bench.machine.state, "nvml", "*", 999.0) if "systemctl stop" in what else None
    )

    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))

    assert (outcome.state, outcome.code) == ("held", "REC7190")
    assert "what the GPUs hold is not known" in outcome.reason
    failed = [event for event in bench.events(txid) if event.status == "failed"]
    assert failed[0].step == "verify_memory"


@pytest.mark.parametrize(
    "after",
    [
        a_service("none", None, memory="2GiB", gpu=False),
        a_service("llamacpp", 8010, memory="32MiB"),
    ],
)
def test_a_resident_that_needs_no_gpu_memory_is_restarted_whatever_the_gpus_say(after: Service) -> None:
    bench = a_bench()
    bench.residents = {"embed": after}
    intent = bench.intent("reasoning")
    assert intent["restart_residents"] == [UNIT]
    set_fault(bench.machine.state, "nvml", "*", 999.0)

    assert bench.execute(bench.looked_at(intent)).state == "applied"


def test_a_resident_without_a_gpu_still_needs_the_memory_that_gpu_and_host_share() -> None:
    bench = a_bench("gb10")
    bench.residents = {"embed": a_service("none", None, memory="20GiB", gpu=False)}
    intent = bench.intent("reasoning")
    hold_memory(bench.machine, 85 * GiB, "ollama")

    outcome = bench.execute(bench.looked_at(intent))

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7103")
    assert outcome.reason.startswith("the memory is not free after 240 s: host has ")
    assert "recon-resident-embed" in bench.serving()


def test_a_resident_that_can_never_fit_is_refused() -> None:
    bench = a_bench()
    intent = bench.intent("reasoning")
    intent["residents"][0]["memory"] = 1 << 50

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("refused", "REC7124")
    assert outcome.reason.startswith("residents: 1125899906842624 bytes are needed on GPU-")


def test_a_coven_and_the_residents_that_start_with_it_must_fit_together() -> None:
    bench = a_bench()
    intent = bench.intent("vision")
    (move,) = intent["moves"]
    move["need_bytes"] = move["need_bytes_per_gpu"] = 135 * GiB

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("refused", "REC7124")
    assert outcome.reason.startswith(f"slot all: {145 * GiB} bytes are needed on GPU-")


def test_an_orphan_is_drained_before_it_is_stopped() -> None:
    bench = a_bench()
    bench.residents = {}
    intent = bench.intent("vision")
    assert intent["stop_units"] == [UNIT]
    bench.busy(8010, 20.0)

    outcome = bench.execute(intent)

    assert outcome.state == "applied"
    assert outcome.steps_s["drain"] >= 20.0
    assert bench.machine.state.cut == []
    assert bench.serving() == ["recon-vision-llama"]


def test_an_orphan_that_stays_busy_aborts_before_anything_is_stopped() -> None:
    bench = a_bench()
    bench.residents = {}
    before = bench.serving()
    intent = bench.intent("vision")
    bench.busy(8010, 500.0)

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("aborted", "REC7101")
    assert (bench.serving(), bench.machine.state.cut) == (before, [])


def test_an_orphan_is_stopped_after_the_old_coven_and_before_the_memory_is_looked_at() -> None:
    bench = a_bench()
    bench.residents = {}
    txid = bench.submit(bench.intent("vision"))

    seen = bench.doing(lambda: executor.execute(bench.machine, txid))

    stops = [what.rpartition(" ")[2] for what in seen if what.startswith("run systemctl stop")]
    assert stops == ["recon-gate-all-reasoning.service", UNIT]
    assert bench.steps(txid)[2:6] == ["drain", "stop", "stop", "verify_memory"]


def test_a_sealed_orphan_serves_again_when_its_executor_dies_before_it_is_stopped() -> None:
    bench = Bench(SMALL, VISION, residents={"embed": a_service("vllm", 8010, env={"VLLM_SERVER_DEV_MODE": "1"})})
    assert bench.run("reasoning").state == "applied"
    bench.residents = {}
    txid = bench.submit(bench.intent("reasoning"))

    bench.strike(txid, ending_before("run systemctl stop"))
    (server,) = bench.machine.podman.servers.matching(":8010")
    assert server.paused

    assert executor.execute(bench.machine, txid)["state"] == "rolled_back"
    assert not server.paused


def a_service_elsewhere(*, stop_s: int = 10, **drain: str) -> Service:
    """Return the resident as git moves it to another port."""
    over: dict[str, Any] = {
        "stop": {"timeout": f"{stop_s}s"},
        "drain": {"timeout": "30s", "on_timeout": "abort", **drain},
    }
    return a_service("llamacpp", 8011, memory="10GiB", **over)


def test_a_resident_that_moves_to_another_port_is_drained_where_it_serves() -> None:
    bench = a_bench()
    bench.residents = {"embed": a_service_elsewhere()}
    intent = bench.intent("reasoning")
    bench.busy(8010, 20.0)

    outcome = bench.execute(intent)

    assert outcome.state == "applied"
    assert outcome.steps_s["drain"] >= 20.0
    assert bench.machine.state.cut == []


@pytest.mark.parametrize(("on_timeout", "state", "cuts"), [("abort", "aborted", 0), ("force", "applied", 1)])
def test_how_a_resident_is_let_go_is_what_git_says_now(on_timeout: str, state: str, cuts: int) -> None:
    bench = a_bench()
    bench.residents = {"embed": a_service_elsewhere(timeout="5s", on_timeout=on_timeout)}
    intent = bench.intent("reasoning")
    bench.busy(8010, 500.0)

    outcome = bench.execute(intent)

    assert outcome.state == state
    assert 5.0 <= outcome.steps_s["drain"] < 30.0
    assert len(bench.machine.state.cut) == cuts


def test_a_resident_that_stops_slowly_is_given_the_time_it_was_committed_with() -> None:
    bench = Bench(SMALL, residents={"embed": a_service("llamacpp", 8010, stop={"timeout": "60s"})})
    assert bench.run("reasoning").state == "applied"
    bench.residents = {"embed": a_service_elsewhere(stop_s=5)}
    intent = bench.intent("reasoning")
    set_fault(bench.machine.state, "ignores-sigterm", UNIT)

    assert bench.execute(intent).state == "applied"


def test_a_new_resident_that_stops_slowly_is_given_its_own_time_on_the_way_back() -> None:
    bench = a_bench()
    bench.residents = {"embed": a_service_elsewhere(stop_s=60)}
    intent = bench.intent("reasoning")
    for kind in ("ignores-sigterm", "never-healthy"):
        set_fault(bench.machine.state, kind, ":8011")

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7106")
    assert bench.serving() == ["recon-reasoning-vllm", "recon-resident-embed"]


def test_a_resident_that_does_not_come_up_elsewhere_is_judged_where_it_was() -> None:
    bench = a_bench()
    bench.residents = {"embed": a_service_elsewhere()}
    intent = bench.intent("reasoning")
    set_fault(bench.machine.state, "crash-at-start", ":8011")

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7105")
    assert [server.port for server in bench.machine.podman.servers.matching(":8010")] == [8010]


def test_a_resident_that_comes_back_with_another_configuration_is_not_back() -> None:
    bench = a_bench()
    bench.residents = {"embed": a_service_elsewhere()}
    txid = bench.submit(bench.intent("reasoning"))
    set_fault(bench.machine.state, "crash-at-start", ":8011")
    file = f"{places.generation(1)}/recon-resident-embed.container"

    def edit(when: str, what: str) -> None:
        if when == "before" and what == f"remove {places.TRIAL}":
            text = bench.machine.files.read(file).decode()
            hashed = next(line for line in text.splitlines() if line.startswith("Environment=RECON_CONFIG_HASH"))
            bench.machine.files.put(file, Node.of(text.replace(hashed, hashed[:-4] + "0000").encode(), 0o644))

    bench.machine.hook = edit
    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))

    assert (outcome.state, outcome.code) == ("held", "REC7190")
    assert "embed: runs with config hash" in outcome.reason


@pytest.mark.parametrize("kills", [False, True], ids=["in-one-go", "killed"])
def test_a_resident_that_a_way_back_started_is_judged_also_when_its_executor_was_killed_then(kills: bool) -> None:
    bench = a_bench()
    txid = bench.submit(bench.intent("reasoning"))
    set_fault(bench.machine.state, "crash-at-start", UNIT)
    began: list[str] = []

    def hook(when: str, what: str) -> None:
        if when == "before" and what == f"remove {places.TRIAL}":
            began.append(what)
            clear_fault(bench.machine.state)
            set_fault(bench.machine.state, "never-healthy", UNIT)
        if kills and when == "after" and len(began) == 1 and what.startswith("run systemctl start") and UNIT in what:
            began.append(what)
            raise KilledError

    bench.machine.hook = hook
    if kills:
        with pytest.raises(KilledError):
            executor.execute(bench.machine, txid)
        bench.machine.revive()
        bench.machine.clock.advance(1.0)
    outcome = Outcome.model_validate(executor.execute(bench.machine, txid, recover=kills))

    assert (outcome.state, outcome.code) == ("held", "REC7190")
    assert "embed: not up after" in outcome.reason


def test_a_resident_that_nobody_touched_is_left_alone_when_the_executor_dies() -> None:
    bench = Bench(SMALL, VISION, residents={"embed": EMBED})
    assert bench.run("reasoning").state == "applied"
    bench.residents = {"embed": OTHER}
    txid = bench.submit(bench.intent("reasoning"))
    kept = bench.pid(UNIT)
    bench.strike(txid, ending_before("run systemctl stop"))

    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))

    assert (outcome.state, bench.pid(UNIT)) == ("aborted", kept)


def test_a_reserve_that_the_commit_raises_is_not_asked_of_an_old_resident() -> None:
    old = a_coven("reasoning", vllm=a_service("vllm", 8001, memory="60GiB"))
    new = a_coven("vision", llama=a_service("llamacpp", 8003, memory="20GiB"))
    bench = Bench(old, new, kind="gb10", residents={"embed": EMBED})
    assert bench.run("reasoning").state == "applied"
    bench.residents = {"embed": OTHER}
    bench.reserve = 55 * GiB
    txid = bench.submit(bench.intent("vision"))
    set_fault(bench.machine.state, "crash-at-start", UNIT)
    bench.machine.hook = well_on_the_way_back(bench)

    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7105")
    assert bench.serving() == ["recon-reasoning-vllm", "recon-resident-embed"]


def test_an_old_resident_without_a_gpu_needs_no_figure_of_one() -> None:
    bench = Bench(SMALL, VISION, residents={"embed": a_service("none", None, memory="2GiB", gpu=False)})
    assert bench.run("reasoning").state == "applied"
    bench.residents = {"embed": a_service("llamacpp", 8010, memory="2GiB")}
    txid = bench.submit(bench.intent("reasoning"))
    set_fault(bench.machine.state, "crash-at-start", UNIT)

    def hook(when: str, what: str) -> None:
        if when == "before" and what.startswith("run systemctl start") and UNIT in what:
            set_fault(bench.machine.state, "nvml", "*", 999.0)
        well(when, what)

    well = well_on_the_way_back(bench)
    bench.machine.hook = hook
    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7103")
    assert bench.serving() == ["recon-reasoning-vllm", "recon-resident-embed"]


def well_on_the_way_back(bench: Bench) -> Callable[[str, str], None]:
    """Return what lets the old resident come up, of which the new one crashes."""

    def hook(when: str, what: str) -> None:
        if when == "before" and what == f"remove {places.TRIAL}":
            clear_fault(bench.machine.state, "crash-at-start")

    return hook
