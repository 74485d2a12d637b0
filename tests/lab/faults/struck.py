"""What the plays around a transition share: recon stopped at a stage of its own, and faults that lie on the host.

Every fault is taken away at the end of its block, so that one more apply can show that the host goes on.

Must not: say which end is right.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.faults.arena import PLACE, PORTS, Arena, Standing, wait_for
from tests.scenarios.lab_world import SERVICES
from tests.scenarios.world import Ran, environ

GENERATOR = "/usr/lib/systemd/system-generators/podman-system-generator"
UNITS = "/etc/containers/systemd"
GPUD = ("/usr/bin/python3", "/opt/recon-lab/lab_gpud.py", "--control")
NO_DRIVER = {"faults": {"extra": {"fail.nvmlInit": "!18"}}}
SLOW_DRIVER = {"faults": {"extra": {"sleep.nvmlInit": "4000"}}}
TAKEN: dict[str, dict[str, object]] = {"hold": {"gpu": 0, "bytes": 120 << 30, "pid": None}}
"""Memory that is used and listed with no process: what a driver does not give back. More than fits beside a coven."""
TAKEN_BESIDE = {"hold": {**TAKEN["hold"], "bytes": 50 << 30}}
"""The same, as much as there can be while a coven runs."""


def member(coven: str) -> str:
    """Return the unit of a coven's server."""
    return f"recon-{coven}-{SERVICES[coven]}.service"


# -- recon at a stage of its own ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recon:
    """A recon that runs beside the test and meets a fault at a stage."""

    process: subprocess.Popen[bytes]
    stage: str

    def wait_stopped(self) -> None:
        """Wait until it has stopped itself."""

        def stopped() -> bool | None:
            assert self.process.poll() is None, f"recon never came to {self.stage}: {self.end()}"
            stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii")
            return stat.rpartition(") ")[2][0] == "T" or None

        wait_for(stopped, f"recon never came to {self.stage}")

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> Ran:
        """Wait for its end; the fault must have struck."""
        out, err = self.process.communicate(timeout=120)
        ran = Ran(self.process.returncode, out.decode(), err.decode())
        assert f"at {self.stage}\n" in ran.err, f"the fault never struck: {ran}"
        return ran


@contextlib.contextmanager
def recon_at(arena: Arena, stage: str, word: str, *words: str) -> Iterator[Recon]:
    """Run recon with a fault at a stage; it is gone at the end of the block."""
    told = words or ("apply", "--yes")
    program = Path(__file__).with_name("controller.py")
    words = (str(program), stage, word, "--", "-C", str(arena.world.root), *told, "--host", arena.host)
    process = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=environ(),
    )
    try:
        yield Recon(process, stage)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@contextlib.contextmanager
def stopped_at(arena: Arena, stage: str, *words: str) -> Iterator[Recon]:
    """Run recon until right before a stage; the block strikes and lets it go on."""
    with recon_at(arena, stage, "stop", *words) as recon:
        recon.wait_stopped()
        yield recon


def told(arena: Arena, stage: str, word: str, *words: str) -> Ran:
    """Run recon to its end with a fault at a stage."""
    with recon_at(arena, stage, word, *words) as recon:
        return recon.end()


def expected(ran: Ran, code: int, said: str) -> None:
    """Say that recon ended with an exit code and named something."""
    assert ran.code == code, f"exit {ran.code}, not {code}: {ran.out}{ran.err}"
    assert said in ran.out + ran.err, ran.out + ran.err


# -- what lies on the host ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def covered(arena: Arena, path: str, by: str = "/bin/false") -> Iterator[None]:
    """Mount something over a path of the host."""
    arena.machine.run(["mount", "--bind", by, path])
    try:
        yield
    finally:
        uncover(arena, path)


def uncover(arena: Arena, path: str) -> None:
    """Take away what is mounted over a path, when there is something."""
    arena.machine.run(["umount", path], check=False)


@contextlib.contextmanager
def file_there(arena: Arena, path: str, text: str) -> Iterator[None]:
    """Let the host have a file; what it had before is put back."""
    place = arena.machine.path(path)
    before = place.read_bytes() if place.exists() else None
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        if before is None:
            arena.machine.path(path).unlink(missing_ok=True)
        else:
            arena.machine.path(path).write_bytes(before)


def reload(arena: Arena) -> None:
    arena.machine.run(["systemctl", "daemon-reload"])


def shell(script: str) -> list[str]:
    """Return the words that run a script on the host, ending with the first command that fails."""
    return ["/bin/sh", "-ec", script]


def crashing_from_now(coven: str) -> list[str]:
    """Return the words that let a coven's server crash, now and every time it is up again, and wait for the first."""
    file = f"/run/lab-gpu/faults/{PORTS[coven]}.json"
    gone = f"while systemctl is-active --quiet {member(coven)}; do sleep 0.1; done"
    return shell(f"""printf '{{"crash-after-ready": 0.1}}' > {file}; {gone}""")


def control(request: object) -> list[str]:
    """Return the words that steer the host's GPUs."""
    return [*GPUD, json.dumps(request)]


def struck_well(arena: Arena) -> None:
    """Say that what a failpoint called there did what it was to do."""
    assert arena.called().startswith("0 "), arena.called()


def wait_step(arena: Arena, step: str) -> None:
    """Wait until the newest transaction has come to a step."""

    def come() -> bool | None:
        newest = arena.newest()
        if newest is None:
            return None
        return f'"step":"{step}"' in (newest / "journal.jsonl").read_text(encoding="utf-8") or None

    wait_for(come, f"the transaction never came to {step}")


# -- boots -------------------------------------------------------------------------------------------------------------


def fall(arena: Arena, new: str, at: str = r"^run systemctl start") -> Standing:
    """Move the host to a coven and stop half-way, the old one down; the power is still on. Returns how it stood."""
    before = arena.standing()
    arena.arm(at, "stop")
    with arena.applying() as process:
        arena.wait_fired()
        process.kill()
    return before


def boot(arena: Arena) -> None:
    """Cut the power and boot again, also into a system in which units fail."""
    arena.machine.kill()
    arena.machine.start()
    wait_for(lambda: _greets(arena.machine.record.address), "no SSH server answers")
    arena.machine.run(["systemctl", "is-system-running", "--wait"], check=False)
    arena.machine.run(["mkdir", "-p", PLACE])


def _greets(address: str) -> bool | None:
    with contextlib.suppress(OSError), socket.create_connection((address, 22), timeout=1) as connection:
        return connection.recv(4) == b"SSH-" or None
    time.sleep(0.1)
    return None
