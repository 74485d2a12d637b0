"""Whatever moves between a plan and its apply: the plan is refused as stale, nothing is touched, the cause is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reconciler import __version__
from reconciler.agent import lease, places
from reconciler.agent.record import write_record
from reconciler.apply.intents import build_intent, check_plan
from reconciler.errors import ExitCode, ReconError
from reconciler.model.outcome import Outcome, exit_code_of
from reconciler.model.plan import Plan
from reconciler.sim.deeds import edit_unit, hold_memory, stop_unit
from reconciler.sim.fleet import run_launched
from reconciler.sim.machine import SimMachine
from tests.sim.studio import MEMBERS, Studio, fleet

VLLM = "recon-reasoning-vllm.service"
RERANKER = "recon-reasoning-reranker.service"


@pytest.fixture
def studio() -> Studio:
    studio = Studio()
    assert studio.apply()["state"] == "applied"
    studio.wants = "vision"
    return studio


def commit_another(machine: SimMachine) -> None:
    machine.mkdir(places.generation(7))
    machine.symlink(places.generation(7), places.COMMITTED)


def claim(machine: SimMachine) -> None:
    machine.mkdir(places.RUN)
    lease.take(machine, owner="bob@ci", txid="t0000", boot_id="b")
    machine.remove(places.LEASE)


def boot_another(machine: SimMachine) -> None:
    machine.symlink(
        "/etc/systemd/system/recon-coven-vision.target", f"{places.generation(1)}/boot.wants/recon-coven-vision.target"
    )


def another_machine(machine: SimMachine) -> None:
    machine.write("/etc/machine-id", b"0" * 32 + b"\n")


def reboot(machine: SimMachine) -> None:
    machine.reboot()
    machine.clock.advance(120.0)


def lose_unit(machine: SimMachine) -> None:
    machine.remove(f"{places.generation(1)}/recon-vision-llama.container")


def new_file(machine: SimMachine) -> None:
    machine.write("/etc/systemd/system/recon-gate-all-other.service", b"[Service]\nExecStart=/bin/true\n")


def lift_hold(machine: SimMachine) -> None:
    machine.remove(places.HOLD)


MOVES: dict[str, tuple[Callable[[SimMachine], object], str]] = {
    "another generation is committed": (commit_another, "generation 7 is committed, the plan was made for 1"),
    "a unit was stopped": (lambda machine: stop_unit(machine, VLLM), f"{VLLM} is inactive"),
    "a unit file was edited": (
        lambda machine: edit_unit(machine, RERANKER, "LogDriver=journald", "LogDriver=none"),
        "/etc/containers/systemd/recon/recon-reasoning-reranker.container is not as it was",
    ),
    "a unit file is gone": (
        lose_unit,
        "/etc/containers/systemd/recon/recon-vision-llama.container is gone",
    ),
    "a native unit is new": (new_file, "/etc/systemd/system/recon-gate-all-other.service is new"),
    "another coven boots": (boot_another, "what boots is not as it was"),
    "somebody is on the GPU": (lambda machine: hold_memory(machine, 2**30), "who uses GPU-"),
    "somebody claimed the host": (
        claim,
        "the claim (somebody else's transaction, or a force-release) is not as it was",
    ),
    "the host was rebooted": (reboot, "the boot is not as it was"),
    "it is another machine": (another_machine, "the machine-id is not as it was"),
}


def apply(studio: Studio, plan: Plan) -> Outcome:
    """Hand over an order from a plan that was made before, let it run, and return how it ended."""
    intent = build_intent(plan, plan.hosts[0], txid="t9999", owner="tests@example.net")
    assert studio.ask("apply", {"intent": intent.model_dump(mode="json")})["launched"] is True
    run_launched(studio.machine)
    return Outcome.model_validate(studio.outcome("t9999"))


@pytest.mark.parametrize("kind", MOVES)
def test_a_host_that_moved_since_the_plan_is_refused_and_it_is_said_what_moved(studio: Studio, kind: str) -> None:
    move, words = MOVES[kind]
    plan = studio.plan()
    move(studio.machine)
    studio.machine.clock.advance(5.0)
    before = (studio.running(), studio.machine.read_link(places.COMMITTED))

    outcome = apply(studio, plan)
    assert (outcome.state, outcome.code, exit_code_of((outcome,))) == ("stale", "REC7012", ExitCode.STALE)
    assert words in outcome.reason
    assert outcome.fix == "recon plan --host gpu-1"
    assert (studio.running(), studio.machine.read_link(places.COMMITTED)) == before
    assert studio.machine.stat(places.TRIAL) is None


def test_a_hold_that_came_since_the_plan_refuses_it_as_locked(studio: Studio) -> None:
    """A hold has an exit code of its own: whose it is matters more than that it is new."""
    plan = studio.plan()
    write_record(studio.machine, places.HOLD, {"owner": "ada", "reason": "benchmark", "since": 1, "until": None})

    outcome = apply(studio, plan)
    assert (outcome.state, outcome.code, exit_code_of((outcome,))) == ("locked", "REC7111", ExitCode.LOCKED)
    assert studio.running() == MEMBERS["reasoning"]


def edited(plan: Plan) -> Plan:
    host = plan.hosts[0]
    assert host.order is not None
    order = host.order.model_copy(update={"boot": ()})
    return plan.model_copy(update={"hosts": (host.model_copy(update={"order": order}),)})


def other_bytes(plan: Plan) -> Plan:
    return plan.model_copy(update={"blobs": {name: body + "# more\n" for name, body in plan.blobs.items()}})


def other_fleet(plan: Plan) -> Plan:
    return plan.model_copy(update={"fleet": "elsewhere"})


def other_recon(plan: Plan) -> Plan:
    return plan.model_copy(update={"recon_version": __version__ + ".later"})


def without_fingerprint(plan: Plan) -> Plan:
    return plan.model_copy(update={"hosts": (plan.hosts[0].model_copy(update={"observed_fingerprint": None}),)})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (edited, "REC7010"),
        (other_bytes, "REC7010"),
        (other_fleet, "REC7010"),
        (other_recon, "REC7155"),
        (without_fingerprint, "REC7010"),
    ],
)
def test_a_plan_that_is_not_what_was_reviewed_reaches_no_host(
    studio: Studio, change: Callable[[Plan], Plan], code: str
) -> None:
    plan = change(studio.plan())

    def hand_over() -> None:
        check_plan(plan, fleet().name)
        build_intent(plan, plan.hosts[0], txid="t1", owner="ann")

    with pytest.raises(ReconError) as caught:
        hand_over()

    assert (caught.value.problems[0].code, caught.value.exit_code) == (code, ExitCode.STALE)


def test_what_moves_by_itself_makes_no_plan_stale(studio: Studio) -> None:
    """Time, memory in use, requests in flight, pids of short-lived helpers: none of it is what was reviewed."""
    plan = studio.plan()
    studio.machine.clock.advance(3600.0)
    studio.machine.state.epoch += 86_400.0

    assert apply(studio, plan).state == "applied"
