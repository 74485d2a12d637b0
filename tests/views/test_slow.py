"""Slow is not dead: status and plans call what does not answer in time by another name than what is not there."""

from __future__ import annotations

import pytest

from reconciler.agent import observe
from reconciler.diff import diff_host, ignored_facts
from reconciler.model.observed import HostState
from reconciler.model.subject import look_at
from reconciler.planner import plan_host
from reconciler.sim.faults import set_fault
from reconciler.views.paint import Paint
from reconciler.views.status import status_lines
from tests.agent.bench import CONTEXT, Bench

UNIT = "recon-reasoning-vllm.service"


@pytest.mark.parametrize(
    ("fault", "word", "warning"),
    [
        (
            "hangs",
            "vllm slow (no answer within 2 s)",
            f"{UNIT} is slow: no answer within 2 s; a busy GPU looks the same as a stuck one",
        ),
        ("unhealthy", "vllm unhealthy (500)", f"{UNIT} runs but is not healthy: engine is dead"),
    ],
)
def test_each_has_its_own_word(fault: str, word: str, warning: str) -> None:
    bench = Bench()
    assert bench.run("reasoning").state == "applied"
    set_fault(bench.machine.state, fault, UNIT)
    rendered, host = bench.rendered("reasoning")

    state = HostState.model_validate(observe.observe(bench.machine, bench.question(), CONTEXT))

    shown = "\n".join(status_lines((host,), {"h-1": state}, Paint(on=False), details=False))
    subject = look_at(rendered, host, state)
    planned = plan_host(subject, diff_host(subject), fleet="studio", ignored=ignored_facts(state))
    assert word in shown
    assert planned.warnings == (warning,)
    assert planned.changes == ()
