"""The NVML stand-in, compiled once, and a host around it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.agent import gpu_child, nvml
from tests.agent.fakehost import Content, FakeHost
from tests.agent.test_processes import ID, a_process

SHIM = Path(__file__).parents[2] / "reconciler/lab/hostfiles/fakenvml.c"
SONAME = "libnvidia-ml.so.1"

Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: the NVML stand-in cannot be built")
    out = tmp_path_factory.mktemp("nvml") / SONAME
    flags = ["-shared", "-fPIC", "-fvisibility=hidden", f"-Wl,-soname,{SONAME}"]
    subprocess.run([compiler, *flags, "-o", str(out), str(SHIM)], check=True)
    return out


@pytest.fixture
def ask(library: Path) -> Ask:
    """Ask the real binding in a real child, with the library answering from a state file."""

    def answer(state: Path, timeout_s: float = 60.0) -> dict[str, Any]:
        def in_child() -> dict[str, Any]:
            os.environ["LAB_NVML_STATE"] = str(state)
            ctypes.CDLL(str(library))  # the loader finds the name again by the library's own
            return nvml.ask()

        return gpu_child.begin(timeout_s, in_child)()

    return answer


PROC = "/proc/driver/nvidia"


def a_host() -> FakeHost:
    """Return a host with one member of a coven, a desktop, and somebody's program."""
    files: dict[str, Content] = {
        **a_process(4242, f"/system.slice/recon-reasoning-vllm.service/libpod-payload-{ID}"),
        **a_process(2201, "/user.slice/user-1000.slice/session-2.scope", comm="Xorg"),
        **a_process(9001, "/user.slice/user-1000.slice/user@1000.service/app.slice/ollama.service", comm="ollama"),
        f"{PROC}/version": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n",
        f"{PROC}/params": 'CoherentGPUMemoryMode: ""\n',
        f"{PROC}/gpus/0000:18:00.0/information": "Model: \t NVIDIA H200\nGPU UUID: \t GPU-aaaaaaaa-1\n",
        f"{PROC}/gpus/0000:2a:00.0/information": "Model: \t NVIDIA H200\nGPU UUID: \t GPU-aaaaaaaa-2\n",
        "/sys/devices/system/node/node1/meminfo": (
            "Node 1 Active(file): 30000000 kB\nNode 1 Inactive(file): 18000000 kB\n"
        ),
    }
    return FakeHost(files)
