"""An executor whose own files are removed while it works."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import reconciler.agent

PROGRAM = """
import shutil, sys
sys.path.insert(0, sys.argv[1])
from recon_agent import ahead, executor, real
ahead.import_all()
shutil.rmtree(sys.argv[1])
machine = real.RealMachine()
print(machine.gpu_facts(5.0)["error"])
print(machine.http("GET", "http://127.0.0.1:1/", 1.0).status)
"""


def test_an_executor_measures_memory_and_asks_servers_when_its_files_are_gone(tmp_path: Path) -> None:
    place = tmp_path / "agent"
    shutil.copytree(Path(reconciler.agent.__file__).parent, place / "recon_agent")

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM, str(place)], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stderr == ""
    error, status = done.stdout.splitlines()
    assert "ImportError" not in error
    assert status == "0"
