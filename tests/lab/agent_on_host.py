"""The agent's own code on a lab host, outside the places of an installed one, with a journal that only remembers."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import reconciler.agent
from reconciler.lab.machines import Machine

PLACE = "/run/agent-test"

_BEGIN = """
import json, sys
sys.path.insert(0, "/run/agent-test")
from agent.real import RealMachine
from agent.txn import HaltError, Run

class Quiet:
    def __init__(self): self.said = []
    def say(self, step, status, text, slot=None): self.said.append((status, text))
    def check(self): pass
    def enter(self, step): pass
    def renew(self, busy_s=0.0): pass

quiet = Quiet()
machine = RealMachine()
run = Run(machine, {"txid": "t", "host": "h", "moves": []}, quiet)
run.lease = quiet
words = sys.argv[1:]
"""


@contextlib.contextmanager
def agent_on(machine: Machine) -> Iterator[None]:
    """Put the agent's modules on a host for a while."""
    code = io.BytesIO()
    with tarfile.open(fileobj=code, mode="w") as tar:
        for path in sorted(Path(reconciler.agent.__file__).parent.glob("*.py")):
            tar.add(path, f"agent/{path.name}")
    machine.run(["mkdir", "-m", "0755", "-p", PLACE])
    machine.run(["tar", "--no-same-owner", "-x", "-C", PLACE], stdin=code.getvalue())
    yield
    machine.run(["rm", "-rf", PLACE])


def play(machine: Machine, text: str, *words: str) -> Any:
    """Run a few lines with `machine`, `run`, `quiet` and `words`, and return what they leave in `found`."""
    done = machine.run(["python3", "-c", f"{_BEGIN}{text}\nprint(json.dumps(found))", *words])
    return json.loads(done.stdout)
