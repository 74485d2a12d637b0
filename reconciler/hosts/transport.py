"""The seam to a host: one framed request, one framed reply, nothing else.

Everything above talks to hosts through `Transport`; `ssh.py` and `simulated.py` are behind it, tests put their own
there. Errors are `UnreachableError` (no answer, or lost on the way: what the host did is not known) and `HostError`
(an answer that is a refusal or not an answer).

Must not: know SSH, retry, or interpret a reply.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from reconciler.model.desired import Host


class Transport(Protocol):
    """A way to one host. Used by one thread at a time; `close` may come from any thread and ends a waiting `ask`."""

    def ask(self, verb: str, args: dict[str, Any], *, deadline_s: float) -> dict[str, Any]:
        """Send one request and return the agent's reply, within a deadline that covers connecting too."""
        ...

    def close(self) -> None:
        """Let go of the connection; the transport may be asked again and then connects anew."""
        ...


Connect = Callable[[Host], Transport]
