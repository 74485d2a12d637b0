"""Each guardrail of the spiral, broken one by one, against what is declared and what is on the host."""

# ruff: noqa: E501 - a table is read row by row, and a row is one line

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from reconciler.agent import caps, guardrails, spiral, systemd
from reconciler.agent.machine import Completed
from reconciler.agent.real import RealMachine
from reconciler.diff import diff_host
from reconciler.model.desired import Spiral
from reconciler.model.subject import look_at
from reconciler.planner import plan_host
from reconciler.sim.machine import SimMachine
from reconciler.sim.state import Node, Process
from tests.agent import ticks
from tests.agent.bench import IMAGES
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


def second_container(bench: SpiralBench) -> None:
    declared(
        UNITS, "saturator", value={"image": IMAGES["none"], "lane": "gpu", "producer": True, "limits": ALL_LIMITS}
    )(bench)
    bench.machine.podman.stray("by-hand", IMAGES["none"], [], 0, [])


def no_caps(bench: SpiralBench) -> None:
    bench.own = Spiral(enabled=True)


def gone(path: str) -> Break:
    return lambda bench: bench.machine.files.drop_tree(path)


def linked(bench: SpiralBench) -> None:
    bench.machine.files.drop_tree(CONTROL)
    bench.machine.files.put(CONTROL, Node(kind="link", target="/etc/passwd"))


def moved(above: str, name: str) -> Break:
    """Let a directory lie elsewhere, with a link in its place."""

    def change(bench: SpiralBench) -> None:
        bench.machine.files.drop_tree(f"{above}/{name}")
        bench.machine.files.make_dirs(f"/data/{name}")
        bench.machine.files.put(f"{above}/{name}", Node(kind="link", target=f"/data/{name}"))

    return change


def a_file_of_renders(bench: SpiralBench) -> None:
    bench.machine.files.drop_tree(f"{ROOT}/renders")
    bench.machine.files.put(f"{ROOT}/renders", Node.of(b""))


UNITS = "units"
LIMITS = {"memory": "2GiB"}
ALL_LIMITS = {**LIMITS, "tasks": 64}
BROKEN: list[tuple[str, str, Break, str, str]] = [
    ("no producer", "one-producer", declared(UNITS, "saturator", "producer"), "0 units feed", "producer: true"),
    ("two producers", "one-producer", declared(UNITS, "worker", "producer", value=True), "saturator, worker", "exactly one"),
    ("a producer by hand", "one-producer", stranger(f"{ROOT}/saturate"), "somebody else runs saturator", "end it"),
    ("a producer through a shell", "one-producer", stranger("/bin/bash", f"{ROOT}/saturate"), "saturator", "end it"),
    ("a container of the producer by hand", "one-producer", second_container, "somebody else runs saturator: container by-hand", "end it"),
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
    ("a reaper behind a link", "reaper", moved(ROOT, "renders"), f"through the link {ROOT}", f"reaper.paths in desired/workloads/spiral.yaml name where it really lies ({ROOT}/renders leads to /data/renders)"),
    ("a file for a reaper", "reaper", a_file_of_renders, "is no directory", "make the directory"),
    ("no convergence", "convergence", declared("convergence"), "would never stop", "convergence:"),
    ("no control file declared", "rate-caps", declared("control"), "no control file", "control:"),
    ("no caps", "rate-caps", no_caps, "sets no jobs_per_hour", "rate_caps: {jobs_per_hour: …}"),
    ("no control file", "rate-caps", gone(CONTROL), "is not there", "echo '{}'"),
    ("a link for a control file", "rate-caps", linked, "through the link", "name where it really lies"),
    ("a list for a control file", "rate-caps", file(CONTROL, "[1]"), "it is JSON, but no object", "JSON object"),
    ("a key that is no object", "rate-caps", file(CONTROL, '{"limits": 5}'), "limits is no object", "JSON object"),
    ("a control file that nobody can parse", "rate-caps", file(CONTROL, '{"a":' + "[" * 50000 + "]" * 50000 + "}"), "it is not JSON", "JSON object"),
    ("a control file that is too large", "rate-caps", file(CONTROL, '{"a":"' + "x" * (1 << 20) + '"}'), "larger than", "JSON object"),
    ("a torn control file", "rate-caps", file(CONTROL, "{"), "it is not JSON", "JSON object"),
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


def test_a_drop_in_of_all_services_does_not_keep_a_cap_from_being_changed() -> None:
    bench = SpiralBench()
    assert bench.run("reasoning").state == "applied"
    for unit in (SATURATOR, WORKER):
        path = f"/etc/systemd/system/{unit}.d/10-timeout-abort.conf"
        file(path, "[Service]\nTimeoutStopFailureMode=abort\n")(bench)
    bench.machine.run(["systemctl", "daemon-reload"], 10)
    declared(UNITS, "worker", "limits", value={"memory": "3GiB", "tasks": 128})(bench)

    verdicts = guardrails.judge(bench.machine, {**bench.question()["spiral"], "planned": True})

    assert guardrails.broken(verdicts) == []


@pytest.mark.parametrize(
    ("paths", "fix"),
    [
        ("", "recon apply, after 'recon plan' shows the file"),
        (f"/etc/systemd/system/{WORKER}.d/a.conf /run/systemd/system/{WORKER}.d/b.conf", f"systemctl revert {WORKER}"),
        ("/usr/lib/systemd/system/service.d/a.conf", f"see what overrides it: systemctl cat {WORKER}"),
        ("/etc/systemd/system/service.d/a.conf", f"see what overrides it: systemctl cat {WORKER}"),
    ],
)
def test_a_revert_is_offered_for_what_it_takes_away(monkeypatch: pytest.MonkeyPatch, paths: str, fix: str) -> None:
    shown = {"LoadState": "loaded", "MemoryMax": "1", "TasksMax": "64", "DropInPaths": paths}
    monkeypatch.setattr(systemd, "show", lambda _machine, names, _keys: dict.fromkeys(names, shown))
    spec = ticks.spec(units=[ticks.member("worker", producer=True)])

    verdicts = {each.name: each for each in guardrails.judge(SimMachine.new("h-1"), spec)}

    assert (verdicts["caps"].state, verdicts["caps"].fix) == ("broken", fix)


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


def loop_below(root: Path) -> dict[str, Any]:
    """Return a loop whose files are on this computer."""
    (root / "renders").mkdir(parents=True)
    (root / "control.json").write_text("{}")
    reaper = {"paths": [f"{root}/renders"], "keep_bytes": 10, "keep_age_s": None, "keep_count": None}
    control = {"file": f"{root}/control.json", "keys": {"jobs_per_hour": "limits.jobs_per_hour"}}
    return ticks.spec(root=str(root), reaper=reaper, control=control, caps={"jobs_per_hour": 12})


def told(spec: dict[str, Any]) -> list[str]:
    """Return what is told of the files of a loop, as the guardrails see this computer."""
    verdicts = {each.name: each for each in guardrails.judge(RealMachine(), spec)}
    return [f"{name} {verdicts[name].state}: {verdicts[name].text}" for name in ("reaper", "rate-caps")]


def test_a_loop_behind_a_linked_directory_is_broken_for_neither_reaper_nor_caps_get_there(tmp_path: Path) -> None:
    there = loop_below(tmp_path / "data" / "spiral")
    (tmp_path / "link").symlink_to("data")
    linked = json.loads(json.dumps(there).replace(f"{tmp_path}/data", f"{tmp_path}/link"))

    through = f"is reached through the link {tmp_path}/link, and no link is followed"
    root = f"{tmp_path}/link/spiral"
    assert told(there) == [f"reaper ok: a budget over {there['root']}/renders", "rate-caps ok: jobs_per_hour 12"]
    assert told(linked) == [
        f"reaper broken: {root}/renders of the reaper {through}",
        f"rate-caps broken: the control file {root}/control.json {through}",
    ]
    assert caps.write(RealMachine(), linked, linked["caps"]).problem != ""


def test_a_control_file_of_two_names_is_broken_for_it_is_never_written(tmp_path: Path) -> None:
    spec = loop_below(tmp_path)
    (tmp_path / "other.json").hardlink_to(tmp_path / "control.json")

    why = "it has another name, which would keep the old bytes"
    file = f"{tmp_path}/control.json"
    assert told(spec)[1] == f"rate-caps broken: the control file {file}: {why}"
    assert caps.write(RealMachine(), spec, spec["caps"]).problem == f"{file}: {why}"
