"""Random histories of a host: what always holds, holds; a seed is a history; and every planted fault is found."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import pytest

from reconciler.sim.faults import set_fault
from tests.faults.matrix import CELLS
from tests.volume import strikes
from tests.volume.beside import SITUATIONS
from tests.volume.cells import NOT_PLAYED, PLAYED, cell_of, ways
from tests.volume.faults import KINDS
from tests.volume.history import has_two, play
from tests.volume.invariants import INVARIANTS, Watch
from tests.volume.planted import PLANTED, plant
from tests.volume.run import Result, check, main, run, tell
from tests.volume.slots import on_slot
from tests.volume.world import LOAD_S, Wish, World

TWO = Wish("reasoning", resident=True, has_two=True, beside="speech")
PIECES, SEEDS = 4, 50
"""How many seeds are played here, in pieces that can run side by side; `make test` plays ten thousand."""


@pytest.mark.parametrize("piece", range(PIECES))
def test_what_always_holds_holds_in_every_history(piece: int) -> None:
    broken = {seed: found for seed in range(piece, PIECES * SEEDS, PIECES) if (found := check(seed)[0])}

    assert broken == {}


def test_a_seed_plays_the_same_history_twice() -> None:
    for seed in range(20):
        assert play(seed) == play(seed), seed


def test_a_seed_plays_the_same_history_in_another_process() -> None:
    words = "import tests.volume.history as h; [print(*h.play(seed).trace, sep='\\n') for seed in range(5)]"
    told = [
        subprocess.run([sys.executable, "-c", words], capture_output=True, check=True, env={"PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    ]

    assert told[0].stdout == told[1].stdout
    assert told[0].stdout.count(b"ended: ") > 5


def test_a_planted_fault_changes_no_history_after_it() -> None:
    words = "import tests.volume.history as h; [print(*h.play(seed).trace, sep='\\n') for seed in range(12)]"
    planted = (
        "from tests.volume.planted import plant\n"
        "from tests.volume.history import play\n"
        "with plant('the memory is not waited for'):\n"
        "    [play(seed) for seed in range(12)]\n"
    )
    told = [
        subprocess.run([sys.executable, "-c", before + words], capture_output=True, check=True).stdout
        for before in ("", planted)
    ]

    assert told[0].count(b"ended: ") > 12
    assert told[1] == told[0]


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str) -> None:
    with plant(name) as planted:
        seeds = [seed for seed in range(planted.seeds) if has_two(seed) or not planted.of_two]
        found = next((broken for seed in seeds if (broken := check(seed, planted.kinds)[0])), [])

    assert found, f"{planted.seeds} histories with {planted.kinds} do not notice it"
    number = re.match(r"\[(\d+)\]", found[0])
    assert number is not None, found
    assert int(number[1]) in planted.noticed_by, found


def test_a_planted_fault_names_invariants_that_there_are() -> None:
    assert {number for planted in PLANTED.values() for number in planted.noticed_by} <= set(INVARIANTS)


def test_a_seed_that_fails_is_told_with_the_command_that_plays_it_again() -> None:
    with plant("the memory is not waited for"):
        result = run(0, 3, jobs=1)

    assert (result.seeds, [seed for seed, _ in result.failed][:1]) == (3, [0])
    text = tell(result)
    assert "3 seeds in " in text
    assert "  again: python -m tests.volume.run --seeds 1 --first 0 --show\n" in text + "\n"


def test_every_cell_of_the_matrix_can_be_hit_or_is_named_with_the_reason() -> None:
    assert sorted([*PLAYED, *NOT_PLAYED]) == sorted(CELLS)
    assert all(NOT_PLAYED.values())
    assert [cell for cell in PLAYED if not all(ways(cell, KINDS))] == []


def test_a_fault_at_a_step_hits_a_cell() -> None:
    assert cell_of("kill", "stop") == "T8-C4"
    assert cell_of("steal", "claim", is_claimed=False) == "T3-C10"
    assert cell_of("steal", "claim", is_claimed=True) == "T4-C10"
    assert cell_of("hang", "hook", hook="after_warm") == "T12-C7"
    assert cell_of("slow-load", "start") is None
    assert cell_of("hang", "hook", hook="before_start") is None


def test_a_server_that_a_fault_made_slow_loads_as_all_do_when_the_host_is_healed() -> None:
    world = World.prepared(Wish("reasoning"))
    machine = world.machine
    set_fault(machine.state, "slow-load", value=80.0)
    machine.reboot()
    machine.clock.advance(LOAD_S)
    servers = [one.server for one in machine.state.containers.values() if one.server is not None]
    before = {server.phase for server in servers}

    strikes.heal(machine)
    machine.clock.advance(LOAD_S)

    assert (before, {server.phase for server in servers}) == ({"loading"}, {"ready"})


def test_with_enough_seeds_a_cell_that_was_never_hit_is_a_failure() -> None:
    seen = Counter({f"slots {name}": 1 for name in SITUATIONS})
    hit = seen + Counter({f"cell {cell}": 1 for cell in PLAYED if cell != "T9-C6"})

    assert Result(10_000, [], hit, 1.0).missed == ("T9-C6",)
    assert "FAILED: 1 cells and situations were never hit in 10000 seeds" in tell(Result(10_000, [], hit, 1.0))
    assert Result(9_999, [], hit, 1.0).missed == ()
    assert f"reached {len(PLAYED) - 1} of {len(PLAYED)} cells" in tell(Result(9_999, [], hit, 1.0))


def test_with_enough_seeds_a_situation_of_two_slots_that_was_never_seen_is_a_failure() -> None:
    hit = Counter({f"cell {cell}": 1 for cell in PLAYED} | {f"slots {name}": 1 for name in SITUATIONS})
    del hit["slots locked out at the claim"]

    assert Result(10_000, [], hit, 1.0).missed == ("locked out at the claim",)
    assert "  never seen: locked out at the claim\n" in tell(Result(10_000, [], hit, 1.0))
    assert Result(9_999, [], hit, 1.0).missed == ()


def test_a_good_share_of_the_histories_is_of_hosts_with_two_slots() -> None:
    assert 120 < sum(has_two(seed) for seed in range(1000)) < 180


def test_a_coven_with_memory_on_the_gpu_of_another_slot_is_noticed() -> None:
    world = World.prepared(TWO)
    watch = Watch(world.machine)
    held = next(one for one in world.machine.state.holdings if one.owner == "recon-speech-asr.service")
    held.gpu = world.machine.state.gpus[0].uuid

    watch.begin("t9")

    assert [found.partition("]")[0] for found in watch.broken] == ["[34"]


def test_two_covens_on_one_of_two_slots_are_noticed() -> None:
    world = World.prepared(TWO)
    watch = Watch(world.machine)
    watch.is_tampered = True
    next(iter(world.machine.state.containers.values())).unit = "recon-vision-llama.service"

    watch.begin("t9")

    assert watch.broken != []
    assert watch.broken[0].startswith("[1] ['reasoning', 'speech', 'vision'] at once")


def test_a_slot_that_stays_behind_when_the_other_failed_is_noticed() -> None:
    world = World.prepared(TWO)
    watch, before = Watch(world.machine), world.running()
    watch.serves_beside(before, before, {"left"})
    assert watch.broken == []

    watch.serves_beside(on_slot(before, "left"), before, {"left"})
    assert [found.partition("]")[0] for found in watch.broken] == ["[35"]

    for container in world.machine.state.containers.values():
        if container.server is not None:
            container.server.paused = container.unit == "recon-speech-asr.service"
    watch.serves_beside(before, before, {"left"})
    assert "recon-speech-asr takes no work" in watch.broken[1]


def test_who_touches_a_locked_slot_without_the_token_is_noticed() -> None:
    world = World.prepared(TWO)
    watch = Watch(world.machine)
    watch.kept["lock-1"] = ("right", world.machine.clock.now + 60.0)
    watch.passes["t8"] = frozenset({"lock-1"})
    stop = "run systemctl stop --no-block recon-speech-voice.service"

    watch.by_watchdog("before", stop.replace("speech-voice", "reasoning-vllm"))
    watch.begin("t8")
    watch.step = "stop"
    watch.on_change("before", stop)
    assert [found for found in watch.broken if found.startswith("[36]")] == []

    watch.begin("t9")
    watch.step = "stop"
    watch.on_change("before", stop)
    watch.by_watchdog("before", stop)
    assert len([found for found in watch.broken if found.startswith("[36]")]) == 2


def test_without_a_terminal_only_the_end_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "2", "--first", "4", "--jobs", "1"]) == 0

    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.startswith("2 seeds in ")


def test_how_far_it_is_is_told_chunk_by_chunk() -> None:
    told: list[tuple[int, int]] = []
    run(0, 22, jobs=1, told=lambda done, failed: told.append((done, failed)))

    assert told == [(20, 0), (22, 0)]
