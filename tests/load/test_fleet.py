"""What loading makes of good files, and that it tells everything about bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.errors import DesiredStateError, ExitCode, Problem, Where
from reconciler.load.fleet import load_fleet, load_templates
from reconciler.model.desired import (
    Coven,
    Drain,
    Fleet,
    Host,
    MemorySpec,
    Platform,
    Policy,
    Service,
    Slot,
    Spiral,
    Ssh,
    Watchdog,
)
from tests.load.states import COVEN, FLEET, HOST, IMAGE, SERVICE, lines, write

GIB = 2**30
REPOSITORY = Path(__file__).parents[2]
ONE = Service(runtime="none", image=IMAGE, memory="10GiB")  # type: ignore[arg-type]  # sizes are read from text


def a_host(name: str = "box", **over: object) -> Host:
    values: dict[str, object] = {
        "name": name,
        "address": "192.0.2.1",
        "host_key": None,
        "ssh": Ssh(),
        "reserve": None,
        "memory": MemorySpec(),
        "platform": Platform(),
        "slots": (Slot(name="all", gpus="all", coven="writing"),),
        "may_run": ("writing",),
        "shared": (),
        "residents": {},
        "spiral": Spiral(),
        "schedule": (),
        "watchdog": Watchdog(),
    }
    return Host.model_validate({**values, **over})


def test_the_smallest_state_gets_every_default(tmp_path: Path) -> None:
    fleet = load_fleet(write(tmp_path, {}))

    assert fleet == Fleet(
        name="studio",
        transport="ssh",
        policy=Policy(),
        covens={"writing": Coven(name="writing", description=None, services={"one": ONE}, drain=Drain())},
        hosts={"box": a_host()},
    )


def test_a_host_inherits_ssh_key_by_key(tmp_path: Path) -> None:
    fleet = FLEET + "defaults: {ssh: {user: admin, key: ~/.ssh/k, jump: jump.example.net}, platform: {systemd: 257}}\n"

    host = load_fleet(
        write(tmp_path, {"desired/fleet.yaml": fleet, "desired/hosts/box.yaml": HOST + "ssh: {port: 2222}\n"})
    )

    assert host.hosts["box"] == a_host(
        ssh=Ssh(user="admin", key="~/.ssh/k", port=2222, jump="jump.example.net"), platform=Platform(systemd=257)
    )


def test_a_host_inherits_the_watchdog_key_by_key_and_may_have_none(tmp_path: Path) -> None:
    fleet = FLEET + "defaults: {watchdog: {every: 20s, attempts: 5}}\n"
    command = "watchdog: {reset: {command: [/usr/bin/reset-it]}}\n"
    state = {
        "desired/fleet.yaml": fleet,
        "desired/hosts/box.yaml": HOST + command,
        "desired/hosts/none.yaml": HOST.replace("192.0.2.1", "192.0.2.2") + "watchdog: {enabled: false}\n",
    }

    hosts = load_fleet(write(tmp_path, state)).hosts

    reset = {"command": ("/usr/bin/reset-it",)}
    assert hosts["box"].watchdog == Watchdog.model_validate({"every": "20s", "attempts": 5, "reset": reset})
    assert hosts["none"].watchdog is None


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("{every: 1s}", "REC2060 desired/hosts/box.yaml:3:19"),
        ("{every: 2h, window: 24h}", "REC2060 desired/hosts/box.yaml:3:19"),
        ("{window: 1m}", "REC2061 desired/hosts/box.yaml:3:12"),
        ("{reset: {command: [nvidia-smi, -r]}}", "REC2062 desired/hosts/box.yaml:3:30"),
        ("{reset: {timeout: 2h}}", "REC2012 desired/hosts/box.yaml:3:29"),
    ],
)
def test_a_watchdog_that_makes_no_sense_is_refused(tmp_path: Path, words: str, line: str) -> None:
    assert lines(write(tmp_path, {"desired/hosts/box.yaml": f"{HOST}watchdog: {words}\n"})) == [line]


def test_a_drain_is_the_services_else_the_covens_else_the_fleets(tmp_path: Path) -> None:
    state = {
        "desired/fleet.yaml": FLEET + "defaults: {drain: {timeout: 1m}}\n",
        "desired/covens/b.yaml": COVEN + f"  two:\n    {SERVICE}    drain: {{timeout: 3m}}\ndrain: {{timeout: 2m}}\n",
    }

    covens = load_fleet(write(tmp_path, state)).covens

    drains = [covens["writing"].drain_of("one"), covens["b"].drain_of("one"), covens["b"].drain_of("two")]
    assert [drain.timeout for drain in drains] == [60.0, 120.0, 180.0]


def test_slots_are_spelled_out_and_may_run_is_what_they_and_the_windows_name(tmp_path: Path) -> None:
    host = 'address: 192.0.2.1\nslots:\n  left: {gpus: ["0", "1"], coven: b}\n  right: {gpus: ["2"]}\n'
    window = HOST + 'schedule: [{coven: b, from: "02:00", to: "04:00"}, {coven: writing, from: "05:00", to: "06:00"}]\n'
    state = {
        "desired/covens/b.yaml": COVEN,
        "desired/hosts/box.yaml": host,
        "desired/hosts/w.yaml": window.replace("192.0.2.1", "192.0.2.2"),
        "desired/hosts/idle.yaml": "address: 192.0.2.3\n",
    }

    hosts = load_fleet(write(tmp_path, state)).hosts

    assert hosts["box"].slots == (
        Slot(name="left", gpus=("0", "1"), coven="b"),
        Slot(name="right", gpus=("2",), coven=None),
    )
    assert hosts["box"].may_run == ("b",)
    assert hosts["w"].may_run == ("writing", "b")
    assert hosts["idle"].slots == (Slot(name="all", gpus="all", coven=None),)
    assert hosts["idle"].may_run == ()


def test_every_problem_of_every_file_is_told_at_once_in_order(tmp_path: Path) -> None:
    state = {
        "desired/fleet.yaml": "version: 2\nname: studio\n",
        "desired/covens/writing.yaml": COVEN.replace("10GiB", "10") + "    port: 0\n",
        "desired/covens/b.yaml": "- x\n",
        "desired/hosts/box.yaml": "coven: wrting\naddress: -x\nspiral: {enabled: true}\n",
        "desired/hosts/a.yaml": "addres: 192.0.2.1\n",
    }

    assert lines(write(tmp_path, state)) == [
        "REC1014 desired/covens/b.yaml:1:1",
        "REC2011 desired/covens/writing.yaml:5:13",
        "REC2004 desired/covens/writing.yaml:6:11",
        "REC2019 desired/fleet.yaml:1:10",
        "REC2001 desired/hosts/a.yaml:1:1",
        "REC2002 desired/hosts/a.yaml:1:1",
        "REC2005 desired/hosts/box.yaml:1:8",
        "REC3010 desired/hosts/box.yaml:2:10",
        "REC2086 desired/hosts/box.yaml:3:19",
    ]


def test_a_problem_reads_as_a_sentence_with_place_reason_and_hint(tmp_path: Path) -> None:
    write(tmp_path, {"desired/hosts/box.yaml": "address: 192.0.2.1\ncoven: writting\n"})

    with pytest.raises(DesiredStateError) as caught:
        load_fleet(tmp_path)

    assert caught.value.exit_code is ExitCode.REFUSED
    assert caught.value.problems == (
        Problem(
            code="REC2005",
            summary="unknown coven",
            detail="there is no desired/covens/writting.yaml",
            fix="did you mean 'writing'?",
            where=Where("desired/hosts/box.yaml", 2, 8),
        ),
    )


def test_positions_follow_aliases_and_merges(tmp_path: Path) -> None:
    coven = (
        "services:\n"
        f"  one: &one\n    runtime: none\n    image: {IMAGE}\n    memory: 1GiB\n    env: &env {{LD_X: a}}\n"
        "  two:\n    <<: *one\n    port: 0\n"
    )

    assert lines(write(tmp_path, {"desired/covens/writing.yaml": coven})) == [
        "REC2004 desired/covens/writing.yaml:9:11"
    ]
    write(tmp_path, {"desired/covens/writing.yaml": coven.replace("port: 0", "port: 1")})
    assert lines(tmp_path) == ["REC3009 desired/covens/writing.yaml:6:16"]


@pytest.mark.parametrize(
    ("removed", "expected"),
    [
        ("desired", ["REC2024 desired/fleet.yaml"]),
        ("desired/fleet.yaml", ["REC2024 desired/fleet.yaml"]),
        ("desired/hosts", ["REC2024 desired/hosts"]),
    ],
)
def test_an_empty_desired_state_is_never_a_fleet(tmp_path: Path, removed: str, expected: list[str]) -> None:
    write(tmp_path, {})
    (tmp_path / removed).rename(tmp_path / "elsewhere")

    assert lines(tmp_path) == expected


def test_the_example_fleet_of_this_repository_loads() -> None:
    fleet = load_fleet(REPOSITORY)

    assert {name: host.slots[0].coven for name, host in fleet.hosts.items()} == {
        "gh-1": "flux",
        "spark-1": "reasoning",
        "spark-2": "vision",
    }
    assert sorted(fleet.covens) == ["embeddings", "flux", "reasoning", "speech", "vision"]


def test_templates_are_texts_by_name(tmp_path: Path) -> None:
    assert load_templates(tmp_path) == {}
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/container.j2").write_text("[Container]\n")
    (tmp_path / "templates/notes.md").write_text("x")

    assert load_templates(tmp_path) == {"container.j2": "[Container]\n"}


def test_a_template_is_a_plain_file_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/a.j2").symlink_to("/etc/passwd")
    (tmp_path / "templates/b.j2").write_bytes(b"\xff")

    with pytest.raises(DesiredStateError) as caught:
        load_templates(tmp_path)

    assert [(each.code, str(each.where)) for each in caught.value.problems] == [
        ("REC1024", "templates/a.j2"),
        ("REC1001", "templates/b.j2:1:1"),
    ]


def test_a_linked_template_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "templates").symlink_to("/etc")

    with pytest.raises(DesiredStateError) as caught:
        load_templates(tmp_path)

    assert [(each.code, str(each.where)) for each in caught.value.problems] == [("REC1024", "templates")]
