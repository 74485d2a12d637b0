"""Bots: nothing of them can be asked, so their container says how they are."""

from __future__ import annotations

from typing import Any

from reconciler.agent import observe
from reconciler.agent.health import of_unit
from reconciler.model.observed import Health, HostState, Known
from reconciler.sim.faults import set_fault
from tests.agent.bench import CONTEXT, Bench, a_coven, a_service

VLLM = a_service("vllm", 8001, memory="80GiB")
UNIT = "recon-chat-bot.service"
RESIDENT = "recon-resident-herald.service"


def a_bot(**over: Any) -> Any:
    return a_service("bot", None, **{"memory": "0B", "gpu": False, **over})


def test_a_bot_is_up_when_its_container_has_run_for_a_while_and_no_request_is_made_to_it() -> None:
    bench = Bench(a_coven("chat", vllm=VLLM, bot=a_bot()), residents={"herald": a_bot()})

    outcome = bench.run("chat")

    assert outcome.state == "applied"
    assert bench.active(UNIT) == bench.active(RESIDENT) == "active"
    member = next(each for each in bench.rendered("chat")[0].groups["chat"].members if each.service == "bot")
    assert (member.port, member.health, member.in_flight, member.warm, member.steady_s) == (None, None, (), None, 5.0)
    state = HostState.model_validate(observe.observe(bench.machine, bench.question(), CONTEXT))
    assert state.health[UNIT] == state.health[RESIDENT] == Known(value=Health(ok=True, status=0, detail=""))


def test_a_coven_of_a_bot_alone_takes_its_time_to_be_believed() -> None:
    bench = Bench(a_coven("chat", bot=a_bot()))

    outcome = bench.run("chat")

    assert outcome.state == "applied"
    assert outcome.steps_s["warm"] >= 5.0


def test_a_bot_that_dies_after_a_moment_is_not_up() -> None:
    bench = Bench(a_coven("chat", vllm=VLLM, bot=a_bot()), a_coven("old", vllm=a_service("vllm", 8002)))
    assert bench.run("old").state == "applied"
    set_fault(bench.machine.state, "crash-after-ready", UNIT, 2.0)

    outcome = bench.run("chat")

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7105")
    assert outcome.reason.startswith("bot: crash loop")
    assert bench.serving() == ["recon-old-vllm"]


def test_what_a_bot_does_is_cut_and_the_plan_says_so() -> None:
    bench = Bench(a_coven("chat", bot=a_bot()), a_coven("other", vllm=VLLM))
    assert bench.run("chat").state == "applied"

    outcome = bench.run("other")

    assert outcome.state == "applied"
    texts = [event.text for event in bench.events(outcome.txid) if event.step == "drain"]
    assert "bot cannot say what it does; what it does now is cut, as planned" in texts


def test_how_a_bot_is_that_systemd_does_not_tell_of_is_unknown() -> None:
    assert of_unit(None) == {"unknown": "systemd does not say how it is"}
