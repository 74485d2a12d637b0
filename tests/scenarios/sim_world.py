"""Simulated hosts behind the words of a scenario."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from reconciler.cli.app import run
from reconciler.hosts.connect import SIM_DIRECTORY
from reconciler.model.live import UP
from reconciler.sim import SimFleet
from reconciler.sim.deeds import perform, requests
from reconciler.sim.state import Node
from tests.scenarios.world import Fault, LateRequest, Ran, Request, World

_FLEET = """\
version: 1
name: sim
transport: sim
defaults:
  drain: {timeout: 30s, on_timeout: abort}
"""
_HOST = """\
address: 192.0.2.{number}
coven: reasoning
may_run: [reasoning, vision]
"""
_COVEN = """\
services:
  {service}:
    runtime: {runtime}
    image: {image}@sha256:{digit}
    model: {{path: /srv/models/{coven}}}
    port: {port}
    memory: 80GiB
    warm: {{timeout: 60s}}
    stop: {{timeout: 10s}}
"""
COVENS = {"reasoning": ("vllm", "vllm", 8001), "vision": ("llama", "llamacpp", 8002)}
IMAGES = {"vllm": "docker.io/vllm/vllm-openai", "llamacpp": "ghcr.io/ggml-org/llama.cpp"}


class SimRequest(Request):
    """A request on a simulated server; the simulator writes down what is cut."""

    def __init__(self, fleet: SimFleet, host: str) -> None:
        self._fleet, self._host = fleet, host

    def answer_is_whole(self) -> bool:
        with self._fleet.open(self._host) as machine:
            return machine.state.cut == []


class SimLateRequest(LateRequest):
    """A request that begins later in virtual time; the simulator writes down what is refused."""

    def __init__(self, fleet: SimFleet, host: str) -> None:
        self._fleet, self._host = fleet, host

    def was_refused(self) -> bool:
        with self._fleet.open(self._host) as machine:
            return len(machine.state.refused) == 1


class SimWorld(World):
    """A state repository of simulated hosts in a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hosts = ("h-1", "h-2")
        self.fleet = SimFleet(root / SIM_DIRECTORY)
        for folder in ("hosts", "covens"):
            (root / "desired" / folder).mkdir(parents=True)
        (root / "desired" / "fleet.yaml").write_text(_FLEET, encoding="utf-8")
        for number, host in enumerate(self.hosts, 1):
            self.host_file(host).write_text(_HOST.format(number=number), encoding="utf-8")
        for coven, (service, runtime, port) in COVENS.items():
            text = _COVEN.format(
                service=service, runtime=runtime, coven=coven, port=port, image=IMAGES[runtime], digit="a" * 64
            )
            self.coven_file(coven).write_text(text, encoding="utf-8")

    def recon(self, *argv: str) -> Ran:
        """Run in this process: a simulated host needs no other, and starting Python a hundred times takes a minute."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(["-C", str(self.root), *argv])
        return Ran(code, out.getvalue(), err.getvalue())

    def service(self, coven: str) -> str:
        return COVENS[coven][0]

    def serves(self, host: str, coven: str) -> bool:
        with self.fleet.open(host) as machine:
            unit = machine.manager.run_of(self.member_unit(coven))
            answer = machine.http("GET", f"http://127.0.0.1:{COVENS[coven][2]}/health", 3.0)
            is_closed = COVENS[coven][2] in machine.state.closed
            return unit.active in UP and answer.status == 200 and not is_closed

    def request(self, host: str, coven: str, seconds: float) -> Request:
        perform(self.fleet, host, "requests", [coven, str(seconds)])
        return SimRequest(self.fleet, host)

    def post(self, host: str, coven: str, path: str) -> None:
        perform(self.fleet, host, "post", [f":{COVENS[coven][2]}", path])

    def late_request(self, host: str, coven: str, after: float) -> LateRequest:
        with self.fleet.open(host) as machine:
            requests(machine, coven, 5.0, 1, after)
        return SimLateRequest(self.fleet, host)

    def program(self, host: str, path: str, text: str) -> None:
        with self.fleet.open(host) as machine:
            machine.files.make_dirs(path.rpartition("/")[0])
            machine.files.put(path, Node.of(f"#!/bin/sh\n{text}\n".encode(), 0o755))

    def set_fault(self, host: str, coven: str, fault: Fault) -> None:
        perform(self.fleet, host, "fault", [fault, coven])

    def keep_memory(self, host: str) -> None:
        perform(self.fleet, host, "fault", ["slow-release", "recon-reasoning-vllm.service", "1e9"])

    def edit_unit(self, host: str, coven: str) -> None:
        perform(self.fleet, host, "edit", [self.member_unit(coven), "LogDriver=journald", "LogDriver=none"])

    def stop_unit(self, host: str, unit: str) -> None:
        perform(self.fleet, host, "stop", [unit])

    def stray(self, host: str) -> None:
        perform(self.fleet, host, "stray", ["2"])

    def take_down(self, host: str) -> None:
        perform(self.fleet, host, "down")
