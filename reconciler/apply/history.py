"""Asks a host for its history: what happened there, who did it, from which commit, and how long each step took.

Must not: believe more of a line than that it is one.
"""

from __future__ import annotations

from typing import Any

from reconciler.hosts.reply import read
from reconciler.hosts.transport import Connect
from reconciler.model.base import Wire
from reconciler.model.desired import Host

DEADLINE_S = 45.0


class History(Wire):
    """The last lines of a host's history, oldest first, and what is wrong with it."""

    lines: tuple[dict[str, Any], ...]
    problems: tuple[str, ...]


def ask_history(host: Host, connect: Connect, limit: int) -> History:
    """Return the last lines of a host. HostError when it could not be asked."""
    transport = connect(host)
    try:
        return read(History, host.name, transport.ask("history", {"limit": limit}, deadline_s=DEADLINE_S))
    finally:
        transport.close()
