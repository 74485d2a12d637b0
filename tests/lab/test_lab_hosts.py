"""The lab itself: hosts that are real, GPUs that behave, and nothing left afterwards."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

from reconciler.lab import gpus, labs, registry, tools
from reconciler.lab.labs import Lab
from reconciler.lab.machines import Machine

GIB = 1 << 30

READ_NVML = """
import json, pynvml
pynvml.nvmlInit()
handle = pynvml.nvmlDeviceGetHandleByIndex(0)
memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
print(json.dumps({
    "name": pynvml.nvmlDeviceGetName(handle),
    "uuid": pynvml.nvmlDeviceGetUUID(handle),
    "used": memory.used,
    "processes": [[item.pid, item.usedGpuMemory] for item in processes],
}))
"""

CAP_SYS_TIME = 25


def read_nvml(machine: Machine) -> dict[str, object]:
    """Run the real pynvml on the host, against the library the loader finds there."""
    source = Path(str(pynvml.__file__)).read_bytes()
    program = b"import sys, types\nm = types.ModuleType('pynvml')\nsys.modules['pynvml'] = m\n"
    program += b"exec(compile(" + repr(source.decode()).encode() + b", 'pynvml', 'exec'), m.__dict__)\n"
    output = machine.run(["python3", "-"], stdin=program + READ_NVML.encode()).stdout
    facts: dict[str, object] = json.loads(output)
    return facts


def serve(
    machine: Machine, lab: Lab, *flags: str, env: dict[str, str], device: str = "all", name: str = "server"
) -> int:
    """Run a model server container and return its process id on the host."""
    argv = ["podman", "run", "--detach", f"--name={name}", "--pull=never", "--network=host"]
    argv += [f"--device=nvidia.com/gpu={device}", *(f"--env={key}={value}" for key, value in env.items())]
    machine.run([*argv, lab.base.image, *flags])
    return int(machine.run(["podman", "inspect", "--format", "{{.State.Pid}}", name]).stdout)


def get(machine: Machine, url: str, *options: str) -> tuple[int, str]:
    """GET or POST on the host itself; returns status (0: no answer) and body."""
    done = machine.run(["curl", "-s", "-m", "20", "-w", "\n%{http_code}", *options, url], check=False)
    body, _newline, code = done.stdout.decode().rpartition("\n")
    return int(code), body


def until(question: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Wait for something on a real machine that gives no other sign."""
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_lab_host_is_a_real_machine_with_systemd_and_podman(machine: Machine) -> None:
    state = machine.run(["systemctl", "is-system-running"]).stdout
    comm = machine.run(["cat", "/proc/1/comm"]).stdout
    version = machine.run(["podman", "version", "--format", "{{.Client.Version}}"]).stdout.decode().split(".")

    assert (state, comm) == (b"running\n", b"systemd\n")
    assert (int(version[0]), int(version[1])) >= (5, 4)


def test_nobody_on_a_lab_host_can_set_the_clock_of_the_computer_it_runs_on(machine: Machine) -> None:
    status = machine.run(["cat", "/proc/1/status", "/proc/self/status"]).stdout.decode()
    sets = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("CapBnd", "CapEff", "CapPrm"))]
    assert len(sets) == 6
    assert [found >> CAP_SYS_TIME & 1 for found in sets] == [0] * 6


def test_the_operators_user_gets_in_by_ssh_with_the_pinned_key_and_may_become_root(lab: Lab) -> None:
    argv = lab.ssh_argv("lab-2", ("sudo", "-n", "cat", "/etc/hostname"))

    done = subprocess.run(argv, capture_output=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"lab-2\n", b"")


def test_every_host_has_an_identity_of_its_own(lab: Lab) -> None:
    identities = {item.run(["cat", "/etc/machine-id"]).stdout for item in lab.machines}
    boots = {item.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout for item in lab.machines}
    keys = {item.host_key for item in lab.machines}

    assert (len(identities), len(boots), len(keys)) == (3, 3, 3)


def test_a_program_in_a_container_takes_gpu_memory_that_real_nvml_sees_under_its_host_pid(
    machine: Machine, lab: Lab
) -> None:
    before = read_nvml(machine)
    pid = serve(machine, lab, "--runtime", "vllm", "--port", "8001", env={"LAB_GPU_BYTES": str(80 * GIB)})
    until(lambda: get(machine, "http://127.0.0.1:8001/health")[0] == 200, "the server never got healthy")
    during = read_nvml(machine)
    machine.run(["podman", "rm", "--force", "--time", "0", "server"])
    until(lambda: read_nvml(machine)["used"] == 0, "the memory never came back")
    after = read_nvml(machine)

    idle = {"name": "NVIDIA H200", "uuid": gpus.gpu_uuid(1, 0), "used": 0, "processes": []}
    assert before == idle
    assert during == idle | {"used": 80 * GIB, "processes": [[pid, 80 * GIB]]}
    assert after == idle


@pytest.mark.parametrize("device", ["all", "0", gpus.gpu_uuid(1, 0)])
def test_a_second_big_server_dies_of_memory_whichever_way_the_gpu_is_named(
    machine: Machine, lab: Lab, device: str
) -> None:
    env = {"LAB_GPU_BYTES": str(80 * GIB)}
    serve(machine, lab, "--port", "8001", env=env, name="first")
    until(lambda: get(machine, "http://127.0.0.1:8001/health")[0] == 200, "the server never got healthy")
    serve(machine, lab, "--port", "8002", env=env, name="second", device=device)

    code = machine.run(["podman", "wait", "second"]).stdout
    log = machine.run(["podman", "logs", "second"]).stderr

    assert code == b"1\n"
    assert b"CUDA out of memory" in log


def test_a_container_without_the_device_has_no_gpu(machine: Machine, lab: Lab) -> None:
    argv = ["podman", "run", "--rm", "--pull=never", "--env=LAB_GPU_BYTES=1000", lab.base.image, "--port", "8001"]

    done = machine.run(argv, check=False)

    assert done.returncode == 1
    assert b"No CUDA GPUs are available" in done.stderr


def test_memory_can_be_told_to_stay_after_its_process_ended(machine: Machine, lab: Lab) -> None:
    machine.gpu({"faults": {"release_s": None}})
    serve(machine, lab, "--port", "8001", env={"LAB_GPU_BYTES": str(80 * GIB)})
    until(lambda: read_nvml(machine)["used"] == 80 * GIB, "the memory was never taken")
    machine.run(["podman", "rm", "--force", "--time", "0", "server"])
    until(lambda: read_nvml(machine)["processes"] == [], "the process stayed listed")

    assert read_nvml(machine)["used"] == 80 * GIB
    machine.heal()
    assert read_nvml(machine)["used"] == 0


def test_nvml_can_be_told_to_fail_as_a_lost_gpu_does(machine: Machine) -> None:
    machine.gpu({"faults": {"extra": {"gpu.0.mem": "!15"}}})

    with pytest.raises(tools.LabError, match="GPU is lost"):
        read_nvml(machine)


def test_a_host_comes_back_from_a_power_cut_as_another_boot(machine: Machine) -> None:
    def boot() -> bytes:
        return machine.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout

    before = boot()
    machine.path("/etc/kept").write_text("on disk", encoding="ascii")
    machine.path("/run/lost").write_text("in memory", encoding="ascii")
    machine.kill()
    assert not machine.is_running
    machine.start()
    machine.wait_ready()

    assert boot() != before
    assert machine.path("/etc/kept").read_text(encoding="ascii") == "on disk"
    assert not machine.path("/run/lost").exists()


def test_a_unified_host_has_no_counter_of_its_own_and_shows_the_loss_in_meminfo(
    lab_ready: None, tmp_path: Path
) -> None:
    with labs.running(tmp_path, hosts=1, gpu="gb10") as lab:
        machine = lab.machine("lab-1")

        def available() -> int:
            lines = machine.run(["cat", "/proc/meminfo"]).stdout.decode().splitlines()
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))

        before = available()
        serve(machine, lab, "--port", "8001", env={"LAB_GPU_BYTES": str(64 * GIB)})
        until(lambda: get(machine, "http://127.0.0.1:8001/health")[0] == 200, "the server never got healthy")

        assert before - available() == 64 * GIB
        with pytest.raises(tools.LabError, match="Not Supported"):
            read_nvml(machine)


def traces(record: registry.LabRecord) -> list[str]:
    """Name everything of a lab that this computer still shows."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    places = [Path(place) for host in record.hosts for place in (host.cgroup, host.disk, f"/sys/class/net/{host.veth}")]
    found = [str(place) for place in places if place.exists()]
    found += [line for line in mounts.splitlines() if f"/run/{record.id}/" in line]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [str(path)] if f"/run/{record.id}/".encode() in path.read_bytes() else []
        except OSError:
            continue
    return found + [record.id for other in registry.everything() if other.id == record.id]


def test_down_leaves_nothing_and_doing_it_twice_is_no_error(lab_ready: None, tmp_path: Path) -> None:
    lab = labs.up(tmp_path, hosts=2)
    seen = traces(lab.record)

    assert labs.down(tmp_path) is True
    assert seen != []
    assert traces(lab.record) == []
    assert labs.down(tmp_path) is False


def interrupted_run(directory: Path, number: signal.Signals) -> registry.LabRecord:
    """Boot a lab in another process, send it a signal while it holds the lab, and wait for its end."""
    program = (
        "import signal, sys, time; from pathlib import Path; from reconciler.lab import labs\n"
        # A job in the background of a shell ignores SIGINT, and so do its children: here it must be heard.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with labs.running(Path(sys.argv[1]), hosts=2):\n    print('up', flush=True); time.sleep(600)\n"
    )
    argv = [sys.executable, "-c", program, str(directory)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=Path.cwd()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        record = registry.of_directory(directory)
        assert record is not None
        process.send_signal(number)
        process.wait(timeout=60)
    return record


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_interrupted_takes_its_hosts_down(
    lab_ready: None, tmp_path: Path, number: signal.Signals
) -> None:
    assert traces(interrupted_run(tmp_path, number)) == []


def test_gc_removes_the_hosts_of_a_run_that_was_killed(lab_ready: None, tmp_path: Path) -> None:
    record = interrupted_run(tmp_path, signal.SIGKILL)
    left = traces(record)
    labs.gc(lambda _text: None)

    assert left != []
    assert traces(record) == []


def test_a_directory_has_one_lab_at_a_time(lab: Lab) -> None:
    with pytest.raises(tools.LabError, match="there is a lab for this directory already"):
        labs.up(lab.directory, hosts=1)
