"""Admission by firewall: new connections are refused while a coven drains, and let in again on every way out."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from reconciler.agent import admission, executor, places
from reconciler.sim.faults import set_fault
from reconciler.sim.machine import KilledError, PowerCutError
from reconciler.sim.services import add_requests
from tests.agent.bench import Bench, a_coven, a_service

OLD = ["recon-reasoning-llama"]
PORT = 8001
DRAIN = {"timeout": "30s", "on_timeout": "abort", "admission": "firewall"}


@pytest.fixture
def bench() -> Bench:
    """A host on which a coven serves whose runtime has no pause."""
    reasoning = a_coven("reasoning", llama=a_service("llamacpp", PORT, drain=DRAIN))
    bench = Bench(reasoning, a_coven("vision", llama=a_service("llamacpp", 8003)))
    assert bench.run("reasoning").state == "applied"
    return bench


def request(bench: Bench, seconds: float, start_in: float = 0.0) -> None:
    for server in bench.machine.podman.servers.matching(f":{PORT}"):
        add_requests(server, bench.machine.clock.now, seconds, 1, start_in)


def is_open(bench: Bench) -> bool:
    return not bench.machine.state.closed and bench.machine.stat(places.ADMISSION) is None


def test_a_request_in_flight_finishes_and_one_that_comes_later_is_refused(bench: Bench) -> None:
    request(bench, 12.0)
    request(bench, 20.0, start_in=8.0)

    outcome = bench.run("vision")

    assert outcome.state == "applied"
    assert (bench.machine.state.cut, len(bench.machine.state.refused)) == ([], 1)
    assert bench.steps(outcome.txid)[2:6] == ["admission", "drain", "stop", "admission"]
    assert is_open(bench)


def test_without_a_firewall_the_later_one_would_have_been_waited_for() -> None:
    reasoning = a_coven("reasoning", llama=a_service("llamacpp", PORT))
    bench = Bench(reasoning, a_coven("vision", llama=a_service("llamacpp", 8003)))
    assert bench.run("reasoning").state == "applied"
    request(bench, 12.0)
    request(bench, 20.0, start_in=8.0)

    outcome = bench.run("vision")

    assert outcome.steps_s["drain"] > 25
    assert bench.machine.state.refused == []


def test_after_a_drain_that_is_given_up_new_connections_are_let_in(bench: Bench) -> None:
    request(bench, 90.0)

    outcome = bench.run("vision")

    assert (outcome.state, outcome.code) == ("aborted", "REC7101")
    assert is_open(bench)
    assert bench.serving() == OLD


@pytest.mark.parametrize("error", [KilledError, PowerCutError])
@pytest.mark.parametrize(
    "where", ["before append", "after run nft", "before run systemctl stop", "after run systemctl stop"]
)
def test_whoever_comes_after_a_dead_executor_opens_the_port(
    bench: Bench, where: str, error: type[BaseException]
) -> None:
    txid = bench.submit(bench.intent("vision"))
    bench.strike(txid, dying(where, error))
    if error is PowerCutError:
        bench.machine.reboot()
        assert bench.machine.state.closed == {}
        return
    bench.machine.revive()

    executor.execute(bench.machine, txid)

    assert is_open(bench)
    assert bench.serving() == OLD


def dying(where: str, error: type[BaseException]) -> Any:
    """Return a hook that ends the executor at the first such call after the port was closed, or while it is."""
    closed = False
    when_wanted, what = where.split(" ", 1)

    def hook(when: Literal["before", "after"], deed: str) -> None:
        nonlocal closed
        closed = closed or deed == f"write {places.ADMISSION}"
        if closed and when == when_wanted and deed.startswith(what):
            raise error

    return hook


def test_an_order_that_cannot_be_read_back_leaves_no_port_closed(bench: Bench) -> None:
    txid = bench.submit(bench.intent("vision"))
    bench.strike(txid, dying("after run nft", KilledError))
    bench.machine.write(places.transaction(txid) + "/intent.json", b"{}")

    assert executor.execute(bench.machine, txid)["code"] == "REC7115"
    assert is_open(bench)


def test_the_kernel_forgets_the_ports_by_itself_when_nobody_ever_comes(bench: Bench) -> None:
    txid = bench.submit(bench.intent("vision"))
    bench.strike(txid, dying("after run nft", KilledError))
    assert set(bench.machine.state.closed) == {PORT}
    bench.machine.clock.advance(30.0 + 25.0 + 301.0)

    assert bench.machine.state.closed == {}


@pytest.mark.parametrize(("code", "words"), [(127, "needs nft"), (1, "cannot do it")])
def test_a_host_that_cannot_do_it_is_refused_before_anything_moves(bench: Bench, code: int, words: str) -> None:
    set_fault(bench.machine.state, "nft", value=code)

    outcome = bench.run("vision")

    assert (outcome.state, outcome.code) == ("refused", "REC7131")
    assert words in outcome.reason
    assert bench.serving() == OLD


def test_a_rule_that_does_not_go_holds_the_host_with_the_command_that_removes_it(bench: Bench) -> None:
    request(bench, 90.0)
    txid = bench.submit(bench.intent("vision"))

    def hook(when: Literal["before", "after"], deed: str) -> None:
        if when == "after" and deed == "run nft -f -":
            set_fault(bench.machine.state, "nft", value=1, text="Error: busy")

    bench.machine.hook = hook
    outcome = executor.execute(bench.machine, txid)

    assert outcome["state"] == "held"
    assert "new connections are still refused, for the rule does not go: Error: busy" in outcome["reason"]


def test_the_rule_is_one_table_of_our_own_and_tells_a_new_connection_by_its_first_packet() -> None:
    assert admission.ruleset([8001, 8002], 390.0) == (
        "table inet recon_admission\n"
        "delete table inet recon_admission\n"
        "table inet recon_admission {\n"
        "  set ports {\n"
        "    type inet_service\n"
        "    flags timeout\n"
        "    elements = { 8001 timeout 390s, 8002 timeout 390s }\n"
        "  }\n"
        "  chain input {\n"
        "    type filter hook input priority -10; policy accept;\n"
        "    ip saddr 127.82.69.67 accept\n"
        "    tcp dport @ports tcp flags & (fin | syn | rst | ack) == syn reject with tcp reset\n"
        "  }\n"
        "}\n"
    )


def test_a_server_that_must_pause_and_does_not_is_not_stopped() -> None:
    drain = {"timeout": "30s", "on_timeout": "abort", "admission": "pause"}
    old = a_coven("reasoning", vllm=a_service("vllm", PORT, drain=drain))
    bench = Bench(old, a_coven("vision", llama=a_service("llamacpp", 8003)))
    assert bench.run("reasoning").state == "applied"

    outcome = bench.run("vision")

    assert (outcome.state, outcome.code) == ("aborted", "REC7134")
    assert bench.serving() == ["recon-reasoning-vllm"]


def test_admission_none_does_not_seal_either() -> None:
    drain = {"timeout": "30s", "on_timeout": "abort", "admission": "none"}
    dev = {"VLLM_SERVER_DEV_MODE": "1"}
    old = a_coven("reasoning", vllm=a_service("vllm", PORT, drain=drain, env=dev))
    bench = Bench(old, a_coven("vision", llama=a_service("llamacpp", 8003)))
    assert bench.run("reasoning").state == "applied"
    assert bench.intent("vision")["moves"][0]["old"]["members"][0]["pause"] is None

    assert bench.run("vision").state == "applied"
