"""Changes a file that other programs write too, and loses nothing of theirs.

There is no lock that all of them would take. What there is: the kernel swaps two names in one step, so what was there
is in our hands afterwards and can be looked at, and gives leases, for which everybody else who opens the file waits.

    read, work out the new bytes, write them to a new file beside it, synced, with a lease against everybody
    lease the old file against writers: refused when one has it open; is it still there, with the bytes that were read?
    swap the two names; then look at what came out
      the old file, and nobody waits to write it       done: nothing happened in between
      the old file, and somebody waits to write it     swap back, so that it writes where everybody reads; begin anew
      another file: somebody replaced it in between    its bytes with our change go into the new file, which nobody has
                                                       opened yet: they wait for its lease

So a reader never sees half a file, or one without what others wrote; whoever writes without having read what is there
undoes our change at most, and then it is made again. Without leases (a network file system) what is left is the look at
what came out, and a reader may see the moment before it was put right.

Against somebody who writes without a pause the first tries fail, for they take as long as the disk. Then the lease is
taken before the file is read, and the new file is synced only after the swap: a power cut in those milliseconds may
leave it empty.

Must not: know what is in the file.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import random
import stat as stat_bits
import time
from typing import Callable, Iterator, NamedTuple, Optional

from . import leases
from .descent import open_directory
from .machine import BusyError

LIMIT = 1 << 20
PATIENCE_S = 10.0
_SETTLE_S = 0.02
_PAUSE_S = 0.001
_CAREFUL_TRIES = 4
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_EXCHANGE = 2

Change = Callable[[bytes], Optional[bytes]]
Between = Callable[[str], None]


class _AgainError(Exception):
    """Somebody was faster: nothing is lost and nothing is done."""


class _Place(NamedTuple):
    """A name in an open directory. `between` is told where we are, for a test that wants to be there too."""

    directory: int
    name: bytes
    between: Between


def rewrite(path: str, change: Change, between: Between = lambda _where: None) -> bool:
    """See `machine.Machine.rewrite`."""
    directory, name = os.path.split(path)
    held = open_directory(directory)
    try:
        place = _Place(held.fd, os.fsencode(name), between)
        ends, tries = time.monotonic() + PATIENCE_S, 0
        while True:
            try:
                return _once(place, change, insists=tries >= _CAREFUL_TRIES)
            except (_AgainError, BlockingIOError) as error:
                if time.monotonic() >= ends:
                    raise BusyError(path) from error
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from error
            tries += 1
            time.sleep(_PAUSE_S * random.uniform(0.2, 2.0))  # noqa: S311 - spreads tries, guards nothing
    finally:
        held.close()


def _once(place: _Place, change: Change, *, insists: bool) -> bool:
    with _opened(place, place.name) as old:
        _proper(old)
        data = _read(old)
        if _changed(old, data, change) in (None, data):
            return False
    with _new_file(place) as (new, beside), _opened(place, place.name) as old:
        return _swap_in(place, old, new, beside, change, insists=insists)


@contextlib.contextmanager
def _opened(place: _Place, name: bytes) -> Iterator[int]:
    fd = os.open(name, _READ, dir_fd=place.directory)
    try:
        yield fd
    finally:
        os.close(fd)


def _proper(fd: int) -> os.stat_result:
    found = os.fstat(fd)
    if not stat_bits.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if found.st_nlink > 1:
        raise OSError(errno.EMLINK, "it has another name, which would keep the old bytes")
    if found.st_size > LIMIT:
        raise OSError(errno.EFBIG, "larger than a control file may be")
    if found.st_nlink == 0:
        raise _AgainError
    return found


def _changed(fd: int, data: bytes, change: Change) -> Optional[bytes]:
    try:
        return change(data)
    except ValueError:
        # Half a file, as one that is written in place is for a moment, is no fault of anybody's.
        if leases.against_writers(fd) is False or _read(fd) != data:
            raise _AgainError from None
        raise


@contextlib.contextmanager
def _new_file(place: _Place) -> "Iterator[tuple[int, bytes]]":
    """Make an empty file beside the other; what has its name at the end, the one or the other, is taken away."""
    beside = b".%b.recon-%b" % (place.name, os.urandom(6).hex().encode())
    fd = os.open(beside, _NEW, 0o600, dir_fd=place.directory)
    try:
        yield fd, beside
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=place.directory)
        os.close(fd)


def _make_like(fd: int, old: int, like: os.stat_result) -> None:
    """Give a file the owner, mode and attributes of another."""
    now = os.fstat(fd)
    if (now.st_uid, now.st_gid) != (like.st_uid, like.st_gid):
        os.fchown(fd, like.st_uid, like.st_gid)
    os.fchmod(fd, stat_bits.S_IMODE(like.st_mode))
    try:
        for name in os.listxattr(old):
            with contextlib.suppress(OSError):  # one that only the kernel may set is set by it
                os.setxattr(fd, name, os.getxattr(old, name))
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise


def _swap_in(place: _Place, old: int, new: int, beside: bytes, change: Change, *, insists: bool) -> bool:
    leased = _lease(old) if insists else None
    like, data = _proper(old), _read(old)
    wanted = _changed(old, data, change)
    if wanted is None or wanted == data:
        return False
    _fill(new, wanted)
    _make_like(new, old, like)
    if not insists:
        os.fsync(new)
        place.between("before the lease")
        leased = _lease(old)
    leases.against_all(new)
    place.between("leased")
    if not _is(place, place.name, old) or _is_touched(old, data, leased):
        raise _AgainError
    place.between("before the swap")
    _exchange(place.directory, beside, place.name)
    place.between("after the swap")
    try:
        if _is(place, beside, old):
            _settle(old, data, leased)
        else:
            _take_over(place, new, beside, change)
    except (OSError, ValueError, _AgainError):
        _swap_back(place, new, beside)
        raise
    if not _is(place, place.name, new):
        raise _AgainError
    leases.give_back(new)
    os.fsync(new)
    os.fsync(place.directory)
    return True


def _lease(fd: int) -> Optional[bool]:
    leased = leases.against_writers(fd)
    if leased is False:
        raise _AgainError
    return leased


def _take_over(place: _Place, new: int, beside: bytes, change: Change) -> None:
    """Put into the new file what came out, which somebody had just put there, and our change."""
    # What is no file that can be opened is somebody's all the same: it goes back.
    with _opened(place, beside) as other:
        like = _proper(other)
        leased = _lease(other)
        theirs = _read(other)
        wanted = change(theirs)
        _fill(new, theirs if wanted is None else wanted)
        _make_like(new, other, like)
        _settle(other, theirs, leased)


def _settle(fd: int, data: bytes, leased: Optional[bool]) -> None:
    """Give who had found a file by its name, and not opened it yet, the time to come to our lease."""
    time.sleep(_SETTLE_S)
    if _is_touched(fd, data, leased):
        raise _AgainError


def _fill(new: int, data: bytes) -> None:
    """Give the new file other bytes; everybody who wants to open it waits meanwhile."""
    os.pwrite(new, data, 0)
    os.ftruncate(new, len(data))


def _is_touched(fd: int, data: bytes, leased: Optional[bool]) -> bool:
    """Say whether somebody waits to write a file that we have leased, or has written it where there are no leases."""
    return bool(leased and leases.is_awaited(fd)) or _read(fd) != data


def _swap_back(place: _Place, new: int, beside: bytes) -> None:
    """Give the name back to the file that had it; when somebody replaced ours meanwhile, theirs keeps it."""
    _exchange(place.directory, beside, place.name)
    if not _is(place, beside, new):
        _exchange(place.directory, beside, place.name)


def _is(place: _Place, name: bytes, fd: int) -> bool:
    try:
        found = os.stat(name, dir_fd=place.directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    ours = os.fstat(fd)
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)


def _read(fd: int) -> bytes:
    return os.pread(fd, LIMIT + 1, 0)


def _exchange(directory: int, one: bytes, other: bytes) -> None:
    """Swap two names in one step; both must be there."""
    library = ctypes.CDLL(None, use_errno=True)
    call = getattr(library, "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, "this system cannot swap two names")
    if call(directory, one, directory, other, ctypes.c_uint(_EXCHANGE)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
