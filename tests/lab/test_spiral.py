"""The spiral on real hosts: guardrails that refuse by name, a lane that yields, and a stop that holds."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

from reconciler.lab.machines import Machine
from tests.lab.test_scenarios import world
from tests.lab.waits import until_told, wait_until
from tests.scenarios.lab_world import LabWorld
from tests.scenarios.scenarios import detailed, settle

__all__ = ["world"]

ROOT = "/srv/spiral"
LIMITS = "limits: {memory: 256MiB, tasks: 64}"
LOOP = f"""root: {ROOT}
units:
  worker: {{argv: [{ROOT}/worker], lane: gpu, {LIMITS}, stop: {{timeout: 5s}}}}
  saturator: {{argv: [{ROOT}/saturate], lane: gpu, producer: true, {LIMITS}, stop: {{timeout: 5s}}}}
  evaluator: {{argv: [{ROOT}/evaluate], lane: cpu, {LIMITS}, stop: {{timeout: 5s}}}}
jobs:
  refill: {{argv: [{ROOT}/refill], timeout: 1m, {LIMITS}}}
control: {{file: {ROOT}/control.json, keys: {{jobs_per_hour: limits.jobs_per_hour}}}}
convergence: {{file: {ROOT}/state.json, key: converged}}
reaper: {{paths: [{ROOT}/renders], keep: {{bytes: 1GiB}}}}
authorities: ["spiral-*"]
"""
UNITS = [f"recon-spiral-{name}.service" for name in ("evaluator", "saturator", "worker")]
FOREVER = "#!/bin/sh\nwhile :; do sleep 1; done\n"
DROP_IN = "/etc/systemd/system/recon-spiral-worker.service.d/loose.conf"
STUBBORN = "trap '' TERM\nwhile :; do sleep 1; done\n"
STORM = "/etc/systemd/system/storm.service"
STORM_LOOP = f"""while :; do
  systemctl reset-failed {" ".join(UNITS)}
  systemctl restart --no-block recon-spiral.target {" ".join(UNITS)}
  systemctl start --no-block recon-spiral.target {" ".join(UNITS)}
  systemctl start --no-block recon-job-refill.service
  systemctl start --no-block recon-coven-vision.target recon-gate-all-vision.service recon-vision-llama.service
  date +%s > /run/storm
  sleep 0.1
done
"""
"""Somebody else's idea of a supervisor, on and on: what failed is forgiven, what is down is started, with its coven."""


def declare(world: LabWorld, host: str) -> Machine:
    """Write the loop's programs on a host, and the loop and its flag into git."""
    machine = world.lab.machine(host)
    machine.run(["mkdir", "-p", f"{ROOT}/renders"])
    for name in ("worker", "saturate", "evaluate", "refill"):
        world.program(host, f"{ROOT}/{name}", FOREVER.partition("\n")[2])
    machine.path(f"{ROOT}/control.json").write_text('{"prompt": "a river"}')
    path = world.root / "desired" / "workloads" / "spiral.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(LOOP)
    own = world.root / "desired" / "hosts" / f"{host}.yaml"
    own.write_text(own.read_text() + "spiral: {enabled: true, rate_caps: {jobs_per_hour: 12}}\n")
    world.recon("render")
    return machine


def up(machine: Machine) -> list[str]:
    shown = machine.run(["systemctl", "is-active", *UNITS], check=False).stdout.decode().split()
    return [unit for unit, state in zip(UNITS, shown, strict=True) if state == "active"]


def moving(machine: Machine) -> list[str]:
    """Return the loops that are anything but down."""
    shown = machine.run(["systemctl", "is-active", *UNITS], check=False).stdout.decode().split()
    return [unit for unit, state in zip(UNITS, shown, strict=True) if state not in ("inactive", "failed")]


def broken(world: LabWorld, host: str) -> list[str]:
    """Plan, and return the guardrails that refuse it; it must be refused with exit code 3."""
    ran = world.recon("plan", "--host", host)
    assert ran.code == 3, ran.out
    return sorted(set(re.findall(r"\[REC8020\] guardrail ([a-z-]+) of the spiral", ran.out)))


def test_each_guardrail_that_is_broken_on_the_host_refuses_and_names_itself(world: LabWorld) -> None:
    settle(world)
    host = world.hosts[0]
    machine = declare(world, host)
    loop, own = world.root / "desired/workloads/spiral.yaml", world.root / f"desired/hosts/{host}.yaml"
    assert world.recon("plan", "--host", host).code == 0

    for old, new, name in (
        ("producer: true, ", "", "one-producer"),
        ("lane: cpu, limits: {memory: 256MiB, tasks: 64}", "lane: cpu, limits: {tasks: 64}", "caps"),
        ("reaper:", "# reaper:", "reaper"),
        ("convergence:", "# convergence:", "convergence"),
    ):
        loop.write_text(LOOP.replace(old, new))
        assert broken(world, host) == [name]
    loop.write_text(LOOP)
    text = own.read_text()
    own.write_text(text.replace("{jobs_per_hour: 12}", "{}"))
    assert broken(world, host) == ["rate-caps"]
    own.write_text(text)

    machine.run(["systemd-run", "--unit=by-hand", f"{ROOT}/saturate"])
    assert broken(world, host) == ["one-producer"]
    machine.run(["systemctl", "stop", "by-hand.service"])
    machine.path("/etc/systemd/system/spiral-worker.service").write_text(
        "[Service]\nExecStart=/bin/sleep 900\n[Install]\nWantedBy=multi-user.target\n"
    )
    machine.run(["systemctl", "enable", "spiral-worker.service"])
    assert broken(world, host) == ["one-authority"]
    machine.run(["systemctl", "disable", "spiral-worker.service"])
    machine.run(["systemctl", "start", "spiral-worker.service"])
    assert broken(world, host) == ["one-authority"]
    machine.run(["systemctl", "stop", "spiral-worker.service"])
    image = machine.run(["podman", "images", "--quiet"]).stdout.decode().split()[0]
    machine.run(["podman", "create", "--restart=always", "--name=old", f"--volume={ROOT}:/x", image, "sleep"])
    assert broken(world, host) == ["one-authority"]
    machine.run(["podman", "rm", "old"])

    assert world.recon("apply", "--yes", "--host", host).code == 0
    wait_until("the spiral runs", lambda: up(machine) == UNITS)
    assert world.recon("plan", "--host", host).code == 0
    machine.path(DROP_IN).parent.mkdir()
    for line, name in (("[Service]\nRestart=always", "backoff"), ("[Service]\nTasksMax=infinity", "caps")):
        machine.path(DROP_IN).write_text(line + "\n")
        machine.run(["systemctl", "daemon-reload"])
        assert name in broken(world, host)
    machine.path(DROP_IN).unlink()
    machine.path(DROP_IN).parent.rmdir()
    machine.run(["systemctl", "daemon-reload"])
    assert detailed(world) == 0, world.recon("plan").out


def test_the_gpu_lane_yields_to_a_switch_and_the_cpu_lane_goes_on(world: LabWorld) -> None:
    settle(world)
    host = world.hosts[0]
    machine = declare(world, host)
    assert world.recon("apply", "--yes", "--host", host).code == 0
    wait_until("the spiral runs", lambda: up(machine) == UNITS)
    before = machine.run(["systemctl", "show", "-P", "MainPID", *UNITS]).stdout.split()

    world.set_coven(host, "vision")
    assert world.recon("apply", "--yes", "--host", host).code == 0
    wait_until("the spiral runs again", lambda: up(machine) == UNITS)
    after = machine.run(["systemctl", "show", "-P", "MainPID", *UNITS]).stdout.split()
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False]
    assert detailed(world) == 0, world.recon("plan").out


def begin_storm(machine: Machine, world: LabWorld) -> None:
    """Let somebody else restart everything, now and from every boot on."""
    world.program(machine.record.name, "/usr/local/bin/storm", STORM_LOOP)
    text = "[Service]\nExecStart=/usr/local/bin/storm\n[Install]\nWantedBy=multi-user.target\n"
    machine.run(["tee", STORM], stdin=text.encode())
    machine.run(["systemctl", "daemon-reload"])
    machine.run(["systemctl", "enable", "--now", "storm.service"])


def storms(machine: Machine) -> bool:
    """Say whether the storm has gone round within these seconds."""
    told = machine.run(["cat", "/run/storm"], check=False).stdout.decode().strip()
    return bool(told) and abs(time.time() - int(told)) < 5


def end_storm(machine: Machine) -> None:
    machine.run(["systemctl", "disable", "--now", "storm.service"], check=False)
    machine.run(["rm", "-f", STORM, "/usr/local/bin/storm"])


def reboot(machine: Machine) -> None:
    machine.kill()
    machine.start()
    machine.wait_ready()


def stays_down(machine: Machine, seconds: float) -> bool:
    """Look for so long; nothing of the loop may be up in any look, and nothing of it may have a process."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if moving(machine) or machine.run(["pgrep", "-f", f"^/bin/sh {ROOT}/"], check=False).returncode == 0:
            return False
        time.sleep(0.2)
    return True


def test_down_ends_a_storm_of_restarts_that_somebody_keeps_up_and_nothing_comes_back(world: LabWorld) -> None:
    settle(world)
    host = world.hosts[0]
    machine = declare(world, host)
    world.set_coven(host, "vision")
    assert world.recon("apply", "--yes", "--host", host).code == 0
    wait_until("the spiral runs", lambda: up(machine) == UNITS)
    # One dies at once, over and over; one does not heed SIGTERM; one is as it should be.
    world.program(host, f"{ROOT}/saturate", "sleep 0.2\nexit 1\n")
    world.program(host, f"{ROOT}/worker", STUBBORN)
    begin_storm(machine, world)
    try:
        wait_until("the storm goes round", lambda: storms(machine))
        time.sleep(3.0)
        began = time.monotonic()
        ran = world.recon("down", "--host", host, "--reason", "storm")
        took = time.monotonic() - began

        assert ran.code == 0, ran.out
        assert moving(machine) == []
        assert took < 5 + 15
        assert stays_down(machine, 8.0)
        assert world.serves(host, "vision")
        reboot(machine)
        wait_until("the storm goes round again", lambda: storms(machine))
        assert stays_down(machine, 5.0)
        assert "spiral is down by" in world.recon("plan", "--host", host).out
        assert "spiral is down by" in world.recon("status").out

        wait_until("the coven serves", lambda: world.serves(host, "vision"))
        ran = world.recon("down", "all", "--host", host, "--reason", "fire")
        assert ran.code == 0, ran.out
        assert not world.serves(host, "vision")
        assert stays_down(machine, 5.0)
        reboot(machine)
        wait_until("the storm goes round after the boot", lambda: storms(machine))
        assert stays_down(machine, 5.0)
        assert not world.serves(host, "vision")
        assert world.recon("apply", "--yes", "--host", host).code == 4
    finally:
        end_storm(machine)
    for name in ("worker", "saturate"):
        world.program(host, f"{ROOT}/{name}", FOREVER.partition("\n")[2])
    assert world.recon("up", "spiral", "--host", host, "--reason", "calm").code == 0
    wait_until("the spiral runs", lambda: up(machine) == UNITS)


JOBS = f"""jobs:
  refill: {{argv: [{ROOT}/refill], timeout: 1m, {LIMITS}}}
  broken: {{argv: [{ROOT}/broken], timeout: 1m, {LIMITS}}}
  slow: {{argv: [{ROOT}/slow], timeout: 2s, stop: {{timeout: 2s}}, {LIMITS}}}
  long: {{argv: [{ROOT}/long], lane: gpu, timeout: 2m, {LIMITS}}}
backoff: {{gpu: 90%, memory: 99%, for: 2s, factor: 0.5, least: 0.1}}
"""
PROGRAMS = {
    "refill": "echo filled up\n",
    "broken": "echo no room\nexit 7\n",
    "slow": "echo wait\nsleep 600\n",
    "long": f"echo on and on\nwhile [ ! -e {ROOT}/enough ]; do sleep 0.2; done\necho enough\n",
}


def test_a_person_runs_jobs_reads_logs_reaps_and_restarts_and_the_host_backs_off_by_itself(world: LabWorld) -> None:
    settle(world)
    host = world.hosts[0]
    machine = declare(world, host)
    for name, text in PROGRAMS.items():
        world.program(host, f"{ROOT}/{name}", text)
    loop = world.root / "desired/workloads/spiral.yaml"
    refill = LOOP[LOOP.index("jobs:") : LOOP.index("control:")]
    loop.write_text(LOOP.replace(refill, JOBS).replace("keep: {bytes: 1GiB}", "keep: {count: 2}"))
    world.recon("render")
    assert world.recon("apply", "--yes", "--host", host).code == 0
    wait_until("the spiral runs", lambda: up(machine) == UNITS)

    runs_its_jobs(world, host)
    leaves_a_job(world, host, machine)
    reaps(world, host, machine)
    backs_off(world, host, machine)
    before = world.main_pid(host, "reasoning")
    restarted = world.recon("restart", host, "vllm", "--yes")
    assert restarted.code == 0, restarted.out
    assert world.main_pid(host, "reasoning") != before
    loops = world.recon("restart", host, "worker", "--yes")
    assert loops.code == 3, loops.out
    assert detailed(world) == 0, world.recon("plan").out


def runs_its_jobs(world: LabWorld, host: str) -> None:
    """A job that goes well, one that fails, one that takes too long, a loop and none at all."""
    ran = {name: world.recon("run", host, name) for name in ("refill", "broken", "slow", "worker", "nothing")}

    assert {name: each.code for name, each in ran.items()} == {
        "refill": 0,
        "broken": 1,
        "slow": 1,
        "worker": 3,
        "nothing": 3,
    }, ran
    assert "filled up" in ran["refill"].out
    assert "no room" in ran["broken"].out
    assert "exit status 7" in ran["broken"].out + ran["broken"].err
    assert "timeout" in ran["slow"].out + ran["slow"].err
    assert "no room" in world.recon("logs", host, "broken").out
    assert world.recon("logs", host, "worker", "--lines", "5").code == 0
    assert world.recon("logs", host, "sshd").code == 3


def leaves_a_job(world: LabWorld, host: str, machine: Machine) -> None:
    """Ctrl-C lets go of a job, which goes on; whoever runs it again joins it to its end."""
    first = subprocess.Popen(world.argv("run", host, "long"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until_told(first, b"on and on")
    first.send_signal(signal.SIGINT)
    rest = first.communicate(timeout=30)[0].decode()
    assert first.returncode == 8, rest
    assert f"recon logs {host} long --follow" in rest
    assert machine.run(["systemctl", "is-active", "recon-job-long.service"], check=False).stdout == b"activating\n"

    second = subprocess.Popen(world.argv("run", host, "long"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    time.sleep(2.0)
    machine.path(f"{ROOT}/enough").touch()
    out = second.communicate(timeout=60)[0].decode()
    assert second.returncode == 0, out
    assert "enough" in out


def reaps(world: LabWorld, host: str, machine: Machine) -> None:
    """Dry, nothing goes and all is said; with --go the same goes, oldest first."""
    where = f"{ROOT}/renders"
    for age, name in ((9, "oldest"), (8, "older"), (7, "old"), (6, "new")):
        machine.run(["touch", "-d", f"{age} days ago", f"{where}/{name}"])
    machine.run(["ln", "-s", "/etc/passwd", f"{where}/link"])
    dry = world.recon("reap", "--host", host)
    assert (dry.code, sorted(each.name for each in machine.path(where).iterdir())) == (
        0,
        ["link", "new", "old", "older", "oldest"],
    ), dry.out
    assert dry.out.index("oldest") < dry.out.index("older\n" if "older\n" in dry.out else "older")
    done = world.recon("reap", "--host", host, "--go")
    assert (done.code, sorted(each.name for each in machine.path(where).iterdir())) == (0, ["link", "new", "old"])
    assert "reap" in world.recon("history", host).out


def backs_off(world: LabWorld, host: str, machine: Machine) -> None:
    """The GPU is busy for the time: the caps in the file go down, and back when it clears; foreign keys stay."""

    def file() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(machine.path(f"{ROOT}/control.json").read_text())
        return found

    def tick(holds: Callable[[], bool]) -> Callable[[], bool]:
        def ticked() -> bool:
            # Its timer comes once a minute; who starts it more often than systemd likes must say so.
            machine.run(["systemctl", "reset-failed", "recon-spiral.service"], check=False)
            machine.run(["systemctl", "start", "recon-spiral.service"])
            return holds()

        return ticked

    assert file() == {"prompt": "a river", "limits": {"jobs_per_hour": 12}}
    machine.path(f"{ROOT}/control.json").write_text(
        json.dumps({"seed": 7, "limits": {"jobs_per_hour": 12, "theirs": True}, "prompt": "a fox"})
    )
    machine.gpu({"faults": {"extra": {"gpu.0.util": "97 10"}}})
    wait_until("the caps are down", tick(lambda: file()["limits"]["jobs_per_hour"] < 12))
    down = world.recon("status", "--host", host).out
    assert re.search(r"spiral backs off to 0\.(5|25|125|1) of its rate caps since .*: jobs_per_hour [1-6]\b", down), (
        down
    )
    assert detailed(world) == 0, world.recon("plan").out
    wait_until("they are at the least", tick(lambda: file()["limits"]["jobs_per_hour"] == 2))
    time.sleep(3.0)
    assert tick(lambda: file()["limits"]["jobs_per_hour"] == 2)()
    machine.gpu({"faults": {"extra": {"gpu.0.util": "3 1"}}})
    wait_until("the caps are back", tick(lambda: file()["limits"]["jobs_per_hour"] == 12))
    assert file() == {"seed": 7, "limits": {"jobs_per_hour": 12, "theirs": True}, "prompt": "a fox"}
    assert "backs off" not in world.recon("status", "--host", host).out
    told = world.recon("history", host).out
    assert "the rate caps go down" in told
    assert "the rate caps go up" in told
