"""Hooks: each is called at its point, ends in time whatever it does, and fails the way the plan says."""

from __future__ import annotations

import errno
import os
import threading
from typing import Any, Literal

import pytest

from reconciler.agent import executor, hooks, places
from reconciler.agent.hooks import scope_argv
from reconciler.model.desired import Hooks
from reconciler.sim.faults import set_fault
from reconciler.sim.machine import KilledError, PowerCutError
from reconciler.sim.state import Node
from tests.agent.bench import Bench, a_coven, a_service

GATE = "/usr/local/bin/gateway"
OLD = ["recon-reasoning-vllm"]
NEW = ["recon-vision-llama"]
EVERY = ("before_drain", "drain", "after_stop", "before_start", "after_warm", "on_rollback")


def a_hook(*words: str, on_timeout: str = "abort", timeout: str = "10s") -> dict[str, Any]:
    return {"argv": (GATE, *words), "timeout": timeout, "on_timeout": on_timeout}


def a_bench(old: dict[str, Any] | None = None, new: dict[str, Any] | None = None, text: str = "exit 0") -> Bench:
    """Return a host on which the old coven serves; the program of every hook says `text`."""
    reasoning = a_coven("reasoning", hooks=Hooks.model_validate(old or {}), vllm=a_service("vllm", 8001))
    vision = a_coven("vision", hooks=Hooks.model_validate(new or {}), llama=a_service("llamacpp", 8003))
    bench = Bench(reasoning, vision)
    bench.program(GATE, "exit 0")
    assert bench.run("reasoning").state == "applied"
    bench.machine.state.hooks.clear()
    bench.program(GATE, text)
    return bench


def called(bench: Bench) -> list[str]:
    return [line.removeprefix(GATE + " ") for line in bench.machine.state.hooks]


def notes(bench: Bench, txid: str) -> list[str]:
    return [event.text for event in bench.events(txid) if event.step == "hook" and event.status != "begin"]


def all_of(side: str) -> dict[str, Any]:
    hooks = {event: a_hook(side, event) for event in EVERY}
    return hooks | {"on_rollback": a_hook(side, "on_rollback", on_timeout="continue")}


def test_every_hook_is_called_at_its_point_and_the_way_back_is_not_taken() -> None:
    bench = a_bench(all_of("old"), all_of("new"))

    outcome = bench.run("vision")

    assert outcome.state == "applied"
    assert called(bench) == ["old before_drain", "old drain", "old after_stop", "new before_start", "new after_warm"]
    steps = ["claim", "stage", "hook", "hook", "drain", "stop", "hook", "hook", "verify_memory", "trial", "start"]
    assert bench.steps(outcome.txid) == [*steps, "warm", "hook", "commit", "finish"]


@pytest.mark.parametrize(
    ("old", "note"),
    [
        ({}, "asr cannot say what it does; what it does now is cut, as planned"),
        (
            {"drain": a_hook("drain")},
            "asr cannot say what it does; the drain hook has waited for it; what it does now is cut, as planned",
        ),
    ],
)
def test_what_cannot_be_seen_and_a_hook_has_waited_for_is_said_to_be_waited_for(old: dict[str, Any], note: str) -> None:
    blind = a_coven("reasoning", hooks=Hooks.model_validate(old), asr=a_service("none", None, memory="8GiB"))
    bench = Bench(blind, a_coven("vision", llama=a_service("llamacpp", 8003)))
    bench.program(GATE, "exit 0")
    assert bench.run("reasoning").state == "applied"

    outcome = bench.run("vision")

    told = [event.text for event in bench.events(outcome.txid) if event.step == "drain" and "asr cannot" in event.text]
    assert (outcome.state, told) == ("applied", [note])


def test_a_hook_runs_without_a_shell_in_a_scope_of_its_own_that_systemd_ends() -> None:
    assert scope_argv([GATE, "$HOME; true"], 30.0) == [
        "systemd-run",
        "--scope",
        "--unit=recon-hook.scope",
        "--slice=system.slice",
        "--collect",
        "--quiet",
        "--no-ask-password",
        "--expand-environment=no",
        "--property=RuntimeMaxSec=30",
        "--property=TimeoutStopSec=5",
        "--",
        GATE,
        "$HOME; true",
    ]


@pytest.mark.parametrize("event", ["before_drain", "drain"])
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("exit 3", "failed after 0.0 of 10 s: exit status 3"),
        ("sleep 3600", "failed after 10.0 of 10 s: ended by signal 15"),
        ('trap "" TERM\nsleep 3600', "failed after 15.0 of 10 s: ended by signal 9"),
    ],
)
def test_a_hook_before_the_stop_that_fails_or_hangs_aborts_and_the_old_coven_serves_on(
    event: str, text: str, why: str
) -> None:
    bench = a_bench({event: a_hook("close"), "on_rollback": a_hook("open", on_timeout="continue")}, text=text)
    before = bench.disk()

    outcome = bench.run("vision")

    assert (outcome.state, outcome.code) == ("aborted", "REC7132")
    assert outcome.reason == f"hook {event} of reasoning {why}"
    assert called(bench) == ["close", "open"]
    assert bench.serving() == OLD
    assert bench.disk() == before


def test_a_hook_that_may_fail_is_told_and_passed_over() -> None:
    bench = a_bench({"before_drain": a_hook("close", on_timeout="continue")}, text="echo no gateway\nexit 1")

    outcome = bench.run("vision")

    assert outcome.state == "applied"
    assert notes(bench, outcome.txid)[:2] == [
        "before_drain says: no gateway",
        "hook before_drain of reasoning failed after 0.0 of 10 s: exit status 1; the plan says continue",
    ]


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ({"after_stop": a_hook("x")}, {}, "after_stop of reasoning"),
        ({}, {"before_start": a_hook("x")}, "before_start of vision"),
        ({}, {"after_warm": a_hook("x")}, "after_warm of vision"),
    ],
)
def test_a_hook_after_the_stop_that_fails_rolls_back_and_both_sides_are_told(
    old: dict[str, Any], new: dict[str, Any], name: str
) -> None:
    told = {"on_rollback": a_hook("told", on_timeout="continue")}
    bench = a_bench(old | told, new | told, text="exit 1")

    outcome = bench.run("vision")

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7132")
    assert outcome.reason.startswith(f"hook {name} failed")
    assert called(bench) == ["x", "told", "told"]
    assert bench.serving() == OLD


def test_what_a_hook_leaves_behind_ends_with_it() -> None:
    bench = a_bench({"before_drain": a_hook("close")}, text="setsid sleep 9999 &\nexit 0")

    outcome = bench.run("vision")

    assert outcome.state == "applied"
    assert "before_drain left processes behind; they were ended" in notes(bench, outcome.txid)
    assert [each.comm for each in bench.machine.state.processes.values() if "recon-hook" in each.cgroup] == []


def test_of_a_flood_of_output_only_the_beginning_is_kept() -> None:
    bench = a_bench({"before_drain": a_hook("close")}, text="flood 1073741824\nexit 1")

    outcome = bench.run("vision")

    assert outcome.state == "aborted"
    assert len(str(bench.events(outcome.txid))) < 20_000
    assert [len(lines) for name, lines in outcome.logs.items() if name == "hook before_drain of reasoning"] == [1]


def test_what_a_hook_says_is_harmless_where_it_is_shown() -> None:
    bench = a_bench({"before_drain": a_hook("close")}, text="echo \x1b[31mred\u202e\nexit 1")

    outcome = bench.run("vision")

    assert outcome.logs == {"hook before_drain of reasoning": ("\\x1b[31mred\\u202e",)}


def test_a_hook_may_be_an_http_call() -> None:
    http = {"url": "http://127.0.0.1:8001/v1/completions", "body": '{"max_tokens": 1}'}
    bench = a_bench({"before_drain": {"http": http, "timeout": "5s", "on_timeout": "abort"}})
    assert bench.run("vision").state == "applied"

    nobody = {"url": "http://127.0.0.1:9/x"}
    bench = a_bench({"before_drain": {"http": nobody, "timeout": "5s", "on_timeout": "abort"}})
    outcome = bench.run("vision")

    assert (outcome.state, outcome.code) == ("aborted", "REC7132")
    assert "POST http://127.0.0.1:9/x" in next(e.text for e in bench.events(outcome.txid) if e.step == "hook")
    assert "did not answer" in outcome.reason


def break_mode(bench: Bench, path: str, mode: int, uid: int = 0) -> None:
    node = bench.machine.files.stat(path)
    assert node is not None
    node.mode, node.uid = mode, uid


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda b: break_mode(b, GATE, 0o775), f"{GATE} can be changed by others than root"),
        (lambda b: break_mode(b, GATE, 0o757), f"{GATE} can be changed by others than root"),
        (lambda b: break_mode(b, GATE, 0o755, 1000), f"{GATE} belongs to another user than root"),
        (lambda b: break_mode(b, GATE, 0o644), f"{GATE} may not be executed"),
        (lambda b: break_mode(b, "/usr/local/bin", 0o777), "/usr/local/bin can be changed by others than root"),
        (lambda b: b.machine.files.drop(GATE), f"{GATE} is not there"),
        (lambda b: b.machine.files.put(GATE, Node(kind="link", target="/etc")), f"{GATE} is no program"),
        (lambda b: b.machine.files.put(GATE, Node(kind="link", target=GATE)), f"{GATE} is a ring of links"),
    ],
)
def test_a_program_that_others_could_have_changed_is_refused_before_anything_moves(spoil: Any, why: str) -> None:
    bench = a_bench({"after_stop": a_hook("x")})
    spoil(bench)

    outcome = bench.run("vision")

    assert (outcome.state, outcome.code) == ("refused", "REC7130")
    assert outcome.reason == f"after_stop of reasoning: {why}"
    assert called(bench) == []
    assert bench.serving() == OLD


def test_a_program_behind_a_link_of_root_is_run() -> None:
    bench = a_bench({"after_stop": a_hook("x")})
    bench.program("/opt/gateway/bin/tool", "exit 0")
    bench.machine.files.put(GATE, Node(kind="link", target="../../../opt/gateway/bin/tool"))

    assert bench.run("vision").state == "applied"


def test_a_restart_of_one_member_calls_the_hooks_of_its_coven_and_tells_it_once_when_it_fails() -> None:
    bench = a_bench(all_of("old"))
    bench.covens["reasoning"] = bench.covens["reasoning"].model_copy(
        update={"services": {"vllm": a_service("vllm", 8001, memory="41GiB")}}
    )
    set_fault(bench.machine.state, "crash-at-start", "recon-reasoning-vllm.service")

    outcome = bench.run("reasoning")

    assert outcome.state == "held"  # its own server crashes on the way back too
    assert called(bench) == ["old before_drain", "old drain", "old after_stop", "old before_start"]


def test_after_a_kill_in_the_drain_the_coven_is_told_that_it_serves_on() -> None:
    bench = a_bench({"before_drain": a_hook("close"), "on_rollback": a_hook("open", on_timeout="continue")})
    txid = bench.submit(bench.intent("vision"))
    bench.strike(txid, stop_at("run systemctl stop", KilledError))

    outcome = executor.execute(bench.machine, txid)

    assert outcome["state"] in ("aborted", "rolled_back")
    assert called(bench) == ["close", "open"]
    assert bench.serving() == OLD


def test_after_a_power_cut_the_next_transaction_tells_the_coven_that_was_on_its_way_out() -> None:
    bench = a_bench({"before_drain": a_hook("close"), "on_rollback": a_hook("open", on_timeout="continue")})
    txid = bench.submit(bench.intent("vision"))
    bench.strike(txid, stop_at("run systemctl stop", PowerCutError))
    bench.machine.reboot()
    bench.machine.clock.advance(120.0)

    assert bench.run("vision").state == "applied"
    assert called(bench) == ["close", "open", "close"]
    assert bench.serving() == NEW


def stop_at(what: str, error: type[BaseException]) -> Any:
    def hook(when: Literal["before", "after"], deed: str) -> None:
        if when == "before" and deed.startswith(what) and "hook" not in deed:
            raise error

    return hook


def test_the_directory_of_a_hook_is_no_concern_of_a_coven_without_one() -> None:
    bench = a_bench()
    bench.machine.files.drop(GATE)

    assert bench.run("vision").state == "applied"
    assert places.ADMISSION not in bench.machine.state.files


def a_bench_that_serves_nothing(text: str = "exit 0") -> Bench:
    vision = a_coven("vision", hooks=Hooks.model_validate(all_of("new")), llama=a_service("llamacpp", 8003))
    bench = Bench(vision)
    bench.program(GATE, text)
    return bench


def test_a_coven_for_an_empty_slot_whose_start_hook_fails_is_told() -> None:
    bench = a_bench_that_serves_nothing("exit 1")

    outcome = bench.run("vision")

    assert (outcome.state, outcome.code) == ("aborted", "REC7132")
    assert called(bench) == ["new before_start", "new on_rollback"]


@pytest.mark.parametrize("how", [KilledError, PowerCutError])
def test_a_coven_for_an_empty_slot_is_told_by_whoever_comes_after_its_executor(how: type[BaseException]) -> None:
    bench = a_bench_that_serves_nothing()
    txid = bench.submit(bench.intent("vision"))
    bench.strike(txid, stop_at(f"symlink {places.TRIAL}", how))
    if how is PowerCutError:
        bench.machine.reboot()
        bench.machine.clock.advance(120.0)
        assert bench.run("vision").state == "applied"
    else:
        assert executor.execute(bench.machine, txid)["state"] == "aborted"

    assert called(bench)[:2] == ["new before_start", "new on_rollback"]


def test_a_coven_for_an_empty_slot_is_told_when_another_slot_goes_back() -> None:
    vision = a_coven("vision", hooks=Hooks.model_validate(all_of("new")), llama=a_service("llamacpp", 8003))
    bench = Bench(
        a_coven("a", one=a_service("llamacpp", 8001)),
        a_coven("b", two=a_service("llamacpp", 8002)),
        vision,
        slots={"left": ("0",), "right": ("1",)},
    )
    bench.program(GATE, "exit 0")
    assert bench.run("a", None).state == "applied"
    txid = bench.submit(bench.intent("b", "vision"))
    bench.strike(txid, after_the_hook)

    assert executor.execute(bench.machine, txid)["state"] == "rolled_back"
    assert called(bench) == ["new before_start", "new on_rollback"]
    assert bench.serving() == ["recon-a-one"]


def after_the_hook(when: Literal["before", "after"], deed: str) -> None:
    if when == "after" and "recon-hook" in deed:
        raise KilledError


def a_program_that_cannot_be_looked_at(bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Let every look at the program of the hooks fail, or not return."""
    real, never = bench.machine.stat, threading.Event()

    def stat(path: str) -> Any:
        if path != GATE:
            return real(path)
        if how == "hangs":
            never.wait()
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)

    monkeypatch.setattr(bench.machine, "stat", stat)


LOOKS = [("hangs", "no answer within 0.1 s"), ("fails", "Stale file handle")]


@pytest.mark.parametrize(("how", "why"), LOOKS)
def test_a_program_that_can_no_longer_be_looked_at_is_not_in_the_way_back(
    how: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "_LOOK_S", 0.1)
    bench = a_bench({"on_rollback": a_hook("open", on_timeout="continue")})
    intent = bench.intent("vision")
    set_fault(bench.machine.state, "crash-at-start", "recon-vision-llama.service")

    def staged(when: Literal["before", "after"], deed: str) -> None:
        if deed.startswith("run systemctl stop"):
            bench.machine.hook = None
            a_program_that_cannot_be_looked_at(bench, monkeypatch, how)

    bench.machine.hook = staged
    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7105")
    assert bench.serving() == OLD
    (note,) = notes(bench, outcome.txid)[:1]
    assert f"{GATE} cannot be looked at" in note
    assert why in note


@pytest.mark.parametrize(("how", "why"), LOOKS)
def test_a_program_that_cannot_be_looked_at_is_refused_before_anything_moves(
    how: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "_LOOK_S", 0.1)
    bench = a_bench({"after_stop": a_hook("x")})
    intent = bench.intent("vision")
    a_program_that_cannot_be_looked_at(bench, monkeypatch, how)

    outcome = bench.execute(intent)

    assert (outcome.state, outcome.code) == ("refused", "REC7130")
    assert f"after_stop of reasoning: {GATE} cannot be looked at" in outcome.reason
    assert why in outcome.reason
    assert bench.serving() == OLD
