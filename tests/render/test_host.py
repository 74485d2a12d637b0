"""What belongs on a host: the units as golden files, and the rules that hold for all of them."""

from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from reconciler.errors import DesiredStateError
from reconciler.model.base import RESERVED_NAMES
from reconciler.model.desired import ALL_GPUS, Coven, Drain, MemorySpec, Platform, Slot, Watchdog
from reconciler.model.rendered import RenderedFile, RenderedHost
from reconciler.render import Memo, render_fleet, render_host
from reconciler.render.units import digest
from tests.render.fleets import REASONING, TWO_SLOTS, VISION, a_fleet, a_host, a_service
from tests.render.parsers import logical_value, quadlet_line, quadlet_words, systemd_words


class UnitFile(SingleFileSnapshotExtension):
    """One golden file per unit, readable as such."""

    _write_mode = WriteMode.TEXT
    file_extension = "unit"


def render(**over: Any) -> RenderedHost:
    host = a_host(**over)
    return render_host(a_fleet(host), host, {})


def lines(file: RenderedFile, key: str) -> list[str]:
    """Every value of a key, in order, multi-valued ones split."""
    found = [line.removeprefix(f"{key}=") for line in file.body.splitlines() if line.startswith(f"{key}=")]
    return [word for value in found for word in value.split()]


def test_units_of_one_slot(snapshot: SnapshotAssertion) -> None:
    for file in render().files:
        assert file.body == snapshot(extension_class=UnitFile, name=file.name)


def test_units_of_two_slots(snapshot: SnapshotAssertion) -> None:
    for file in render(slots=TWO_SLOTS).files:
        if file.coven:
            assert file.body == snapshot(extension_class=UnitFile, name=file.name)


@pytest.mark.parametrize("drops", [True, False])
def test_that_the_watchdog_may_drop_the_page_cache_stands_in_its_unit_and_in_what_it_goes_by(drops: bool) -> None:
    rendered = render(watchdog=Watchdog(), memory=MemorySpec(drop_caches=drops))
    (unit,) = (file for file in rendered.files if file.name == "recon-watchdog.service")

    assert ("DropCaches=yes" in unit.body) is drops
    assert rendered.watchdog is not None
    assert ("drop_caches" in rendered.watchdog.model_dump()) is drops


@pytest.mark.parametrize("slots", [a_host().slots, TWO_SLOTS])
def test_every_member_has_its_gate_in_all_three_relations(slots: tuple[Slot, ...]) -> None:
    host = render(slots=slots)
    files = {file.name: file for file in host.files}

    for group in host.groups.values():
        for member in group.members:
            file = files[f"{member.container}.container"]
            assert lines(file, "Requisite") == [group.gate]
            assert lines(file, "PartOf") == [group.gate]
            assert lines(file, "After")[0] == group.gate
            assert lines(file, "Before") == [group.target]
            assert lines(file, "WantedBy") == [group.target]
        assert lines(files[group.target], "BindsTo") == [group.gate]
        assert lines(files[group.target], "After") == [group.gate]


def test_gates_of_a_slot_conflict_both_ways_and_are_ordered_one_way() -> None:
    gates = {file.name: file for file in render().files if file.name.startswith("recon-gate-")}

    assert sorted(gates) == [f"recon-gate-all-{coven}.service" for coven in ("reasoning", "speech", "vision")]
    for name, gate in gates.items():
        others = sorted(gates.keys() - {name})
        assert lines(gate, "Conflicts") == others
        assert [unit for unit in lines(gate, "After") if unit in gates] == [unit for unit in others if unit < name]


def test_a_gate_on_one_of_several_slots_still_conflicts_with_the_coven_that_may_have_been_there_before() -> None:
    files = {file.name: file for file in render(slots=TWO_SLOTS).files}

    assert lines(files["recon-gate-right-vision.service"], "Conflicts") == [
        "recon-gate-right-reasoning.service",
        "recon-gate-right-speech.service",
    ]


def test_a_host_with_one_slot_has_all_covens_it_may_run_and_boots_one() -> None:
    host = render()

    assert sorted(host.groups) == ["reasoning", "speech", "vision"]
    assert host.boot == ("recon-coven-reasoning.target",)
    assert host.live == {"all": "reasoning"}


def test_a_host_with_several_slots_has_only_the_covens_they_name_each_with_its_own_gpus() -> None:
    host = render(slots=TWO_SLOTS)
    files = {file.name: file for file in host.files}

    assert {name: group.gate for name, group in host.groups.items()} == {
        "reasoning": "recon-gate-left-reasoning.service",
        "vision": "recon-gate-right-vision.service",
    }
    assert host.boot == ("recon-coven-reasoning.target", "recon-coven-vision.target")
    assert host.live == {"left": "reasoning", "right": "vision"}
    assert lines(files["recon-reasoning-vllm.container"], "AddDevice") == [
        "nvidia.com/gpu=GPU-11111111-0000-0000-0000-000000000000",
        "nvidia.com/gpu=1",
    ]
    assert lines(files["recon-vision-flux.container"], "AddDevice") == ["nvidia.com/gpu=2"]


def test_an_empty_slot_boots_nothing() -> None:
    host = render(slots=(Slot(name=ALL_GPUS, gpus="all", coven=None),))

    assert (host.boot, host.live) == ((), {"all": None})
    assert sorted(host.groups) == ["reasoning", "speech", "vision"]


def test_members_come_in_the_order_they_start() -> None:
    assert [member.service for member in render().groups["reasoning"].members] == ["vllm", "reranker"]


def test_services_that_wait_for_each_other_are_refused() -> None:
    services = {"a": a_service(after=("b",)), "b": a_service(after=("a",)), "c": a_service()}
    loop = Coven(name="loop", description=None, services=services, drain=Drain())
    host = a_host(may_run=("loop",), slots=(Slot(name=ALL_GPUS, gpus="all", coven="loop"),))

    with pytest.raises(DesiredStateError) as caught:
        render_host(a_fleet(host, covens=(loop,)), host, {})

    assert [problem.code for problem in caught.value.problems] == ["REC2018"]


def test_two_names_that_read_alike_are_refused() -> None:
    short = Coven(name="a", description=None, services={"b-c": a_service()}, drain=Drain())
    long = Coven(name="a-b", description=None, services={"c": a_service()}, drain=Drain())
    host = a_host(may_run=("a", "a-b"), slots=(Slot(name=ALL_GPUS, gpus="all", coven="a"),))

    with pytest.raises(DesiredStateError) as caught:
        render_host(a_fleet(host, covens=(short, long)), host, {})

    (problem,) = caught.value.problems
    assert (problem.code, "recon-a-b-c.service" in problem.detail) == ("REC3003", True)


def test_no_unit_can_be_taken_for_one_of_the_program() -> None:
    assert {"gate", "coven", "resident", "boot", "executor"} <= RESERVED_NAMES
    assert all(file.name.startswith("recon-") for file in render().files)


def test_the_words_after_the_image_are_those_of_the_member_word_for_word() -> None:
    host = render()
    files = {file.name: file for file in host.files}
    members = [member for group in host.groups.values() for member in group.members]

    assert members
    for member in [*members, *host.residents]:
        written = [
            line for line in files[f"{member.container}.container"].body.splitlines() if line.startswith("Exec=")
        ]
        value = logical_value(written[0].removeprefix("Exec=")) if written else ""
        assert systemd_words(quadlet_line(quadlet_words(value))) == [list(member.argv)]


def test_a_hash_covers_the_body_without_itself_and_stands_in_it_twice() -> None:
    for file in render().files:
        assert digest(file.body) == file.body_sha256
        if file.kind == "native":
            assert file.config_hash == file.body_sha256[:16]
            continue
        assert digest(file.body.replace(file.config_hash, ""))[:16] == file.config_hash
        assert f"Label=io.recon.config-hash={file.config_hash}" in file.body.splitlines()
        assert f"Environment=RECON_CONFIG_HASH={file.config_hash}" in file.body.splitlines()


def test_a_change_to_one_service_changes_the_hash_of_that_service_alone() -> None:
    services = {**REASONING.services, "vllm": REASONING.services["vllm"].model_copy(update={"args": ("--other",)})}
    changed = REASONING.model_copy(update={"services": services})
    before = {file.name: file.config_hash for file in render().files}
    after = {
        file.name: file.config_hash
        for file in render_host(a_fleet(covens=(changed, VISION, a_fleet().covens["speech"])), a_host(), {}).files
    }

    assert {name for name in before if before[name] != after[name]} == {"recon-reasoning-vllm.container"}


def test_another_coven_on_the_host_changes_gates_but_nothing_that_runs() -> None:
    before = {file.name: file.body for file in render(may_run=("reasoning", "vision")).files}
    after = {file.name: file.body for file in render().files}

    assert {name for name in before if before[name] != after[name]} == {
        "recon-gate-all-reasoning.service",
        "recon-gate-all-vision.service",
    }


def test_hosts_of_one_kind_share_their_bodies_and_differ_only_in_what_is_live() -> None:
    other = a_host("spark-2", slots=(Slot(name=ALL_GPUS, gpus="all", coven="vision"),))
    fleet = a_fleet(a_host(), other)
    rendered = render_fleet(fleet, {})

    assert rendered["spark-1"].files is rendered["spark-2"].files
    assert (rendered["spark-2"].live, rendered["spark-2"].boot) == ({"all": "vision"}, ("recon-coven-vision.target",))
    assert rendered == {name: render_host(fleet, host, {}) for name, host in fleet.hosts.items()}
    assert not [file.name for file in rendered["spark-1"].files if "spark-1" in file.body]


def test_hosts_that_differ_in_platform_or_residents_share_nothing_wrongly() -> None:
    plain, newer = a_host("a"), a_host("b", platform=Platform(podman="5.5"))
    busier = a_host("c", residents={"parser": a_service(gpu=False)})
    fleet = a_fleet(plain, newer, busier)
    memo = Memo(fleet, {})

    shared = {name: memo.host(host) for name, host in fleet.hosts.items()}

    assert shared == {name: render_host(fleet, host, {}) for name, host in fleet.hosts.items()}


def test_a_memory_cap_is_shown_to_the_container_only_where_podman_knows_the_key() -> None:
    def caps(podman: str) -> list[list[str]]:
        files = {file.name: file for file in render(platform=Platform(podman=podman)).files}
        return [lines(files["recon-reasoning-vllm.container"], key) for key in ("Memory", "MemoryMax", "MemorySwapMax")]

    assert {podman: caps(podman) for podman in ("5.3", "5.4", "5.5", "5.10", "6.0")} == {
        "5.3": [[], ["100G"], ["0"]],
        "5.4": [[], ["100G"], ["0"]],
        "5.5": [["100g"], ["100G"], ["0"]],
        "5.10": [["100g"], ["100G"], ["0"]],
        "6.0": [["100g"], ["100G"], ["0"]],
    }


def test_a_crash_loop_of_slow_crashes_still_reaches_its_limit() -> None:
    (file,) = [file for file in render().files if file.name == "recon-reasoning-vllm.container"]
    seconds = {key: int(lines(file, key)[0]) for key in ("StartLimitIntervalSec", "StartLimitBurst", "TimeoutStartSec")}
    longest_wait, load = int(lines(file, "RestartMaxDelaySec")[0]), 20 * 60

    whole_attempt = seconds["TimeoutStartSec"] + load + longest_wait
    assert seconds["StartLimitIntervalSec"] >= seconds["StartLimitBurst"] * whole_attempt


def test_systemd_waits_longer_than_podman_before_it_kills() -> None:
    for file in render().files:
        if file.kind == "quadlet":
            assert int(lines(file, "TimeoutStopSec")[0]) > int(lines(file, "StopTimeout")[0])


def test_weights_are_mounted_read_only_unless_the_service_mounts_something_there_itself() -> None:
    path = "/srv/models/m"
    own = a_service(runtime="vllm", port=8000, model={"path": path}, volumes=(f"/data/m:{path}:ro",))
    coven = Coven(name="own", description=None, services={"vllm": own}, drain=Drain())
    host = a_host(may_run=("own",), slots=(Slot(name=ALL_GPUS, gpus="all", coven="own"),))

    rendered = render_host(a_fleet(host, covens=(coven,)), host, {})

    assert rendered.groups["own"].members[0].mounts == ("/data/m",)
    assert render().groups["reasoning"].members[0].mounts == ("/srv/models/llama-70b", "/srv/cache/50%")


def test_a_member_drains_by_its_own_word_before_its_covens() -> None:
    vllm, reranker = render().groups["reasoning"].members

    assert (vllm.drain_timeout_s, vllm.on_timeout) == (300.0, "abort")
    assert (reranker.drain_timeout_s, reranker.on_timeout) == (10.0, "force")
