"""A share between two real hosts: one feeds, the other mounts and claims. NFS is a stand-in, see tests/lab/nfs."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator

import pytest

from reconciler.lab.machines import Machine
from tests.lab import nfs
from tests.lab.test_scenarios import world
from tests.lab.waits import wait_until
from tests.scenarios.lab_world import LabWorld
from tests.scenarios.scenarios import detailed, settle

__all__ = ["world"]

ROOT = "/srv/spiral"
MOUNT = "srv-spiral.mount"
TARGET = "recon-share-motion.target"
WORK = "recon-spiral-worker.service"
FEED = "recon-spiral-saturator.service"
LIMITS = "limits: {memory: 256MiB, tasks: 64}, stop: {timeout: 5s}"
FEEDS = f"""n=0
while :; do
n=$((n+1))
mkdir {ROOT}/queue/$n
sleep 0.2
done"""
WORKS = f"""while :; do
for job in {ROOT}/queue/*; do
case $job in *'*') continue;; esac
mv $job {ROOT}/claimed/$(basename $job)-$RECON_TAG 2>/dev/null
done
sleep 0.2
done"""


@pytest.fixture
def share(world: LabWorld) -> Iterator[LabWorld]:
    """Two hosts with what the packages of NFS would bring, and a road between them."""
    hub, worker = (world.lab.machine(name) for name in world.hosts)
    nfs.install_hub(hub)
    nfs.install_worker(worker)
    with nfs.road(worker, hub):
        yield world
        world.end()  # a test that failed may have left a host switched off
    clear(world)


def clear(world: LabWorld) -> None:
    hub, worker = (world.lab.machine(name) for name in world.hosts)
    worker.run(["systemctl", "stop", TARGET], check=False)
    worker.run(["umount", "--force", "--lazy", ROOT], check=False)
    worker.run(["rm", "-f", f"/etc/systemd/system/{MOUNT}"])
    for machine in (hub, worker):
        machine.run(["systemctl", "stop", "--", "recon-*"], check=False)
        machine.run(["rm", "-rf", ROOT])
        nfs.remove(machine)


def declare(world: LabWorld) -> None:
    """Write the loop's programs on the hub, and the loop, its share and its flags into git."""
    hub, worker = (world.lab.machine(name) for name in world.hosts)
    hub.run(["mkdir", "-p", *(f"{ROOT}/{name}" for name in ("queue", "claimed", "renders"))])
    world.program(world.hosts[0], f"{ROOT}/saturate", FEEDS)
    world.program(world.hosts[0], f"{ROOT}/work", WORKS)
    hub.path(f"{ROOT}/control.json").write_text("{}")
    hub.run(["chown", "-R", "daemon:daemon", ROOT])
    loop = world.root / "desired/workloads/spiral.yaml"
    loop.parent.mkdir(exist_ok=True)
    loop.write_text(f"""root: {ROOT}
user: daemon
units:
  saturator: {{argv: [{ROOT}/saturate], lane: cpu, producer: true, {LIMITS}}}
  worker: {{argv: [{ROOT}/work], lane: cpu, where: workers, {LIMITS}}}
control: {{file: {ROOT}/control.json, keys: {{jobs_per_hour: limits.jobs_per_hour}}}}
convergence: {{file: {ROOT}/state.json, key: converged}}
reaper: {{paths: [{ROOT}/renders], keep: {{bytes: 1GiB}}}}
shares:
  motion:
    hub: {world.hosts[0]} # has the disk
    workers: [{world.hosts[1]}]
    addresses: {{{world.hosts[0]}: {worker.record.gateway}, {world.hosts[1]}: {hub.record.gateway}}}
""")
    for name, caps in zip(world.hosts, (", rate_caps: {jobs_per_hour: 12}", ""), strict=True):
        own = world.root / f"desired/hosts/{name}.yaml"
        text = re.sub(r"^spiral:.*\n", "", own.read_text(), flags=re.MULTILINE)
        own.write_text(text + f"spiral: {{enabled: true{caps}}}\n")
    world.recon("render")


def active(machine: Machine, unit: str) -> bool:
    return machine.run(["systemctl", "is-active", "--quiet", unit], check=False).returncode == 0


def source(machine: Machine, root: str = ROOT) -> list[str]:
    """Return what the kernel shows as mounted at the root."""
    table = machine.run(["cat", "/proc/1/mountinfo"]).stdout.decode()
    return [line.split(" - ")[1].split(" ")[1] for line in table.splitlines() if line.split(" ")[4] == root]


def answers(machine: Machine) -> bool:
    """Say whether a host that boots can be asked; it is never quite up while its hub is away."""
    try:
        with socket.create_connection((machine.record.address, 22), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def claimed(hub: Machine) -> list[str]:
    return hub.run(["ls", f"{ROOT}/claimed"]).stdout.decode().split()


def mark(hub: Machine) -> None:
    hub.run(["install", "-m", "0644", "/dev/null", f"{ROOT}/CLAIM_SAFE"])


def test_a_worker_mounts_what_its_hub_exports_and_claims_by_its_tag(share: LabWorld) -> None:
    world = share
    settle(world)
    hub, worker = (world.lab.machine(name) for name in world.hosts)
    declare(world)

    ran = world.recon("plan")
    assert ran.code == 3, ran.out
    assert "guardrail claim-safe of the spiral does not hold" in ran.out
    assert f"touch {ROOT}/CLAIM_SAFE" in ran.out

    mark(hub)
    ran = world.recon("plan")
    assert ran.code == 0, ran.out
    assert f"{worker.record.gateway}:{ROOT} is to be mounted at {ROOT}" in ran.out
    assert f"{ROOT} is to be exported to {hub.record.gateway}" in ran.out
    ran = world.recon("apply", "--yes")
    assert ran.code == 0, ran.out
    wait_until("the worker works", lambda: active(worker, WORK) and bool(claimed(hub)))

    assert source(worker) == [f"{worker.record.gateway}:{ROOT}"]
    assert {name.partition("-")[2] for name in claimed(hub)} == {world.hosts[1]}
    assert (active(hub, FEED), active(worker, FEED)) == (True, False)
    assert (active(hub, WORK), active(worker, WORK)) == (False, True)
    ran = world.recon("plan", "--detailed-exitcode")
    assert ran.code == 0, ran.out


def share_it(world: LabWorld) -> tuple[Machine, Machine]:
    """Bring a share up, with its marker, and return hub and worker."""
    settle(world)
    hub, worker = (world.lab.machine(name) for name in world.hosts)
    declare(world)
    mark(hub)
    settle(world)
    wait_until("the worker works", lambda: active(worker, WORK) and bool(claimed(hub)))
    return hub, worker


def test_without_the_marker_nothing_claims_and_no_plan_goes_on(share: LabWorld) -> None:
    hub, worker = share_it(share)

    hub.run(["rm", f"{ROOT}/CLAIM_SAFE"])
    ran = share.recon("plan", "--host", share.hosts[1])
    worker.run(["systemctl", "stop", WORK])
    worker.run(["systemctl", "start", WORK], check=False)

    assert ran.code == 3, ran.out
    assert "[REC8020] guardrail claim-safe of the spiral does not hold" in ran.out
    assert not active(worker, WORK)
    assert share.recon("plan", "--host", share.hosts[0]).code == 0
    mark(hub)
    settle(share)
    wait_until("it works again", lambda: active(worker, WORK))


def test_a_worker_that_boots_while_its_hub_is_away_works_when_the_hub_is_back(share: LabWorld) -> None:
    hub, worker = share_it(share)

    share.take_down(share.hosts[0])
    worker.kill()
    worker.start()
    began = time.monotonic()
    wait_until("it answers", lambda: answers(worker))
    ran = share.recon("plan", "--host", share.hosts[1])
    took = time.monotonic() - began
    assert ran.code == 3, ran.out
    assert "guardrail claim-safe of the spiral is unknown" in ran.out
    assert not active(worker, WORK)
    assert took < 60

    share.end()
    wait_until("it works again", lambda: active(worker, WORK))
    before = len(claimed(hub))
    wait_until("it claims", lambda: len(claimed(hub)) > before)
    assert detailed(share) == 0, share.recon("plan").out


def test_a_hub_that_hangs_hangs_neither_plan_nor_status(share: LabWorld) -> None:
    hub, _ = share_it(share)

    hub.run(["systemctl", "kill", "--signal=STOP", "nfs-server.service"])
    began = time.monotonic()
    ran, status = share.recon("plan", "--host", share.hosts[1]), share.recon("status", "--host", share.hosts[1])
    took = time.monotonic() - began
    hub.run(["systemctl", "kill", "--signal=CONT", "nfs-server.service"])

    assert ran.code == 3, ran.out
    assert "guardrail claim-safe of the spiral is unknown" in ran.out
    assert status.code == 0, status.out
    assert took < 40
    before = len(claimed(hub))
    wait_until("it claims again", lambda: len(claimed(hub)) > before)
    assert detailed(share) == 0, share.recon("plan").out


def test_a_worker_that_leaves_stops_unmounts_and_is_exported_to_no_more(share: LabWorld) -> None:
    hub, worker = share_it(share)

    loop = share.root / "desired/workloads/spiral.yaml"
    share.rewrite(loop, r"workers: \[.*\]", "workers: []")
    share.rewrite(loop, rf", {share.hosts[1]}: [0-9.]+", "")
    share.rewrite(share.root / f"desired/hosts/{share.hosts[1]}.yaml", "spiral: {enabled: true}\n", "")
    ran = share.recon("plan")
    assert "recon-share-motion.target runs and is no longer declared" in ran.out, ran.out + ran.err
    settle(share)

    assert source(worker) == []
    assert not active(worker, WORK)
    assert worker.run(["ls", "/etc/systemd/system"]).stdout.decode().count("spiral") == 0
    assert hub.run(["cat", "/var/lib/nfs/etab"]).stdout == b""
    assert active(hub, FEED)
    assert detailed(share) == 0, share.recon("plan").out


def test_a_root_that_moves_is_left_at_the_old_place_and_mounted_at_the_new(share: LabWorld) -> None:
    hub, worker = share_it(share)
    new = f"{ROOT}2"
    hub.run(["mkdir", new])
    # Jobs stay behind: they are claimed, and so move away, while they would be copied.
    jobs = "--exclude=./queue/* --exclude=./claimed/*"
    hub.run(["sh", "-c", f"tar -C {ROOT} {jobs} -cf - . | tar -C {new} -xpf -"])
    try:
        loop = share.root / "desired/workloads/spiral.yaml"
        loop.write_text(loop.read_text().replace(ROOT, new))
        share.recon("render")
        ran = share.recon("apply", "--yes")
        assert ran.code == 0, ran.out + ran.err

        assert source(worker) == []
        wait_until("it is mounted there", lambda: source(worker, new) == [f"{worker.record.gateway}:{new}"])
        wait_until("the worker works", lambda: active(worker, WORK))
        assert worker.run(["ls", "/etc/systemd/system"]).stdout.decode().count(MOUNT) == 0
        assert hub.run(["cat", "/var/lib/nfs/etab"]).stdout.decode().split()[0] == new
    finally:
        worker.run(["systemctl", "stop", TARGET], check=False)
        worker.run(["umount", "--force", "--lazy", new], check=False)
        worker.run(["rm", "-f", "/etc/systemd/system/srv-spiral2.mount"])
        for machine in (hub, worker):
            machine.run(["systemctl", "stop", "--", "recon-*"], check=False)
            machine.run(["rm", "-rf", new])


def test_what_was_unmounted_or_is_exported_no_more_is_drift_and_is_made_again(share: LabWorld) -> None:
    hub, worker = share_it(share)

    for machine in (hub, worker):
        machine.run(["systemctl", "stop", "recon-spiral.timer"])  # so that it is not made again before the plan
    worker.run(["systemctl", "stop", MOUNT])
    hub.run(["exportfs", "-ra"])
    ran = share.recon("plan", "--detailed-exitcode")

    assert not active(worker, WORK)
    assert f"{worker.record.gateway}:{ROOT} is to be mounted at {ROOT}, and is not" in ran.out
    assert f"{ROOT} is to be exported to {hub.record.gateway}, and the file server's table lacks it" in ran.out
    settle(share)
    wait_until("the worker works", lambda: active(worker, WORK))
    assert detailed(share) == 0, share.recon("plan").out


def test_what_somebody_else_has_at_the_place_of_the_mount_is_never_replaced(share: LabWorld) -> None:
    settle(share)
    hub, worker = (share.lab.machine(name) for name in share.hosts)
    declare(share)
    mark(hub)
    worker.run(["mkdir", "-p", ROOT])

    worker.run(["install", "-m", "0644", "/dev/stdin", f"/etc/systemd/system/{MOUNT}"], stdin=b"[Mount]\nWhat=x\n")
    units = share.recon("plan")
    assert worker.run(["cat", f"/etc/systemd/system/{MOUNT}"]).stdout == b"[Mount]\nWhat=x\n"
    worker.run(["rm", f"/etc/systemd/system/{MOUNT}"])
    table = worker.run(["cat", "/etc/fstab"], check=False).stdout
    worker.run(["install", "-m", "0644", "/dev/stdin", "/etc/fstab"], stdin=f"nas:/x {ROOT} nfs ro 0 0\n".encode())
    fstab = share.recon("plan")
    worker.run(["install", "-m", "0644", "/dev/stdin", "/etc/fstab"], stdin=table)
    worker.run(["mount", "-t", "tmpfs", "theirs", ROOT])
    mounted = share.recon("plan")
    worker.run(["umount", ROOT])

    for ran, what in (
        (units, f"/etc/systemd/system/{MOUNT} is a unit of somebody else"),
        (fstab, f"/etc/fstab mounts nas:/x at {ROOT}"),
        (mounted, f"theirs is mounted at {ROOT}"),
    ):
        assert ran.code == 3, ran.out
        assert "REC7480" in ran.out
        assert what in ran.out
    worker.run(["rm", "/usr/sbin/mount.nfs4"])
    ran = share.recon("plan")
    assert ran.code == 3, ran.out
    assert "REC7481" in ran.out
    assert "apt install nfs-common" in ran.out


def test_enrolling_a_worker_asks_its_hub_first_and_then_it_is_planned(share: LabWorld) -> None:
    name = share.hosts[1]
    hub, worker = (share.lab.machine(host) for host in share.hosts)
    declare(share)
    share.host_file(name).unlink()
    loop = share.root / "desired/workloads/spiral.yaml"
    share.rewrite(loop, r"workers: \[.*\]", "workers: []")
    share.rewrite(loop, rf", {name}: [0-9.]+", "")
    before = loop.read_text()
    shown = worker.run(["ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout.decode().split()[1]
    wish = ("enroll", worker.record.address, "--name", name, "--ssh-user", "recon", "--host-key", shown)

    refused = share.recon(*wish, "--share", "motion")
    assert refused.code == 3, refused.out + refused.err
    assert "REC7483" in refused.err
    assert (loop.read_text(), share.host_file(name).exists()) == (before, False)
    assert worker.run(["ls", "/var/lib/recon"], check=False).returncode != 0

    mark(hub)
    ran = share.recon(*wish, "--share", "motion")
    assert ran.code == 0, ran.out + ran.err
    assert loop.read_text() == before.replace("workers: []", f"workers: [{name}]")
    share.recon("render")
    ran = share.recon("plan")
    assert ran.code == 0, ran.out + ran.err
    assert f"{worker.record.gateway}:{ROOT} is to be mounted at {ROOT}" in ran.out
