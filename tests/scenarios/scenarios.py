"""The scenario list: what recon promises, as an operator would see it. Played on the simulator and on real hosts."""

from __future__ import annotations

from collections.abc import Callable

from tests.scenarios.world import Ran, World

Scenario = Callable[[World], None]


def settle(world: World) -> None:
    ran = world.recon("apply", "--yes")
    assert ran.code == 0, ran.out + ran.err


def routes(world: World, host: str) -> list[tuple[str | None, str | None, str, str]]:
    planned = next(plan for plan in world.plan()["hosts"] if plan["host"] == host)
    return [(t["from_coven"], t["to_coven"], t["disruption"], t["cause"]) for t in planned["transitions"]]


def changes(world: World, host: str) -> list[tuple[str, str]]:
    planned = next(plan for plan in world.plan(host)["hosts"] if plan["host"] == host)
    return [(change["action_reason"], change["cause"]) for change in planned["changes"]]


def detailed(world: World) -> int:
    return world.recon("plan", "--detailed-exitcode").code


def explain(ran: Ran) -> str:
    return f"exit {ran.code}\n{ran.out}\n{ran.err}"


def a_fleet_goes_from_nothing_to_declared_and_then_has_nothing_to_do(world: World) -> None:
    assert detailed(world) == 2
    settle(world)
    assert all(world.serves(host, "reasoning") for host in world.hosts)
    assert detailed(world) == 0


def one_changed_line_is_one_switch_and_a_second_apply_does_nothing(world: World) -> None:
    settle(world)
    host = world.hosts[0]
    world.set_coven(host, "vision")

    assert routes(world, host) == [("reasoning", "vision", "switch", "desired")]
    assert [routes(world, other) for other in world.hosts[1:]] == [[] for _ in world.hosts[1:]]
    assert detailed(world) == 2
    settle(world)
    assert detailed(world) == 0
    assert (world.serves(host, "vision"), world.serves(host, "reasoning")) == (True, False)

    before = (world.committed(host), world.status(host)["executor"]["last"], world.main_pid(host, "vision"))
    settle(world)
    assert (world.committed(host), world.status(host)["executor"]["last"], world.main_pid(host, "vision")) == before


def a_switch_waits_for_the_request_in_flight(world: World) -> None:
    settle(world)
    host = world.hosts[0]
    request = world.request(host, "reasoning", 6.0)
    world.set_coven(host, "vision")

    settle(world)

    assert request.answer_is_whole()
    assert world.serves(host, "vision")


def a_drain_that_takes_too_long_is_given_up_and_the_old_coven_serves_on(world: World) -> None:
    world.rewrite(world.root / "desired" / "fleet.yaml", r"drain: \{timeout: \w+", "drain: {timeout: 2s")
    settle(world)
    host = world.hosts[0]
    request = world.request(host, "reasoning", 12.0)
    world.set_coven(host, "vision")

    ran = world.recon("apply", "--yes")

    assert ran.code == 3, explain(ran)
    assert world.serves(host, "reasoning")
    assert request.answer_is_whole()


def a_server_that_pauses_is_paused_and_a_pause_that_is_asked_for_is_seen(world: World) -> None:
    world.lets_sleep("reasoning")
    asked = "drain: {timeout: 30s, on_timeout: abort, admission: pause}\nservices:"
    world.rewrite(world.coven_file("reasoning"), r"(?m)^services:", asked)
    settle(world)
    host = world.hosts[0]
    world.set_coven(host, "vision")

    settle(world)

    assert world.serves(host, "vision")


def an_engine_that_sleeps_is_called_so_and_goes_when_git_says_so(world: World) -> None:
    world.lets_sleep("reasoning")
    settle(world)
    host = world.hosts[0]
    world.post(host, "reasoning", "/sleep?level=1&mode=wait")

    ran = world.recon("status", "--host", host)
    planned = next(plan for plan in world.plan(host)["hosts"] if plan["host"] == host)
    assert "vllm asleep (weights_offloaded)" in ran.out, explain(ran)
    assert world.serves(host, "reasoning")
    assert planned["transitions"] == []
    unit = world.member_unit("reasoning")
    text = f"{unit} runs and is asleep (weights_offloaded): it serves nobody, and recon does not wake it"
    assert text in planned["warnings"]

    world.set_coven(host, "vision")
    settle(world)
    assert (world.serves(host, "vision"), world.serves(host, "reasoning")) == (True, False)


_CLOSED = "drain: {timeout: %s, on_timeout: abort, admission: firewall}\nservices:"
_HOOKS = """hooks:
  before_drain: {argv: [/usr/local/lib/gateway, close], timeout: 2s, on_timeout: abort}
  on_rollback: {argv: [/usr/local/lib/gateway-open], timeout: 2s, on_timeout: continue}
services:"""


def a_firewall_lets_the_request_in_flight_finish_and_refuses_a_new_one(world: World) -> None:
    world.rewrite(world.coven_file("reasoning"), r"(?m)^services:", _CLOSED % "60s")
    settle(world)
    host = world.hosts[0]
    # The late one comes when even a busy computer has closed the port, and the first one is still in flight.
    request = world.request(host, "reasoning", 35.0)
    late = world.late_request(host, "reasoning", 22.0)
    world.set_coven(host, "vision")

    settle(world)

    assert request.answer_is_whole()
    assert late.was_refused()
    assert world.serves(host, "vision")


def after_a_drain_that_is_given_up_new_connections_are_let_in_again(world: World) -> None:
    world.rewrite(world.coven_file("reasoning"), r"(?m)^services:", _CLOSED % "2s")
    settle(world)
    host = world.hosts[0]
    request = world.request(host, "reasoning", 12.0)
    world.set_coven(host, "vision")

    ran = world.recon("apply", "--yes")

    assert ran.code == 3, explain(ran)
    assert world.serves(host, "reasoning")
    assert request.answer_is_whole()


def a_hook_that_hangs_ends_the_transition_and_the_old_coven_serves_on(world: World) -> None:
    host = world.hosts[0]
    for each in world.hosts:
        world.program(each, "/usr/local/lib/gateway", 'trap "" TERM\nsleep 3600')
        world.program(each, "/usr/local/lib/gateway-open", "echo open again")
    world.rewrite(world.coven_file("reasoning"), r"(?m)^services:", _HOOKS)
    settle(world)
    world.set_coven(host, "vision")

    ran = world.recon("apply", "--yes")

    assert ran.code == 3, explain(ran)
    assert "REC7132" in ran.out + ran.err
    assert world.serves(host, "reasoning")
    assert not world.serves(host, "vision")


def a_coven_that_never_gets_healthy_is_rolled_back(world: World) -> None:
    world.rewrite(world.coven_file("vision"), r"warm: \{timeout: \w+", "warm: {timeout: 4s")
    settle(world)
    host = world.hosts[0]
    before = world.committed(host)
    world.set_fault(host, "vision", "never-healthy")
    world.set_coven(host, "vision")

    ran = world.recon("apply", "--yes")

    assert ran.code == 6, explain(ran)
    assert "rolled back" in ran.out
    assert f"last words of {world.member_unit('vision')}" in ran.out
    assert world.serves(host, "reasoning")
    assert not world.serves(host, "vision")
    assert world.committed(host) == before


def a_coven_that_crashes_at_once_is_rolled_back_long_before_its_deadline(world: World) -> None:
    settle(world)
    host = world.hosts[0]
    world.set_fault(host, "vision", "crash-at-start")
    world.set_coven(host, "vision")

    ran = world.recon("apply", "--yes")

    assert ran.code == 6, explain(ran)
    assert world.serves(host, "reasoning")
    last = world.status(host)["executor"]["last"]["value"]
    assert (last["state"], last["steps_s"]["warm"] < 50) == ("rolled_back", True)


def memory_that_is_not_given_back_starts_nothing_and_is_named(world: World) -> None:
    host = world.hosts[0]
    world.rewrite(world.host_file(host), r"(?m)^coven: ", "memory: {release: 6s}\ncoven: ")
    settle(world)
    world.keep_memory(host)
    world.set_coven(host, "vision")

    ran = world.recon("apply", "--yes")

    assert ran.code in {6, 7}, explain(ran)
    assert "memory" in ran.out
    assert not world.serves(host, "vision")
    assert world.status(host)["executor"]["last"]["value"]["state"] in {"held", "rolled_back"}


def a_unit_file_edited_by_hand_is_drift(world: World) -> None:
    settle(world)
    host = world.hosts[0]
    world.edit_unit(host, "reasoning")

    assert changes(world, host) == [("edited_by_hand", "drift"), ("edited_by_hand", "drift")]
    assert detailed(world) == 2
    settle(world)
    assert detailed(world) == 0
    assert world.serves(host, "reasoning")


def a_stopped_service_is_drift_and_comes_back(world: World) -> None:
    settle(world)
    host = world.hosts[0]
    world.stop_unit(host, world.member_unit("reasoning"))

    assert changes(world, host) == [("unit_stopped", "drift")]
    settle(world)
    assert world.serves(host, "reasoning")
    assert detailed(world) == 0


def a_stranger_on_the_gpu_is_reported_and_refuses_a_switch(world: World) -> None:
    settle(world)
    host = world.hosts[0]
    world.stray(host)

    assert changes(world, host) == [("foreign_process", "drift")]
    world.set_coven(host, "vision")
    ran = world.recon("apply", "--yes")
    assert ran.code == 3, explain(ran)
    assert "REC8003" in ran.out + ran.err
    assert world.serves(host, "reasoning")


def a_host_that_is_down_makes_the_plan_incomplete_and_the_others_are_planned(world: World) -> None:
    settle(world)
    down, up = world.hosts[0], world.hosts[1]
    world.set_coven(up, "vision")
    world.take_down(down)

    ran = world.recon("plan", "--output", "json")

    assert ran.code == 8, explain(ran)
    plan = ran.json
    assert plan["complete"] is False
    assert {host["host"]: host["status"] for host in plan["hosts"]} == {
        host: "unreachable" if host == down else "ok" for host in world.hosts
    }
    assert routes(world, up) == [("reasoning", "vision", "switch", "desired")]


def a_changed_member_is_restarted_and_nothing_else(world: World) -> None:
    settle(world)
    host, other = world.hosts[0], world.hosts[1]
    world.set_coven(other, "vision")
    settle(world)
    before, untouched = world.main_pid(host, "reasoning"), world.main_pid(other, "vision")
    world.rewrite(world.coven_file("reasoning"), r"stop: \{timeout: \w+\}", "stop: {timeout: 11s}")

    assert routes(world, host) == [("reasoning", "reasoning", "restart", "desired")]
    assert routes(world, other) == []
    settle(world)
    assert world.main_pid(host, "reasoning") != before
    assert world.main_pid(other, "vision") == untouched
    assert detailed(world) == 0


def a_host_goes_back_by_hand_to_what_it_ran_before(world: World) -> None:
    settle(world)
    host = world.hosts[0]
    first = world.committed(host)
    world.set_coven(host, "vision")
    settle(world)

    ran = world.recon("rollback", host, "--yes")

    assert ran.code == 0, explain(ran)
    assert (world.serves(host, "reasoning"), world.serves(host, "vision")) == (True, False)
    assert world.committed(host) == first + 2
    assert routes(world, host) == [("reasoning", "vision", "switch", "desired")]


SCENARIOS: tuple[Scenario, ...] = (
    a_fleet_goes_from_nothing_to_declared_and_then_has_nothing_to_do,
    one_changed_line_is_one_switch_and_a_second_apply_does_nothing,
    a_switch_waits_for_the_request_in_flight,
    a_drain_that_takes_too_long_is_given_up_and_the_old_coven_serves_on,
    a_server_that_pauses_is_paused_and_a_pause_that_is_asked_for_is_seen,
    an_engine_that_sleeps_is_called_so_and_goes_when_git_says_so,
    a_firewall_lets_the_request_in_flight_finish_and_refuses_a_new_one,
    after_a_drain_that_is_given_up_new_connections_are_let_in_again,
    a_hook_that_hangs_ends_the_transition_and_the_old_coven_serves_on,
    a_coven_that_never_gets_healthy_is_rolled_back,
    a_coven_that_crashes_at_once_is_rolled_back_long_before_its_deadline,
    memory_that_is_not_given_back_starts_nothing_and_is_named,
    a_unit_file_edited_by_hand_is_drift,
    a_stopped_service_is_drift_and_comes_back,
    a_stranger_on_the_gpu_is_reported_and_refuses_a_switch,
    a_host_that_is_down_makes_the_plan_incomplete_and_the_others_are_planned,
    a_changed_member_is_restarted_and_nothing_else,
    a_host_goes_back_by_hand_to_what_it_ran_before,
)
