"""The firewall on a real kernel: who is refused, who goes on, and that nothing of it is left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.lab.machines import Machine
from tests.lab.agent_on_host import agent_on, play

DRIVER = """
import http.client, http.server, socket, threading
from agent import admission, web

class Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *words): pass
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

def new(address, port, source=None):
    try:
        socket.create_connection((address, port), timeout=3, source_address=source).close()
        return "in"
    except OSError as error:
        return type(error).__name__

servers = [http.server.ThreadingHTTPServer(("0.0.0.0", port), Hello) for port in (9876, 9877)]
for server in servers:
    threading.Thread(target=server.serve_forever, daemon=True).start()
closed, other = ({"port": port, "firewall": port == 9876, "stop_timeout_s": 1.0} for port in (9876, 9877))
members = [closed, other]
own = words[0]
before = http.client.HTTPConnection("127.0.0.1", 9876, timeout=5)
before.request("GET", "/")
before.getresponse().read()

admission.check(run, members)
machine.mkdir("/run/recon")
admission.close(run, members, 5.0)
before.request("GET", "/again")
found = {
    "established": before.getresponse().read().decode(),
    "loopback": new("127.0.0.1", 9876),
    "own address": new(own, 9876),
    "another port": new("127.0.0.1", 9877),
    "the agent": web.call("GET", "http://127.0.0.1:9876/", 3.0, None, 100).status,
    "told": [admission.reopen(machine), admission.reopen(machine)],
    "afterwards": [new("127.0.0.1", 9876), new(own, 9876)],
}
"""


@pytest.fixture
def host(machine: Machine) -> Iterator[Machine]:
    with agent_on(machine):
        yield machine
    machine.run(["nft", "delete", "table", "inet", "recon_admission"], check=False)


def test_new_connections_are_refused_also_over_loopback_and_everything_else_goes_on(host: Machine) -> None:
    found = play(host, DRIVER, host.record.address)

    assert found == {
        "established": "ok",
        "loopback": "ConnectionRefusedError",
        "own address": "ConnectionRefusedError",
        "another port": "in",
        "the agent": 200,
        "told": [True, False],
        "afterwards": ["in", "in"],
    }
    assert b"recon_admission" not in host.run(["nft", "list", "tables"]).stdout


def test_the_kernel_forgets_a_port_by_itself(host: Machine) -> None:
    text = """
from agent import admission
done = machine.run(["nft", "-f", "-"], 10.0, stdin=admission.ruleset([9876], 2.0).encode())
before = machine.run(["nft", "list", "set", "inet", "recon_admission", "ports"], 10.0).out.decode()
machine.sleep(4.0)
after = machine.run(["nft", "list", "set", "inet", "recon_admission", "ports"], 10.0).out.decode()
found = [done.rc, "9876" in before, "9876" in after]
"""

    assert play(host, text) == [0, True, False]


def test_without_nft_it_is_refused(host: Machine) -> None:
    text = """
from agent import admission, programs
programs._ENVIRONMENT["PATH"] = "/nowhere"
try:
    admission.check(run, [{"port": 9876, "firewall": True, "stop_timeout_s": 1.0}])
    found = ""
except HaltError as halt:
    found = f"{halt.code} {halt.reason}"
"""

    assert play(host, text) == "REC7131 admission: firewall needs nft, which is not on the host"
