"""Directories that are held open and gone down into one component at a time, so that no link is ever followed.

A path is a promise that anybody may break between two looks at it; an open directory is not. Every step is an `openat`
with O_NOFOLLOW: a component that is, or just became, a symlink is an error and nothing else.

Must not: be given a name with a slash in it, or know what a directory is for.
"""

from __future__ import annotations

import errno
import os
import re
import stat as stat_bits
import time
from typing import Iterator, Optional

from . import leases
from .machine import Directory, Entry

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_MOUNT = re.compile(rb"^mnt_id:\s*(\d+)$", re.MULTILINE)
_BLOCK = 512
_LEASED_S = 2.0
_POLL_S = 0.01


class RealDirectory(Directory):
    """An open directory of this computer."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @property
    def mount(self) -> int:
        return _mount_of(self.fd)

    def entries(self) -> Iterator[Entry]:
        with os.scandir(self.fd) as found:
            for each in found:
                # Names come as text where the directory is a descriptor; what is no UTF-8 survives the way back.
                entry = self.entry(os.fsencode(each.name))
                if entry is not None:
                    yield entry

    def entry(self, name: bytes) -> Optional[Entry]:
        try:
            found = os.stat(_single(name), dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return Entry(
            name,
            _kind(found.st_mode),
            found.st_blocks * _BLOCK,
            found.st_mtime_ns,
            found.st_dev,
            found.st_ino,
            found.st_nlink,
        )

    def open(self, name: bytes) -> "RealDirectory":
        return RealDirectory(os.open(_single(name), _DIRECTORY, dir_fd=self.fd))

    def read(self, name: bytes, limit: int = 1 << 20) -> bytes:
        ends = time.monotonic() + _LEASED_S
        while True:
            try:
                fd = os.open(_single(name), _LOOK, dir_fd=self.fd)
                break
            except BlockingIOError:
                # Somebody has a lease on it, as we have for a moment when we change a file that others write.
                if time.monotonic() >= ends:
                    raise
                time.sleep(_POLL_S)
        try:
            if not stat_bits.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "is no plain file", os.fsdecode(name))
            return os.pread(fd, limit, 0)
        finally:
            os.close(fd)

    def is_written(self, name: bytes) -> Optional[bool]:
        fd = os.open(_single(name), _LOOK, dir_fd=self.fd)
        try:
            if not stat_bits.S_ISREG(os.fstat(fd).st_mode):
                return None
            granted = leases.against_writers(fd)
            return None if granted is None else not granted
        finally:
            os.close(fd)

    def unlink(self, name: bytes) -> None:
        os.unlink(_single(name), dir_fd=self.fd)

    def close(self) -> None:
        os.close(self.fd)


def open_directory(path: str) -> RealDirectory:
    """Open a directory by its absolute path, following no link in it."""
    if not path.startswith("/"):
        raise OSError(errno.EINVAL, "not an absolute path", path)
    here = RealDirectory(os.open("/", _DIRECTORY))
    try:
        for name in [part for part in path.split("/") if part]:
            below = here.open(os.fsencode(name))
            here.close()
            here = below
    except OSError as error:
        here.close()
        # The system names the component alone, as it was asked for that.
        raise OSError(error.errno, error.strerror, path) from error
    return here


def _single(name: bytes) -> bytes:
    if not name or name in (b".", b"..") or b"/" in name or b"\0" in name:
        raise OSError(errno.EINVAL, "not a name in a directory", os.fsdecode(name))
    return name


def _mount_of(fd: int) -> int:
    info = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = _MOUNT.search(os.read(info, 4096))
    finally:
        os.close(info)
    if found is None:
        raise OSError(errno.ENOTSUP, "the kernel does not tell mounts apart")
    return int(found[1])


def _kind(mode: int) -> str:
    for test, kind in ((stat_bits.S_ISREG, "file"), (stat_bits.S_ISDIR, "dir"), (stat_bits.S_ISLNK, "link")):
        if test(mode):
            return kind
    return "other"
