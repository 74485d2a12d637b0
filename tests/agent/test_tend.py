"""A tick of the spiral on a simulated host: caps, back-off, convergence, and what is told of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from reconciler.agent import alerts, caps, history, places, systemd, tend
from reconciler.agent.journal import boot_id
from reconciler.agent.machine import Machine
from reconciler.agent.record import read_record
from reconciler.sim.machine import SimMachine
from reconciler.sim.state import Node
from tests.agent.ticks import CONTROL, HOST, PRODUCER, ROOT, STATE, WORKER, commit, spec

CONTEXT = {"digest": "simulated", "mode": "simulated", "bundle": None}
UNIT = "[Unit]\nPartOf=recon-spiral.target\n[Service]\nExecStart=/usr/bin/python3\nRestart=on-failure\n"
TARGET = f"[Unit]\nWants={PRODUCER} {WORKER}\n"


@pytest.fixture
def machine() -> SimMachine:
    machine = SimMachine.new(HOST, "h200", seed=3)
    machine.files.make_dirs(ROOT)
    put(machine, CONTROL, {"prompt": "a fox", "limits": {"jobs_per_hour": 99, "queue_depth": 99}, "seed": 7})
    put(machine, STATE, {"converged": False})
    for unit, text in ((PRODUCER, UNIT), (WORKER, UNIT), ("recon-spiral.target", TARGET)):
        machine.files.put(f"{places.NATIVE}/{unit}", Node.of(text.encode()))
    machine.manager.daemon_reload()
    machine.run(["systemctl", "start", "--no-block", "--job-mode=fail", "recon-spiral.target"], 5.0)
    machine.sleep(1.0)
    commit(machine, spec())
    return machine


def put(machine: SimMachine, path: str, document: Any) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    machine.files.put(path, Node.of(text.encode(), mode=0o640, uid=1000))


def limits(machine: SimMachine) -> dict[str, int]:
    found: dict[str, int] = json.loads(machine.files.read(CONTROL))["limits"]
    return found


def tick(machine: SimMachine, minutes: int = 1, **other: Any) -> str:
    said = ""
    for _ in range(minutes):
        machine.sleep(60.0)
        said = str(tend.tend(machine, **other)["said"])
    return said


def active(machine: SimMachine, unit: str) -> str:
    return machine.run(["systemctl", "is-active", unit], 5.0).out.decode().strip()


def told(machine: SimMachine) -> list[tuple[str, str]]:
    return [(line["kind"], line["reason"]) for line in history.recent(machine)]


def standing(machine: SimMachine) -> list[tuple[str, str]]:
    return [(alert["code"], alert["about"]) for alert in alerts.standing(machine)]


def busy(machine: SimMachine, share: int) -> None:
    for gpu in machine.state.gpus:
        gpu.utilization = share


# -- caps --------------------------------------------------------------------------------------------------------------


def test_the_declared_caps_are_written_and_nothing_else_of_the_file_changes(machine: SimMachine) -> None:
    assert tend.tend(machine) == {"said": "caps at 1"}

    expected = '{"prompt": "a fox", "limits": {"jobs_per_hour": 12, "queue_depth": 40}, "seed": 7}'
    node = machine.files.lstat(CONTROL)
    assert node is not None
    assert (machine.files.read(CONTROL).decode(), node.mode, node.uid) == (expected, 0o640, 1000)


def test_a_second_tick_writes_nothing(machine: SimMachine) -> None:
    tick(machine)
    before = machine.files.lstat(CONTROL)

    tick(machine)

    assert machine.files.lstat(CONTROL) is before


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("jobs: 3", "it is not JSON"),
        ("[1]", "it is JSON, but no object"),
        ({"limits": 5}, "limits is no object"),
        (None, "No such file or directory"),
    ],
)
def test_a_control_file_that_is_none_is_told_and_never_replaced(machine: SimMachine, content: Any, why: str) -> None:
    machine.files.drop(CONTROL)
    if content is not None:
        put(machine, CONTROL, content)
    before = machine.files.lstat(CONTROL)

    said = tick(machine)

    assert (f"{CONTROL}: {why}" in said, machine.files.lstat(CONTROL) is before) == (True, True)
    assert standing(machine) == [("REC7384", "spiral")]
    fix = alerts.standing(machine)[0]["fix"]
    assert fix.endswith(f", correct {CONTROL}: it must hold a JSON object")


def test_a_link_in_place_of_the_control_file_is_not_followed(machine: SimMachine) -> None:
    put(machine, f"{ROOT}/other.json", {"limits": {}})
    machine.files.put(CONTROL, Node(kind="link", target=f"{ROOT}/other.json"))

    tick(machine)

    assert (machine.files.read(f"{ROOT}/other.json"), standing(machine)) == (b'{"limits": {}}', [("REC7384", "spiral")])


@pytest.mark.parametrize("path", ["/etc/control.json", "/srv/spiral2/control.json", "/srv/spiral/../x/control.json"])
def test_a_control_file_outside_the_root_is_not_touched(machine: SimMachine, path: str) -> None:
    commit(machine, spec(control={"file": path, "keys": {"jobs_per_hour": "a"}}), number=2)

    assert f"{path} is not below {ROOT}" in tick(machine)


def test_the_alert_goes_when_the_file_is_fine_again(machine: SimMachine) -> None:
    put(machine, CONTROL, "half")
    tick(machine)
    put(machine, CONTROL, {})
    tick(machine)

    assert (standing(machine), limits(machine)) == ([], {"jobs_per_hour": 12, "queue_depth": 40})


def test_what_is_observed_of_the_file_is_the_owned_keys_alone(machine: SimMachine) -> None:
    put(machine, CONTROL, {"prompt": "secret", "limits": {"jobs_per_hour": 3}})

    assert caps.read(machine, spec()) == {"value": {"jobs_per_hour": 3, "queue_depth": None}}


# -- back-off ----------------------------------------------------------------------------------------------------------


def test_a_busy_gpu_brings_the_caps_down_and_a_calm_one_up_again(machine: SimMachine) -> None:
    busy(machine, 97)
    tick(machine, 11)
    down = limits(machine)
    busy(machine, 10)
    tick(machine, 11)

    assert (down, limits(machine)) == (
        {"jobs_per_hour": 6, "queue_depth": 20},
        {"jobs_per_hour": 12, "queue_depth": 40},
    )
    assert told(machine) == [
        ("backoff", "the rate caps go down: 0.5 of what is declared, before 1"),
        ("backoff", "the rate caps go up: 1 of what is declared, before 0.5"),
    ]


def test_full_memory_is_as_good_a_reason(machine: SimMachine) -> None:
    uuids = [gpu.uuid for gpu in machine.state.gpus]
    assert machine.gpu.take(4711, "somebody", uuids, int(machine.state.gpus[0].total * 0.95))

    tick(machine, 11)

    assert limits(machine)["jobs_per_hour"] == 6


def test_the_factor_outlives_a_reboot_and_a_record_that_does_not_verify_means_the_least(machine: SimMachine) -> None:
    busy(machine, 97)
    tick(machine, 11)
    machine.reboot()
    tick(machine)
    after_boot = limits(machine)["jobs_per_hour"]
    machine.files.put(places.LOOP, Node.of(b"{}"))
    tick(machine)

    assert (after_boot, limits(machine)["jobs_per_hour"]) == (6, 2)


def test_a_driver_that_does_not_answer_changes_nothing(machine: SimMachine) -> None:
    from reconciler.sim.faults import set_fault

    busy(machine, 97)
    tick(machine, 11)
    set_fault(machine.state, "nvml", "*", 15, "GPU is lost")
    tick(machine, 60)

    assert limits(machine)["jobs_per_hour"] == 6


# -- convergence -------------------------------------------------------------------------------------------------------


def test_a_loop_that_has_arrived_has_no_producer_until_it_goes_on(machine: SimMachine) -> None:
    put(machine, STATE, {"converged": True})
    tick(machine)
    machine.sleep(5.0)
    arrived = (active(machine, PRODUCER), active(machine, WORKER))
    put(machine, STATE, {"converged": False})
    tick(machine)
    machine.sleep(5.0)

    assert (arrived, active(machine, PRODUCER)) == (("inactive", "active"), "active")
    assert told(machine) == [
        ("converged", "the loop has converged: its producers stop"),
        ("converged", "the loop goes on: producers start"),
    ]


def test_a_producer_whose_stop_came_late_is_started_again_when_the_loop_goes_on(
    machine: SimMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = systemd.end_all

    def late(machine: Machine, units: Sequence[str]) -> None:
        queue(machine, units)
        raise systemd.SystemdError("systemctl stop: exit status 124")

    put(machine, STATE, {"converged": True})
    with monkeypatch.context() as patched:
        patched.setattr(systemd, "end_all", late)
        tick(machine)
    machine.sleep(5.0)
    tick(machine)
    arrived = (active(machine, PRODUCER), standing(machine))
    put(machine, STATE, {"converged": False})
    tick(machine)
    machine.sleep(5.0)

    assert (arrived, active(machine, PRODUCER)) == (("inactive", []), "active")


@pytest.mark.parametrize("value", [1, "true", None, [True], {"a": True}])
def test_only_the_declared_value_counts_as_arrived(machine: SimMachine, value: Any) -> None:
    put(machine, STATE, {"converged": value})
    tick(machine)
    machine.sleep(5.0)

    assert active(machine, PRODUCER) == "active"


def test_a_state_file_that_cannot_be_read_changes_nothing_and_is_told(machine: SimMachine) -> None:
    put(machine, STATE, {"converged": True})
    tick(machine)
    put(machine, STATE, "torn {")
    tick(machine)
    machine.sleep(5.0)

    assert (active(machine, PRODUCER), standing(machine)) == ("inactive", [("REC7387", "spiral")])
    assert alerts.standing(machine)[0]["fix"].endswith(
        f", correct {STATE}: converged says whether the loop has arrived"
    )


def test_a_producer_that_somebody_else_stopped_is_not_started(machine: SimMachine) -> None:
    machine.run(["systemctl", "stop", "--no-block", PRODUCER], 5.0)
    machine.sleep(10.0)

    tick(machine, 2)
    machine.sleep(5.0)

    assert active(machine, PRODUCER) == "inactive"


@pytest.mark.parametrize("mark", [places.DOWN_SPIRAL, places.TRIAL])
def test_nothing_is_started_while_the_spiral_is_down_or_a_transition_runs(machine: SimMachine, mark: str) -> None:
    put(machine, STATE, {"converged": True})
    tick(machine)
    machine.files.make_dirs(mark)
    put(machine, STATE, {"converged": False})
    tick(machine)
    machine.sleep(5.0)

    assert active(machine, PRODUCER) == "inactive"


# -- whose it is -------------------------------------------------------------------------------------------------------


def test_a_spiral_that_is_off_or_held_or_not_there_is_left_alone(machine: SimMachine) -> None:
    before = machine.files.read(CONTROL)
    commit(machine, spec(enabled=False), number=2)
    off = tick(machine)
    commit(machine, None, number=3)
    absent = tick(machine)
    commit(machine, spec(), number=4)
    hold = {"owner": "anna", "reason": "measuring", "since": 0.0}
    machine.files.put(places.HOLD, Node.of(json.dumps(hold).encode()))
    held = tick(machine)

    assert (off, absent, held) == (
        "the spiral is not enabled here",
        "no spiral is committed on this host",
        "left alone: held by anna: measuring",
    )
    assert machine.files.read(CONTROL) == before


def test_two_ticks_at_once_are_one(machine: SimMachine) -> None:
    machine.mkdir(places.RUN)
    with machine.lock(places.TEND_LOCK):
        assert tick(machine) == "left alone: it is looked after already"


# -- guardrails --------------------------------------------------------------------------------------------------------


def test_a_broken_guardrail_is_told_once_and_its_alert_goes_when_it_holds_again(machine: SimMachine) -> None:
    state = {"value": "broken"}

    def check(_machine: Any, _spec: Any) -> list[dict[str, Any]]:
        return [
            {"name": "one-producer", "state": state["value"], "text": "two producers are active", "fix": "stop one"},
            {"name": "caps", "state": "ok", "text": "", "fix": ""},
        ]

    said = tick(machine, 3, check=check)
    while_broken = standing(machine)
    state["value"] = "unknown"
    tick(machine, 2, check=check)
    while_unknown = standing(machine)
    state["value"] = "ok"
    tick(machine, check=check)

    assert said == "caps at 1; guardrail one-producer is broken"
    assert (while_broken, while_unknown, standing(machine)) == (
        [("REC7391", "one-producer")],
        [("REC7391", "one-producer")],
        [],
    )
    assert told(machine) == [("guardrail", "guardrail one-producer: two producers are active")]


def test_what_a_tick_saw_is_written_down_for_whoever_asks(machine: SimMachine) -> None:
    busy(machine, 40)
    tick(machine)

    body = read_record(machine, places.LOOP)
    assert {key: body[key] for key in ("boot_id", "factor", "stopped", "broken", "converged")} == {
        "boot_id": boot_id(machine),
        "factor": 1.0,
        "stopped": [],
        "broken": {},
        "converged": False,
    }
    seen = body["seen"]
    assert (seen["caps"], seen["gpu"], seen["problems"]) == ({"jobs_per_hour": 12, "queue_depth": 40}, 0.4, [])
