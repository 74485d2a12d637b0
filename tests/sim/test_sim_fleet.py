"""The production agent on simulated hosts: a whole apply, a switch, a rollback, and hosts on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.sim import SimFleet, deeds
from reconciler.sim.deeds import DEEDS, DeedError, perform
from reconciler.sim.fleet import HOSTS, SimulationError
from reconciler.sim.machine import SimMachine
from reconciler.sim.state import GiB, Kind
from tests.sim.studio import MEMBERS, Studio

ASKED: dict[str, Any] = {"shared": [], "memory": "auto", "images": [], "deadline_s": 20}


@pytest.mark.parametrize("kind", ["gb10", "gh200", "h200"])
def test_from_nothing_to_a_coven_to_another_and_then_nothing_is_left_to_do(kind: Kind) -> None:
    studio = Studio(kind)
    first = studio.apply()
    assert (first["state"], studio.running(), studio.has_changes()) == ("applied", MEMBERS["reasoning"], False)

    studio.wants = "vision"
    second = studio.apply()
    assert (second["state"], studio.running(), studio.has_changes()) == ("applied", MEMBERS["vision"], False)
    assert second["live"] == {"all": "vision"}

    studio.machine.reboot()
    assert (studio.running(), studio.machine.state.cut) == (MEMBERS["vision"], [])


def test_an_observation_changes_nothing_on_the_host() -> None:
    studio = Studio()
    studio.apply()
    seen: list[str] = []
    studio.machine.hook = lambda _when, what: seen.append(what)

    assert studio.observe().fingerprint == studio.observe().fingerprint
    assert seen == []


def test_a_switch_waits_in_virtual_time_for_what_is_in_flight() -> None:
    studio = Studio()
    studio.apply()
    deeds.requests(studio.machine, "reasoning/vllm", 20.0)
    studio.wants = "vision"
    outcome = studio.apply()

    assert (outcome["state"], studio.machine.state.cut) == ("applied", [])
    assert 20.0 <= outcome["steps_s"]["drain"] < 25.0


def test_a_drain_that_takes_too_long_leaves_the_old_coven_serving() -> None:
    studio = Studio()
    studio.apply()
    deeds.requests(studio.machine, "reasoning/vllm", 300.0)
    studio.wants = "vision"

    assert (studio.apply()["state"], studio.running(), studio.machine.state.cut) == (
        "aborted",
        MEMBERS["reasoning"],
        [],
    )


@pytest.mark.parametrize("kind", ["never-healthy", "crash-at-start", "crash-after-ready", "wrong-model"])
def test_a_coven_that_does_not_come_up_is_rolled_back(kind: str) -> None:
    studio = Studio()
    studio.wants = "vision"
    studio.apply()
    deeds.fault(studio.machine, kind, "reasoning/vllm", 1.0 if kind.startswith("crash") else 0.0)
    studio.wants = "reasoning"
    outcome = studio.apply()

    assert (outcome["state"], outcome["live"], studio.running()) == (
        "rolled_back",
        {"all": "vision"},
        MEMBERS["vision"],
    )
    assert studio.machine.stat("/run/containers/systemd/recon-trial") is None


def test_memory_that_is_not_given_back_starts_nothing_new() -> None:
    studio = Studio()
    studio.apply()
    deeds.fault(studio.machine, "slow-release", "reasoning", 1e9)
    studio.wants = "vision"
    outcome = studio.apply()

    assert outcome["state"] == "held"
    assert not any("recon-vision-llama began" in line for line in studio.machine.clock.trace)


def test_a_fault_of_nvml_starts_nothing() -> None:
    studio = Studio()
    txid = studio.launch()
    deeds.fault(studio.machine, "nvml", "*", 999.0, "Unknown Error")
    while studio.machine.state.launched:
        studio.machine.state.launched.pop()
        studio.ask("execute", {"txid": txid})

    assert (
        studio.outcome(txid)["state"] in ("stale", "refused", "aborted", "held", "rolled_back"),
        studio.running(),
    ) == (
        True,
        [],
    )


def test_hosts_are_made_when_they_are_first_asked_and_their_kind_follows_declaration_request_and_name(
    tmp_path: Path,
) -> None:
    tmp_path.joinpath(HOSTS).write_text(json.dumps({"spark-9": {"kind": "h200", "gpus": 2}}), encoding="utf-8")
    fleet = SimFleet(tmp_path)
    for host, memory in (("spark-1", "auto"), ("gh-1", "auto"), ("box", "auto"), ("odd", "unified"), ("spark-9", "")):
        fleet.handle(host, "observe", {**ASKED, "memory": memory or "auto"})

    found = {}
    for host in fleet.hosts():
        with fleet.open(host) as machine:
            found[host] = (machine.state.kind, len(machine.state.gpus))
    assert found == {
        "box": ("h200", 1),
        "gh-1": ("gh200", 1),
        "odd": ("gb10", 1),
        "spark-1": ("gb10", 1),
        "spark-9": ("h200", 2),
    }


def test_a_host_that_is_down_is_an_os_error_until_it_is_switched_on(tmp_path: Path) -> None:
    fleet = SimFleet(tmp_path)
    before = fleet.handle("box", "observe", ASKED)["identity"]
    perform(fleet, "box", "down")
    with pytest.raises(ConnectionRefusedError):
        fleet.handle("box", "observe", ASKED)
    perform(fleet, "box", "up")
    after = fleet.handle("box", "observe", ASKED)["identity"]

    assert (before["machine_id"] == after["machine_id"], before["boot_id"] == after["boot_id"]) == (True, False)


def test_services_of_others_and_images_are_there_when_they_are_asked_about(tmp_path: Path) -> None:
    fleet = SimFleet(tmp_path)
    image = "docker.io/x/y@sha256:" + "1" * 64
    shared = [{"unit": "qdrant.service", "health": "http://127.0.0.1:6333/healthz"}]
    args = {**ASKED, "shared": shared, "images": [image]}
    first = fleet.handle("box", "observe", args)
    perform(fleet, "box", "stop", ["qdrant.service"])
    perform(fleet, "box", "missing", ["image", image])
    second = fleet.handle("box", "observe", args)

    assert [(reply["shared"][0]["active"], reply["images"]) for reply in (first, second)] == [
        ("active", {"value": [image]}),
        ("inactive", {"value": []}),
    ]
    assert [reply["shared"][0]["health"]["value"]["ok"] for reply in (first, second)] == [True, False]


def test_a_command_the_simulator_does_not_know_ends_the_request(tmp_path: Path, monkeypatch: Any) -> None:
    fleet = SimFleet(tmp_path)
    fleet.handle("box", "observe", ASKED)

    def answer(self: SimMachine, words: list[str], timeout_s: float, env: dict[str, str]) -> None:
        from reconciler.sim.podman import UnknownArgvError

        raise UnknownArgvError(str(words))

    monkeypatch.setattr(SimMachine, "_answer", answer)
    with pytest.raises(SimulationError):
        fleet.handle("box", "observe", ASKED)


def test_what_changes_between_commands_is_on_disk(tmp_path: Path) -> None:
    perform(SimFleet(tmp_path), "box", "hold", ["3"])
    reply = SimFleet(tmp_path).handle("box", "observe", ASKED)

    assert [(row["comm"], row["bytes"]) for row in reply["gpus"]["value"][0]["processes"]["value"]] == [
        ("python3", {"value": 3 * GiB})
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dance", []),
        ("fault", []),
        ("fault", ["gremlins"]),
        ("hold", ["many"]),
        ("hold", ["100000"]),
        ("kill", ["1"]),
        ("edit", ["no.service", "a", "b"]),
        ("stop", ["no.service"]),
        ("requests", ["nobody", "3"]),
        ("missing", ["hope", "x"]),
    ],
)
def test_a_deed_that_makes_no_sense_says_so(tmp_path: Path, name: str, words: list[str]) -> None:
    with pytest.raises(DeedError):
        perform(SimFleet(tmp_path), "box", name, words)


def test_every_deed_says_in_one_line_what_was_done(tmp_path: Path) -> None:
    fleet = SimFleet(tmp_path)
    words = {
        "fault": ["slow-load", "reasoning", "3"],
        "hold": ["1"],
        "stop": ["nvidia-persistenced.service"],
        "edit": ["nvidia-persistenced.service", "Daemon", "Demon"],
        "stray": ["1"],
        "requests": [":9999", "5"],
        "post": [":9999", "/anything"],
        "missing": ["path", "/srv/models/x"],
        "file": ["/srv/spiral/control.json", "{}"],
        "run": ["/srv/spiral/feeder"],
        "wait": ["3"],
    }
    said = {name: perform(fleet, "box", name, words.get(name, [])) for name in DEEDS if name != "kill"}

    assert all(line.startswith("box: ") and "\n" not in line for line in said.values())
