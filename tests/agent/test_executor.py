from __future__ import annotations

from typing import Any

import pytest

from reconciler.agent import executor, keep, lease, places
from reconciler.agent.record import read_record, write_record
from reconciler.model.outcome import Outcome
from reconciler.sim.deeds import edit_unit, hold_memory, missing, stop_unit
from reconciler.sim.faults import set_fault
from reconciler.sim.services import FIRST_STEP_S, add_requests
from reconciler.sim.vllm import Vllm
from tests.agent.bench import IMAGES, PARSER, REASONING, VISION, Bench, a_coven, a_service

LLAMA = "recon-vision-llama.service"
VLLM = "recon-reasoning-vllm.service"
RERANK = "recon-reasoning-rerank.service"
OLD = ["recon-reasoning-rerank", "recon-reasoning-vllm"]
NEW = ["recon-vision-llama"]
STEPS = ["claim", "stage", "drain", "stop", "verify_memory", "trial", "start", "warm", "commit", "finish"]


@pytest.fixture
def bench() -> Bench:
    """A host on which the reasoning coven serves."""
    bench = Bench()
    assert bench.run("reasoning").state == "applied"
    return bench


def as_dict(outcome: Outcome) -> dict[str, Any]:
    return outcome.model_dump(include={"state", "code", "committed", "live"})


def test_a_first_apply_brings_the_coven_up_commits_it_and_makes_it_boot() -> None:
    bench = Bench()

    outcome = bench.run("reasoning")

    assert as_dict(outcome) == {"state": "applied", "code": None, "committed": 1, "live": {"all": "reasoning"}}
    assert bench.steps(outcome.txid) == [
        "claim",
        "stage",
        "verify_memory",
        "trial",
        "start",
        "warm",
        "commit",
        "finish",
    ]
    assert bench.serving() == OLD
    bench.machine.reboot()
    bench.machine.clock.advance(60)
    assert bench.serving() == OLD


def held(*runtimes: str) -> list[str]:
    """Return what holds the images of servers that are about to be stopped."""
    options = "--ignore --driver=image --opt=image={} --label=io.recon.keep=1 {}"
    images = [IMAGES[runtime] for runtime in runtimes]
    return [f"run podman volume create {options.format(image, keep.volume_of(image))}" for image in images]


def test_a_switch_makes_these_changes_and_no_other_in_this_order(bench: Bench) -> None:
    txid = bench.submit(bench.intent("vision"))

    seen = bench.doing(lambda: executor.execute(bench.machine, txid))

    assert seen == [
        *held("vllm", "llamacpp"),
        "mkdir /etc/recon/generations/2",
        "mkdir /etc/recon/generations/2/units",
        "mkdir /etc/recon/generations/2/boot.wants",
        "write /etc/recon/generations/2/recon-reasoning-rerank.container",
        "write /etc/recon/generations/2/recon-reasoning-vllm.container",
        "write /etc/recon/generations/2/recon-vision-llama.container",
        "write /etc/recon/generations/2/units/recon-boot.target",
        "write /etc/recon/generations/2/units/recon-coven-reasoning.target",
        "write /etc/recon/generations/2/units/recon-coven-vision.target",
        "write /etc/recon/generations/2/units/recon-gate-all-reasoning.service",
        "write /etc/recon/generations/2/units/recon-gate-all-vision.service",
        "symlink /etc/recon/generations/2/boot.wants/recon-coven-vision.target",
        "write /etc/recon/generations/2/manifest.json",
        "run systemctl stop --no-block --job-mode=fail recon-gate-all-reasoning.service",
        "symlink /run/containers/systemd/recon-trial",
        "run systemctl daemon-reload",
        "run systemctl reset-failed -- recon-gate-all-vision.service recon-coven-vision.target " + LLAMA,
        "run systemctl start --no-block --job-mode=fail recon-coven-vision.target",
        "symlink /etc/containers/systemd/recon",
        "remove /run/containers/systemd/recon-trial",
        "run systemctl daemon-reload",
    ]
    assert bench.steps(txid) == STEPS
    assert bench.serving() == NEW


def test_an_intent_with_nothing_to_do_changes_nothing(bench: Bench) -> None:
    first = read_record(bench.machine, places.transaction("2026-0001") + "/intent.json")
    now = bench.intent("vision")
    same = {**first, "txid": "2026-0009", "moves": [], "from_generation": 1, "fingerprint": now["fingerprint"]}
    txid = bench.submit(same)

    seen = bench.doing(lambda: executor.execute(bench.machine, txid))

    assert seen == []
    assert read_record(bench.machine, places.transaction(txid) + "/outcome.json")["state"] == "nothing"


def test_a_transaction_that_has_ended_is_not_run_again(bench: Bench) -> None:
    intent = bench.intent("vision")
    first = bench.execute(intent)

    assert bench.doing(lambda: executor.execute(bench.machine, intent["txid"])) == []
    assert Outcome.model_validate(executor.execute(bench.machine, intent["txid"])) == first


def test_a_switch_waits_for_the_request_in_flight(bench: Bench) -> None:
    intent = bench.intent("vision")
    bench.busy(8001, 20.0)

    outcome = bench.execute(intent)

    assert outcome.state == "applied"
    assert outcome.steps_s["drain"] >= 20.0
    assert bench.machine.state.cut == []


def test_a_request_that_the_gauges_do_not_show_yet_is_waited_for() -> None:
    # vLLM's gauges move when its first step is done, which takes seconds when the prompt is long.
    bench = Bench(a_coven("reasoning", vllm=a_service("vllm", 8001)), VISION)
    assert bench.run("reasoning").state == "applied"
    intent = bench.intent("vision")
    bench.busy(8001, FIRST_STEP_S - 1.0)

    assert bench.execute(intent).state == "applied"
    assert bench.machine.state.cut == []


def test_a_request_that_comes_in_while_sealing_is_let_through(bench: Bench) -> None:
    intent = bench.intent("vision")
    txid = bench.submit(intent)
    server = bench.machine.podman.servers.matching(":8002")[0]
    add_requests(server, bench.machine.clock.now, 5.0, 1, 1.3)

    assert executor.execute(bench.machine, txid)["state"] == "applied"
    assert bench.machine.state.cut == []


def test_a_drain_that_takes_too_long_leaves_the_old_coven_serving(bench: Bench) -> None:
    before = bench.disk(), bench.pid(VLLM), bench.serving()
    intent = bench.intent("vision")
    bench.busy(8001, 500.0)

    outcome = bench.execute(intent)

    assert as_dict(outcome) == {"state": "aborted", "code": "REC7101", "committed": 1, "live": {"all": "reasoning"}}
    assert (bench.disk(), bench.pid(VLLM), bench.serving()) == before
    assert bench.machine.state.cut == []
    assert [server.paused for server in bench.machine.podman.servers.matching(":8001")] == [False]


def test_a_server_without_figures_counts_as_busy(bench: Bench) -> None:
    intent = bench.intent("vision")
    set_fault(bench.machine.state, "no-metrics", ":8001")

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("aborted", "REC7101")
    text = "vllm cannot be seen to be idle after 30 s: /metrics answered 500: Internal Server Error"
    assert outcome.reason == f"{text}; the old coven goes on serving"


@pytest.mark.parametrize(("how", "state"), [("force", "applied"), ("abort", "aborted")])
def test_a_figure_beyond_all_numbers_is_unknown_and_does_not_end_the_drain(
    monkeypatch: pytest.MonkeyPatch, how: str, state: str
) -> None:
    old = a_coven("reasoning", vllm=a_service("vllm", 8001, drain={"timeout": "10s", "on_timeout": how}))
    bench = Bench(old, VISION)
    assert bench.run("reasoning").state == "applied"
    intent = bench.intent("vision")
    body = b"vllm:num_requests_running 1e308\nvllm:num_requests_waiting 1e308\n"
    monkeypatch.setattr(Vllm, "metrics", lambda _: body)

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == (state, "REC7101" if how == "abort" else None), outcome
    told = [event.text for event in bench.events(outcome.txid)]
    assert any("vllm cannot be seen to be idle after 10 s: /metrics does not say" in text for text in told), told


def test_force_cuts_what_is_left_at_the_deadline_and_says_so() -> None:
    forced = a_coven("reasoning", vllm=a_service("vllm", 8001, drain={"timeout": "10s", "on_timeout": "force"}))
    bench = Bench(forced, VISION)
    assert bench.run("reasoning").state == "applied"
    intent = bench.intent("vision")
    bench.busy(8001, 500.0)

    outcome = bench.execute(intent)

    assert outcome.state == "applied"
    assert len(bench.machine.state.cut) == 1
    assert any("the plan says force" in event.text for event in bench.events(outcome.txid))


def test_a_crashed_member_has_nothing_to_drain(bench: Bench) -> None:
    stop_unit(bench.machine, VLLM)
    intent = bench.intent("vision")

    outcome = bench.execute(intent)

    assert outcome.state == "applied"
    assert f"{VLLM} is inactive: nothing to drain" in [event.text for event in bench.events(outcome.txid)]


def test_a_coven_that_never_gets_healthy_is_rolled_back_with_its_last_words(bench: Bench) -> None:
    before = bench.disk()
    intent = bench.intent("vision")
    set_fault(bench.machine.state, "never-healthy", LLAMA)

    outcome = bench.execute(intent)

    assert as_dict(outcome) == {"state": "rolled_back", "code": "REC7106", "committed": 1, "live": {"all": "reasoning"}}
    assert outcome.reason.startswith("llama: not up after 120 s, health answered 503")
    assert outcome.logs == {LLAMA: ("INFO loading weights",)}
    assert bench.serving() == OLD
    assert bench.disk() == before
    assert bench.steps(outcome.txid) == [*STEPS[:8], "rollback"]


def test_a_crash_loop_ends_the_wait_long_before_the_deadline(bench: Bench) -> None:
    intent = bench.intent("vision")
    set_fault(bench.machine.state, "crash-at-start", LLAMA)

    outcome = bench.execute(intent)

    assert as_dict(outcome) == {"state": "rolled_back", "code": "REC7105", "committed": 1, "live": {"all": "reasoning"}}
    assert outcome.steps_s["warm"] < 60
    assert bench.serving() == OLD


def test_a_server_with_the_wrong_model_is_not_healthy(bench: Bench) -> None:
    bench.machine.state.facts.clear()
    intent = bench.intent("vision")
    intent["moves"][0]["new"]["members"][0]["warm"]["expect_model"] = "the-right-one"
    intent["moves"][0]["new"]["members"][0]["warm"]["model_url"] = "http://127.0.0.1:8003/v1/models"

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7107")
    assert outcome.reason == "llama: it serves the model /srv/models/8003, not the-right-one"


def test_memory_that_comes_back_late_is_waited_for(bench: Bench) -> None:
    set_fault(bench.machine.state, "slow-release", "*", 30.0)

    outcome = bench.run("vision")

    assert outcome.state == "applied"
    assert outcome.steps_s["verify_memory"] >= 29.0


def test_memory_that_never_comes_back_starts_nothing_and_holds_the_host(bench: Bench) -> None:
    set_fault(bench.machine.state, "slow-release", "*", 1e9)
    before = bench.disk()
    txid = bench.submit(bench.intent("vision"))

    seen = bench.doing(lambda: executor.execute(bench.machine, txid))

    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))
    assert as_dict(outcome) == {"state": "held", "code": "REC7190", "committed": 1, "live": {"all": None}}
    assert outcome.fix == "recon apply --host h-1"
    assert "listed with no process" in outcome.reason
    assert [what for what in seen if what.startswith("run systemctl start")] == []
    assert bench.serving() == []
    assert bench.disk() == before


def test_a_host_that_was_held_is_brought_on_by_the_next_apply(bench: Bench) -> None:
    set_fault(bench.machine.state, "slow-release", "*", 1e9)
    assert bench.run("vision").state == "held"
    bench.machine.state.faults.clear()
    bench.machine.state.holdings.clear()

    outcome = bench.run("vision")

    assert as_dict(outcome) == {"state": "applied", "code": None, "committed": 3, "live": {"all": "vision"}}


def test_gpu_facts_that_cannot_be_read_are_not_free_memory(bench: Bench) -> None:
    intent = bench.intent("vision")
    txid = bench.submit(intent)
    bench.machine.hook = lambda when, what: (
        set_fault(bench.machine.state, "nvml", "*", 999.0) if "systemctl stop" in what else None
    )

    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))

    assert outcome.state == "held"
    assert "what the GPUs hold is not known" in outcome.reason
    assert bench.serving() == []


def test_a_host_that_moved_since_the_plan_is_stale_and_untouched(bench: Bench) -> None:
    txid = bench.submit(bench.intent("vision"))
    stop_unit(bench.machine, RERANK)

    seen = bench.doing(lambda: executor.execute(bench.machine, txid))

    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))
    assert as_dict(outcome) == {"state": "stale", "code": "REC7012", "committed": 1, "live": {"all": "reasoning"}}
    assert outcome.reason.endswith(f"the plan was made: {RERANK} is inactive")
    assert seen == []


def test_a_held_host_is_left_alone(bench: Bench) -> None:
    intent = bench.intent("vision")
    note = b'{"owner": "ann", "reason": "benchmark", "since": 1, "until": null}'
    bench.machine.write(places.HOLD, note)

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code, outcome.reason) == ("locked", "REC7111", "held by ann: benchmark")
    assert bench.serving() == OLD


def test_a_second_executor_finds_the_host_locked(bench: Bench) -> None:
    txid = bench.submit(bench.intent("vision"))

    with bench.machine.lock(places.LOCK):
        outcome = Outcome.model_validate(executor.execute(bench.machine, txid))

    assert (outcome.state, outcome.code) == ("locked", "REC7110")
    assert bench.serving() == OLD


def test_a_claim_that_was_taken_over_changes_nothing_more(bench: Bench) -> None:
    intent = bench.intent("vision")
    bench.busy(8001, 10.0)
    txid = bench.submit(intent)
    begun = len(bench.machine.clock.trace)

    def take_over(when: str, what: str) -> None:
        if when == "after" and what == f"append {places.transaction(txid)}/journal.jsonl" and _drains(bench, txid):
            bench.machine.hook = None
            write_record(bench.machine, places.EPOCH, {"epoch": 99})

    bench.machine.hook = take_over
    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))

    assert (outcome.state, outcome.code) == ("aborted", "REC7113")
    assert outcome.reason == "the claim of epoch 2 is over: the host is at epoch 99"
    assert not [what for what in bench.machine.clock.trace[begun:] if "systemctl stop" in what]
    assert bench.serving() == OLD


def _drains(bench: Bench, txid: str) -> bool:
    return bench.steps(txid)[-1] == "drain"


def spoil_image(bench: Bench, intent: dict[str, Any]) -> None:
    missing(bench.machine, "unpullable", IMAGES["llamacpp"])


def spoil_path(bench: Bench, intent: dict[str, Any]) -> None:
    missing(bench.machine, "path", "/srv/models/8003")


def spoil_room(bench: Bench, intent: dict[str, Any]) -> None:
    bench.machine.state.disk_free = 1 << 20


def spoil_argv(bench: Bench, intent: dict[str, Any]) -> None:
    intent["groups"][1]["members"][0]["argv"][-1] = "8004"


def spoil_quadlet(bench: Bench, intent: dict[str, Any]) -> None:
    text = intent["quadlets"][2]["content"]
    intent["quadlets"][2]["content"] = text.replace("[Container]\n", "[Container]\nNoSuchKey=1\n")


def spoil_native(bench: Bench, intent: dict[str, Any]) -> None:
    intent["natives"][2]["content"] = intent["natives"][2]["content"].replace("[Unit]\n", "[Unitt]\n")


def spoil_memory(bench: Bench, intent: dict[str, Any]) -> None:
    intent["moves"][0]["need_bytes_per_gpu"] = 1 << 50


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (spoil_image, "REC7121"),
        (spoil_path, "REC7122"),
        (spoil_room, "REC7123"),
        (spoil_memory, "REC7124"),
        (spoil_argv, "REC7125"),
        (spoil_quadlet, "REC7125"),
        (spoil_native, "REC7126"),
    ],
)
def test_what_fails_at_stage_is_refused_and_the_host_is_as_before(bench: Bench, spoil: Any, code: str) -> None:
    before = bench.disk(), bench.pid(VLLM), bench.serving()
    intent = bench.intent("vision")
    spoil(bench, intent)

    outcome = bench.execute(intent)

    assert as_dict(outcome) == {"state": "refused", "code": code, "committed": 1, "live": {"all": "reasoning"}}
    assert outcome.fix
    assert (bench.disk(), bench.pid(VLLM), bench.serving()) == before
    assert bench.machine.stat(places.generation(2)) is None


def test_a_generation_number_is_never_given_twice(bench: Bench) -> None:
    intent = bench.intent("vision")
    spoil_quadlet(bench, intent)
    assert bench.execute(intent).state == "refused"

    assert bench.run("vision").committed == 3


def test_only_the_member_that_changed_is_restarted(bench: Bench) -> None:
    kept = bench.pid(RERANK)
    changed = bench.pid(VLLM)
    other = a_service("vllm", 8001, env={"VLLM_SERVER_DEV_MODE": "1", "VLLM_LOGGING_LEVEL": "DEBUG"})
    bench.covens["reasoning"] = a_coven("reasoning", vllm=other, rerank=REASONING.services["rerank"])
    txid = bench.submit(bench.intent("reasoning"))

    seen = bench.doing(lambda: executor.execute(bench.machine, txid))

    assert [what for what in seen if what.startswith("run ")] == [
        *held("vllm"),
        f"run systemctl stop --no-block --job-mode=fail {VLLM}",
        "run systemctl daemon-reload",
        f"run systemctl reset-failed -- {VLLM}",
        f"run systemctl start --no-block --job-mode=fail {VLLM}",
        "run systemctl daemon-reload",
    ]
    assert bench.pid(RERANK) == kept
    assert bench.pid(VLLM) not in (0, changed)


def test_a_restart_that_fails_brings_the_old_definition_back(bench: Bench) -> None:
    kept = bench.pid(RERANK)
    other = a_service("vllm", 8001, env={"VLLM_SERVER_DEV_MODE": "1", "VLLM_LOGGING_LEVEL": "DEBUG"}, memory="90GiB")
    bench.covens["reasoning"] = a_coven("reasoning", vllm=other, rerank=REASONING.services["rerank"])
    intent = bench.intent("reasoning")
    (member,) = [member for member in intent["moves"][0]["new"]["members"] if member["service"] == "vllm"]
    member["config_hash"] = "0" * 16

    outcome = bench.execute(intent)

    assert as_dict(outcome) == {"state": "rolled_back", "code": "REC7108", "committed": 1, "live": {"all": "reasoning"}}
    assert bench.serving() == OLD
    assert bench.pid(RERANK) == kept


def test_files_of_a_coven_that_does_not_run_touch_nothing_that_runs(bench: Bench) -> None:
    pids = bench.pid(VLLM), bench.pid(RERANK)
    bench.covens["vision"] = a_coven("vision", llama=a_service("llamacpp", 8003, memory="70GiB"))
    txid = bench.submit(bench.intent("reasoning"))

    seen = bench.doing(lambda: executor.execute(bench.machine, txid))

    assert [what for what in seen if what.startswith("run ")] == ["run systemctl daemon-reload"]
    assert bench.steps(txid) == ["claim", "stage", "commit", "finish"]
    assert (bench.pid(VLLM), bench.pid(RERANK)) == pids


def test_a_slot_can_be_emptied(bench: Bench) -> None:
    outcome = bench.run(None)

    assert as_dict(outcome) == {"state": "applied", "code": None, "committed": 2, "live": {"all": None}}
    assert bench.serving() == []
    bench.machine.reboot()
    assert bench.serving() == []


def test_a_member_that_goes_is_masked_during_the_trial_and_gone_after_it(bench: Bench) -> None:
    bench.covens["vision"] = a_coven(
        "vision", llama=VISION.services["llama"], extra=a_service("llamacpp", 8004, memory="8GiB")
    )
    assert bench.run("vision").state == "applied"
    bench.covens["vision"] = VISION
    bench.covens["reasoning"] = a_coven("reasoning", vllm=REASONING.services["vllm"])
    txid = bench.submit(bench.intent("reasoning"))

    seen = bench.doing(lambda: executor.execute(bench.machine, txid))

    masks = [what for what in seen if "/run/systemd/system/" in what]
    assert masks == [
        f"symlink /run/systemd/system/{RERANK}",
        "symlink /run/systemd/system/recon-vision-extra.service",
        f"remove /run/systemd/system/{RERANK}",
        "remove /run/systemd/system/recon-vision-extra.service",
    ]
    assert bench.serving() == ["recon-reasoning-vllm"]


def test_a_resident_outside_the_coven_is_restarted_alone() -> None:
    bench = Bench(residents={"parser": PARSER})
    assert bench.run("reasoning").state == "applied"
    pids = bench.pid(VLLM), bench.pid(RERANK), bench.pid("recon-resident-parser.service")
    bench.residents = {"parser": a_service("none", None, memory="0B", gpu=False, env={"LEVEL": "debug"})}

    outcome = bench.run("reasoning")

    assert outcome.state == "applied"
    assert (bench.pid(VLLM), bench.pid(RERANK)) == pids[:2]
    assert bench.pid("recon-resident-parser.service") not in (0, pids[2])


def test_a_resident_that_is_no_longer_declared_is_stopped() -> None:
    bench = Bench(residents={"parser": PARSER})
    assert bench.run("reasoning").state == "applied"
    bench.residents = {}

    assert bench.run("reasoning").state == "applied"
    assert bench.serving() == OLD


def test_a_unit_edited_by_hand_is_put_right(bench: Bench) -> None:
    edit_unit(bench.machine, "recon-gate-all-vision.service", "RefuseManualStart=yes", "RefuseManualStart=no")

    outcome = bench.run("reasoning")

    assert outcome.state == "applied"
    assert b"RefuseManualStart=yes" in bench.machine.read("/etc/systemd/system/recon-gate-all-vision.service")


def test_an_intent_that_does_not_verify_is_refused(bench: Bench) -> None:
    txid = bench.submit(bench.intent("vision"))
    path = places.transaction(txid) + "/intent.json"
    bench.machine.write(path, bench.machine.read(path, 1 << 22).replace(b"vision", b"fusion"))

    outcome = Outcome.model_validate(executor.execute(bench.machine, txid))

    assert (outcome.state, outcome.code) == ("refused", "REC7115")
    assert bench.serving() == OLD


def test_the_last_three_generations_are_kept(bench: Bench) -> None:
    for coven in ("vision", "reasoning", "vision", "reasoning"):
        assert bench.run(coven).state == "applied"

    assert bench.machine.listdir(places.GENERATIONS) == ["3", "4", "5"]


def test_every_ended_transaction_leaves_a_line_of_history_and_no_lease(bench: Bench) -> None:
    bench.run("vision")

    lines = bench.machine.read(places.HISTORY).decode().splitlines()
    ends = [line for line in lines if '"kind":"started"' not in line]
    assert ['"state":"applied"' in line for line in ends] == [True, True]
    assert len(lines) == 4
    assert bench.machine.stat(places.LEASE) is None
    assert lease.read_epoch(bench.machine) == 2


def test_the_last_twenty_transactions_are_kept_and_none_that_has_no_end(bench: Bench) -> None:
    for number in range(30):
        directory = places.transaction(f"2025-{number:04}")
        bench.machine.mkdir(directory)
        end = "journal.jsonl" if number == 3 else "outcome.json"
        bench.machine.write(f"{directory}/{end}", b'{"seq": 1, "t": 0.0}\n')

    assert bench.execute({**bench.intent("vision"), "fingerprint": "another"}).state == "stale"

    kept = [f"2025-{number:04}" for number in range(12, 30)]
    assert bench.machine.listdir(places.TRANSACTIONS) == ["2025-0003", *kept, "2026-0002"]


def test_the_log_of_a_failing_unit_begins_with_the_transaction(bench: Bench) -> None:
    bench.machine.clock.log(LLAMA, "words of last week")
    bench.machine.clock.advance(3600.0)
    intent = bench.intent("vision")
    set_fault(bench.machine.state, "never-healthy", LLAMA)

    assert bench.execute(intent).logs == {LLAMA: ("INFO loading weights",)}


def test_a_shared_service_that_comes_to_the_gpus_does_not_make_a_plan_stale(bench: Bench) -> None:
    bench.shared = ("search.service",)
    intent = bench.intent("vision")
    occupy(bench, "search.service")

    assert bench.execute(intent).state == "applied"


def test_a_stranger_that_comes_to_the_gpus_makes_a_plan_stale(bench: Bench) -> None:
    bench.shared = ("search.service",)
    intent = bench.intent("vision")
    occupy(bench, "ollama.service")

    assert bench.execute(intent).state == "stale"


def occupy(bench: Bench, unit: str) -> None:
    """Let a service of somebody else take a little GPU memory."""
    hold_memory(bench.machine, 1 << 30, "python3")
    process = bench.machine.state.processes[max(bench.machine.state.processes)]
    process.cgroup = f"/system.slice/{unit}"
