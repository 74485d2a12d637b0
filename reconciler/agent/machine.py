"""The seam between the agent and the machine it runs on: files, programs, HTTP, clocks, the GPU.

Every effect of the agent goes through one `Machine`. `RealMachine` (in `real.py`) is this computer; the simulator
puts its own behind the same names, so the code that is proven there is the code that runs on hosts.

Must not: hold any decision. Standard library only, Python 3.9.
"""

from contextlib import AbstractContextManager
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence


class Completed(NamedTuple):
    """A program that ended; `rc` is 124 when it ran past its deadline and was killed, 127 when it is not there."""

    rc: int
    out: bytes
    err: bytes


class Response(NamedTuple):
    """An HTTP answer; `status` 0 means that no answer came, `body` then says why; `cut`: it went on after `body`."""

    status: int
    body: bytes
    cut: bool = False


class Stat(NamedTuple):
    """What `lstat` says, as far as the agent cares: kind is file, dir, link or other; `mtime_ns` 0 means not told."""

    kind: str
    size: int
    mode: int
    uid: int
    mtime_ns: int = 0


class Entry(NamedTuple):
    """What a directory has under a name, nothing followed: kind is file, dir, link or other.

    `size` is what the disk gives back when the last of its `links` names goes; (`device`, `inode`) tells it from
    whatever may be under the same name later.
    """

    name: bytes
    kind: str
    size: int
    mtime_ns: int
    device: int
    inode: int
    links: int


class Directory:
    """A directory that is held open: what it is asked for is in it, wherever its path leads by now.

    Names are single ones, in bytes; errors are OSError as the system gives them. To be closed.
    """

    @property
    def mount(self) -> int:
        """Which mount it was reached through: the same directory mounted elsewhere has another."""
        raise NotImplementedError

    def entries(self) -> Iterator[Entry]:
        """Give what is in it, in no order; what vanishes meanwhile is left out."""
        raise NotImplementedError

    def entry(self, name: bytes) -> Optional[Entry]:
        """Return what is under a name now, or None."""
        raise NotImplementedError

    def open(self, name: bytes) -> "Directory":
        """Open a directory in it; OSError when the name is no directory, as a symlink is none."""
        raise NotImplementedError

    def read(self, name: bytes, limit: int = 1 << 20) -> bytes:
        """Return at most `limit` bytes of a plain file in it; OSError when the name is anything else."""
        raise NotImplementedError

    def is_written(self, name: bytes) -> Optional[bool]:
        """Say whether somebody has a file open for writing, None when the file system cannot tell."""
        raise NotImplementedError

    def unlink(self, name: bytes) -> None:
        """Take a name away that is no directory."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of it."""
        raise NotImplementedError


class Begun(NamedTuple):
    """A call that runs beside its caller: `result` returns what it returned or raises what it raised, once `done`."""

    done: Callable[[], bool]
    result: Callable[[], Any]


class BusyError(Exception):
    """Somebody else holds the lock."""


class Machine:
    """What the agent may do to the machine. Paths are absolute; errors are OSError as the system gives them."""

    @property
    def own_manager(self) -> str:
        """Return the unit of the user's manager whose units are ours; empty for those of the system."""
        return ""

    @property
    def own_login(self) -> str:
        """Return the name of the user that everything of ours belongs to."""
        return "root"

    @property
    def own_uid(self) -> int:
        """Return the user that everything of ours belongs to."""
        return 0

    def here(self, path: str) -> str:
        """Return where a place of the system is for whoever everything of ours belongs to."""
        return path

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        """Return at most `limit` bytes of a file. FileNotFoundError and PermissionError as usual."""
        raise NotImplementedError

    def read_link(self, path: str) -> str:
        """Return where a symlink points; FileNotFoundError when absent, OSError when it is no link."""
        raise NotImplementedError

    def listdir(self, path: str) -> List[str]:
        """Return the names in a directory, sorted; FileNotFoundError when absent."""
        raise NotImplementedError

    def stat(self, path: str) -> Optional[Stat]:
        """Return what is at a path without following it, or None when nothing is."""
        raise NotImplementedError

    def free_bytes(self, path: str) -> int:
        """Return the bytes that can still be written on the file system of a path."""
        raise NotImplementedError

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        """Make a directory and its parents, durably; no error when it is there."""
        raise NotImplementedError

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Replace a file durably: temporary beside it, write, fsync, rename, fsync of the directory."""
        raise NotImplementedError

    def poke(self, path: str, data: bytes) -> None:
        """Write to a file of the kernel, in /proc or /sys, as it stands there; no error is swallowed."""
        raise NotImplementedError

    def append(self, path: str, data: bytes) -> None:
        """Append to a file and fsync it; the file is made when absent."""
        raise NotImplementedError

    def symlink(self, target: str, path: str) -> None:
        """Make or atomically replace a symlink: temporary link, rename, fsync of the directory."""
        raise NotImplementedError

    def rename(self, old: str, new: str) -> None:
        """Durably move whatever is there to a name beside it that nobody has."""
        raise NotImplementedError

    def remove(self, path: str) -> None:
        """Remove a file or link durably; no error when absent."""
        raise NotImplementedError

    def remove_tree(self, path: str) -> None:
        """Remove a directory and what is in it, never through a symlink; no error when absent."""
        raise NotImplementedError

    def open_directory(self, path: str) -> Directory:
        """Open a directory by its absolute path, one component after the other; OSError when one of them is a link."""
        raise NotImplementedError

    def rewrite(self, path: str, change: Callable[[bytes], Optional[bytes]]) -> bool:
        """Change a file that other programs write too, so that nothing of theirs is lost; see `exchange.py`.

        `change` is given the bytes as they are and returns what they should be, None to leave them; it may be called
        several times. Owner, mode and attributes stay. Returns whether the file was written.

        Raises:
            BusyError: somebody else writes it all the time.
            OSError: it is no file of one name, a link is on the way, or the file system cannot do it.
        """
        raise NotImplementedError

    def run(
        self, argv: Sequence[str], timeout_s: float, stdin: bytes = b"", env: Optional[Dict[str, str]] = None
    ) -> Completed:
        """Run a program without a shell. Output is capped at 8 MiB; past the deadline its process group is killed."""
        raise NotImplementedError

    def http(
        self, method: str, url: str, timeout_s: float, body: Optional[bytes] = None, limit: int = 1 << 20
    ) -> Response:
        """Make one HTTP call without redirects or proxies; a body is sent as application/json.

        At most `limit` bytes of the answer are read; one that is longer, or may be, says that it was cut.
        """
        raise NotImplementedError

    def post(self, url: str, timeout_s: float, body: bytes, headers: Dict[str, str], limit: int = 1 << 10) -> Response:
        """Post a body to somebody elsewhere, with headers beside the agent's own; bounded as `http` is."""
        raise NotImplementedError

    def gpu_facts(self, timeout_s: float) -> Dict[str, Any]:
        """Ask NVML in a child process that cannot hang the caller; see `gpu.py` for the answer's shape."""
        raise NotImplementedError

    def begin_gpu_facts(self, timeout_s: float) -> Callable[[], Dict[str, Any]]:
        """Start asking NVML and return how to get the answer, so that other probes run meanwhile.

        To be called while no other thread runs: a real machine forks here.
        """
        return lambda: self.gpu_facts(timeout_s)

    def log_error(self, text: str) -> None:
        """Say something a person must see to whatever keeps this machine's log, with the priority of an error."""
        raise NotImplementedError

    def lock(self, path: str) -> "AbstractContextManager[None]":
        """Hold an exclusive flock on a file for the length of a block; raises `BusyError` at once when it is taken."""
        raise NotImplementedError

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps."""
        raise NotImplementedError

    def boottime(self) -> float:
        """Seconds since boot, suspended time included."""
        raise NotImplementedError

    def wall(self) -> float:
        """Unix seconds, for people: no decision may use it but those that people make by it, windows and holds."""
        raise NotImplementedError

    def secret(self) -> str:
        """Return 256 bits that nobody can guess, as text for a command line."""
        raise NotImplementedError

    def sleep(self, seconds: float) -> None:
        """Wait."""
        raise NotImplementedError

    def parallel(self, calls: Sequence[Any]) -> List[Any]:
        """Run callables at the same time and return their results in order; the first exception is raised after all."""
        raise NotImplementedError

    def begin(self, call: Callable[[], Any]) -> Begun:
        """Run a callable beside the caller, who need not wait for it: one that is left is not stopped, only unheard.

        So it must end by itself, and change nothing of the machine.
        """
        raise NotImplementedError
