"""The executor and a share: what is mounted is there before the loops, and left before what it hangs on goes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Literal

import pytest

from reconciler.agent import executor, preflight, share, share_deeds, spiral, systemd, tend
from reconciler.agent.machine import Completed, Stat
from reconciler.diff import diff_host
from reconciler.model.desired import Spiral
from reconciler.model.outcome import Outcome
from reconciler.model.share import Client, HostShare
from reconciler.model.subject import look_at
from reconciler.planner import plan_host
from reconciler.sim.machine import KilledError
from reconciler.sim.state import Node
from tests.agent.bench import a_coven, a_service
from tests.agent.spirals import LOOP, ROOT, WORKER, SpiralBench

SOURCE = "192.0.2.10:/srv/spiral"
TARGET = "recon-share-motion.target"
EXPORT = "recon-share-motion-h-2.service"
MOUNT = "/etc/systemd/system/srv-spiral.mount"
AS_WORKER = HostShare(name="motion", role="worker", hub="gh-1", hub_address="192.0.2.10")
AS_HUB = HostShare(
    name="motion",
    role="hub",
    hub="h-1",
    hub_address="192.0.2.11",
    clients=(Client(worker="h-2", address="192.0.2.12"),),
)


class ShareBench(SpiralBench):
    """A host in a share; what its kernel shows as mounted is written by hand, for the simulator mounts nothing."""

    def __init__(self, what: HostShare | None = AS_WORKER, **over: Any) -> None:
        super().__init__(**over)
        self.share = what
        worker = {**LOOP["units"]["worker"], "where": "both"}
        self.loop = {**LOOP, "units": {**LOOP["units"], "worker": worker}}
        self.own = Spiral(enabled=True, rate_caps={"jobs_per_hour": 12} if what is AS_HUB else {})
        self.put("/usr/sbin/mount.nfs4", "x")
        self.put("/usr/sbin/exportfs", "x")
        self.put("/etc/exports", "")
        self.put("/usr/lib/systemd/system/nfs-server.service", "[Service]\nType=exec\nExecStart=/usr/sbin/nfsd\n")
        self.mounted(SOURCE)
        self.put(f"{ROOT}/CLAIM_SAFE", "")

    def put(self, path: str, text: str) -> None:
        self.machine.files.make_dirs(path.rpartition("/")[0])
        self.machine.files.put(path, Node.of(text.encode()))

    def mounted(self, source: str | None) -> None:
        self.machine.state.mounted = {ROOT: source} if source else {}

    def changes(self) -> list[tuple[str, str, str]]:
        subject = look_at(*self.rendered("reasoning"), self.state())
        return [(change.kind, change.name, change.word) for change in diff_host(subject)]


def running(bench: ShareBench) -> ShareBench:
    outcome = bench.run("reasoning")
    assert outcome.state == "applied", outcome
    bench.wait()
    return bench


def test_what_is_mounted_is_there_before_the_loops_and_the_next_plan_is_empty() -> None:
    bench = ShareBench()

    seen = bench.doing(lambda: bench.run("reasoning"))
    bench.wait()

    starts = [line for line in seen if line.startswith("run systemctl start")]
    mount = next(n for n, line in enumerate(starts) if TARGET in line)
    tick = next(n for n, line in enumerate(starts) if "recon-spiral.service" in line)
    assert mount < tick
    assert bench.active(TARGET) == "active"
    assert bench.up() == [WORKER]
    assert bench.changes() == []


def test_what_is_not_mounted_is_a_problem_that_is_told_and_nothing_of_the_loop_runs() -> None:
    bench = ShareBench()
    intent = bench.intent("reasoning")
    bench.mounted(None)

    outcome = bench.execute(bench.looked_at(intent))

    assert outcome.state == "applied"
    assert "guardrail claim-safe: it cannot be told: /srv/spiral is not mounted from gh-1" in outcome.reason


def test_a_marker_that_goes_after_the_plan_was_made_refuses_at_the_host() -> None:
    bench = ShareBench()
    intent = bench.intent("reasoning")
    bench.machine.files.drop_tree(f"{ROOT}/CLAIM_SAFE")

    outcome = bench.execute(bench.looked_at(intent))

    assert (outcome.state, outcome.code) == ("refused", "REC7363")
    assert "claim-safe" in outcome.reason
    assert bench.machine.stat(MOUNT) is None


def test_what_somebody_else_puts_at_the_place_of_the_mount_is_refused_at_the_host() -> None:
    bench = ShareBench()
    intent = bench.intent("reasoning")
    bench.put(MOUNT, "[Mount]\nWhat=theirs\n")

    outcome = bench.execute(bench.looked_at(intent))

    assert (outcome.state, outcome.code) == ("refused", "REC7480")
    assert bench.machine.read(MOUNT) == b"[Mount]\nWhat=theirs\n"


def test_the_plan_refuses_it_too_and_a_host_without_nfs() -> None:
    bench = ShareBench()
    bench.put(MOUNT, "[Mount]\nWhat=theirs\n")
    bench.machine.files.drop_tree("/usr/sbin/mount.nfs4")

    subject = look_at(*bench.rendered("reasoning"), bench.state())
    plan = plan_host(subject, diff_host(subject), fleet="studio", ignored=0)

    assert [(each.code, each.detail) for each in plan.refusals] == [
        ("REC7480", f"{MOUNT} is a unit of somebody else"),
        ("REC7481", "/usr/sbin/mount.nfs4 is not there"),
    ]
    assert plan.order is None


def test_a_host_that_leaves_a_share_stops_what_hangs_on_it_and_its_files_go() -> None:
    bench = running(ShareBench())
    bench.share, bench.own = None, Spiral()
    assert ("orphan", TARGET, "unit_gone") in bench.changes()
    bench.mounted(None)

    assert bench.run("reasoning").state == "applied"
    bench.wait()

    assert bench.active(TARGET) != "active"
    assert bench.up() == []
    assert bench.machine.stat(MOUNT) is None
    assert bench.changes() == []


def test_what_does_not_unmount_is_not_left_and_the_host_is_as_it_was() -> None:
    bench = running(ShareBench())
    bench.share, bench.own = None, Spiral()

    outcome = bench.run("reasoning")
    bench.wait()

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7482")
    assert f"{SOURCE} at {ROOT}" in outcome.reason
    assert bench.active(TARGET) == "active"
    assert bench.up() == [WORKER]
    assert bench.machine.stat(MOUNT) is not None


def test_what_is_still_unmounting_is_mounted_again_when_it_has_and_leaves_nobody_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = running(ShareBench())
    bench.share, bench.own = None, Spiral()
    intent = bench.intent("reasoning")
    real = bench.machine.run

    def unmounting(argv: Sequence[str], *args: Any, **options: Any) -> Completed:
        if argv[1] == "start" and "--job-mode=fail" in argv and TARGET in argv:
            said = "Transaction is destructive (srv-spiral.mount has 'stop' job queued, but 'start' is included)."
            return Completed(1, b"", f"Failed to start {TARGET}: {said}\n".encode())
        return real(argv, *args, **options)

    monkeypatch.setattr(bench.machine, "run", unmounting)
    outcome = bench.execute(intent)
    bench.wait()

    assert (outcome.state, outcome.code) == ("rolled_back", "REC7482"), outcome
    assert bench.active(TARGET) == "active"


def test_another_hub_is_left_and_mounted_by_the_one_transaction() -> None:
    bench = running(ShareBench())
    bench.share = AS_WORKER.model_copy(update={"hub_address": "192.0.2.20"})
    assert ("share", "motion", "config_changed") in bench.changes()
    bench.mounted("192.0.2.20:/srv/spiral")

    seen = bench.doing(lambda: bench.run("reasoning"))
    bench.wait()

    deeds = [line for line in seen if "systemctl st" in line and TARGET in line]
    assert [" stop " in line for line in deeds] == [True, False]
    assert bench.active(TARGET) == "active"
    assert bench.up() == [WORKER]


def moved(value: Any) -> Any:
    """Return a value of the loop's declaration with the root at another place."""
    if isinstance(value, dict):
        return {key: moved(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return tuple(moved(each) for each in value)
    return value.replace(ROOT, "/data/spiral") if isinstance(value, str) else value


def test_another_root_is_left_and_mounted_by_the_one_transaction() -> None:
    bench = running(ShareBench())
    bench.loop, bench.own = moved(bench.loop), Spiral()

    def unmount(when: Literal["before", "after"], change: str) -> None:
        if when == "after" and change.startswith("run systemctl stop") and TARGET in change:
            bench.machine.state.mounted = {"/data/spiral": "192.0.2.10:/data/spiral"}

    bench.machine.hook = unmount
    outcome = bench.run("reasoning")
    bench.wait()

    assert outcome.state == "applied", outcome
    assert bench.active(TARGET) == "active"
    assert (bench.machine.stat(MOUNT), bench.machine.stat(MOUNT.replace("srv", "data")) is None) == (None, False)


def test_a_coven_that_reads_from_a_share_whose_hub_hangs_is_refused_and_holds_the_host_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = running(ShareBench())
    bench.put(f"{ROOT}/out/x", "")
    prints = a_service("llamacpp", 8004, memory="8GiB", volumes=(f"{ROOT}/out:/out:ro",))
    bench.covens = {**bench.covens, "prints": a_coven("prints", one=prints)}
    intent, ends = bench.looked_at(bench.intent("prints")), threading.Event()
    real = bench.machine.stat

    def hanging(path: str) -> Stat | None:
        if path.startswith(f"{ROOT}/out"):
            ends.wait(20.0)
        return real(path)

    monkeypatch.setattr(bench.machine, "stat", hanging)
    monkeypatch.setattr(preflight, "_FILES_S", 0.05)
    outcome = bench.execute(intent)
    ends.set()

    assert (outcome.state, outcome.code) == ("refused", "REC7122"), outcome
    assert f"{ROOT}/out (one), which does not answer" in outcome.reason
    assert bench.serving() == ["recon-reasoning-rerank", "recon-reasoning-vllm"]


def test_a_hub_exports_again_what_its_table_lacks() -> None:
    bench = ShareBench(AS_HUB)
    bench.put(share.EXPORTS, f"{ROOT}\t192.0.2.12(rw)\n")
    running(bench)
    assert bench.active(EXPORT) == "active"
    assert bench.changes() == []

    bench.put(share.EXPORTS, "")
    spec = spiral.committed(bench.machine)
    assert spec is not None

    assert bench.changes() == [("share", "motion-h-2", "unit_failed")]
    seen = bench.doing(lambda: tend.tend(bench.machine))
    assert [line for line in seen if EXPORT in line and "restart" in line] != []
    assert share_deeds.tend(bench.machine, spec) == f"the share: {EXPORT} was down, and is started"


def test_an_export_that_still_stops_when_its_executor_is_followed_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = ShareBench(AS_HUB)
    bench.put(share.EXPORTS, f"{ROOT}\t192.0.2.12(rw)\n{ROOT}\t192.0.2.13(rw)\n")
    running(bench)
    bench.share = AS_HUB.model_copy(update={"clients": (Client(worker="h-2", address="192.0.2.13"),)})
    txid = bench.submit(bench.intent("reasoning"))

    def dies(when: Literal["before", "after"], change: str) -> None:
        if when == "after" and change.startswith("run systemctl stop") and EXPORT in change:
            raise KilledError

    bench.strike(txid, dies)
    real, asked = systemd.show_units, list[str]()

    def still_stopping(machine: Any, names: Sequence[str]) -> dict[str, systemd.UnitState]:
        shown = real(machine, names)
        if list(names) == [EXPORT] and not asked:
            asked.append(EXPORT)
            return {EXPORT: shown[EXPORT]._replace(active="deactivating")}
        return shown

    monkeypatch.setattr(systemd, "show_units", still_stopping)
    outcome = Outcome.model_validate(executor.execute(bench.machine, txid, recover=True))
    bench.wait()

    assert (outcome.state, asked) == ("rolled_back", [EXPORT]), outcome
    assert bench.active(EXPORT) == "active"


def test_the_tick_mounts_again_what_was_unmounted() -> None:
    bench = running(ShareBench())
    bench.machine.run(["systemctl", "stop", TARGET], 10)
    bench.wait()
    assert (bench.active(TARGET), bench.up()) == ("inactive", [])

    tend.tend(bench.machine)
    bench.wait()

    assert bench.active(TARGET) == "active"
    assert bench.up() == [WORKER]


def test_a_person_who_has_the_covens_down_has_not_the_share_down() -> None:
    from reconciler.agent import down

    bench = running(ShareBench(AS_HUB))

    down.down(bench.machine, {"scope": "coven", "owner": "anna@example.net", "reason": "fire", "host": "h-1"})
    bench.wait()

    assert bench.active(EXPORT) == "active"
