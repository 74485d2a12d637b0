"""Leases of the kernel on open files: whoever opens the file meanwhile waits until the lease is given back.

They cost the others microseconds, need no cooperation of theirs, and go with the process that has them. Network file
systems have none, and then nobody can tell.

Must not: be held while anything slow is done.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import signal
from typing import Optional

_CANNOT = (errno.EINVAL, errno.EACCES, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK)


def against_writers(fd: int) -> Optional[bool]:
    """Take a lease that who opens the file for writing waits for; False when somebody has it open so, None: no leases.

    `fd` must be open for reading only.
    """
    return _take(fd, fcntl.F_RDLCK)


def against_all(fd: int) -> Optional[bool]:
    """Take a lease that everybody who opens the file waits for; False when somebody has it open, None: no leases."""
    return _take(fd, fcntl.F_WRLCK)


def is_awaited(fd: int) -> bool:
    """Say whether somebody who wants to write waits for the lease that we have on a file."""
    return fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_UNLCK


def give_back(fd: int) -> None:
    """End a lease, if there is one; closing the file does too."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def _take(fd: int, kind: int) -> Optional[bool]:
    try:
        # Somebody who waits is told to us by a signal, and the one that is usual would end this process.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, kind)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return False
        if error.errno in _CANNOT:
            return None
        raise
    return True
