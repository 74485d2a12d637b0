"""Changes of the disk that survive a power cut, as the calls of the system that they are made of.

A change is done when the data and the directory entry are both synced. Nothing is ever written through a symlink. The
calls go through a `System`, so that the order they come in is proven where the power can be cut between any two.

Must not: hold any decision, or sync again what failed to sync: the pages count as clean by then.
"""

import contextlib
import os
from typing import Iterator, Optional, Set

from .machine import Machine

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MORE = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class System:
    """The calls of this system that change a disk; names and errors are those of `os`."""

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        return os.open(path, flags, mode)

    def write(self, fd: int, data: memoryview) -> int:
        return os.write(fd, data)

    def fchmod(self, fd: int, mode: int) -> None:
        os.fchmod(fd, mode)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, path)

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(path, mode)
        os.chmod(path, mode)  # a umask of the login must not decide

    def rmtree(self, path: str) -> None:
        import shutil  # slow to import, and an observation never needs it

        shutil.rmtree(path)

    def lexists(self, path: str) -> bool:
        return os.path.lexists(path)

    def isdir(self, path: str) -> bool:
        return os.path.isdir(path)

    def token(self) -> str:
        """Return what makes a name one that nobody has."""
        return os.urandom(6).hex()


class DurableMachine(Machine):
    """The part of a machine that changes its disk. See `machine.Machine` for what each call promises.

    What is found as it should be is synced too: whoever made it so may have died before it was on the disk.
    """

    def __init__(self, system: Optional[System] = None) -> None:
        self.system = system or System()
        self._appended: Set[str] = set()

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        parent = os.path.dirname(path)
        if not self.system.isdir(path):
            self.mkdir(parent)
            try:
                self.system.mkdir(path, mode)
            except FileExistsError:
                if not self.system.isdir(path):
                    raise
        self._sync_directory(parent)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        directory, name = os.path.split(path)
        temporary = self._temporary(directory, name)
        fd = self.system.open(temporary, _NEW)
        try:
            try:
                with _named(path):
                    self._write_all(fd, data)
                    self.system.fchmod(fd, mode)
                    self.system.fsync(fd)
            finally:
                self.system.close(fd)
            self.system.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                self.system.unlink(temporary)
            raise
        self._sync_directory(directory)

    def append(self, path: str, data: bytes) -> None:
        is_first = path not in self._appended or not self.system.lexists(path)
        fd = self.system.open(path, _MORE, 0o644)
        try:
            with _named(path):
                self._write_all(fd, data)
                self.system.fsync(fd)
        finally:
            self.system.close(fd)
        if is_first:
            self._sync_directory(os.path.dirname(path))
            self._appended.add(path)

    def symlink(self, target: str, path: str) -> None:
        # Not beside the path: Quadlet follows every link to a directory that it finds beside the committed one, hidden
        # or not, and would make units of what a cut between the two calls leaves there.
        directory, name = os.path.split(path)
        temporary = self._temporary(os.path.dirname(directory), name)
        self.system.symlink(target, temporary)
        try:
            self.system.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                self.system.unlink(temporary)
            raise
        self._sync_directory(directory)

    def rename(self, old: str, new: str) -> None:
        self.system.rename(old, new)
        self._sync_directory(os.path.dirname(new))

    def remove(self, path: str) -> None:
        try:
            self.system.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            self._sync_removed(path)
            return
        self._sync_directory(os.path.dirname(path))

    def remove_tree(self, path: str) -> None:
        if not self.system.lexists(path):
            self._sync_removed(path)
            return
        self.system.rmtree(path)
        self._sync_directory(os.path.dirname(path))

    def _sync_removed(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self._sync_directory(os.path.dirname(path))

    def _sync_directory(self, path: str) -> None:
        fd = self.system.open(path or ".", _DIRECTORY)
        try:
            self.system.fsync(fd)
        finally:
            self.system.close(fd)

    def _write_all(self, fd: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self.system.write(fd, rest) :]

    def _temporary(self, directory: str, name: str) -> str:
        """Name a file that neither systemd nor Quadlet reads should a power cut leave it there."""
        return os.path.join(directory, f".{name}.recon-{self.system.token()}")


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Say of which file an error is: what fails with an open file (a full disk) does not name it."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, path) from error
