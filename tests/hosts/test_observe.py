"""Asking every host: what is asked, and what becomes of hosts that do not answer properly."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from reconciler.errors import HostError, Problem, RefusedError, UnreachableError
from reconciler.hosts.observe import observe_fleet, observe_host
from reconciler.hosts.simulated import SimulatedTransport
from reconciler.model.desired import Fleet, Host, MemorySpec, Policy
from reconciler.model.observed import HostState, Observation, Unreachable
from tests.builders import a_file, a_group, a_host, a_member, a_rendered, a_shared, a_state


class FakeTransport:
    """Answers from a table; an exception is raised."""

    def __init__(self, answer: dict[str, Any] | Exception) -> None:
        self.answer = answer
        self.asked: list[tuple[str, dict[str, Any], float]] = []
        self.closed = 0

    def ask(self, verb: str, args: dict[str, Any], *, deadline_s: float) -> dict[str, Any]:
        self.asked.append((verb, args, deadline_s))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def close(self) -> None:
        self.closed += 1


# The builders make values without validating them, so the serializer cannot tell which `Known` a field has.
STATE = a_state().model_dump(mode="json", warnings=False)


def a_fleet(*hosts: Host) -> Fleet:
    return Fleet(name="studio", transport="ssh", policy=Policy(), covens={}, hosts={host.name: host for host in hosts})


def without_time(seen: Observation) -> Observation:
    return seen.model_copy(update={"elapsed_s": 0.0}) if isinstance(seen, Unreachable) else seen


def test_one_request_asks_everything_and_the_connection_is_let_go() -> None:
    host = a_host(shared=(a_shared(),), memory=MemorySpec(kind="unified"))
    transport = FakeTransport(STATE)
    image = "registry.example.net/{}@sha256:" + "b" * 64
    members = [
        a_member("vision", name, image=image.format(kind)) for name, kind in (("x", "b"), ("y", "a"), ("z", "b"))
    ]
    rendered = a_rendered(a_group("vision", *members), live={"all": "vision"}, files=(a_file("x.container"),))
    seen = observe_host(host, transport, rendered, deadline_s=5.0)

    assert seen == HostState.model_validate(STATE)
    assert transport.asked == [
        (
            "observe",
            {
                "shared": [{"unit": "qdrant.service", "health": None}],
                "memory": "unified",
                "images": [image.format("a"), image.format("b")],
                "expect": {"x.container": a_file("x.container").body_sha256},
                "deadline_s": 5.0,
            },
            20.0,
        )
    ]
    assert transport.closed == 1


def test_a_host_that_does_not_answer_is_a_state_with_the_reason() -> None:
    transport = FakeTransport(UnreachableError(Problem("REC6007", "closed", "refused after 0.1s", "start sshd")))

    assert without_time(observe_host(a_host(), transport)) == Unreachable(
        code="REC6007", reason="closed; refused after 0.1s; start sshd", elapsed_s=0.0
    )


def test_a_host_whose_agent_refuses_keeps_the_agents_code() -> None:
    seen = observe_host(a_host(), FakeTransport(HostError(Problem("REC5015", "no machine-id"))))

    assert without_time(seen) == Unreachable(code="REC5015", reason="no machine-id", elapsed_s=0.0)


@pytest.mark.parametrize(
    ("reply", "code", "words"),
    [
        ({}, "REC5005", "fields recon does not understand, first 'protocol'"),
        (STATE | {"protocol": 2}, "REC5007", "first 'protocol'"),
        (STATE | {"surprise": 1}, "REC5005", "first 'surprise'"),
        (STATE | {"gpus": {}}, "REC5005", "first 'gpus"),
        (STATE | {"gpus": None}, "REC5005", "first 'gpus"),
        (STATE | {"units": {"value": [{"name": "\x1b[31m"}]}}, "REC5005", "first 'units"),
        (STATE | {"\x1b[2J": 1}, "REC5005", r"first '\x1b[2J'"),
    ],
)
def test_a_reply_that_is_not_understood_is_never_an_empty_host(reply: dict[str, Any], code: str, words: str) -> None:
    seen = observe_host(a_host(), FakeTransport(reply))

    assert isinstance(seen, Unreachable)
    assert seen.code == code
    assert words in seen.reason


def test_hosts_are_asked_at_the_same_time_and_returned_in_the_order_asked() -> None:
    names = [f"spark-{number}" for number in range(8)]
    everybody = threading.Barrier(len(names), timeout=20)

    class Meeting(FakeTransport):
        def ask(self, verb: str, args: dict[str, Any], *, deadline_s: float) -> dict[str, Any]:
            everybody.wait()
            return super().ask(verb, args, deadline_s=deadline_s)

    fleet = a_fleet(*[a_host(name=name) for name in names])
    done: list[str] = []
    caller = threading.get_ident()

    def on_done(name: str, seen: Observation) -> None:
        assert threading.get_ident() == caller
        assert isinstance(seen, HostState)
        done.append(name)

    seen = observe_fleet(fleet, reversed(names), lambda _: Meeting(STATE), rendered={}, on_done=on_done)

    assert list(seen) == list(reversed(names))
    assert sorted(done) == names


def test_one_bad_host_takes_no_other_with_it() -> None:
    answers: dict[str, dict[str, Any] | Exception] = {
        "spark-1": STATE,
        "spark-2": UnreachableError(Problem("REC6006", "late")),
    }
    fleet = a_fleet(a_host(name="spark-1"), a_host(name="spark-2"))
    seen = observe_fleet(fleet, answers, lambda host: FakeTransport(answers[host.name]), rendered={})

    assert {name: type(state) for name, state in seen.items()} == {"spark-1": HostState, "spark-2": Unreachable}


def test_a_key_that_cannot_be_used_is_refused_before_any_host_is_asked() -> None:
    asked: list[FakeTransport] = []

    def connect(host: Host) -> FakeTransport:
        if host.name == "spark-2":
            raise RefusedError(Problem("REC7023", "the private key cannot be read"))
        asked.append(FakeTransport(STATE))
        return asked[-1]

    fleet = a_fleet(a_host(name="spark-1"), a_host(name="spark-2"))
    with pytest.raises(RefusedError):
        observe_fleet(fleet, ["spark-1", "spark-2"], connect, rendered={})

    assert [transport.asked for transport in asked] == [[]]


def test_an_interrupted_run_closes_what_it_opened() -> None:
    fleet = a_fleet(a_host())
    transport = FakeTransport(STATE)

    def interrupt(name: str, seen: Observation) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        observe_fleet(fleet, ["spark-1"], lambda _: transport, rendered={}, on_done=interrupt)

    assert transport.closed == 2


def test_no_hosts_are_no_observations() -> None:
    assert observe_fleet(a_fleet(), [], lambda _: FakeTransport(STATE), rendered={}) == {}


class FakeSimulation:
    def __init__(self, answer: dict[str, Any] | Exception) -> None:
        self._answer = answer

    def handle(self, host: str, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        if isinstance(self._answer, Exception):
            raise self._answer
        return {"host": host, "verb": verb, "args": args} | self._answer


class SimulatedRefusalError(Exception):
    code, summary, detail, fix = "REC5016", "no", "why", "do"


def test_a_simulated_host_answers_through_the_same_parser() -> None:
    reply = SimulatedTransport(FakeSimulation({"t": (1, 2)}), "spark-1").ask("observe", {"a": 1}, deadline_s=1)

    assert reply == {"host": "spark-1", "verb": "observe", "args": {"a": 1}, "t": [1, 2]}


@pytest.mark.parametrize(
    ("raised", "kind", "code"),
    [
        (SimulatedRefusalError(), HostError, "REC5016"),
        (ConnectionRefusedError("it is down"), UnreachableError, "REC6007"),
        (UnreachableError(Problem("REC6006", "late")), UnreachableError, "REC6006"),
    ],
)
def test_what_goes_wrong_in_a_simulation_looks_as_it_does_over_ssh(
    raised: Exception, kind: type[HostError], code: str
) -> None:
    with pytest.raises(HostError) as caught:
        SimulatedTransport(FakeSimulation(raised), "spark-1").ask("observe", {}, deadline_s=1)

    assert type(caught.value) is kind
    assert caught.value.problems[0].code == code
