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
        return {"name": name, "load": "loaded", "active": active, "config_hash": running, "main_pid": 9, "restarts": 0}

    process = {"pid": 7, "unit": None, "comm": "ollama", "state": "S", "bytes": {"value": 5}}
    ours = {"pid": 8, "unit": "recon-a-x.service", "comm": "vllm", "state": "S", "bytes": {"value": 5}}
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
    lambda state: first(state, "units").update(active="activating"),
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
        lambda state: first(state, "units").update(main_pid=10, restarts=3),
        lambda state: first(state, "units").update(active="reloading"),
        lambda state: state["units"]["value"].reverse(),
        lambda state: state["units"]["value"].append(
            {"name": "recon-gone.target", "load": "not-found", "active": "inactive", "config_hash": {"na": "-"}}
        ),
        lambda state: first(state, "gpus")["processes"]["value"][0].update(pid=70, bytes={"unknown": "x"}),
        lambda state: first(state, "gpus")["processes"]["value"][1].update(pid=80, comm="python3"),
        lambda state: first(state, "gpus")["processes"]["value"].append(
            {"pid": 9, "unit": None, "comm": "", "state": "gone", "bytes": {"value": 1}}
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
