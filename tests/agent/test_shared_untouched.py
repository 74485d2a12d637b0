"""Services of others are looked at and never touched: there is one way to act on a unit, and it refuses theirs."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import reconciler.agent
from reconciler.agent import systemd
from reconciler.agent.machine import Completed, Machine
from reconciler.agent.systemd import ForeignUnitError
from reconciler.sim.deeds import stop_unit
from reconciler.sim.faults import set_fault
from reconciler.sim.fleet import provide, run_agent
from tests.agent.bench import PARSER, Bench, a_service
from tests.agent.fakehost import FakeHost

AGENT = Path(reconciler.agent.__file__).parent
SHARED = "qdrant.service"
TAKING: dict[str, Any] = {
    "moves": [{"takes_over": [{"name": name} for name in ("llama.service", SHARED, "*", "[r]econ-a.service")]}]
}
"""An order that names a unit it may take over, one that is shared, and patterns."""
ACTS: tuple[Callable[[Machine, str], None], ...] = (
    lambda host, unit: systemd.start(host, [unit]),
    lambda host, unit: systemd.stop(host, ["recon-a-b.service", unit]),
    systemd.restart,
    lambda host, unit: systemd.kill(host, [unit]),
    systemd.end,
    lambda host, unit: systemd.end_and_wait(host, unit, 1.0),
    lambda host, unit: systemd.end_all(host, [unit]),
    lambda host, unit: systemd.start_all(host, ["recon-a-b.service", unit]),
    systemd.restart_any,
    systemd.start_target,
    systemd.stop_gate,
    lambda host, unit: systemd.reset_failed(host, [unit]),
    systemd.mask,
    systemd.unmask,
    lambda host, unit: systemd.stop_adopted(host, [unit], {**TAKING, "shared": [SHARED]}),
    lambda host, unit: systemd.start_adopted(host, ["llama.service", unit], {**TAKING, "shared": [SHARED]}),
)
"""Everything in `agent.systemd` that acts on a unit by its name."""


@pytest.mark.parametrize("number", range(len(ACTS)))
@pytest.mark.parametrize(
    "unit", [SHARED, "*", "recon-*", "[r]econ-a.service", "recon-a.service/../x.service", "recon-a", "-recon-a.service"]
)
def test_whatever_is_done_to_a_unit_is_refused_for_one_that_is_not_recons(number: int, unit: str) -> None:
    host = FakeHost()

    with pytest.raises(ForeignUnitError, match="not a unit of recon, so it is never touched"):
        ACTS[number](host, unit)

    assert (host.ran, host.files) == ([], {})


def test_what_an_order_takes_over_is_acted_on_for_that_order_alone() -> None:
    stop = ("systemctl", "stop", "--no-block", "--job-mode=fail", "llama.service")
    start = ("systemctl", "start", "--no-block", "llama.service")
    host = FakeHost(programs={stop: Completed(0, b"", b""), start: Completed(0, b"", b"")})
    systemd.stop_adopted(host, ["llama.service"], {**TAKING, "shared": [SHARED]})
    systemd.start_adopted(host, ["llama.service"], {**TAKING, "shared": [SHARED]})

    assert host.ran == [stop, start]
    others: tuple[dict[str, Any], ...] = (
        {"moves": []},
        {"moves": [{"takes_over": []}]},
        {**TAKING, "shared": ["llama.service"]},
    )
    for other in others:
        with pytest.raises(ForeignUnitError):
            systemd.stop_adopted(host, ["llama.service"], other)
    assert len(host.ran) == 2


def test_only_the_take_over_uses_the_exception_and_only_with_the_order_that_runs() -> None:
    """`adopted=` opens the one function that acts; both its users make it from an order, and nobody else calls them."""
    source = (AGENT / "systemd.py").read_text(encoding="utf-8")
    calls = {
        path.name: path.read_text(encoding="utf-8").count("_adopted(")
        for path in sorted(AGENT.glob("*.py"))
        if "_adopted(" in path.read_text(encoding="utf-8")
    }

    assert source.count("adopted=") == source.count("adopted=adopted_by(intent)") == 2
    assert calls == {"systemd.py": 2, "takeover.py": 2}
    text = (AGENT / "takeover.py").read_text(encoding="utf-8")
    orders = re.findall(r"systemd\.(?:stop|start)_adopted\(run\.machine, \w+, (.+)\)", text)
    assert orders == ["run.intent", "run.intent"]


def test_every_function_that_acts_on_a_unit_is_in_that_list() -> None:
    source = (AGENT / "systemd.py").read_text(encoding="utf-8")
    acting = {"_act", "refuse_foreign", "start", "stop"}
    public = {
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and node.name != "refuse_foreign"
        and any(isinstance(inner, ast.Call) and _called(inner) in acting for inner in ast.walk(node))
    }

    assert len(public) == len(ACTS)
    assert {"start", "stop", "restart", "kill", "end", "reset_failed", "mask", "unmask"} <= public


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _literals(path: Path) -> Iterator[tuple[str, ast.AST]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.List | ast.Tuple) and node.elts and isinstance(node.elts[0], ast.Constant):
            words = [each.value for each in node.elts if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            yield " ".join(words), node


def test_no_other_place_of_the_agent_has_words_for_systemctl() -> None:
    """Every argv begins with a literal; those of systemctl that do more than look stand in one function."""
    found = {
        (path.name, words.split(" -", 1)[0])
        for path in sorted(AGENT.glob("*.py"))
        for words, _ in _literals(path)
        if words.split(" ")[0].rpartition("/")[2] == "systemctl"
    }

    assert found == {
        ("fence.py", "systemctl show"),
        ("fence.py", "systemctl is-active"),
        ("fence.py", "systemctl"),
        ("systemd.py", "systemctl show"),
        ("strangers.py", "systemctl show"),
        # Not said, but compared with what is: the same words for the manager of a user.
        ("user_scope.py", "systemctl show"),
        ("user_scope.py", "systemctl systemd-run systemd-analyze"),
        ("systemd.py", "systemctl daemon-reload"),
        ("systemd.py", "systemctl"),
    }
    text = (AGENT / "systemd.py").read_text(encoding="utf-8")
    assert text.count('["systemctl", *words, *units]') == 1
    assert text.index("refuse_foreign(units, adopted)\n    argv") < text.index('["systemctl", *words, *units]')


def test_no_place_of_the_agent_can_end_a_container_or_a_process_that_it_did_not_start() -> None:
    verbs = {
        words.split(" ")[1]
        for path in sorted(AGENT.glob("*.py"))
        for words, _ in _literals(path)
        if words.startswith("podman ") and path.name not in ("fence.py", "takeover.py")
    }
    # What an order takes over by name may be a container too; there is one place, and it asks for the same leave.
    text = (AGENT / "takeover.py").read_text(encoding="utf-8")
    assert text.count('["podman", *words, "--", name]') == 1
    assert text.index("name not in systemd.adopted_by(intent)") < text.index('["podman", *words, "--", name]')
    killing = {
        path.name
        for path in sorted(AGENT.glob("*.py"))
        if "os.kill" in path.read_text(encoding="utf-8") or "D-Bus" in path.read_text(encoding="utf-8")
    }

    assert verbs <= {"version", "--version", "image", "pull", "volume", "ps", "inspect"}
    # Of these, one ends the child that asks NVML, the other the group of a program that it began itself.
    assert killing == {"gpu_child.py", "programs.py"}


def test_over_a_life_of_a_host_nobody_else_s_unit_is_named_but_to_be_shown() -> None:
    bench = Bench(residents={"parser": PARSER})
    bench.shared = (SHARED,)
    provide(bench.machine, {"shared": [{"unit": SHARED, "health": None}]})
    machine, seen = bench.machine, []
    answer = machine.run

    def run(argv: list[str], *rest: object, **more: object) -> object:
        seen.append(list(argv))
        return answer(argv, *rest, **more)  # type: ignore[arg-type] # passed on as it came

    machine.run = run  # type: ignore[method-assign, assignment] # a recorder before the machine
    machine.manager.program = lambda argv: run_agent(machine, argv)
    before = machine.manager.run_of(SHARED)
    was = (before.active, before.main_pid, before.invocation)

    assert bench.run("reasoning").state == "applied"
    assert bench.run("vision").state == "applied"
    set_fault(machine.state, "never-healthy", "recon-reasoning-vllm.service")
    assert bench.run("reasoning").state == "rolled_back"
    bench.residents = {"parser": a_service("none", None, memory="0B", gpu=False, env={"A": "b"})}
    assert bench.run("vision").state == "applied"
    stop_unit(machine, "recon-vision-llama.service")
    assert bench.run("vision").state == "applied"
    assert bench.run(None).state == "applied"

    naming = [argv for argv in seen if any(SHARED in word or word == "qdrant" for word in argv)]
    after = machine.manager.run_of(SHARED)
    assert naming != []
    assert {tuple(argv[:2]) for argv in naming} == {("systemctl", "show")}
    assert (after.active, after.main_pid, after.invocation) == was
    assert was[0] == "active"
