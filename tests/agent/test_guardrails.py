"""Each guardrail of the spiral, broken one by one, against what is declared and what is on the host."""

# ruff: noqa: E501 - a table is read row by row, and a row is one line

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from reconciler.agent import guardrails, spiral
from reconciler.agent.machine import Completed
from reconciler.diff import diff_host
from reconciler.model.desired import Spiral
from reconciler.model.subject import look_at
from reconciler.planner import plan_host
from reconciler.sim.machine import SimMachine
from reconciler.sim.state import Node, Process
from tests.agent.spirals import CONTROL, ROOT, SATURATOR, WORKER, SpiralBench

Break = Callable[[SpiralBench], None]


def declared(*path: str, value: Any = None) -> Break:
    """Return a change of what git says; no value takes the key away."""

    def change(bench: SpiralBench) -> None:
        bench.loop = copy.deepcopy(bench.loop)
        inner = bench.loop
        for key in path[:-1]:
            inner = inner[key]
        if value is None:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value

    return change


def stranger(*argv: str, cgroup: str = "/user.slice/user-1000.slice/session-1.scope") -> Break:
    def change(bench: SpiralBench) -> None:
        pid = bench.machine.clock.pid()
        bench.machine.state.processes[pid] = Process(pid=pid, comm="x", argv=list(argv), cgroup=cgroup)

    return change


def file(path: str, text: str) -> Break:
    def change(bench: SpiralBench) -> None:
        bench.machine.files.make_dirs(path.rpartition("/")[0])
        bench.machine.files.put(path, Node.of(text.encode()))

    return change


def two_guardians(bench: SpiralBench) -> None:
    for name in ("controller", "worker"):
        declared(UNITS, name, "guards", value="hangs")(bench)


def foreign_unit(bench: SpiralBench) -> None:
    file("/etc/systemd/system/spiral-worker.service", "[Service]\nExecStart=/bin/sleep 9\n")(bench)
    bench.machine.run(["systemctl", "start", "spiral-worker.service"], 10)


def enabled_unit(bench: SpiralBench) -> None:
    wants = "/etc/systemd/system/multi-user.target.wants"
    bench.machine.files.make_dirs(wants)
    bench.machine.files.put(f"{wants}/spiral-worker.service", Node(kind="link", target="../spiral-worker.service"))


def container(bench: SpiralBench) -> None:
    stray = bench.machine.podman.stray("old-loop", "registry.example.net/old:1", ["loop"], 0, [])
    stray.restart, stray.mounts = "always", [f"{ROOT}/renders"]


def no_caps(bench: SpiralBench) -> None:
    bench.own = Spiral(enabled=True)


def gone(path: str) -> Break:
    return lambda bench: bench.machine.files.drop_tree(path)


def linked(bench: SpiralBench) -> None:
    bench.machine.files.drop_tree(CONTROL)
    bench.machine.files.put(CONTROL, Node(kind="link", target="/etc/passwd"))


UNITS = "units"
LIMITS = {"memory": "2GiB"}
BROKEN: list[tuple[str, str, Break, str, str]] = [
    ("no producer", "one-producer", declared(UNITS, "saturator", "producer"), "0 units feed", "producer: true"),
    ("two producers", "one-producer", declared(UNITS, "worker", "producer", value=True), "saturator, worker", "exactly one"),
    ("a producer by hand", "one-producer", stranger(f"{ROOT}/saturate"), "somebody else runs saturator", "end it"),
    ("a producer through a shell", "one-producer", stranger("/bin/bash", f"{ROOT}/saturate"), "saturator", "end it"),
    ("a producer of another unit", "one-producer", stranger(f"{ROOT}/saturate", cgroup="/system.slice/cron.service"), "of cron.service", "end it"),
    ("two guardians", "one-authority", two_guardians, "2 guardians", "one unit"),
    ("an active foreign unit", "one-authority", foreign_unit, "spiral-worker.service (active)", "systemctl disable --now spiral-worker.service"),
    ("an enabled foreign unit", "one-authority", enabled_unit, "spiral-worker.service (enabled)", "systemctl disable --now spiral-worker.service"),
    ("a restart policy", "one-authority", container, "old-loop (restart policy always)", "podman update --restart=no"),
    ("a loop by hand", "one-authority", stranger("python3", "-m", "spiral.worker"), "somebody else runs worker", "end it"),
    ("restarts for ever", "backoff", file(f"/etc/systemd/system/{WORKER}.d/a.conf", "[Service]\nRestart=always\n"), "Restart=always, by /etc/systemd/system", f"systemctl revert {WORKER}"),
    ("no limit of starts", "backoff", file(f"/etc/systemd/system/{WORKER}.d/a.conf", "[Unit]\nStartLimitIntervalSec=0\n"), "StartLimitIntervalSec=0", f"systemctl revert {WORKER}"),
    ("no memory cap", "caps", declared(UNITS, "worker", "limits", value={"tasks": 64}), "worker has no cap of memory", "limits: {memory: …}"),
    ("no task cap", "caps", declared(UNITS, "controller", "limits", value=LIMITS), "controller has no cap of tasks", "limits: {tasks: …}"),
    ("a cap that was raised", "caps", file(f"/etc/systemd/system/{SATURATOR}.d/a.conf", "[Service]\nMemoryMax=infinity\n"), "MemoryMax=infinity", f"systemctl revert {SATURATOR}"),
    ("no reaper", "reaper", declared("reaper"), "nothing deletes", "reaper:"),
    ("a reaper of nothing", "reaper", gone(f"{ROOT}/renders"), "is not there", "make the directory"),
    ("no convergence", "convergence", declared("convergence"), "would never stop", "convergence:"),
    ("no control file declared", "rate-caps", declared("control"), "no control file", "control:"),
    ("no caps", "rate-caps", no_caps, "sets no jobs_per_hour", "rate_caps: {jobs_per_hour: …}"),
    ("no control file", "rate-caps", gone(CONTROL), "is not there", "echo '{}'"),
    ("a link for a control file", "rate-caps", linked, "no plain file", "JSON object"),
    ("a list for a control file", "rate-caps", file(CONTROL, "[1]"), "no JSON object", "JSON object"),
    ("a torn control file", "rate-caps", file(CONTROL, "{"), "no JSON", "JSON object"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "text", "fix"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_a_guardrail_that_is_broken_names_itself_and_refuses_the_plan(
    name: str, change: Break, text: str, fix: str
) -> None:
    bench = SpiralBench()
    assert bench.run("reasoning").state == "applied"
    change(bench)
    bench.machine.run(["systemctl", "daemon-reload"], 10)

    state = bench.state()
    subject = look_at(*bench.rendered("vision"), state)
    plan = plan_host(subject, diff_host(subject), fleet="studio", ignored=0)

    verdicts = {each.name: each for each in plan.guardrails}
    assert [each.name for each in plan.guardrails if each.state != "ok"] == [name]
    assert text in verdicts[name].text
    assert fix in verdicts[name].fix
    assert (plan.status, plan.order) == ("refused", None)
    # A drop-in is somebody else's file under our name too, which is refused by itself.
    assert {refusal.code for refusal in plan.refusals} - {"REC8004"} == {"REC8020"}
    assert name in plan.refusals[-1].summary


def test_all_guardrails_hold_on_a_host_that_runs_it() -> None:
    bench = SpiralBench()
    bench.run("reasoning")
    bench.wait()

    spec = spiral.committed(bench.machine)

    assert spec is not None
    assert [(each.name, each.state) for each in guardrails.judge(bench.machine, spec)] == [
        (name, "ok") for name in guardrails.NAMES
    ]


class DeafPodman(SimMachine):
    """A machine whose podman says nothing."""

    def run(
        self, argv: Sequence[str], timeout_s: float, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> Completed:
        if argv[0] == "podman":
            return Completed(125, b"", b"Error: database is locked")
        return super().run(argv, timeout_s, stdin, env)


def test_what_cannot_be_told_is_not_fine() -> None:
    bench = SpiralBench()
    spec = bench.question()["spiral"]

    verdicts = guardrails.judge(DeafPodman(bench.machine.state), spec)

    assert [(each.name, each.state, each.text) for each in guardrails.broken(verdicts)] == [
        ("one-authority", "unknown", "it cannot be told: podman ps: Error: database is locked")
    ]


def test_a_guardrail_that_breaks_after_the_plan_was_made_refuses_at_the_host() -> None:
    bench = SpiralBench()
    intent = bench.intent("reasoning")
    stranger(f"{ROOT}/saturate")(bench)

    outcome = bench.execute(bench.looked_at(intent))

    assert (outcome.state, outcome.code) == ("refused", "REC7363")
    assert "one-producer" in outcome.reason
    assert bench.up() == []
