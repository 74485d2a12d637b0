"""Webhooks of a real host: a receiver written from the public standard takes them, is away, comes back, and checks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from reconciler.lab.machines import Machine
from tests.lab.test_scenarios import world
from tests.lab.waits import wait_until
from tests.scenarios.lab_world import LabWorld
from tests.scenarios.scenarios import detailed, settle

__all__ = ["world"]

KEY = b"\x07" * 32
SECRET = "whsec_" + base64.b64encode(KEY).decode()
FILE = "/etc/recon/secrets/ops"


class Receiver:
    """A server that knows nothing of recon: it verifies what comes and keeps it."""

    def __init__(self, address: str, port: int = 0) -> None:
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.forged: list[str] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = 204 if receiver.take(headers, body) else 400
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name the library gave it
                """Say nothing."""

        self._server = ThreadingHTTPServer((address, port), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, headers: dict[str, str], body: bytes) -> bool:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        wanted = "v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        fresh = abs(time.time() - int(headers["webhook-timestamp"])) < 300
        if wanted not in headers["webhook-signature"].split(" ") or not fresh:
            self.forged.append(headers["webhook-id"])
            return False
        self.taken.append((headers, body))
        return True

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def told(self) -> list[tuple[str, str | None]]:
        """Return type and transaction of every event, each once."""
        once = {headers["webhook-id"]: json.loads(body) for headers, body in self.taken}
        return [(body["type"], body["data"]["transaction"]) for body in once.values()]


@pytest.fixture
def receiver(world: LabWorld) -> Iterator[Receiver]:
    """Listen at our end of the first host's cable, and declare it as the host's webhook."""
    host = world.hosts[0]
    machine = world.lab.machine(host)
    made = Receiver(machine.record.gateway)
    hook = f"{{url: 'http://{machine.record.gateway}:{made.port}/recon', secret_file: {FILE}, timeout: 3s}}"
    path = world.host_file(host)
    path.write_text(path.read_text() + f"events: {{webhooks: {{ops: {hook}}}}}\n")
    machine.run(["install", "-d", "-m", "0700", "/etc/recon", "/etc/recon/secrets"])
    machine.run(["sh", "-c", f"umask 077; cat > {FILE}"], stdin=SECRET.encode() + b"\n")
    yield made
    made.stop()


def lines(machine: Machine) -> list[dict[str, Any]]:
    text = machine.path("/var/lib/recon/history.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def outbox(world: LabWorld, host: str) -> dict[str, Any]:
    found: dict[str, Any] = world.status(host)["outbox"]["value"]["webhooks"]["ops"]
    return found


def test_a_receiver_verifies_every_transition_and_one_that_was_away_misses_none(
    world: LabWorld, receiver: Receiver, tmp_path: Path
) -> None:
    host = world.hosts[0]
    machine = world.lab.machine(host)
    settle(world)
    wait_until("start and end are told", lambda: len(receiver.told()) == 2)
    assert [kind for kind, _ in receiver.told()] == ["transition.started", "transition.completed"]
    assert detailed(world) == 0
    assert world.recon("events", "test", "--host", host).code == 0
    assert receiver.told()[-1] == ("test", None)

    # A switch that does not come up is rolled back while nobody listens.
    receiver.stop()
    world.set_fault(host, "vision", "never-healthy")
    world.rewrite(world.coven_file("vision"), r"warm: \{timeout: \w+\}", "warm: {timeout: 10s, attempts: 1}")
    world.set_coven(host, "vision")
    failed = world.recon("apply", "--yes", "--host", host)
    assert failed.code == 6, failed.out + failed.err
    wait_until("the outbox says why", lambda: "no answer" in outbox(world, host)["error"], every_s=2.0)
    assert outbox(world, host)["pending"] == 2
    assert "failing" in world.recon("status", "--host", host).out
    # Nor does a power cut lose what waits.
    machine.kill()
    machine.start()
    machine.wait_ready()
    back = Receiver(machine.record.gateway, receiver.port)
    try:
        wait_until("all is told", lambda: len(back.told()) >= 2)
        assert [kind for kind, _ in back.told()][:2] == ["transition.started", "transition.rolled_back"]
        wait_until("nothing waits", lambda: outbox(world, host)["pending"] == 0, every_s=2.0)
        assert (back.forged, receiver.forged) == ([], [])
        ends = [line["txid"] for line in lines(machine) if line.get("state") == "rolled_back"]
        assert back.told()[1] == ("transition.rolled_back", ends[0])
        verify_as_a_receiver(world, back.taken[0], tmp_path)
    finally:
        back.stop()
    told = world.recon("history", host)
    assert told.code == 0, told.out
    assert "rolled back" in told.out
    assert "claim" in told.out
    log = machine.run(["journalctl", "-o", "cat", "--no-pager"]).stdout
    assert SECRET.encode() not in log


def verify_as_a_receiver(world: LabWorld, message: tuple[dict[str, str], bytes], tmp_path: Path) -> None:
    """Check one message with the command: it is believed once, and refused when it comes again."""
    headers, body = message
    keys = tmp_path / "keys"
    keys.write_text(SECRET + "\n")
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    words = [word for name in names for word in ("--header", f"{name}: {headers[name]}")]
    argv = world.argv("events", "verify", "--secret-file", str(keys), "--seen", str(tmp_path / "seen"), *words)
    first = subprocess.run(argv, input=body, capture_output=True, check=False)
    again = subprocess.run(argv, input=body, capture_output=True, check=False)
    forged = subprocess.run(argv, input=body + b" ", capture_output=True, check=False)
    assert (first.returncode, again.returncode, forged.returncode) == (0, 3, 3), first.stderr
    assert b"REC7332" in again.stderr
    assert b"REC7329" in forged.stderr


def test_drift_is_told_once_and_keys_that_others_can_read_are_not_used(world: LabWorld, receiver: Receiver) -> None:
    world.rewrite(world.root / "desired" / "fleet.yaml", r"(?m)^defaults:\n", "defaults:\n  watchdog: {every: 5s}\n")
    host = world.hosts[0]
    machine = world.lab.machine(host)
    settle(world)
    wait_until("start and end are told", lambda: len(receiver.told()) == 2)

    machine.run(["chmod", "0644", FILE])
    machine.run(["sh", "-c", "echo '# by hand' >> /etc/systemd/system/recon-coven-vision.target"])
    wait_until("the status says what is wrong", lambda: "mode 0644" in outbox(world, host)["error"], every_s=2.0)
    assert len(receiver.told()) == 2
    machine.run(["chmod", "0600", FILE])
    wait_until("drift is told", lambda: ("drift.found", None) in receiver.told(), at_most_s=180.0)
    time.sleep(12.0)

    found = [line["found"] for line in lines(machine) if line.get("kind") == "drift"]
    assert found == [["/etc/systemd/system/recon-coven-vision.target was changed"]]
    assert [kind for kind, _ in receiver.told()].count("drift.found") == 1
