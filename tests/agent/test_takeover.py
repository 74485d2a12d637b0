"""What of somebody else a service adopts is stopped and kept off by the transition, and comes back on every way back.

Old or new: at every moment at which nobody acts, exactly one of the unit that was adopted and the service that takes
its place is up, or the host is held with a reason.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest

from reconciler.agent import executor, observe, places, systemd, watch
from reconciler.agent.machine import Completed, Machine
from reconciler.diff import diff_host, ignored_facts
from reconciler.model.desired import Service, Watchdog
from reconciler.model.observed import HostState
from reconciler.model.outcome import Outcome
from reconciler.model.plan import HostPlan, Order
from reconciler.model.subject import look_at
from reconciler.planner import plan_host
from reconciler.sim.deeds import hold_memory
from reconciler.sim.faults import clear_fault, set_fault
from reconciler.sim.machine import KilledError, PowerCutError
from reconciler.sim.state import GiB, Node
from reconciler.sim.state import Kind as Gpu
from tests.agent.bench import CONTEXT, IMAGES, Bench, a_coven, a_service, ending_at, ending_before

LLAMA = "llama.service"
UNIT = f"/etc/systemd/system/{LLAMA}"
WANTS = f"/etc/systemd/system/multi-user.target.wants/{LLAMA}"
DROP_IN = f"/etc/systemd/system/{LLAMA}.d/recon-adopted.conf"
RUN = f"--device nvidia.com/gpu=all --label io.recon.memory={60 * GiB} {IMAGES['llamacpp']} --model /m --port 8003"
TEXT = (
    "[Unit]\nDescription=Somebody's llama\n"
    f"[Service]\nExecStart=/usr/bin/podman run --name llama --rm {RUN}\nRestart=always\n"
    "[Install]\nWantedBy=multi-user.target\n"
)
QUADLET = (
    f"[Container]\nImage={IMAGES['llamacpp']}\nContainerName=llama\nAddDevice=nvidia.com/gpu=all\n"
    f"Label=io.recon.memory={60 * GiB}\nExec=--model /m --port 8003\n[Install]\nWantedBy=multi-user.target\n"
)
NEW = "recon-vision-llama.service"
TXID = "2026-0001"

Kind = Literal["unit", "quadlet", "container"]
KINDS: tuple[Kind, ...] = ("unit", "quadlet", "container")
ADOPTS = {"unit": LLAMA, "quadlet": LLAMA, "container": "llama"}


def a_bench(kind: Kind, *, gpu: Gpu = "h200", text: str = TEXT, **over: Any) -> Bench:
    """Return a host that never was recon's, on which somebody's llama serves, and a coven that adopts it."""
    service = a_service("llamacpp", 8003, **{"memory": "100GiB", "adopts": ADOPTS[kind], **over})
    bench = Bench(a_coven("vision", llama=service), kind=gpu)
    machine = bench.machine
    machine.state.images.append(IMAGES["llamacpp"])
    if kind == "unit":
        machine.files.put(UNIT, Node.of(text.encode()))
        machine.files.put(WANTS, Node(kind="link", target=UNIT))
    elif kind == "quadlet":
        machine.files.put("/etc/containers/systemd/llama.container", Node.of(QUADLET.encode()))
    else:
        words = ["--model", "/m", "--port", "8003"]
        machine.podman.stray(
            "llama", IMAGES["llamacpp"], words, 60 * GiB, ["nvidia.com/gpu=all"], restart="always", keeps=True
        )
    machine.reboot()
    machine.sleep(60.0)
    assert bench.serving() == ["llama"]
    return bench


def planned(bench: Bench, *live: str | None) -> HostPlan:
    rendered, host = bench.rendered(*live)
    state = HostState.model_validate(observe.observe(bench.machine, bench.question(), CONTEXT))
    subject = look_at(rendered, host, state)
    return plan_host(subject, diff_host(subject), fleet="studio", ignored=ignored_facts(state))


def as_it_was(bench: Bench, kind: Kind) -> dict[str, Any]:
    """Return all of the host that says whether and when the old one runs."""
    files = {
        path: (node.kind, node.target, node.data)
        for path, node in bench.machine.state.files.items()
        if path.startswith(("/etc/systemd/", "/etc/containers/")) and path.rpartition("/")[2].startswith("llama")
    }
    policies = [each.restart for each in bench.machine.state.containers.values() if each.keeps]
    return {"files": files, "policies": policies, "serving": bench.serving()}


@pytest.fixture(scope="module", params=KINDS)
def ready(request: pytest.FixtureRequest) -> tuple[Kind, Bench]:
    kind: Kind = request.param
    bench = a_bench(kind)
    bench.submit(bench.intent("vision"))
    return kind, bench


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_adopted_stops_before_what_takes_its_place_starts_and_stays_off(kind: Kind) -> None:
    bench = a_bench(kind)

    outcome = bench.run("vision")

    assert (outcome.state, bench.serving()) == ("applied", ["recon-vision-llama"])
    bench.machine.reboot()
    bench.machine.sleep(120.0)
    assert bench.serving() == ["recon-vision-llama"]
    assert bench.machine.stat(DROP_IN) is None
    assert [row.kind for row in planned(bench, "vision").changes] == []


def test_a_unit_is_disabled_a_quadlet_masked_and_the_policy_of_a_container_taken_away() -> None:
    benches = {kind: a_bench(kind) for kind in KINDS}
    for bench in benches.values():
        assert bench.run("vision").state == "applied"

    unit, quadlet = benches["unit"].machine, benches["quadlet"].machine
    assert (unit.stat(WANTS), unit.read(UNIT).decode()) == (None, TEXT)
    assert quadlet.read_link(UNIT) == "/dev/null"
    assert [each.restart for each in benches["container"].machine.state.containers.values() if each.keeps] == ["no"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_that_does_not_come_up_gives_back_what_it_adopted_as_it_was(kind: Kind) -> None:
    bench = a_bench(kind, warm={"timeout": "60s", "attempts": 1})
    before = as_it_was(bench, kind)
    set_fault(bench.machine.state, "crash-at-start", NEW)

    outcome = bench.run("vision")

    assert outcome.state == "rolled_back", outcome
    assert as_it_was(bench, kind) == before
    bench.machine.reboot()
    bench.machine.sleep(60.0)
    assert as_it_was(bench, kind) == before


def test_what_left_no_reserve_on_a_host_of_one_memory_is_given_back_all_the_same() -> None:
    text = TEXT.replace(str(60 * GiB), str(110 * GiB))
    bench = a_bench("unit", gpu="gb10", text=text, memory="80GiB", warm={"timeout": "60s", "attempts": 1})
    set_fault(bench.machine.state, "crash-at-start", NEW)

    outcome = bench.run("vision")

    assert (outcome.state, bench.serving()) == ("rolled_back", ["llama"]), outcome


def test_an_executor_killed_before_any_change_is_followed_by_old_or_new(ready: tuple[Kind, Bench]) -> None:
    kind, begun = ready
    before = as_it_was(begun, kind)
    for number in range(len(every_change(begun))):
        bench = begun.copy()
        seen: list[str] = []
        bench.strike(TXID, ending_at(number, KilledError, seen))

        outcome = Outcome.model_validate(executor.execute(bench.machine, TXID, recover=True))

        where = f"killed before {seen[-1]}"
        assert outcome.state in ("applied", "rolled_back", "aborted"), (where, outcome)
        if outcome.committed is None:
            assert as_it_was(bench, kind) == before, where
        else:
            assert bench.serving() == ["recon-vision-llama"], where
            assert bench.machine.stat(DROP_IN) is None, where
        assert bench.machine.stat(f"{places.ADOPTING}/{LLAMA}") is None, where


def test_a_power_cut_before_any_change_boots_old_or_new_and_never_both(ready: tuple[Kind, Bench]) -> None:
    kind, begun = ready
    for number in range(len(every_change(begun))):
        bench = begun.copy()
        seen: list[str] = []
        bench.strike(TXID, ending_at(number, PowerCutError, seen))
        bench.machine.reboot()
        bench.machine.sleep(120.0)

        committed = bench.machine.stat(places.COMMITTED) is not None
        where = f"cut before {seen[-1]}"
        if kind == "container" and seen[-1] == f"symlink {places.COMMITTED}":
            # Its policy is gone and nothing is committed: neither boots; whoever comes next brings the old back.
            assert bench.serving() == [], where
            assert (bench.run("vision").code, bench.serving()) == ("REC7491", ["llama"]), where
        assert bench.serving() == (["recon-vision-llama"] if committed else ["llama"]), where
        outcome = bench.execute(bench.intent_anyway(None if committed else "vision"))
        assert (outcome.state, bench.serving()) == ("applied", [] if committed else ["recon-vision-llama"]), where
        assert bench.machine.stat(DROP_IN) is None, where


def every_change(ready: Bench) -> list[str]:
    bench = ready.copy()
    seen: list[str] = []
    bench.machine.hook = ending_at(-1, KilledError, seen)
    executor.execute(bench.machine, TXID)
    return seen


def test_the_plan_says_what_is_waited_for_stopped_and_who_is_cut_off() -> None:
    plan = planned(a_bench("unit"), "vision")

    (move,) = plan.transitions
    told = [(step.step, step.text, step.on_failure) for step in move.steps if "llama.service" in step.text]
    assert plan.refusals == ()
    assert told == [
        (
            "drain",
            "wait until llama.service has nothing in flight, asked as llama on port 8003; new requests still get in",
            "abort: llama.service goes on serving",
        ),
        (
            "take_over",
            "takes over llama.service: stopped, and kept from starting with the host",
            "roll back: it is brought back as it was",
        ),
    ]
    assert move.cuts_off == "llama.service serves until llama takes its place; it holds 60GiB of GPU memory"


def test_the_same_plan_has_the_same_order_and_nothing_is_taken_over_that_is_off() -> None:
    bench = a_bench("unit")
    assert planned(bench, "vision").order == planned(bench, "vision").order

    assert bench.run("vision").state == "applied"
    assert bench.run(None).state == "applied"

    assert [move.takes_over for move in order_of(planned(bench, "vision")).moves] == [()]
    assert bench.serving() == []


def test_whoever_else_holds_the_gpu_still_refuses_the_plan() -> None:
    bench = a_bench("unit")
    hold_memory(bench.machine, GiB)

    assert [refusal.code for refusal in planned(bench, "vision").refusals] == ["REC8003"]


def test_a_unit_that_nobody_names_is_not_taken_over() -> None:
    bench = a_bench("unit")
    bench.covens["vision"] = a_coven(
        "vision", llama=a_service("llamacpp", 8003, memory="100GiB", adopts="other.service")
    )

    assert [refusal.code for refusal in planned(bench, "vision").refusals] == ["REC8003"]


def test_a_shared_unit_is_not_taken_over_whatever_a_coven_says() -> None:
    bench = a_bench("unit")
    bench.shared = (LLAMA,)
    intent = bench.intent("vision")
    assert [move.get("takes_over", []) for move in intent["moves"]] == [[]]
    entry = {"name": LLAMA, "kind": "unit", "service": "llama", "is_up": True, "boots": True}
    intent["moves"][0]["takes_over"] = [entry]

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code, bench.serving()) == ("refused", "REC7490", ["llama"])


FILE = "/etc/systemd/system/"


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (
            {"llama.timer": "[Timer]\nOnBootSec=1h\n", "multi-user.target.wants/llama.timer": "->"},
            "llama.timer starts it again",
        ),
        (
            {
                "boss.service": f"[Unit]\nWants={LLAMA}\n[Service]\nExecStart=/bin/boss\n",
                "multi-user.target.wants/boss.service": "->",
            },
            "boss.service asks for it in its own file",
        ),
    ],
)
def test_what_would_start_again_is_not_taken_over(files: dict[str, str], problem: str) -> None:
    bench = a_bench("unit")
    for name, text in files.items():
        node = Node(kind="link", target=FILE + name.rpartition("/")[2]) if text == "->" else Node.of(text.encode())
        bench.machine.files.put(FILE + name, node)
    bench.machine.reboot()
    bench.machine.sleep(60.0)

    told = [(refusal.code, refusal.detail) for refusal in planned(bench, "vision").refusals]

    assert told == [("REC7490", problem)]


def test_what_is_off_and_would_be_started_by_its_timer_is_not_started_beside() -> None:
    bench = a_bench("unit")
    bench.machine.files.drop(WANTS)
    install(bench, "llama.timer", "[Timer]\nOnBootSec=1h\n")
    bench.machine.run(["systemctl", "stop", LLAMA], 60.0)
    assert bench.serving() == []

    told = [(refusal.code, refusal.detail) for refusal in planned(bench, "vision").refusals]

    assert told == [("REC7490", "llama.timer starts it again")]


def test_what_is_masked_is_off_whatever_would_start_it() -> None:
    bench = a_bench("quadlet")
    assert bench.run("vision").state == "applied"
    assert bench.run(None).state == "applied"
    install(bench, "llama.timer", "[Timer]\nOnBootSec=1h\n")

    assert planned(bench, "vision").refusals == ()


def test_another_name_of_a_unit_is_refused_and_not_taken_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = a_bench("unit")
    bench.covens["vision"] = a_coven(
        "vision", llama=a_service("llamacpp", 8003, memory="100GiB", adopts="ollama.service")
    )
    real = systemd.show

    def merged(machine: Machine, names: Sequence[str], wanted: Sequence[str]) -> dict[str, dict[str, str]]:
        return real(machine, [LLAMA if name == "ollama.service" else name for name in names], wanted)

    monkeypatch.setattr(systemd, "show", merged)

    told = [(refusal.code, refusal.detail, refusal.fix) for refusal in planned(bench, "vision").refusals]

    fix = "systemctl show --property=Id ollama.service, and name that one"
    assert ("REC7490", "it is another name of a unit", fix) in told


def install(bench: Bench, name: str, text: str) -> None:
    """Put a unit of somebody else on the host that starts with it, and boot."""
    bench.machine.files.put(FILE + name, Node.of(text.encode()))
    bench.machine.files.put(f"{FILE}multi-user.target.wants/{name}", Node(kind="link", target=FILE + name))
    bench.machine.reboot()
    bench.machine.sleep(60.0)


@pytest.mark.parametrize("relation", ["Requires", "BindsTo", "PartOf"])
def test_what_would_take_somebody_else_down_with_it_is_not_taken_over(relation: str) -> None:
    bench = a_bench("quadlet")
    install(bench, "web.service", f"[Unit]\n{relation}={LLAMA}\nAfter={LLAMA}\n[Service]\nExecStart=/bin/web\n")
    assert bench.active("web.service") == "active"

    told = [(refusal.code, refusal.detail, refusal.fix) for refusal in planned(bench, "vision").refusals]

    problem = "systemd stops web.service with it, which is not named"
    fix = "name it under adopts: too, or stop it on the host: systemctl stop web.service"
    assert told == [("REC7490", problem, fix)]
    bench.machine.run(["systemctl", "stop", "web.service"], 60.0)
    assert planned(bench, "vision").refusals == ()


def test_a_shared_service_that_began_to_hang_on_what_is_taken_over_is_never_stopped_with_it() -> None:
    bench = a_bench("quadlet")
    bench.shared = ("web.service",)
    install(bench, "web.service", "[Service]\nExecStart=/bin/web\n")
    intent = bench.intent("vision")
    bench.machine.files.put(
        f"{FILE}web.service", Node.of(f"[Unit]\nBindsTo={LLAMA}\n[Service]\nExecStart=/bin/web\n".encode())
    )
    bench.machine.manager.daemon_reload()

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("refused", "REC7490"), outcome
    assert (bench.active("web.service"), bench.serving()) == ("active", ["llama"])


def test_two_that_hang_together_are_taken_over_together() -> None:
    bench = a_bench("quadlet")
    install(bench, "web.service", f"[Unit]\nRequires={LLAMA}\nAfter={LLAMA}\n[Service]\nExecStart=/bin/web\n")
    bench.covens["vision"] = a_coven(
        "vision", llama=a_service("llamacpp", 8003, memory="100GiB", adopts=(LLAMA, "web.service"))
    )

    assert bench.run("vision").state == "applied"

    assert (bench.active("web.service"), bench.serving()) == ("inactive", ["recon-vision-llama"])


def test_a_target_that_requires_it_by_its_install_section_is_told_how_to_want_it() -> None:
    bench = a_bench("unit")
    bench.machine.files.drop(WANTS)
    bench.machine.files.make_dirs(f"{FILE}multi-user.target.requires")
    bench.machine.files.put(WANTS.replace(".wants/", ".requires/"), Node(kind="link", target=UNIT))
    bench.machine.reboot()
    bench.machine.sleep(60.0)

    told = [(refusal.detail, refusal.fix) for refusal in planned(bench, "vision").refusals]

    assert told == [
        (
            "systemd stops multi-user.target with it, which is not named",
            f"systemctl disable {LLAMA} && systemctl add-wants multi-user.target {LLAMA}",
        )
    ]


def test_a_unit_without_a_file_is_not_taken_over() -> None:
    bench = a_bench("unit")
    assert bench.machine.run(["systemctl", "stop", LLAMA], 60.0).rc == 0
    for path in (UNIT, WANTS):
        bench.machine.files.drop(path)
    bench.machine.manager.daemon_reload()
    bench.machine.manager.start_transient(LLAMA, ["/bin/llama"], collect=True)

    told = [(refusal.code, refusal.detail) for refusal in planned(bench, "vision").refusals]

    assert told == [("REC7490", "it has no file, so it could not be started again")]


def test_a_container_that_a_unit_runs_or_that_does_not_stay_is_not_taken_over() -> None:
    bench = a_bench("unit")
    bench.covens["vision"] = a_coven(
        "vision", llama=a_service("llamacpp", 8003, memory="100GiB", adopts=("llama", "gone", "paused"))
    )
    bench.machine.podman.stray("gone", IMAGES["llamacpp"], ["--port", "9"], GiB, [])
    bench.machine.podman.stray("paused", IMAGES["llamacpp"], ["--port", "10"], GiB, [], keeps=True)
    next(each for each in bench.machine.state.containers.values() if each.name == "paused").status = "paused"

    told = {refusal.detail for refusal in planned(bench, "vision").refusals if refusal.code == "REC7490"}

    assert told == {
        f"{LLAMA} runs it",
        "podman removes it when it stops, so it could not be started again",
        "it is paused, and podman stops nothing that is",
    }


def test_what_is_not_as_planned_any_more_is_stale() -> None:
    bench = a_bench("unit")
    intent = bench.intent("vision")
    bench.machine.files.drop(WANTS)
    bench.machine.manager.daemon_reload()

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code, bench.serving()) == ("stale", "REC7491", ["llama"])


def test_work_in_flight_is_waited_for_and_at_the_deadline_the_old_one_goes_on_serving() -> None:
    bench = a_bench("unit")
    before = as_it_was(bench, "unit")
    bench.busy(8003, 300.0)

    outcome = bench.run("vision")

    assert (outcome.state, outcome.code) == ("aborted", "REC7101"), outcome
    assert (as_it_was(bench, "unit"), bench.machine.state.cut) == (before, [])

    bench.machine.sleep(290.0)
    bench.busy(8003, 12.0)
    assert bench.run("vision").state == "applied"
    assert bench.machine.state.cut == []


def test_each_of_two_adopted_containers_is_waited_for_until_its_own_deadline() -> None:
    def served(name: str, port: int, timeout: str) -> Service:
        drain = {"timeout": timeout, "on_timeout": "abort"}
        return a_service("llamacpp", port, memory="40GiB", adopts=name, drain=drain)

    bench = Bench(a_coven("vision", one=served("first", 8003, "30s"), two=served("second", 8004, "60s")), kind="h200")
    machine = bench.machine
    machine.state.images.append(IMAGES["llamacpp"])
    for name, port in (("first", "8003"), ("second", "8004")):
        words = ["--model", "/m", "--port", port]
        machine.podman.stray(
            name, IMAGES["llamacpp"], words, 30 * GiB, ["nvidia.com/gpu=all"], restart="always", keeps=True
        )
    machine.reboot()
    machine.sleep(60.0)
    bench.busy(8003, 300.0)

    outcome = bench.run("vision")

    assert (outcome.state, outcome.code) == ("aborted", "REC7101"), outcome
    assert outcome.reason.startswith("first is still busy (1) after 30 s"), outcome.reason
    assert (bench.serving(), machine.state.cut) == (["first", "second"], [])


def test_a_server_that_does_not_answer_is_cut_only_where_the_plan_says_force() -> None:
    for how, state in (("abort", "aborted"), ("force", "applied")):
        bench = a_bench("unit", drain={"timeout": "30s", "on_timeout": how})
        set_fault(bench.machine.state, "hangs", LLAMA)

        assert bench.run("vision").state == state


def test_one_that_does_not_stop_in_time_is_started_again_when_it_has() -> None:
    bench = a_bench("unit")
    before = as_it_was(bench, "unit")
    unit = bench.machine.read(UNIT).decode().replace("--rm", "--rm --stop-timeout 200")
    bench.machine.files.put(UNIT, Node.of(unit.encode()))
    bench.machine.manager.daemon_reload()
    assert bench.machine.run(["systemctl", "restart", LLAMA], 60.0).rc == 0
    bench.machine.sleep(60.0)
    set_fault(bench.machine.state, "ignores-sigterm", LLAMA)

    outcome = bench.run("vision")

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7102"), outcome
    assert (bench.serving(), bench.machine.stat(WANTS) is None) == (before["serving"], False)


def test_what_an_earlier_transaction_is_ended_with_is_not_started_beside() -> None:
    bench = a_bench("container")
    bench.strike(bench.submit(bench.intent("vision")), ending_before("run podman update", KilledError))
    bench.machine.files.drop_tree(places.TRIAL)
    bench.covens["other"] = a_coven("other", one=a_service("llamacpp", 8004, memory="8GiB"))
    assert bench.machine.run(["systemctl", "stop", "recon-gate-all-vision.service"], 60.0).rc == 0
    bench.machine.sleep(30.0)

    outcome = bench.run("other")

    assert (outcome.state, outcome.code, bench.serving()) == ("stale", "REC7491", ["llama"])


def test_a_watchdog_that_podman_does_not_answer_says_so_and_brings_it_back_at_its_next_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = a_bench("container")
    bench.watchdog = Watchdog.model_validate({"every": "60s"})
    assert bench.run(None).state == "applied"
    txid = bench.submit(bench.intent("vision"))
    bench.strike(txid, ending_before(f"symlink {places.COMMITTED}", PowerCutError))
    bench.machine.reboot()
    said: list[str] = []
    real = bench.machine.run

    def locked(argv: Sequence[str], *args: Any, **options: Any) -> Completed:
        if list(argv[:2]) == ["podman", "inspect"]:
            return Completed(125, b"", b"Error: database is locked\n")
        return real(argv, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(bench.machine, "run", locked)
        said.append(watch.watch(bench.machine)["said"])
    said.append(watch.watch(bench.machine)["said"])

    assert said == [
        f"left alone: {txid} could not be brought to its end: podman inspect llama: Error: database is locked",
        f"brought {txid} to its end after a reboot",
    ]
    assert bench.serving() == ["llama"]


def test_a_coven_that_runs_beside_what_is_adopted_comes_back_with_it() -> None:
    bench = a_bench("unit", warm={"timeout": "60s", "attempts": 1})
    vision = bench.covens["vision"]
    bench.covens = {"other": a_coven("other", one=a_service("llamacpp", 8004, memory="8GiB"))}
    assert bench.machine.run(["systemctl", "stop", LLAMA], 60.0).rc == 0
    assert bench.run("other").state == "applied"
    assert bench.machine.run(["systemctl", "start", LLAMA], 60.0).rc == 0
    bench.machine.sleep(60.0)
    bench.covens["vision"] = vision
    assert bench.serving() == ["llama", "recon-other-one"]
    before = as_it_was(bench, "unit")
    set_fault(bench.machine.state, "crash-at-start", NEW)

    outcome = bench.run("vision")

    assert outcome.state == "rolled_back", outcome
    assert as_it_was(bench, "unit") == before


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_taken_over_does_not_come_back_with_an_earlier_generation_or_without_any_coven(kind: Kind) -> None:
    bench = a_bench(kind)
    vision = bench.covens["vision"]
    assert bench.run("vision").state == "applied"
    bench.covens["other"] = a_coven("other", one=a_service("llamacpp", 8004, memory="8GiB"))
    assert bench.run("other").state == "applied"
    bench.covens = {"vision": vision}
    assert bench.run("vision").state == "applied"
    assert bench.run(None).state == "applied"

    bench.machine.reboot()
    bench.machine.sleep(60.0)

    assert bench.serving() == []


def test_what_did_not_run_before_is_nothing_to_go_back_to() -> None:
    bench = a_bench("unit", warm={"timeout": "60s", "attempts": 1})
    assert bench.machine.run(["systemctl", "stop", LLAMA], 60.0).rc == 0
    set_fault(bench.machine.state, "crash-at-start", NEW)

    outcome = bench.run("vision")

    assert (outcome.state, outcome.code, bench.serving()) == ("held", "REC7170", [])
    assert (bench.machine.stat(DROP_IN), bench.machine.stat(WANTS) is None) == (None, False)


def test_what_does_not_come_back_leaves_the_host_held() -> None:
    bench = a_bench("unit", warm={"timeout": "60s", "attempts": 1})
    set_fault(bench.machine.state, "crash-at-start", NEW)

    def hook(when: str, what: str) -> None:
        if when == "before" and what == f"run systemctl start --no-block {LLAMA}":
            bench.machine.files.put(UNIT, Node.of(b"[Service]\nExecStart=/bin/false\nType=oneshot\n"))
            bench.machine.manager.daemon_reload()

    bench.machine.hook = hook
    outcome = bench.run("vision")

    assert (outcome.state, outcome.code) == ("held", "REC7190")
    assert "what was taken over did not come back: llama.service is failed" in outcome.reason


def test_a_start_that_waits_for_others_is_waited_for() -> None:
    bench = a_bench("unit", warm={"timeout": "60s", "attempts": 1})
    before = as_it_was(bench, "unit")["serving"]
    slow = f"[Unit]\nBefore={LLAMA}\n[Service]\nType=notify\nTimeoutStartSec=600\n"
    slow += f"ExecStart=/usr/bin/podman run --name slow --rm --sdnotify=healthy {IMAGES['llamacpp']} --port 8009\n"
    text = bench.machine.read(UNIT).decode()
    for path, unit in ((FILE + "slow.service", slow), (UNIT, text.replace("[Unit]", "[Unit]\nAfter=slow.service"))):
        bench.machine.files.put(path, Node.of(unit.encode()))
    bench.machine.manager.daemon_reload()
    set_fault(bench.machine.state, "crash-at-start", NEW)

    def hook(when: str, what: str) -> None:
        if when == "before" and what == f"run systemctl start --no-block {LLAMA}":
            assert bench.machine.manager.jobs.enqueue("slow.service", "start")

    bench.machine.hook = hook
    outcome = bench.run("vision")

    assert outcome.state == "rolled_back", outcome
    assert bench.serving() == [*before, "slow"]


def test_a_host_that_was_held_and_goes_another_way_keeps_nobody_from_starting_what_it_had_stopped() -> None:
    bench = a_bench("unit", warm={"timeout": "60s", "attempts": 1})

    def no_more_stops(when: Literal["before", "after"], change: str) -> None:
        if when == "before" and change.startswith("run systemctl stop") and "vision" in change:
            raise OSError(errno.EIO, "Input/output error")

    set_fault(bench.machine.state, "crash-at-start", NEW)
    bench.machine.hook = no_more_stops
    assert (bench.run("vision").state, bench.serving()) == ("held", [])
    bench.machine.hook = None
    clear_fault(bench.machine.state)
    bench.covens["vision"] = a_coven("vision", llama=a_service("llamacpp", 8003, memory="100GiB"))
    assert bench.run(None).state == "applied"

    assert (bench.machine.stat(DROP_IN), bench.serving()) == (None, [])
    assert bench.machine.run(["systemctl", "start", LLAMA], 60.0).rc == 0
    assert bench.serving() == ["llama"]


def test_what_comes_back_and_does_not_stay_is_not_called_back() -> None:
    bench = a_bench("unit", warm={"timeout": "60s", "attempts": 1})
    set_fault(bench.machine.state, "crash-at-start", NEW)

    def hook(when: str, what: str) -> None:
        if when == "before" and what == f"run systemctl start --no-block {LLAMA}":
            set_fault(bench.machine.state, "crash-at-start", LLAMA)

    bench.machine.hook = hook
    outcome = bench.run("vision")

    assert (outcome.state, outcome.code) == ("held", "REC7190"), outcome
    assert "what was taken over did not come back" in outcome.reason


def test_what_crashes_again_and_again_on_the_way_back_is_called_so_long_before_the_deadline() -> None:
    text = TEXT.replace("Restart=always\n", "Restart=always\nRestartSec=10s\n")
    bench = a_bench("unit", text=text, warm={"timeout": "60s", "attempts": 1})
    set_fault(bench.machine.state, "crash-at-start", NEW)
    began = []

    def hook(when: str, what: str) -> None:
        if when == "before" and what == f"run systemctl start --no-block {LLAMA}":
            began.append(bench.machine.monotonic())
            set_fault(bench.machine.state, "crash-at-start", LLAMA)

    bench.machine.hook = hook
    outcome = bench.run("vision")

    assert (outcome.state, outcome.code) == ("held", "REC7190"), outcome
    assert f"what was taken over did not come back: {LLAMA} was started 4 times and does not stay up" in outcome.reason
    assert bench.machine.monotonic() - began[0] < 60.0


def test_what_crashes_is_not_taken_over() -> None:
    bench = a_bench("unit", text=TEXT.replace("Restart=always\n", "Restart=always\nRestartSec=1h\n"))
    set_fault(bench.machine.state, "crash-at-start", LLAMA)
    assert bench.machine.run(["systemctl", "restart", LLAMA], 60.0).rc == 0
    bench.machine.sleep(30.0)

    told = [(refusal.code, refusal.detail, refusal.fix) for refusal in planned(bench, "vision").refusals]

    problem = "it crashes, and systemd starts it again and again, so nobody could say whether it came back"
    assert told == [("REC7490", problem, f"see why on the host: journalctl -u {LLAMA}; or systemctl stop {LLAMA}")]


def test_what_could_not_be_kept_off_for_good_stays_off_by_the_next_generation_too() -> None:
    bench = a_bench("unit")
    bench.machine.hook = failing(f"remove {WANTS}")
    outcome = bench.run("vision")
    assert (outcome.state, "left to tidy up" in outcome.reason) == ("applied", True)
    assert bench.machine.stat(DROP_IN) is not None
    bench.covens["other"] = a_coven("other", one=a_service("llamacpp", 8004, memory="8GiB"))
    assert bench.run("other").state == "applied"
    bench.machine.hook = None

    bench.machine.reboot()
    bench.machine.sleep(60.0)
    assert bench.serving() == ["recon-other-one"]
    assert bench.run(None).state == "applied"
    assert (bench.machine.stat(WANTS), bench.machine.stat(DROP_IN)) == (None, None)


def failing(change: str) -> Callable[[str, str], None]:
    def hook(when: str, what: str) -> None:
        if when == "before" and what == change:
            raise OSError(errno.EIO, "Input/output error", change.partition(" ")[2])

    return hook


def order_of(plan: HostPlan) -> Order:
    assert plan.order is not None, plan.refusals
    return plan.order
