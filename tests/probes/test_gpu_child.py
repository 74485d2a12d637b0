"""The child that asks NVML: whatever happens in it, the caller gets an answer by the deadline."""

from __future__ import annotations

import faulthandler
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from reconciler.agent import gpu, gpu_child, nvml
from reconciler.agent.real import RealMachine
from tests.agent.fakehost import FakeHost
from tests.probes.conftest import Ask


def test_a_driver_that_hangs_is_unknown_by_the_deadline(ask: Ask, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text("sleep.nvmlInit 600000\n")

    raw = ask(state, 0.3)

    assert raw == gpu_child.failed(10, "no answer within 0.3 s")
    assert gpu.describe(FakeHost(), raw, "auto", 1.0).gpus == {"unknown": "NVML: no answer within 0.3 s"}


def test_a_library_that_crashes_takes_only_the_child_with_it() -> None:
    def crash() -> dict[str, Any]:
        faulthandler.disable()  # pytest's own; it would print this crash as if it were a test's
        os.kill(os.getpid(), signal.SIGSEGV)
        return {}

    assert gpu_child.begin(30.0, crash)() == gpu_child.failed(None, "the NVML library crashed with SIGSEGV")


def test_an_exception_in_the_child_is_its_answer_and_never_runs_the_parents_code() -> None:
    def boom() -> dict[str, Any]:
        raise ValueError("boom")

    assert gpu_child.begin(30.0, boom)() == gpu_child.failed(None, "ValueError: boom")


def test_what_the_library_prints_goes_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    def chatty() -> dict[str, Any]:
        os.write(1, b"noise")
        os.write(2, b"noise")
        return gpu_child.failed(None, "quiet")

    assert gpu_child.begin(30.0, chatty)() == gpu_child.failed(None, "quiet")
    assert capfd.readouterr() == ("", "")


def test_a_child_that_the_driver_keeps_does_not_keep_the_hosts_lock(tmp_path: Path) -> None:
    """It is forked, not executed: what the parent has open is open in it too, and a lock hangs on a descriptor."""
    machine, path, ready = RealMachine(), str(tmp_path / "lock"), tmp_path / "ready"

    def stuck() -> dict[str, Any]:
        ready.touch()
        signal.pause()
        return {}

    with machine.lock(path):
        answer = gpu_child.begin(1.0, stuck)
        while not ready.exists():
            machine.sleep(0.01)

    with machine.lock(path):
        pass
    assert answer() == gpu_child.failed(10, "no answer within 1 s")


def test_the_answer_may_be_bigger_than_a_pipe() -> None:
    big = gpu_child.failed(None, "x" * 1_000_000)

    assert gpu_child.begin(30.0, lambda: big)() == big


def test_no_child_is_left_behind() -> None:
    def who() -> dict[str, Any]:
        return {"driver": str(os.getpid())}

    pid = int(gpu_child.begin(30.0, who)()["driver"])

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_list_that_grows_meanwhile_is_asked_for_again() -> None:
    grew: dict[str, Any] = {"error": "error", "code": nvml.INSUFFICIENT_SIZE}
    answers = iter([grew, grew, {"ok": ["row"]}])

    assert nvml.settled(lambda: next(answers)) == {"ok": ["row"]}
    assert nvml.settled(lambda: grew) == grew


def test_a_computer_without_the_driver_says_so_and_not_that_it_has_no_gpu(tmp_path: Path) -> None:
    if any(Path(path).exists() for path in ("/proc/driver/nvidia", *nvml.LIBRARIES[1:])):
        pytest.skip("this computer has an NVIDIA driver")

    raw = RealMachine().gpu_facts(30.0)

    reason = "no NVIDIA driver library (libnvidia-ml.so.1)"
    assert raw == gpu_child.failed(gpu_child.LIBRARY_MISSING, reason)
    assert gpu.describe(FakeHost(), raw, "auto", 1.0).gpus == {"unknown": f"{reason} and no nvidia-smi"}


def test_the_stand_in_and_the_binding_agree_on_a_whole_gpu(ask: Ask) -> None:
    raw = ask(Path(__file__).parent / "scenarios/h200-clean.state")

    not_there = {"error": "not_found", "code": 13}
    not_supported = {"error": "not_supported", "code": 3}
    assert raw["gpus"] == [
        {
            "index": 0,
            "error": None,
            "uuid": {"ok": "GPU-aaaaaaaa-0000-0000-0000-000000000001"},
            "name": {"ok": "NVIDIA H200"},
            "bus": {"ok": "00000000:18:00.0"},
            "memory": {"ok": {"total": 150754820096, "reserved": 618659840, "used": 0, "free": 150136160256}},
            "bar1": not_there,
            "numa_node": not_supported,
            "addressing": {"ok": 1},
            "recovery_action": {"ok": 0},
            "utilization": not_supported,
            "mig": None,
            "processes": {"ok": []},
            "suspect": False,
        }
    ]
