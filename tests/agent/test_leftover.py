"""What a cut leaves under a temporary name goes with the next transaction, and nothing else does."""

from __future__ import annotations

import contextlib
import re

import pytest

from reconciler.agent import executor, leftover, places
from reconciler.sim.machine import KilledError, PowerCutError, StoppedError
from reconciler.sim.state import Node
from tests.agent.bench import Bench

TEMPORARY = re.compile(r"/\.[^/]+\.recon-[0-9a-f]{12}\Z")
MINE = "0123456789ab"
GENERATION = "/etc/recon/generations/1"


def temporaries(bench: Bench) -> list[str]:
    return sorted(path for path in bench.machine.state.files if TEMPORARY.search(path))


@pytest.mark.parametrize("how", [KilledError, PowerCutError])
def test_after_a_cut_before_any_rename_of_a_switch_the_next_one_leaves_no_temporary(how: type[StoppedError]) -> None:
    first = Bench()
    assert first.run("reasoning").state == "applied"
    intent = first.intent("vision")
    number, left = 0, 0
    while True:
        bench, seen = first.copy(), list[str]()

        def on_call(call: str, seen: list[str] = seen, number: int = number) -> None:
            if call.startswith("rename "):
                seen.append(call)
                if len(seen) - 1 == number:
                    raise how

        bench.machine.on_call = on_call
        with contextlib.suppress(StoppedError):
            executor.execute(bench.machine, bench.submit(intent))
        bench.machine.on_call = None
        if len(seen) <= number:
            break
        number += 1
        if how is PowerCutError:
            bench.machine.reboot()
            bench.machine.clock.advance(120.0)
        else:
            bench.machine.revive()
            executor.execute(bench.machine, intent["txid"], recover=True)
        found = [path for path in temporaries(bench) if not path.startswith(places.RUN)]
        left += bool(found)
        live = "reasoning" if bench.serving() == ["recon-vision-llama"] else "vision"
        bench.count = 7

        assert bench.run(live).state == "applied", seen[-1]

        assert [path for path in temporaries(bench) if path in found] == [], seen[-1]
    assert left > 0


def test_only_our_own_pattern_in_our_own_places_is_removed() -> None:
    bench = Bench()
    assert bench.run("reasoning").state == "applied"
    ours = [
        f"{places.NATIVE}/.recon-gate-all-vision.service.recon-{MINE}",
        f"/etc/systemd/.recon-boot.target.wants.recon-{MINE}",
        f"/etc/containers/.recon.recon-{MINE}",
        f"{GENERATION}/.recon-reasoning-vllm.container.recon-{MINE}",
        f"{GENERATION}/units/.recon-watchdog.timer.recon-{MINE}",
        f"{places.STATE}/.epoch.recon-{MINE}",
        f"{places.STATE}/.history.head.recon-{MINE}",
        f"{places.transaction('2026-0001')}/.outcome.json.recon-{MINE}",
        f"{places.transaction('2026-0009')}/.intent.json.recon-{MINE}",
    ]
    others = [
        f"{places.NATIVE}/.ssh.service.recon-{MINE}",
        f"{places.NATIVE}/.recon-a.service.recon-{MINE}0",
        f"{places.NATIVE}/.recon-a.service.recon-0123456789AB",
        f"{places.NATIVE}/recon-a.service.recon-{MINE}.conf",
        f"/etc/containers/.registries.conf.recon-{MINE}",
        f"{places.STATE}/.mine.recon-{MINE}",
        f"{places.STATE}/.alerts.json.recon-{MINE}",
        f"{places.transaction('2026-0009')}/.journal.jsonl.recon-{MINE}",
        f"{places.RUN}/.watchdog.json.recon-{MINE}",
        f"/root/.recon.recon-{MINE}",
    ]
    for path in (*ours, *others):
        bench.machine.files.make_dirs(path.rpartition("/")[0])
        bench.machine.files.put(path, Node.of(b"half", 0o600))
    bench.machine.files.make_dirs(f"{GENERATION}/.dir.recon-{MINE}")

    leftover.collect(bench.machine, "2026-0002")

    files = bench.machine.state.files
    assert [path for path in ours if path in files] == []
    assert [path for path in others if path not in files] == []
    assert f"{GENERATION}/.dir.recon-{MINE}" in files


def test_half_an_intent_stays_while_somebody_is_launched() -> None:
    """Nobody but a launch writes into a transaction that has not begun, and it may be writing just now."""
    bench = Bench()
    assert bench.run("reasoning").state == "applied"
    half = f"{places.transaction('2026-0009')}/.intent.json.recon-{MINE}"
    bench.machine.files.make_dirs(half.rpartition("/")[0])
    bench.machine.files.put(half, Node.of(b"half", 0o600))

    with bench.machine.lock(places.LAUNCH_LOCK):
        leftover.collect(bench.machine, "2026-0002")
    stayed = half in bench.machine.state.files
    leftover.collect(bench.machine, "2026-0002")

    assert (stayed, half in bench.machine.state.files) == (True, False)
