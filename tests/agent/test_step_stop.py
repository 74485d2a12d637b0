"""What is said of a unit that does not go."""

from __future__ import annotations

import pytest

from reconciler.agent import places, step_stop, systemd
from reconciler.agent.journal import Journal
from reconciler.agent.txn import HaltError, Run
from tests.agent.bench import Bench

VLLM = "recon-reasoning-vllm.service"


def test_a_unit_that_is_down_with_a_job_that_waits_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody isolates another target in the middle: the jobs of that wait for each other, and nothing is left up."""
    bench = Bench()
    assert bench.run("reasoning").state == "applied"
    shown = systemd.show_units(bench.machine, [VLLM])[VLLM]
    waits = shown._replace(active="inactive", job="4711")
    monkeypatch.setattr(systemd, "show_units", lambda machine, names: dict.fromkeys(names, waits))

    intent = bench.intent("vision")
    run = Run(bench.machine, intent, Journal(bench.machine, f"{places.transaction(intent['txid'])}/journal.jsonl"))

    with pytest.raises(HaltError) as caught:
        step_stop.wait_gone(run, {VLLM: ""}, 2.0)

    assert caught.value.reason == (
        f"not gone after 2 s: {VLLM} is inactive, with job 4711 queued (systemctl list-jobs)"
    )
