"""What served a machine before recon is taken over on a real host: drained, stopped, kept off, or given back."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pytest

from tests.lab.test_enroll import Fresh, fresh, one
from tests.lab.waits import until

__all__ = ["fresh", "one"]

Kind = Literal["unit", "quadlet", "container"]
BYTES = 80 * 2**30
"""More than half of the GPU: a server that starts beside another one dies of it."""
PORT = 9002
RECON = str(Path(sys.executable).with_name("recon"))
WORDS = f"--runtime generic --port {PORT}"
NEW = "recon-chat-chat.service"
ADOPTS = {"unit": "chat.service", "quadlet": "chat.service", "container": "chat"}
KNOWN = (
    f"runtime: generic\n    port: {PORT}\n"
    "    http: {health: /healthz, in_flight: {path: /queue, json_field: queue.remaining}}\n"
    "    warm: {timeout: 60s, attempts: 1}\n    drain: {timeout: 20s}\n"
)


class Site:
    """A machine on which somebody's server runs, and a repository whose coven adopts it."""

    def __init__(self, fresh: Fresh, kind: Kind) -> None:
        self.fresh, self.kind = fresh, kind
        self.install()
        assert fresh.enroll("--user", "recon")[0] == 0
        code, self.told, _ = fresh.recon("adopt", "h-1", "--coven", "chat")
        assert code == 0
        self.coven = fresh.root / "desired/covens/chat.yaml"
        assert f'    adopts: "{ADOPTS[kind]}"\n' in self.coven.read_text()
        self.edit("runtime: none\n", KNOWN)
        fresh.file.write_text(fresh.file.read_text().replace("# coven: NAME", "coven: chat"))
        assert fresh.recon("validate")[0] == 0

    def install(self) -> None:
        image, put = self.fresh.lab.base.image, self.fresh.machine.path
        run = f"podman run --name chat --network host --device nvidia.com/gpu=all --env LAB_GPU_BYTES={BYTES}"
        if self.kind == "unit":
            text = f"[Service]\nExecStart=/usr/bin/{run} --rm --replace {image} {WORDS}\nRestart=always\n"
            put("/etc/systemd/system/chat.service").write_text(text + "[Install]\nWantedBy=multi-user.target\n")
            self.shell("systemctl daemon-reload; systemctl enable --now chat.service")
        elif self.kind == "quadlet":
            text = (
                f"[Container]\nImage={image}\nNetwork=host\nAddDevice=nvidia.com/gpu=all\nContainerName=chat\n"
                f"Environment=LAB_GPU_BYTES={BYTES}\nExec={WORDS}\n[Install]\nWantedBy=multi-user.target\n"
            )
            put("/etc/containers/systemd/chat.container").write_text(text)
            self.shell("systemctl daemon-reload; systemctl start chat.service")
        else:
            self.shell(f"systemctl enable podman-restart.service; {run} -d --restart always {image} {WORDS}")
        until(lambda: self.answers)

    def edit(self, old: str, new: str) -> None:
        text = self.coven.read_text()
        assert old in text
        self.coven.write_text(text.replace(old, new))

    def shell(self, text: str) -> str:
        return self.fresh.shell(text).decode().strip()

    @property
    def answers(self) -> bool:
        return self.shell(f"curl -sf http://127.0.0.1:{PORT}/healthz >/dev/null && echo yes || true") == "yes"

    @property
    def serving(self) -> list[str]:
        """Return which of the two run, by what runs the containers."""
        shown = self.shell("podman ps --format '{{.Names}} {{index .Labels \"PODMAN_SYSTEMD_UNIT\"}}'")
        return sorted("new" if line.endswith(NEW) else "old" for line in shown.splitlines())

    @property
    def off(self) -> str:
        """Say how what ran before is kept from starting, in the words of its own manager."""
        if self.kind == "container":
            return self.shell("podman inspect --format '{{.HostConfig.RestartPolicy.Name}}' chat")
        return self.shell("systemctl is-enabled chat.service || true")

    def apply(self) -> int:
        code = self.fresh.recon("apply", "--yes")[0]
        self.fresh.settle()
        return code

    def reboot(self, *, cut: bool = False) -> None:
        machine = self.fresh.machine
        machine.kill() if cut else machine.shut_down()
        machine.start()
        machine.wait_ready()
        self.shell("systemctl start network-online.target")

    def begin(self) -> subprocess.Popen[str]:
        """Apply, and return when the new server is judged: what ran before is down by then."""
        words = [RECON, "-C", str(self.fresh.root), "apply", "--yes"]
        apply = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        until(lambda: self.step == "warm")
        return apply

    @property
    def step(self) -> str:
        try:
            text = self.fresh.machine.path("/run/recon/lease.json").read_text()
        except FileNotFoundError:
            return ""
        return str(json.loads(text)["body"]["step"])

    def remove(self) -> None:
        self.shell(
            "systemctl disable -q --now chat.service podman-restart.service 2>/dev/null || true;"
            " systemctl unmask -q chat.service || true; podman rm -ft 0 chat || true;"
            " rm -rf /etc/systemd/system/chat.service* /etc/containers/systemd/chat.container; systemctl daemon-reload;"
            " systemctl reset-failed"
        )


@pytest.fixture(params=["unit", "quadlet", "container"])
def site(fresh: Fresh, request: pytest.FixtureRequest) -> Iterator[Site]:
    made: Site | None = None
    try:
        made = Site(fresh, request.param)
        yield made
    finally:
        if made is not None:
            made.remove()


BEFORE = {"unit": "enabled", "quadlet": "generated", "container": "always"}
AFTER = {"unit": "disabled", "quadlet": "masked", "container": "no"}


def test_what_served_is_taken_over_given_back_when_the_new_one_fails_and_stays_off_after_a_reboot(site: Site) -> None:
    code, out, _ = site.fresh.recon("plan", "--detailed-exitcode")
    assert (code, f"takes over {ADOPTS[site.kind]}: stopped, and kept from starting with the host" in out) == (2, True)
    assert "80GiB of GPU memory" in out

    site.edit('"--runtime", "generic"', '"--runtime", "nonsense"')
    assert site.apply() == 6
    until(lambda: site.answers)
    assert (site.off, site.serving) == (BEFORE[site.kind], ["old"])

    site.edit('"--runtime", "nonsense"', '"--runtime", "generic"')
    assert site.apply() == 0
    assert (site.off, site.serving) == (AFTER[site.kind], ["new"])
    name = "chat" if site.kind == "quadlet" else "recon-chat-chat"
    assert site.shell("podman ps --format '{{.Names}}'") == name
    assert site.fresh.recon("plan", "--detailed-exitcode")[0] == 0
    assert site.shell("ls -d /etc/systemd/system/chat.service.d /run/recon/adopting/* 2>/dev/null || true") == ""

    site.reboot()
    until(lambda: site.serving == ["new"])
    assert site.off == AFTER[site.kind]
    until(lambda: site.fresh.recon("plan", "--detailed-exitcode")[0] == 0)


def test_an_executor_that_is_killed_or_loses_power_on_the_way_leaves_what_served_before(site: Site) -> None:
    site.edit(f'"LAB_GPU_BYTES": "{BYTES}"', f'"LAB_GPU_BYTES": "{BYTES}", "LAB_LOAD_S": "5"')
    apply = site.begin()
    until(lambda: site.serving == ["new"])
    site.shell("systemctl kill --signal=SIGKILL --kill-whom=main recon-executor.service")
    out = apply.communicate(timeout=120)[0]
    assert (apply.returncode, "REC7116" in out) == (6, True), out
    until(lambda: site.answers)
    assert (site.off, site.serving) == (BEFORE[site.kind], ["old"])

    site.fresh.settle()
    apply = site.begin()
    site.reboot(cut=True)
    apply.kill()
    apply.communicate()
    until(lambda: site.answers)
    assert (site.off, site.serving) == (BEFORE[site.kind], ["old"])

    assert site.apply() == 0
    assert (site.off, site.serving) == (AFTER[site.kind], ["new"])
    assert site.shell("ls -d /etc/systemd/system/chat.service.d 2>/dev/null || true") == ""


@pytest.mark.parametrize("site", ["quadlet"], indirect=True)
@pytest.mark.parametrize("relation", ["Requires", "BindsTo", "PartOf"])
def test_what_systemd_would_stop_with_it_refuses_the_plan_and_goes_on(site: Site, relation: str) -> None:
    text = f"[Unit]\n{relation}=chat.service\nAfter=chat.service\n[Service]\nExecStart=/usr/bin/sleep 9d\n"
    site.fresh.machine.path("/etc/systemd/system/web.service").write_text(text)
    site.shell("systemctl daemon-reload; systemctl start web.service")
    try:
        code, out, _ = site.fresh.recon("plan")
        assert (code, "systemd stops web.service with it, which is not named" in out) == (3, True), out
        assert site.shell("systemctl is-active web.service chat.service") == "active\nactive"

        site.shell("systemctl stop web.service")
        assert site.fresh.recon("plan", "--detailed-exitcode")[0] == 2
    finally:
        site.shell("systemctl stop web.service; rm /etc/systemd/system/web.service; systemctl daemon-reload")


def test_work_in_flight_on_what_served_is_finished_before_it_stops(site: Site) -> None:
    url = f"http://{site.fresh.machine.record.address}:{PORT}/generate"
    body = json.dumps({"max_tokens": 40, "stream": True}).encode()
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(lambda: urllib.request.urlopen(urllib.request.Request(url, body), timeout=60).read())
        time.sleep(0.5)
        assert site.apply() == 0
        assert len(asked.result()) > 0
    assert site.serving == ["new"]
