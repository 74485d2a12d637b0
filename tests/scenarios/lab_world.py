"""Real hosts behind the words of a scenario."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import threading

from reconciler.lab import scaffold
from reconciler.lab.labs import Lab
from reconciler.lab.machines import Machine
from tests.scenarios.world import Fault, LateRequest, Request, World

PORTS = {"reasoning": 8001, "vision": 8002, "embeddings": 8003}
SERVICES = {"reasoning": "vllm", "vision": "llama", "embeddings": "embed"}
HEALTH = {"reasoning": "/health", "vision": "/health", "embeddings": "/healthz"}
TOKEN_S = 0.02


class HttpRequest(Request):
    """A streaming completion read by a thread, as a client would."""

    def __init__(self, address: str, port: int, seconds: float) -> None:
        self._tokens = int(seconds / TOKEN_S)
        self._seconds = seconds
        self._body = b""
        self._began = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(address, port), daemon=True)
        self._thread.start()
        assert self._began.wait(10), "the request never began"

    def _read(self, address: str, port: int) -> None:
        connection = http.client.HTTPConnection(address, port, timeout=self._seconds + 60)
        order = {"model": "/srv/models/reasoning", "prompt": "long", "max_tokens": self._tokens, "stream": True}
        with contextlib.closing(connection), contextlib.suppress(http.client.IncompleteRead, OSError):
            connection.request("POST", "/v1/completions", json.dumps(order), {"Content-Type": "application/json"})
            response = connection.getresponse()
            self._body = response.read(16)
            self._began.set()
            while chunk := response.read(4096):
                self._body += chunk

    def answer_is_whole(self) -> bool:
        self._thread.join(self._seconds + 60)
        return self._body.rstrip().endswith(b"[DONE]") and self._body.count(b"data:") >= self._tokens


class LateConnection(LateRequest):
    """A client that connects from outside a while from now."""

    def __init__(self, address: str, port: int, after: float) -> None:
        self._refused = False
        self._thread = threading.Thread(target=self._connect, args=(address, port, after), daemon=True)
        self._thread.start()

    def _connect(self, address: str, port: int, after: float) -> None:
        threading.Event().wait(after)
        try:
            socket.create_connection((address, port), timeout=10).close()
        except ConnectionRefusedError:
            self._refused = True

    def was_refused(self) -> bool:
        self._thread.join(60)
        return self._refused


class LabWorld(World):
    """A booted lab, its state repository written anew for each scenario."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.root = lab.directory
        self.hosts = tuple(machine.record.name for machine in lab.machines[:2])
        self._off: list[Machine] = []

    def begin(self) -> None:
        """Put the desired state back as the lab wrote it first."""
        shutil.rmtree(self.root / "desired", ignore_errors=True)
        scaffold.write(self.lab)
        for machine in self.lab.machines[2:]:
            self.host_file(machine.record.name).unlink()
        self.rewrite(self.root / "desired" / "fleet.yaml", r"concurrent_transitions: 1", "concurrent_transitions: 2")

    def end(self) -> None:
        """Switch on again what a scenario switched off."""
        for machine in self._off:
            machine.start()
            machine.wait_ready()
        self._off.clear()

    def service(self, coven: str) -> str:
        return SERVICES[coven]

    def _get(self, host: str, port: int, path: str) -> int:
        connection = http.client.HTTPConnection(self.lab.machine(host).record.address, port, timeout=3)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def serves(self, host: str, coven: str) -> bool:
        return self._get(host, PORTS[coven], HEALTH[coven]) == 200

    def request(self, host: str, coven: str, seconds: float) -> Request:
        return HttpRequest(self.lab.machine(host).record.address, PORTS[coven], seconds)

    def post(self, host: str, coven: str, path: str) -> None:
        connection = http.client.HTTPConnection(self.lab.machine(host).record.address, PORTS[coven], timeout=10)
        connection.request("POST", path)
        assert connection.getresponse().status == 200
        connection.close()

    def late_request(self, host: str, coven: str, after: float) -> LateRequest:
        return LateConnection(self.lab.machine(host).record.address, PORTS[coven], after)

    def program(self, host: str, path: str, text: str) -> None:
        script = f"#!/bin/sh\n{text}\n".encode()
        self.lab.machine(host).run(["install", "-D", "-m", "0755", "/dev/stdin", path], stdin=script)

    def set_fault(self, host: str, coven: str, fault: Fault) -> None:
        self.lab.machine(host).fault(PORTS[coven], {fault: True})

    def keep_memory(self, host: str) -> None:
        self.lab.machine(host).gpu({"faults": {"release_s": None}})

    def edit_unit(self, host: str, coven: str) -> None:
        path = f"/etc/containers/systemd/recon/recon-{coven}-{SERVICES[coven]}.container"
        self.lab.machine(host).run(["sed", "-i", "s/^LogDriver=.*/LogDriver=none/", path])

    def stop_unit(self, host: str, unit: str) -> None:
        self.lab.machine(host).run(["systemctl", "stop", unit])

    def stray(self, host: str) -> None:
        command = ["podman", "run", "-d", "--rm", "--pull=never", "--network=host", "--device=nvidia.com/gpu=all"]
        command += ["-e", "LAB_GPU_BYTES=2000000000", self.lab.base.image, "--runtime", "vllm", "--port", "9999"]
        self.lab.machine(host).run(command)
        self._wait_for(host, 9999)

    def _wait_for(self, host: str, port: int) -> None:
        pause = threading.Event()
        for _ in range(100):
            if self._get(host, port, "/health") == 200:
                return
            pause.wait(0.1)
        raise AssertionError(f"nothing answers on port {port} of {host}")

    def take_down(self, host: str) -> None:
        machine = self.lab.machine(host)
        machine.kill()
        self._off.append(machine)
