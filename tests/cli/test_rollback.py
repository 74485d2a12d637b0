"""`recon rollback`: the way back by hand is a plan like any other."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.agent import places
from reconciler.errors import ExitCode
from reconciler.hosts.connect import SIM_DIRECTORY, connector
from reconciler.hosts.generation import ask_generation, rendered_of
from reconciler.load.fleet import load_fleet
from reconciler.render.host import render_host
from reconciler.sim.deeds import perform
from reconciler.sim.fleet import HOSTS
from tests.scenarios.sim_world import SimWorld
from tests.scenarios.world import Ran


@pytest.fixture
def world(tmp_path: Path) -> SimWorld:
    """Host h-1 ran reasoning (generation 1), then vision (2)."""
    made = SimWorld(tmp_path)
    assert made.recon("apply", "--yes").code == 0
    made.set_coven("h-1", "vision")
    assert made.recon("apply", "--yes").code == 0
    return made


def dry(world: SimWorld, *words: str) -> Any:
    return json.loads(world.recon("rollback", "h-1", "--dry-run", "-o", "json", *words).out)


def test_the_plan_says_which_generation_and_that_git_goes_another_way(world: SimWorld) -> None:
    ran = world.recon("rollback", "h-1", "--dry-run")

    assert ran.code == ExitCode.OK
    assert "Back to generation 1 of h-1" in ran.out
    assert "slot all runs vision, generation 1 had reasoning" in ran.out
    assert "switch slot all  vision → reasoning  (generation 1)" in ran.out
    assert "git declares vision for h-1: the next recon apply goes there again" in ran.out
    assert world.serves("h-1", "vision")


def test_the_plan_document_holds_where_it_goes_back_to(world: SimWorld) -> None:
    plan = dry(world)

    assert plan["way_back"] == {
        "host": "h-1",
        "generation": 1,
        "from_generation": 2,
        "source_commit": "uncommitted",
        "applied_by": plan["way_back"]["applied_by"],
    }
    assert plan["targeted"] == ["h-1"]
    assert plan["hosts"][0]["order"]["live"] == {"all": "reasoning"}


def test_it_goes_back_through_the_same_steps_and_commits_a_new_generation(world: SimWorld) -> None:
    ran = world.recon("rollback", "h-1", "--yes")

    assert ran.code == ExitCode.OK, ran.out + ran.err
    assert (world.serves("h-1", "reasoning"), world.serves("h-1", "vision")) == (True, False)
    assert world.committed("h-1") == 3
    assert world.recon("plan", "--detailed-exitcode").code == ExitCode.CHANGES


def test_a_second_way_back_goes_to_where_the_first_one_came_from(world: SimWorld) -> None:
    assert world.recon("rollback", "h-1", "--yes").code == ExitCode.OK
    assert dry(world)["way_back"]["generation"] == 2


def test_what_was_committed_is_what_comes_back_not_what_git_says_of_it_now(world: SimWorld) -> None:
    before = dry(world)["blobs"]
    world.rewrite(world.coven_file("reasoning"), r"stop: \{timeout: \w+\}", "stop: {timeout: 11s}")

    assert dry(world)["blobs"] == before


def test_the_coven_that_goes_is_let_go_as_it_was_committed_not_as_an_earlier_generation_said(tmp_path: Path) -> None:
    made = SimWorld(tmp_path)
    vision = made.coven_file("vision")
    made.rewrite(vision, r"(?m)^services:", "drain: {timeout: 5s, on_timeout: force}\nservices:")
    assert made.recon("apply", "--yes").code == ExitCode.OK
    made.rewrite(vision, r"drain: .*", "drain: {timeout: 2m, on_timeout: abort}")
    made.set_coven("h-1", "vision")
    assert made.recon("apply", "--yes").code == ExitCode.OK

    order = dry(made)["hosts"][0]["order"]

    (move,) = order["moves"]
    old = [(member["drain_timeout_s"], member["on_timeout"]) for member in move["old"]["members"]]
    assert set(old) == {(120.0, "abort")}


def test_the_files_of_a_generation_are_what_git_made_of_them_also_with_a_name_of_their_own(tmp_path: Path) -> None:
    made = SimWorld(tmp_path)
    name = "services:\n  llama:\n    container_name: eyes\n"
    made.rewrite(made.coven_file("vision"), r"(?m)^services:\n  llama:\n", name)
    assert made.recon("apply", "--yes").code == ExitCode.OK
    fleet = load_fleet(tmp_path)
    host = fleet.hosts["h-1"]

    reply = ask_generation(host, connector(fleet, tmp_path), None, is_committed=True)

    assert rendered_of(host, reply).files == render_host(fleet, host, {}).files


def test_a_schedule_that_has_another_coven_in_force_is_told_of(tmp_path: Path) -> None:
    made = SimWorld(tmp_path)
    file = made.host_file("h-1")
    window = 'schedule:\n  - {coven: vision, from: "02:00", to: "04:00", days: Mon..Fri}\n'
    file.write_text(file.read_text() + window)
    assert made.recon("apply", "--yes").code == ExitCode.OK
    with made.fleet.open("h-1"):
        pass
    perform(made.fleet, "h-1", "wait", ["8000"])
    assert (made.committed("h-1"), made.serves("h-1", "vision")) == (2, True)

    ran = made.recon("rollback", "h-1", "--dry-run")

    assert "the schedule has vision in force for slot all now; generation 1 had reasoning there" in ran.out
    assert "It runs what that generation was" not in ran.out


def test_a_coven_that_no_longer_comes_up_ends_where_it_began(world: SimWorld) -> None:
    with world.fleet.open("h-1"):
        pass
    perform(world.fleet, "h-1", "fault", ("crash-at-start", "reasoning"))

    ran = world.recon("rollback", "h-1", "--yes")

    assert ran.code == ExitCode.ROLLED_BACK, ran.out + ran.err
    assert world.serves("h-1", "vision")
    assert world.committed("h-1") == 2


def test_guards_refuse_a_way_back_like_any_plan(world: SimWorld) -> None:
    world.stray("h-1")

    ran = world.recon("rollback", "h-1", "--yes")

    assert ran.code == ExitCode.REFUSED
    assert "REC8003" in ran.out


@pytest.mark.parametrize("lost", ["", "/manifest.json"])
def test_a_host_that_lost_what_is_committed_goes_to_a_generation_that_is_named(world: SimWorld, lost: str) -> None:
    with world.fleet.open("h-1") as machine:
        machine.remove_tree(places.generation(2) + lost)

    refused, asked = world.recon("plan", "--host", "h-1"), world.recon("rollback", "h-1", "--yes")
    ran = world.recon("rollback", "h-1", "--to", "1", "--yes")

    assert (refused.code, "REC8008" in refused.out) == (ExitCode.REFUSED, True)
    assert "hint: recon apply --host h-1 --renew-manifest" in refused.out
    assert (asked.code, "hint: recon rollback h-1 --to 1" in asked.err) == (ExitCode.REFUSED, True)
    assert ran.code == ExitCode.OK, ran.out + ran.err
    assert (world.serves("h-1", "reasoning"), world.committed("h-1")) == (True, 3)
    assert world.recon("apply", "--yes").code == ExitCode.OK
    assert world.serves("h-1", "vision")


def test_a_host_that_lost_the_only_generation_begins_anew(world: SimWorld) -> None:
    assert world.recon("apply", "--yes", "--host", "h-2").code == ExitCode.OK
    with world.fleet.open("h-2") as machine:
        machine.remove_tree(places.generation(1))

    asked = world.recon("rollback", "h-2", "--yes")
    ran = world.recon("apply", "--host", "h-2", "--renew-manifest", "--yes")

    assert "hint: recon apply --host h-2 --renew-manifest" in asked.err
    assert ran.code == ExitCode.OK, ran.out + ran.err
    assert (world.serves("h-2", "reasoning"), world.committed("h-2")) == (True, 2)


def without_terminal(world: SimWorld) -> Ran:
    return world.recon("rollback", "h-1")


def test_nobody_is_taken_back_without_an_answer(world: SimWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("h-1\n"))

    ran = without_terminal(world)

    assert (ran.code, "hint: recon rollback h-1 --yes" in ran.err) == (ExitCode.REFUSED, True)
    assert world.serves("h-1", "vision")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("h-1", "--to", "9"), ExitCode.REFUSED, "REC7033"),
        (("h-1", "--to", "2"), ExitCode.REFUSED, "REC7036"),
        (("h-2",), ExitCode.REFUSED, "REC7034"),
        (("h-*",), ExitCode.USAGE, "a way back is one host's"),
        (("nope",), ExitCode.USAGE, "REC7020"),
        (("h-1", "--to", "0"), ExitCode.USAGE, "--to"),
    ],
)
def test_a_way_back_that_is_none_is_refused_with_what_to_type(
    world: SimWorld, words: tuple[str, ...], code: ExitCode, said: str
) -> None:
    ran = world.recon("rollback", *words, "--yes")

    assert (ran.code, said in ran.err, "hint: " in ran.err) == (code, True, True), ran.err


def test_a_host_whose_slots_were_renamed_is_refused(world: SimWorld) -> None:
    world.rewrite(world.host_file("h-1"), r"(?m)^coven: .*$", 'slots: {left: {gpus: ["0"], coven: vision}}')

    ran = world.recon("rollback", "h-1", "--yes")

    assert (ran.code, "REC7036" in ran.err) == (ExitCode.REFUSED, True), ran.err


def with_gpus(root: Path, count: int) -> SimWorld:
    """Return a world whose host h-1 has so many GPUs."""
    world = SimWorld(root)
    directory = root / SIM_DIRECTORY
    directory.mkdir(parents=True, exist_ok=True)
    (directory / HOSTS).write_text(json.dumps({"h-1": {"kind": "h200", "gpus": count}}), encoding="utf-8")
    return world


def on_gpu(world: SimWorld, gpus: str) -> None:
    """Give the only slot of h-1, which has two GPUs, these in git."""
    slots = f"slots: {{main: {{gpus: {gpus}, coven: reasoning}}}}"
    world.rewrite(world.host_file("h-1"), r"(?m)^(coven|slots): .*$", slots)


@pytest.fixture
def two_gpus(tmp_path: Path) -> SimWorld:
    """Host h-1 ran reasoning on its first GPU (generation 1), then on its second one (2)."""
    made = with_gpus(tmp_path, 2)
    for gpus in ('["0"]', '["1"]'):
        on_gpu(made, gpus)
        ran = made.recon("apply", "--host", "h-1", "--yes")
        assert ran.code == ExitCode.OK, ran.out + ran.err
    return made


@pytest.mark.parametrize("words", [("rollback", "h-1"), ("restart", "h-1", "vllm")])
def test_what_ran_on_other_gpus_than_git_gives_the_slot_is_not_started_there(
    two_gpus: SimWorld, words: tuple[str, ...]
) -> None:
    if words[0] == "restart":
        on_gpu(two_gpus, '["0"]')

    ran = two_gpus.recon(*words, "--yes")

    then, now = ("0", "1") if words[0] == "rollback" else ("1", "0")
    assert (ran.code, "error[REC7486]: the host had other GPUs then" in ran.err) == (ExitCode.REFUSED, True), ran.err
    assert f"slot main of generation {int(then) + 1} has GPU {then}, git says {now}" in ran.err
    assert two_gpus.committed("h-1") == 2


@pytest.mark.parametrize("words", [("rollback", "h-1"), ("restart", "h-1", "vllm")])
@pytest.mark.parametrize("is_index", [True, False])
def test_the_same_gpu_by_its_other_name_is_the_same_gpu(
    two_gpus: SimWorld, words: tuple[str, ...], is_index: bool
) -> None:
    with two_gpus.fleet.open("h-1") as machine:
        uuid = f'["{machine.state.gpus[1].uuid}"]'
    now = uuid
    if not is_index:
        on_gpu(two_gpus, uuid)
        now = '["1"]'
        assert two_gpus.recon("apply", "--host", "h-1", "--yes").code == ExitCode.OK
    on_gpu(two_gpus, now)
    if words[0] == "rollback":
        assert two_gpus.recon("apply", "--host", "h-1", "--yes").code == ExitCode.OK

    ran = two_gpus.recon(*words, "--yes")

    assert ran.code == ExitCode.OK, ran.out + ran.err
    assert two_gpus.serves("h-1", "reasoning")


def test_names_decide_while_the_host_cannot_tell_its_gpus(two_gpus: SimWorld) -> None:
    with two_gpus.fleet.open("h-1") as machine:
        uuid = machine.state.gpus[1].uuid
    perform(two_gpus.fleet, "h-1", "fault", ["nvml", "-", "999"])
    same = two_gpus.recon("restart", "h-1", "vllm", "--yes")
    on_gpu(two_gpus, f'["{uuid}"]')

    other = two_gpus.recon("restart", "h-1", "vllm", "--yes")

    assert ("REC7486" in same.err + same.out, "REC8003" in same.out) == (False, True), same.out + same.err
    assert f"slot main of generation 2 has GPU 1, git says {uuid}" in other.err


def test_a_way_back_on_the_same_gpus_is_planned_as_ever(two_gpus: SimWorld) -> None:
    on_gpu(two_gpus, '["0"]')

    assert two_gpus.recon("rollback", "h-1", "--yes").code == ExitCode.OK


PARSER = """
residents:
  parser: {runtime: none, image: "registry.example.net/parser@sha256:DIGIT", memory: 0B, gpu: false}
"""


def on_slots(world: SimWorld, left: str | None, gpu: str, right: str | None = "vision") -> None:
    """Give slot left of h-1 this coven on GPU 0, and slot right that one on this GPU, in git."""
    covens = [f", coven: {coven}" if coven else "" for coven in (left, right)]
    slots = f'slots: {{left: {{gpus: ["0"]{covens[0]}}}, right: {{gpus: ["{gpu}"]{covens[1]}}}}}'
    world.rewrite(world.host_file("h-1"), r"(?m)^(coven|slots): .*$", slots)


@pytest.fixture
def two_slots(tmp_path: Path) -> SimWorld:
    """Host h-1 ran reasoning and vision side by side (generation 1), then vision alone (2), beside a resident."""
    made = with_gpus(tmp_path, 3)
    host = made.host_file("h-1")
    host.write_text(host.read_text() + PARSER.replace("DIGIT", "c" * 64), encoding="utf-8")
    for left in ("reasoning", None):
        on_slots(made, left, "1")
        ran = made.recon("apply", "--host", "h-1", "--yes")
        assert ran.code == ExitCode.OK, ran.out + ran.err
    return made


def test_a_way_back_starts_a_slot_whatever_git_says_of_the_gpus_of_another(two_slots: SimWorld) -> None:
    on_slots(two_slots, None, "2")

    ran = two_slots.recon("rollback", "h-1", "--yes")

    assert ran.code == ExitCode.OK, ran.out + ran.err
    assert (two_slots.serves("h-1", "reasoning"), two_slots.serves("h-1", "vision")) == (True, True)


def test_a_way_back_that_starts_on_the_gpus_of_before_is_refused_for_that_slot(two_slots: SimWorld) -> None:
    on_slots(two_slots, None, "2")
    assert two_slots.recon("apply", "--host", "h-1", "--yes").code == ExitCode.OK

    ran = two_slots.recon("rollback", "h-1", "--to", "1", "--yes")

    assert (ran.code, "error[REC7486]" in ran.err) == (ExitCode.REFUSED, True), ran.err
    assert "slot right of generation 1 has GPU 1, git says 2" in ran.err


def test_a_way_back_that_only_stops_a_coven_asks_nothing_of_its_gpus(tmp_path: Path) -> None:
    world = with_gpus(tmp_path, 2)
    world.rewrite(world.host_file("h-1"), r"(?m)^coven: .*$", 'slots: {main: {gpus: ["0"]}}')
    assert world.recon("apply", "--host", "h-1", "--yes").code == ExitCode.OK
    on_gpu(world, '["0"]')
    assert world.recon("apply", "--host", "h-1", "--yes").code == ExitCode.OK
    on_gpu(world, '["1"]')

    ran = world.recon("rollback", "h-1", "--yes")

    assert ran.code == ExitCode.OK, ran.out + ran.err
    assert not world.serves("h-1", "reasoning")


@pytest.mark.parametrize("right", [None, "vision"])
def test_a_way_back_empties_slots_that_were_empty(tmp_path: Path, right: str | None) -> None:
    world = with_gpus(tmp_path, 2)
    for left in (None, "reasoning"):
        on_slots(world, left, "1", right)
        assert world.recon("apply", "--host", "h-1", "--yes").code == ExitCode.OK

    ran = world.recon("rollback", "h-1", "--yes")
    assert ran.code == ExitCode.OK, ran.out + ran.err
    assert (world.serves("h-1", "reasoning"), world.serves("h-1", "vision")) == (False, right is not None)

    ran = world.recon("rollback", "h-1", "--yes")
    assert ran.code == ExitCode.OK, ran.out + ran.err
    assert (world.serves("h-1", "reasoning"), world.serves("h-1", "vision")) == (True, right is not None)


@pytest.mark.parametrize("service", ["vllm", "resident/parser"])
def test_a_restart_asks_nothing_of_the_gpus_of_another_slot(two_slots: SimWorld, service: str) -> None:
    on_slots(two_slots, "reasoning", "1")
    assert two_slots.recon("apply", "--host", "h-1", "--yes").code == ExitCode.OK
    on_slots(two_slots, "reasoning", "2")

    ran = two_slots.recon("restart", "h-1", service, "--yes")

    assert ran.code == ExitCode.OK, ran.out + ran.err
    assert (two_slots.serves("h-1", "reasoning"), two_slots.serves("h-1", "vision")) == (True, True)


def test_a_restart_in_the_slot_whose_gpus_git_changed_is_refused(two_slots: SimWorld) -> None:
    on_slots(two_slots, None, "2")

    ran = two_slots.recon("restart", "h-1", two_slots.service("vision"), "--yes")

    assert ran.code == ExitCode.REFUSED, ran.out + ran.err
    assert "slot right of generation 2 has GPU 1, git says 2" in ran.err


def test_a_coven_that_git_no_longer_lets_the_host_run_is_brought_back_with_a_warning(world: SimWorld) -> None:
    said = "git does not let h-1 run reasoning any more (may_run: [vision])"
    before = world.recon("rollback", "h-1", "--dry-run").out
    world.rewrite(world.host_file("h-1"), r"may_run: .*", "may_run: [vision]")

    ran = world.recon("rollback", "h-1", "--yes")

    assert (ran.code, said in before, said in ran.out) == (ExitCode.OK, False, True), ran.out
    assert world.serves("h-1", "reasoning")


def test_a_host_that_is_down_is_told_so(world: SimWorld) -> None:
    perform(world.fleet, "h-1", "down")

    assert world.recon("rollback", "h-1", "--yes").code == ExitCode.UNKNOWN_OUTCOME
