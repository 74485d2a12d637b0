"""One real host on which faults are played: how one is armed, what became of the host, and whether that is legal.

Must not: know the matrix.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from reconciler.lab import scaffold
from reconciler.lab.labs import Lab
from tests.scenarios.lab_world import LabWorld
from tests.scenarios.world import Ran, environ

OTHER = {"reasoning": "vision", "vision": "reasoning"}
PORTS = {"reasoning": 8001, "vision": 8002}
PLACE = "/run/lab"
PROGRAM = "/opt/recon-lab/failpoints.py"
PYTHON = "/usr/bin/python3"
WRAPPER = """\
#!/bin/sh
case "$4" in execute|recover)
    [ -e /run/lab/failpoint.json ] && exec {real} -I -S {program} "$@";;
esac
exec {real} "$@"
"""
WAIT_S = 60.0
T = TypeVar("T")


@dataclass(frozen=True)
class Standing:
    """How a host stands: who serves, what is committed, how the last transaction ended."""

    serving: tuple[str, ...]
    committed: str | None
    generation: int | None
    state: str | None
    txid: str | None


class Arena:
    """A lab host that runs one of two covens; the fault of a test strikes while it is moved to the other."""

    def __init__(self, lab: Lab) -> None:
        self.world = LabWorld(lab)
        self.host = lab.machines[0].record.name
        self.lab = lab
        self._at_rest: str | None = None

    @property
    def machine(self) -> Any:
        return self.lab.machine(self.host)

    # -- before ----------------------------------------------------------------------------------------------------

    def equip(self) -> None:
        """Put the failpoints on the host; nothing uses them until one is armed."""
        real = self.machine.run(["readlink", "-f", PYTHON]).stdout.decode().strip()
        here = Path(__file__).with_name("failpoints.py")
        self.put(PROGRAM, here.read_text(encoding="utf-8"))
        if real != PYTHON:
            self.put("/opt/recon-lab/python3", WRAPPER.format(real=real, program=PROGRAM))
            self.machine.run(["chmod", "755", "/opt/recon-lab/python3"])
            self.machine.run(["mv", "-T", "/opt/recon-lab/python3", PYTHON])
        self.machine.run(["mkdir", "-p", PLACE])

    def put(self, path: str, text: str) -> None:
        self.machine.path(path).write_text(text, encoding="utf-8")

    def begin(self) -> str:
        """Return the coven that a host at rest serves; what the cell before left is put in order first."""
        coven = self._at_rest or self.settle()
        self._at_rest = None
        # Who comes after an executor that ended well is an executor too, and must not meet what is armed for the next.
        self.wait_idle()
        return coven

    def settle(self) -> str:
        """Heal the host, let it be what git says, and return the coven that serves."""
        self.disarm()
        self.machine.heal()
        self.go_on()
        self.wait_idle()
        ran = self.apply()
        assert ran.code == 0, f"the host does not settle: {ran.out}{ran.err}"
        standing = self.standing()
        assert standing.serving == (standing.committed,), standing
        self._at_rest = standing.committed
        assert self._at_rest is not None
        return self._at_rest

    def want(self, coven: str) -> None:
        """Say in git which coven the host is to run."""
        file = self.world.host_file(self.host)
        if f"\ncoven: {coven}\n" not in file.read_text(encoding="utf-8"):
            self.world.set_coven(self.host, coven)

    # -- the fault -------------------------------------------------------------------------------------------------

    def arm(self, at: str, do: str, *, when: str = "before", nth: int = 1, **more: Any) -> None:
        """Let the next executor meet a fault at one of its changes."""
        self.disarm()
        self.put(f"{PLACE}/failpoint.json", json.dumps({"at": at, "do": do, "when": when, "nth": nth, **more}))

    def disarm(self) -> None:
        self.machine.run(["mkdir", "-p", PLACE])
        for name in ("failpoint.json", "failpoint.used", "fired", "called", "changes"):
            self.machine.path(f"{PLACE}/{name}").unlink(missing_ok=True)

    def fired(self) -> str | None:
        """Return the change at which the fault fired, None while it has not."""
        with contextlib.suppress(FileNotFoundError):
            return str(self.machine.path(f"{PLACE}/fired").read_text(encoding="utf-8"))
        return None

    def called(self) -> str:
        return str(self.machine.path(f"{PLACE}/called").read_text(encoding="utf-8"))

    def wait_fired(self) -> str:
        """Wait until the fault has struck."""
        return wait_for(self.fired, "the fault never struck")

    def go_on(self) -> None:
        """Let a stopped executor go on."""
        self.machine.run(["systemctl", "kill", "--signal=SIGCONT", "recon-executor.service"], check=False)

    @contextlib.contextmanager
    def applying(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run an apply beside the test; it is gone at the end of the block."""
        process = subprocess.Popen(
            self.world.argv("apply", "--yes", "--host", self.host, *words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environ(),
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def apply(self, *words: str) -> Ran:
        return self.world.recon("apply", "--yes", "--host", self.host, *words)

    def power_cut(self) -> None:
        """Cut the power and boot again."""
        self.machine.kill()
        self.machine.start()
        self.machine.wait_ready()
        self.machine.run(["mkdir", "-p", PLACE])

    # -- after -----------------------------------------------------------------------------------------------------

    def serves(self, coven: str) -> bool:
        return self.world.serves(self.host, coven)

    def standing(self) -> Standing:
        """Look at the host itself: its servers, its one symlink, the newest outcome."""
        serving = tuple(coven for coven in PORTS if self.serves(coven))
        generation, live = self._committed()
        outcome = self._outcome()
        return Standing(serving, live, generation, outcome.get("state"), outcome.get("txid"))

    def _committed(self) -> tuple[int | None, str | None]:
        link = self.machine.path("/etc/containers/systemd/recon")
        if not link.is_symlink():
            return None, None
        number = int(link.readlink().name)
        manifest = self.machine.path(f"/etc/recon/generations/{number}/manifest.json")
        body = json.loads(manifest.read_text(encoding="utf-8"))["body"]
        return number, body["live"]["all"]

    def _outcome(self) -> Mapping[str, Any]:
        newest = self.newest()
        if newest is None:
            return {}
        with contextlib.suppress(OSError, ValueError):
            body: dict[str, Any] = json.loads((newest / "outcome.json").read_text())["body"]
            return body
        return {"txid": newest.name}

    def newest(self) -> Path | None:
        """Return the books of the transaction that came last: by the file system, its name is after another clock."""
        orders = list(self.machine.path("/var/lib/recon/txn").glob("[!.]*/intent.json"))
        return max(orders, key=lambda order: order.stat().st_mtime_ns).parent if orders else None

    def wait_end(self) -> Standing:
        """Wait until no executor runs and the newest transaction has its outcome."""

        self.wait_idle()
        standing = self.standing()
        assert standing.state is not None, standing
        return standing

    def wait_idle(self) -> None:
        """Wait until no executor runs."""

        def idle() -> bool | None:
            shown = self.machine.run(["systemctl", "is-active", "recon-executor.service"], check=False).stdout
            return shown.strip() in {b"inactive", b"failed", b"unknown"} or None

        wait_for(idle, "the executor never ended", every_s=0.2)

    def wait_serving(self) -> Standing:
        """Wait until the host serves what it has committed, as it must after a boot."""

        def up() -> Standing | None:
            standing = self.standing()
            return standing if standing.serving == (standing.committed,) else None

        try:
            return wait_for(up, "the committed coven does not serve", every_s=0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.standing()}") from error


def furnished(lab: Lab) -> Arena:
    """Return the first host of a fresh lab with a state repository whose waits are short, ready for faults."""
    scaffold.write(lab)
    made = Arena(lab)
    made.world.rewrite(lab.directory / "desired" / "fleet.yaml", r"drain: \{timeout: \w+", "drain: {timeout: 5s")
    made.world.rewrite(made.world.host_file(made.host), r"(?m)^coven: ", "memory: {release: 4s}\ncoven: ")
    # One more attempt is enough to show what lies between two; all three are the scenarios'.
    for coven in PORTS:
        made.world.rewrite(made.world.coven_file(coven), r"warm: \{timeout: 60s\}", "warm: {timeout: 60s, attempts: 2}")
    made.equip()
    return made


class Watch:
    """Looks at both covens' gates all the time, so that two at once cannot pass unseen."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._over = threading.Event()
        self.seen: list[str] = []
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def _look(self) -> None:
        while not self._over.wait(0.05):
            with contextlib.suppress(Exception):
                groups = self._arena.machine.path("/sys/fs/cgroup/system.slice")
                up = [coven for coven in PORTS if any(_populated(path) for path in groups.glob(f"recon-{coven}-*"))]
                if len(up) > 1:
                    self.seen.append(" and ".join(up))


def _populated(group: Path) -> bool:
    return "populated 1" in (group / "cgroup.events").read_text(encoding="ascii")


def wait_for(question: Callable[[], T | None], what: str, seconds: float = WAIT_S, *, every_s: float = 0.05) -> T:
    """Ask until there is an answer; what lasts needs no quick look, and every look costs the host's computer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = question()
        if answer is not None:
            return answer
        time.sleep(every_s)
    raise AssertionError(what)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
