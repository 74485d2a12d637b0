"""Clears the alerts of a host, and what its watchdog counted: it looks after everything again.

Must not: judge whether the cause is gone; a person says so.
"""

from __future__ import annotations

from reconciler.errors import HostError, LockedError
from reconciler.hosts.reply import read
from reconciler.hosts.transport import Connect
from reconciler.model.base import Wire
from reconciler.model.desired import Host

DEADLINE_S = 30.0
_BUSY = "REC7230"


class Cleared(Wire):
    """How many alerts there were."""

    cleared: int


def clear(host: Host, connect: Connect) -> int:
    """Clear the alerts of one host and return how many there were.

    Raises:
        HostError: the host could not be asked.
        LockedError: REC7230, the watchdog is in the middle of a look or a restart.
    """
    transport = connect(host)
    try:
        return read(Cleared, host.name, transport.ask("clear", {"host": host.name}, deadline_s=DEADLINE_S)).cleared
    except HostError as exc:
        if exc.problems[0].code == _BUSY:
            raise LockedError(*exc.problems) from exc
        raise
    finally:
        transport.close()
