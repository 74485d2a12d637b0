"""What makes a host another host than the one reviewed, and what does not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from reconciler.agent.fingerprint import fingerprint

State = dict[str, Any]


def a_state() -> State:
    def unit(name: str, active: str, running: dict[str, str]) -> State:
        shown = {"name": name, "load": "loaded", "active": active, "sub": "running", "restarts": 0, "main_pid": 9}
        return {**shown, "config_hash": running}

    process = {"pid": 7, "unit": None, "comm": "ollama", "kind": "C", "state": "S", "bytes": {"value": 5}}
    ours = {"pid": 8, "unit": "recon-a-x.service", "comm": "vllm", "kind": "C", "state": "S", "bytes": {"value": 5}}
    gpu = {"uuid": "GPU-1", "memory": {"value": {"free": 5}}, "processes": {"value": [process, ours]}}
    return {
        "identity": {"machine_id": "m", "boot_id": "b", "wall_time": 1.0, "boottime_s": 2.0},
        "generation": {"value": {"number": 4, "manifest": {"value": {}}, "boot": []}},
        "files": {"value": [{"path": "/etc/a", "body_sha256": "aa", "tier": "native", "source_commit": "c1"}]},
        "units": {
            "value": [
                unit("recon-a-x.service", "active", {"value": "h1"}),
                unit("recon-a.target", "active", {"na": "-"}),
            ]
        },
        "boot_targets": {"value": ["recon-coven-a.target"]},
        "gpus": {"value": [gpu]},
        "hold": {"value": None},
        "memory_class": {"value": "discrete"},
        "health": {"recon-a-x.service": {"value": {"ok": True}}},
        "meminfo": {"value": {"free": 1}},
    }


def first(state: State, key: str) -> Any:
    return state[key]["value"][0]


MOVED: list[Callable[[State], Any]] = [
    lambda state: state["identity"].update(machine_id="other"),
    lambda state: state["identity"].update(boot_id="other"),
    lambda state: state["generation"]["value"].update(number=5),
    lambda state: state.update(generation={"value": None}),
    lambda state: state.update(generation={"unknown": "x"}),
    lambda state: first(state, "files").update(body_sha256="bb"),
    lambda state: first(state, "files").update(tier="stray"),
    lambda state: state.update(files={"value": []}),
    lambda state: state.update(files={"unknown": "x"}),
    lambda state: first(state, "units").update(active="failed"),
    lambda state: first(state, "units").update(active="inactive"),
    lambda state: first(state, "units").update(load="masked"),
    lambda state: first(state, "units").update(config_hash={"value": "h2"}),
    lambda state: first(state, "units").update(config_hash={"unknown": "x"}),
    lambda state: state.update(units={"unknown": "x"}),
    lambda state: state["boot_targets"]["value"].append("recon-coven-b.target"),
    lambda state: first(state, "gpus")["processes"]["value"].pop(0),
    lambda state: first(state, "gpus")["processes"]["value"][0].update(unit="ollama.service"),
    lambda state: first(state, "gpus").update(processes={"unknown": "x"}),
    lambda state: state.update(gpus={"unknown": "x"}),
    lambda state: state.update(hold={"value": {"owner": "ada", "reason": "bench", "since": 1.0, "until": None}}),
    lambda state: state.update(hold={"unknown": "x"}),
    lambda state: state.update(memory_class={"value": "unified"}),
]


def test_every_fact_a_plan_depends_on_moves_it() -> None:
    seen = {fingerprint(a_state())}
    for move in MOVED:
        state = a_state()
        move(state)
        seen.add(fingerprint(state))

    assert len(seen) == len(MOVED) + 1


@pytest.mark.parametrize(
    "move",
    [
        lambda state: state["identity"].update(wall_time=99.0, boottime_s=99.0),
        lambda state: first(state, "units").update(main_pid=10),
        lambda state: first(state, "units").update(active="reloading"),
        lambda state: first(state, "units").update(active="activating", sub="start"),
        lambda state: state["units"]["value"].reverse(),
        lambda state: state["units"]["value"].append(
            {**state["units"]["value"][1], "name": "recon-gone.target", "load": "not-found", "active": "inactive"}
        ),
        lambda state: first(state, "gpus")["processes"]["value"][0].update(pid=70, bytes={"unknown": "x"}),
        lambda state: first(state, "gpus")["processes"]["value"][1].update(pid=80, comm="python3"),
        lambda state: first(state, "gpus")["processes"]["value"].append(
            {"pid": 9, "unit": None, "comm": "", "kind": "C", "state": "gone", "bytes": {"value": 1}}
        ),
        lambda state: first(state, "gpus")["processes"]["value"].append(
            {"pid": 9, "unit": None, "comm": "Xorg", "kind": "G", "state": "S", "bytes": {"value": 1}}
        ),
        lambda state: first(state, "gpus").update(memory={"value": {"free": 1}}),
        lambda state: first(state, "files").update(source_commit="c2"),
        lambda state: state.update(health={}, meminfo={"value": {"free": 9}}, notes=["x"], lease={"value": {}}),
    ],
)
def test_what_moves_by_itself_does_not_move_it(move: Callable[[State], Any]) -> None:
    state = a_state()
    move(state)

    assert fingerprint(state) == fingerprint(a_state())


def test_the_words_of_a_reason_do_not_matter_and_the_state_is_left_alone() -> None:
    one, two = a_state(), a_state()
    one["gpus"], two["gpus"] = {"unknown": "pid 7 hung"}, {"unknown": "pid 8 hung"}
    before = copy.deepcopy(one)

    assert fingerprint(one) == fingerprint(two)
    assert one == before
    assert fingerprint(one).startswith("sha256:")


def holder(unit: str | None, kind: str = "C") -> State:
    return {"pid": 9, "unit": unit, "comm": "x", "kind": kind, "state": "S", "bytes": {"value": 1}}


def test_a_shared_service_comes_and_goes_on_the_gpus() -> None:
    there, away = a_state(), a_state()
    for state in (there, away):
        state["shared"] = [{"unit": "qdrant.service", "health": {"na": "-"}}]
    first(there, "gpus")["processes"]["value"].append(holder("qdrant.service"))
    stranger = copy.deepcopy(there)
    first(stranger, "gpus")["processes"]["value"].append(holder("ollama.service"))

    assert fingerprint(there) == fingerprint(away)
    assert fingerprint(stranger) != fingerprint(there)


def test_a_program_that_computes_and_draws_is_no_desktop() -> None:
    state = a_state()
    first(state, "gpus")["processes"]["value"].append(holder(None, "C+G"))

    assert fingerprint(state) != fingerprint(a_state())


def crashing(active: str, sub: str, restarts: int, running: dict[str, str]) -> str:
    state = a_state()
    first(state, "units").update(active=active, sub=sub, restarts=restarts, config_hash=running)
    return fingerprint(state)


def test_a_unit_in_a_crash_loop_is_one_thing_however_often_one_looks() -> None:
    no_process = {"na": "no process of its own"}
    looks = {
        crashing("activating", "auto-restart", 0, no_process),
        crashing("activating", "start", 1, {"value": "h1"}),
        crashing("active", "running", 1, {"value": "h1"}),
        crashing("deactivating", "stop-post", 2, no_process),
        crashing("activating", "auto-restart", 2, no_process),
        crashing("failed", "failed", 5, no_process),
    }

    assert looks == {crashing("failed", "failed", 0, no_process)}
    assert looks != {fingerprint(a_state())}
