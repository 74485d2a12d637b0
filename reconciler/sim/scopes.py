"""Programs that run in a scope of their own on a simulated host: hooks, written in a very small shell.

A hook's file may say, one to a line: `sleep N`, `exit N`, `echo WORDS`, `flood BYTES`, `touch PATH`, `trap "" TERM`,
and `setsid sleep N &` for a child that is left behind. Anything else the simulator does not know.

Must not: know why a program is run.
"""

from __future__ import annotations

from reconciler.agent.machine import Completed
from reconciler.sim.clock import Clock
from reconciler.sim.files import Files
from reconciler.sim.podman import UnknownArgvError
from reconciler.sim.state import Node, Process, SimState

_TERMINATED = -15
_KILLED = -9
_OPTIONS = {"--unit", "--slice", "--collect", "--quiet", "--no-ask-password", "--expand-environment", "--property"}


class Scopes:
    """The scopes of one host."""

    def __init__(self, state: SimState, clock: Clock, files: Files) -> None:
        self._state = state
        self._clock = clock
        self._files = files

    def knows(self, argv: list[str]) -> bool:
        """Say whether a command is about a scope."""
        return argv[:2] == ["systemd-run", "--scope"] or (argv[:2] == ["systemctl", "stop"] and _is_scope(argv[-1]))

    def answer(self, argv: list[str]) -> Completed:
        """Answer a command about a scope."""
        if argv[0] == "systemd-run":
            return self._run(argv)
        if self._stop(argv[-1]):
            return Completed(0, b"", b"")
        return Completed(5, b"", f"Failed to stop {argv[-1]}: Unit {argv[-1]} not loaded.\n".encode())

    def _run(self, argv: list[str]) -> Completed:
        """Do `systemd-run --scope … -- PROGRAM WORDS`."""
        at = argv.index("--")
        options = dict(word.partition("=")[::2] for word in argv[2:at] if not word.startswith("--property="))
        properties = dict(word.split("=", 2)[1:] for word in argv[2:at] if word.startswith("--property="))
        if set(options) - _OPTIONS or argv[1] != "--scope":
            raise UnknownArgvError(str(argv))
        node = self._files.stat(argv[at + 1])
        if node is None:
            return Completed(203, b"", f"Failed to execute: {argv[at + 1]}\n".encode())
        self._state.hooks.append(" ".join(argv[at + 1 :]))
        group = f"/{options['--slice']}/{options['--unit']}"
        limit, grace = float(properties["RuntimeMaxSec"]), float(properties["TimeoutStopSec"])
        return self._shell(node.data.decode("utf-8"), group, limit, grace)

    def _stop(self, unit: str) -> bool:
        """End everything in a scope; False when it is not there."""
        left = [pid for pid, each in self._state.processes.items() if each.cgroup.endswith(f"/{unit}")]
        for pid in left:
            del self._state.processes[pid]
        return bool(left)

    def _shell(self, text: str, group: str, limit: float, grace: float) -> Completed:
        ends = self._clock.now + limit
        out, deaf = b"", False
        for line in text.splitlines():
            words = line.split()
            if not words or line.startswith("#"):
                continue
            match words:
                case ["sleep", seconds]:
                    left = ends - self._clock.now
                    if float(seconds) >= left:
                        self._clock.advance(left + (grace if deaf else 0.0))
                        return Completed(_KILLED if deaf else _TERMINATED, out, b"")
                    self._clock.advance(float(seconds))
                case ["exit", code]:
                    return Completed(int(code), out, b"")
                case ["echo", *rest]:
                    out += " ".join(rest).encode() + b"\n"
                case ["flood", size]:
                    out += b"x" * min(int(size), 8 << 20)
                case ["touch", path]:
                    self._files.put(path, Node.of(b""))
                case ["trap", '""', "TERM"]:
                    deaf = True
                case ["setsid", "sleep", _, "&"]:
                    pid = self._clock.pid()
                    self._state.processes[pid] = Process(
                        pid=pid, comm="sleep", argv=words[1:3], cgroup=group, started=self._clock.now
                    )
                case _:
                    raise UnknownArgvError(f"a hook's line: {line}")
        return Completed(0, out, b"")


def _is_scope(unit: str) -> bool:
    return unit.endswith(".scope")
