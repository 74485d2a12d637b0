"""A host on which nothing of ours may run as root: the same agent, in one user's own manager and directories.

Everything in the agent is written for the system: its paths, `systemctl`, the system's control groups. For
`scope: user` this stands between it and the machine and says each of them as the user's manager has it
(systemd.unit(5), the tables of load paths; podman-systemd.unit(5) for rootless Quadlets), so there is one executor and
no second set of rules.

    /etc/recon                ~/.config/recon              /run/recon…              $XDG_RUNTIME_DIR/recon…
    /var/lib/recon            ~/.local/state/recon         /etc/systemd/system      ~/.config/systemd/user
    /etc/containers           ~/.config/containers         /run/systemd/…           $XDG_RUNTIME_DIR/systemd/…

Names that come back (links, what systemd shows) are turned the other way, so what the agent compares fits.

Must not: be used as root, or decide anything; what a user may not do (nftables, page cache) fails as the kernel says.
"""

import os
import re
from contextlib import AbstractContextManager
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from .machine import Begun, Completed, Directory, Machine, Response, Stat
from .systemd import CGROUP_ROOTS

_MANAGED = ("systemctl", "systemd-run", "systemd-analyze")
_UNIT_OPTION = re.compile(r"\A(?:-u\Z|--unit(?=\Z|=))")
_SHOWN = re.compile(rb"(?m)^(?:FragmentPath|SourcePath)=(.*)$")


class Account(NamedTuple):
    """Whose manager it is: name and number, home, and the directory that lives as long as the manager."""

    name: str
    uid: int
    home: str
    runtime: str

    @property
    def manager(self) -> str:
        """Return the unit that the user's manager is."""
        return f"user@{self.uid}.service"

    @property
    def group(self) -> str:
        """Return the control group of the user's manager."""
        return f"/user.slice/user-{self.uid}.slice/{self.manager}"


def own_account() -> Account:
    """Return the account that this process runs as."""
    import pwd  # not on every system, and root's path never needs it

    entry = pwd.getpwuid(os.geteuid())
    return Account(entry.pw_name, entry.pw_uid, entry.pw_dir.rstrip("/"), f"/run/user/{entry.pw_uid}")


def table(account: Account) -> "List[tuple[str, str]]":
    """Return what stands for what, longest first, so that the first that fits is the one."""
    config, state, runtime = f"{account.home}/.config", f"{account.home}/.local/state", account.runtime
    pairs = {
        "/etc/recon": f"{config}/recon",
        "/var/lib/recon": f"{state}/recon",
        "/run/recon": f"{runtime}/recon",
        "/etc/containers": f"{config}/containers",
        "/run/containers": f"{runtime}/containers",
        "/usr/share/containers/systemd": f"/etc/containers/systemd/users/{account.uid}",
        "/var/lib/containers/storage": f"{account.home}/.local/share/containers/storage",
        "/usr/lib/systemd/system-generators/podman-system-generator": (
            "/usr/lib/systemd/user-generators/podman-user-generator"
        ),
        "/etc/systemd/system": f"{config}/systemd/user",
        "/etc/systemd/system/multi-user.target.wants": f"{config}/systemd/user/default.target.wants",
        "/etc/systemd/system.control": f"{config}/systemd/user.control",
        "/etc/systemd/system.attached": f"{config}/systemd/user.attached",
        "/run/systemd/system": f"{runtime}/systemd/user",
        "/run/systemd/system.control": f"{runtime}/systemd/user.control",
        "/run/systemd/system.attached": f"{runtime}/systemd/user.attached",
        "/run/systemd/transient": f"{runtime}/systemd/transient",
        "/run/systemd/generator": f"{runtime}/systemd/generator",
        "/run/systemd/generator.early": f"{runtime}/systemd/generator.early",
        "/run/systemd/generator.late": f"{runtime}/systemd/generator.late",
        "/usr/local/lib/systemd/system": "/usr/local/lib/systemd/user",
        "/usr/lib/systemd/system": "/usr/lib/systemd/user",
        **{f"{root}/system.slice": f"{root}{account.group}/app.slice" for root in CGROUP_ROOTS},
    }
    return sorted(pairs.items(), key=lambda pair: -len(pair[0]))


class UserMachine(Machine):
    """A machine as one user has it. Everything that names no place and no manager is passed on."""

    def __init__(self, inner: Machine, account: Optional[Account] = None) -> None:
        self._inner = inner
        self._account = account or own_account()
        pairs = table(self._account)
        self._there = dict(pairs)
        self._back = {theirs: ours for ours, theirs in pairs}
        # The gates' directories lie beside /run/recon and begin like it.
        self._gates = ("/run/recon-", f"{self._account.runtime}/recon-")
        self._places = _in_words([ours for ours, _ in pairs], self._gates[0])

    @property
    def own_manager(self) -> str:
        return self._account.manager

    @property
    def own_login(self) -> str:
        return self._account.name

    @property
    def own_uid(self) -> int:
        return self._account.uid

    def here(self, path: str) -> str:
        return _turn(path, self._there, self._gates)

    def _as_written(self, path: str) -> str:
        return _turn(path, self._back, self._gates[::-1])

    def _word(self, word: str) -> str:
        return self._places.sub(lambda found: self.here(found[0]), word)

    # -- files ------------------------------------------------------------------------------------------------------

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        return self._inner.read(self.here(path), limit)

    def read_link(self, path: str) -> str:
        return self._as_written(self._inner.read_link(self.here(path)))

    def listdir(self, path: str) -> List[str]:
        return self._inner.listdir(self.here(path))

    def stat(self, path: str) -> Optional[Stat]:
        return self._inner.stat(self.here(path))

    def free_bytes(self, path: str) -> int:
        return self._inner.free_bytes(self.here(path))

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        self._inner.mkdir(self.here(path), mode)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._inner.write(self._with_parent(self.here(path)), data, mode)

    def _with_parent(self, path: str) -> str:
        """Make the directory of a path where there is none: what every system has is not in every home."""
        parent = path.rpartition("/")[0]
        if self._inner.stat(parent) is None:
            self._inner.mkdir(parent)
        return path

    def poke(self, path: str, data: bytes) -> None:
        self._inner.poke(path, data)

    def append(self, path: str, data: bytes) -> None:
        self._inner.append(self.here(path), data)

    def symlink(self, target: str, path: str) -> None:
        self._inner.symlink(self.here(target), self._with_parent(self.here(path)))

    def rename(self, old: str, new: str) -> None:
        self._inner.rename(self.here(old), self.here(new))

    def remove(self, path: str) -> None:
        self._inner.remove(self.here(path))

    def remove_tree(self, path: str) -> None:
        self._inner.remove_tree(self.here(path))

    def open_directory(self, path: str) -> Directory:
        return self._inner.open_directory(self.here(path))

    def rewrite(self, path: str, change: Callable[[bytes], Optional[bytes]]) -> bool:
        return self._inner.rewrite(self.here(path), change)

    def lock(self, path: str) -> "AbstractContextManager[None]":
        return self._inner.lock(self.here(path))

    # -- programs ---------------------------------------------------------------------------------------------------

    def run(
        self, argv: Sequence[str], timeout_s: float, stdin: bytes = b"", env: Optional[Dict[str, str]] = None
    ) -> Completed:
        own = {
            "HOME": self._account.home,
            "XDG_RUNTIME_DIR": self._account.runtime,
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={self._account.runtime}/bus",
        }
        own.update({name: self._word(value) for name, value in (env or {}).items()})
        done = self._inner.run(self.words(argv), timeout_s, stdin, own)
        if list(argv[:2]) == ["systemctl", "show"]:
            return done._replace(out=_SHOWN.sub(self._shown_back, done.out))
        return done

    def words(self, argv: Sequence[str]) -> List[str]:
        """Return a command as it is said to the user's manager, with the places where they are."""
        first, rest = argv[0], [self._word(word) for word in argv[1:]]
        if first in _MANAGED:
            rest = ["--user", *("--slice=app.slice" if word == "--slice=system.slice" else word for word in rest)]
        elif first == "journalctl":
            # --user would open the files of this user alone; a journal in memory keeps the lines of all in one.
            rest = [_UNIT_OPTION.sub("--user-unit", word) for word in rest]
        return [self.here(first), *rest]

    def _shown_back(self, found: "re.Match[bytes]") -> bytes:
        key, _, path = found[0].partition(b"=")
        return key + b"=" + self._as_written(path.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    # -- the rest ---------------------------------------------------------------------------------------------------

    def http(
        self, method: str, url: str, timeout_s: float, body: Optional[bytes] = None, limit: int = 1 << 20
    ) -> Response:
        return self._inner.http(method, url, timeout_s, body, limit)

    def post(self, url: str, timeout_s: float, body: bytes, headers: Dict[str, str], limit: int = 1 << 10) -> Response:
        return self._inner.post(url, timeout_s, body, headers, limit)

    def gpu_facts(self, timeout_s: float) -> Dict[str, Any]:
        return self._inner.gpu_facts(timeout_s)

    def begin_gpu_facts(self, timeout_s: float) -> Callable[[], Dict[str, Any]]:
        return self._inner.begin_gpu_facts(timeout_s)

    def log_error(self, text: str) -> None:
        self._inner.log_error(text)

    def monotonic(self) -> float:
        return self._inner.monotonic()

    def boottime(self) -> float:
        return self._inner.boottime()

    def wall(self) -> float:
        return self._inner.wall()

    def secret(self) -> str:
        return self._inner.secret()

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)

    def parallel(self, calls: Sequence[Any]) -> List[Any]:
        return self._inner.parallel(calls)

    def begin(self, call: Callable[[], Any]) -> Begun:
        return self._inner.begin(call)


def _turn(path: str, names: Dict[str, str], gates: "tuple[str, str]") -> str:
    """Return a path with its longest known beginning replaced, the path itself when none is known."""
    if path.startswith(gates[0]):
        return gates[1] + path[len(gates[0]) :]
    head, rest = path, ""
    while head:
        if head in names:
            return names[head] + rest
        head, slash, last = head.rpartition("/")
        rest = slash + last + rest
    return path


def _in_words(names: Sequence[str], gate: str) -> "re.Pattern[str]":
    """Return what finds the known places inside the words of a command, such as a property of `systemd-run`."""
    whole = "|".join(re.escape(name) for name in names)
    return re.compile(rf"(?<![\w./~-])(?:{re.escape(gate)}|(?:{whole})(?=$|[/\s:;,\"']))")
