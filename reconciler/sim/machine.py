"""A simulated machine behind the agent's seam: what `agent.machine.Machine` promises, in memory and in virtual time.

Every call that changes the machine passes `_changing`, which tells a hook before and after: there a test can let the
power go. What changes the disk is the agent's own code over the calls of the system, and `on_call` is told before each
of those. A command the simulator does not know raises, so that no test can pass on an answer nobody gave.

Must not: decide anything the agent decides.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from reconciler.agent.durable import DurableMachine
from reconciler.agent.machine import Begun, BusyError, Completed, Directory, Response, Stat
from reconciler.agent.places import DROP_CACHES
from reconciler.sim import setup
from reconciler.sim.clock import Clock
from reconciler.sim.directory import SimDirectory
from reconciler.sim.disk import SimSystem
from reconciler.sim.faults import fault_of
from reconciler.sim.files import Files, error
from reconciler.sim.firewall import Firewall
from reconciler.sim.gpu import GpuMemory
from reconciler.sim.pages import Luck
from reconciler.sim.podman import Podman, UnknownArgvError
from reconciler.sim.procfs import Kernel
from reconciler.sim.quadlet import generate
from reconciler.sim.scopes import Scopes
from reconciler.sim.state import Kind, Node, SimState
from reconciler.sim.systemctl import Systemctl
from reconciler.sim.systemd import Manager

GENERATOR = "/usr/lib/systemd/system-generators/podman-system-generator"
IMAGES_JSON = "/var/lib/containers/storage/overlay-images/images.json"

_COSTS = {"systemctl": 0.01, "podman": 0.05, "systemd-run": 0.02, "journalctl": 0.02, "systemd-analyze": 0.1}
_HTTP_S = 0.002
_SYNCHRONIZED = ["timedatectl", "show", "--property=NTPSynchronized", "--value"]
_READ_ONLY = ("show", "is-active", "is-failed", "--version")

Hook = Callable[[Literal["before", "after"], str], None]


class StoppedError(BaseException):
    """The program that was running here is no more; raised by a hook, and then by every further call."""


class PowerCutError(StoppedError):
    """The machine lost power in the middle of a call. `reboot` brings it up again."""


class KilledError(StoppedError):
    """The program was killed in the middle of a call, the machine runs on. `revive` lets another one begin."""


class SimMachine(DurableMachine):
    """One simulated host. `state` is all there is to it, but for what was not synced yet."""

    def __init__(self, state: SimState) -> None:
        self.state = state
        self.hook: Hook | None = None
        self.on_call: Callable[[str], None] | None = None
        self.unknown: list[str] = []
        self.receivers: dict[str, Callable[[dict[str, str], bytes], Response]] = {}
        """Servers elsewhere that take what is posted to them, by address: not part of the host, and not saved."""
        self.clock = Clock(state)
        self.files = Files(state.files, self.clock.tick)
        self.disk = SimSystem(state, self.files, self._announce)
        super().__init__(self.disk)
        self.gpu = GpuMemory(state, self.clock)
        self.podman = Podman(state, self.clock, self.gpu)
        self.manager = Manager(state, self.clock, self.files, self.podman)
        self._kernel = Kernel(state, self.gpu)
        self._firewall = Firewall(state, self.clock, self.podman.servers.opened)
        self._scopes = Scopes(state, self.clock, self.files)
        self._systemctl = Systemctl(state, self.clock, self.files, self.manager)
        self._held: set[str] = set()
        self._spent: float | None = None
        self._stopped: StoppedError | None = None

    @classmethod
    def new(cls, host: str, kind: Kind = "h200", *, seed: int = 1, gpus: int = 1) -> SimMachine:
        """Make a machine that was just installed, and boot it."""
        machine = cls(setup.fresh(host, kind, seed=seed, gpus=gpus))
        setup.install(machine.files, machine.state)
        machine.manager.boot()
        machine.clock.advance(5.0)
        return machine

    @classmethod
    def load(cls, path: Path) -> SimMachine:
        """Read a machine as it was saved."""
        return cls(SimState.model_validate_json(path.read_bytes()))

    def save(self, path: Path) -> None:
        """Write the whole machine into one file, replacing it at once."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        document = self.state.model_dump(mode="json", exclude_defaults=True)
        document["version"] = self.state.version
        temporary.write_text(json.dumps(document, sort_keys=True, separators=(",", ":")), encoding="utf-8")
        temporary.replace(path)

    def revive(self) -> None:
        """Let a new program use the machine after the one before was killed."""
        self._stopped = None
        self._held.clear()
        self._appended.clear()
        self.disk.end_program()

    def reboot(self, *, down_s: float = 20.0, luck: Luck | None = None) -> None:
        """Lose power and come up again: processes, GPU memory, /run and what luck takes of the unsynced are gone."""
        state = self.state
        self.disk.pages.cut(luck or self.disk.luck().random)
        self.clock.drop()
        self.podman.clear()
        self.gpu.clear()
        for part in (state.processes, state.holdings, state.launched, state.locked, state.closed):
            part.clear()
        self.revive()
        self.files.drop_tree("/run")
        setup.make_run(self.files)
        state.boots += 1
        self.clock.advance(down_s)
        state.booted_at = state.now
        self.clock.note("boot")
        self.manager.boot()
        self.podman.boot()
        self.clock.advance(5.0)

    # -- files ------------------------------------------------------------------------------------------------------

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        if self._kernel.owns(path):
            return self._kernel.read(path)[:limit]
        if self.files.resolve(path) == IMAGES_JSON:
            return self.podman.images_json()[:limit]
        return self.files.read(path)[:limit]

    def read_link(self, path: str) -> str:
        return self.files.read_link(path)

    def listdir(self, path: str) -> list[str]:
        if self._kernel.owns(path):
            return self._kernel.listdir(path)
        return self.files.listdir(path)

    def stat(self, path: str) -> Stat | None:
        if self._kernel.owns(path):
            kind = self._kernel.kind_of(path)
            return Stat(kind, 0, 0o444, 0) if kind else None
        node = self.files.lstat(path)
        if node is None:
            return None
        size = len(node.target) if node.kind == "link" else len(node.data) if node.kind == "file" else 4096
        return Stat(node.kind, size, node.mode, node.uid, node.mtime)

    def free_bytes(self, path: str) -> int:
        if self.files.stat(path) is None:
            raise error(errno.ENOENT, path)
        return self.state.disk_free

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        if self.disk.isdir(path):
            super().mkdir(path, mode)
            return
        with self._changing(f"mkdir {path}"):
            super().mkdir(path, mode)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        with self._changing(f"write {path}"):
            super().write(path, data, mode)

    def poke(self, path: str, data: bytes) -> None:
        with self._changing(f"poke {path}"):
            if path != DROP_CACHES or data.strip() not in (b"1", b"2", b"3"):
                raise error(errno.ENOENT, path)
            self.state.page_cache = self.state.hbm_cache = 0

    def append(self, path: str, data: bytes) -> None:
        with self._changing(f"append {path}"):
            super().append(path, data)

    def symlink(self, target: str, path: str) -> None:
        with self._changing(f"symlink {path}"):
            super().symlink(target, path)

    def rename(self, old: str, new: str) -> None:
        with self._changing(f"rename {old} {new}"):
            super().rename(old, new)

    def remove(self, path: str) -> None:
        with self._changing(f"remove {path}"):
            super().remove(path)

    def remove_tree(self, path: str) -> None:
        with self._changing(f"remove_tree {path}"):
            super().remove_tree(path)

    def open_directory(self, path: str) -> Directory:
        return SimDirectory.at(path, self.files, self.disk, self._changing)

    def rewrite(self, path: str, change: Callable[[bytes], bytes | None]) -> bool:
        """Change a file at once: in here nobody else runs between two lines."""
        node = self.files.lstat(path)
        if node is None:
            raise error(errno.ENOENT, path)
        if node.kind != "file" or self.files.resolve(path) != path:
            raise error(errno.ELOOP if node.kind != "dir" else errno.EINVAL, path)
        wanted = change(node.data)
        if wanted is None or wanted == node.data:
            return False
        self.write(path, wanted, node.mode)
        now = self.files.lstat(path)
        if now is not None:
            now.uid = node.uid
        return True

    # -- programs ---------------------------------------------------------------------------------------------------

    def run(
        self, argv: Sequence[str], timeout_s: float, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> Completed:
        words = list(argv)
        if stdin and words[0] != "nft":
            raise UnknownArgvError(f"nothing the simulator knows reads its input: {words}")
        self.pass_time(_COSTS.get(words[0].rpartition("/")[2], 0.01))
        try:
            if self._only_looks(words):
                return self._firewall.run(words, stdin) if stdin else self._answer(words, timeout_s, env or {})
            with self._changing("run " + " ".join(words)):
                return self._firewall.run(words, stdin) if stdin else self._answer(words, timeout_s, env or {})
        except UnknownArgvError as unknown:
            self.unknown.append(str(unknown))
            raise

    def _answer(self, words: list[str], timeout_s: float, env: dict[str, str]) -> Completed:
        program = words[0]
        if self._scopes.knows(words):
            return self._scopes.answer(words)
        if program == "systemctl":
            return self._systemctl.systemctl(words, timeout_s)
        if program == "podman":
            return self.podman.run(words, timeout_s)
        if program == "systemd-run":
            return self._systemctl.systemd_run(words)
        if program == "journalctl":
            return self._systemctl.journalctl(words)
        if program == "systemd-analyze":
            return self._systemctl.analyze(words, env)
        if words == _SYNCHRONIZED:
            return Completed(0, b"yes\n", b"")
        if program == GENERATOR and words[1:] in (["--dryrun"], ["-dryrun"]):
            return self._generator(env)
        raise UnknownArgvError(str(words))

    def _only_looks(self, words: list[str]) -> bool:
        if words[0] == "systemctl":
            return any(word in _READ_ONLY for word in words)
        if words[0] == "podman":
            return words[1:3] == ["volume", "ls"] or words[1] not in ("pull", "volume", "stop", "start", "update")
        return words[0] != "systemd-run" and words[:2] != ["nft", "-f"]

    def _generator(self, env: dict[str, str]) -> Completed:
        if fault_of(self.state, "generator", "*") is not None:
            return Completed(1, b"", b"quadlet-generator[1]: cannot read its own configuration\n")
        directories = env.get("QUADLET_UNIT_DIRS", "")
        made = generate(self.files, directories.split(":")) if directories else generate(self.files)
        out = "".join(f"---{name}---\n{text}\n" for name, text in sorted(made.units.items()))
        err = "".join(f"quadlet-generator[1]: {line}\n" for line in made.errors)
        return Completed(1 if made.errors else 0, out.encode(), err.encode())

    # -- the rest of the seam ---------------------------------------------------------------------------------------

    def http(
        self, method: str, url: str, timeout_s: float, body: bytes | None = None, limit: int = 1 << 20
    ) -> Response:
        parts = urlsplit(url)
        self.pass_time(_HTTP_S)
        if parts.hostname not in ("127.0.0.1", "localhost", "::1", self.state.host):
            return Response(0, b"no route to host")
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        answer = self.podman.servers.http(method, parts.port or 80, path or "/", body, timeout_s)
        return Response(answer.status, answer.body[:limit], cut=len(answer.body) > limit)

    def post(self, url: str, timeout_s: float, body: bytes, headers: dict[str, str], limit: int = 1 << 10) -> Response:
        self.pass_time(min(_HTTP_S, timeout_s))
        if url not in self.receivers:
            return Response(0, b"no route to host")
        answer = self.receivers[url](headers, body)
        return Response(answer.status, answer.body[:limit], cut=len(answer.body) > limit)

    def gpu_facts(self, timeout_s: float) -> dict[str, Any]:
        self.pass_time(min(0.05, timeout_s))
        return self.gpu.facts()

    def log_error(self, text: str) -> None:
        self.clock.log("recon", f"<3>{text}")

    def lock(self, path: str) -> AbstractContextManager[None]:
        return self._lock(path)

    @contextlib.contextmanager
    def _lock(self, path: str) -> Iterator[None]:
        if path in self._held or path in self.state.locked:
            raise BusyError(path)
        if self.files.stat(path) is None:
            self.files.put(path, Node.of(b"", 0o600))
        self._held.add(path)
        try:
            yield
        finally:
            self._held.discard(path)

    def monotonic(self) -> float:
        return self.clock.now

    def boottime(self) -> float:
        return self.clock.now - self.state.booted_at

    def wall(self) -> float:
        return self.state.epoch + self.clock.now

    def secret(self) -> str:
        self.state.secrets += 1
        return hashlib.sha256(f"{self.state.host} {self.state.seed} {self.state.secrets}".encode()).hexdigest()[:43]

    def sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def parallel(self, calls: Sequence[Any]) -> list[Any]:
        """Make the calls one after the other, but let only the time of the longest pass."""
        if self._spent is not None:
            return [call() for call in calls]
        longest = 0.0
        results, failed = [], None
        for call in calls:
            self._spent = 0.0
            try:
                results.append(call())
            except Exception as raised:  # the first is raised after all, as the seam says
                failed = failed or raised
            longest = max(longest, self._spent)
        self._spent = None
        self.clock.advance(longest)
        if failed is not None:
            raise failed
        return results

    def begin(self, call: Callable[[], Any]) -> Begun:
        """Make the call now, and let its end come when its time has passed for the caller too."""
        apart, self._spent = self._spent, 0.0
        results, failed = [], []
        try:
            results.append(call())
        except Exception as raised:  # whoever asks for the result gets it, as the seam says
            failed.append(raised)
        finally:
            ends = self.clock.now + (apart or 0.0) + self._spent
            self._spent = apart

        def result() -> Any:
            if failed:
                raise failed[0]
            return results[0]

        return Begun(lambda: self.clock.now >= ends, result)

    # -- what tests need --------------------------------------------------------------------------------------------

    def is_locked(self, path: str) -> bool:
        """Say whether a program here holds the lock on a file."""
        return path in self._held

    def pass_time(self, seconds: float) -> None:
        """Let a call take so long, beside whatever is done at the same time."""
        if self._spent is None:
            self.clock.advance(seconds)
        else:
            self._spent += seconds

    @contextlib.contextmanager
    def _changing(self, what: str) -> Iterator[None]:
        self._call_hook("before", what)
        self.clock.note(what)
        yield
        self._call_hook("after", what)

    def _announce(self, call: str) -> None:
        if self._stopped is not None:
            raise self._stopped
        if self.on_call is None:
            return
        try:
            self.on_call(call)
        except StoppedError as stopped:
            self._stopped = stopped
            raise

    def _call_hook(self, when: Literal["before", "after"], what: str) -> None:
        if self._stopped is not None:
            raise self._stopped  # what unwinds in a dead program has no effect
        if self.hook is None:
            return
        try:
            self.hook(when, what)
        except StoppedError as stopped:
            self._stopped = stopped
            raise
