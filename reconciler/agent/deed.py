"""One line in the history of the host for what a person or a program of recon did here, beside transactions.

Must not: fail what was done already: a line that cannot be written is told to the log.
"""

from __future__ import annotations

from typing import Any

from . import history
from .machine import Machine
from .plain import clean
from .record import RecordError

OWNER = "recon"
"""Who did what nobody asked for: the host's own programs."""


def tell(machine: Machine, kind: str, *, host: str, owner: str, reason: str, **more: Any) -> None:
    """Write the line: `kind` says what was done, `owner` who did it, `reason` why."""
    line = {
        "kind": kind,
        "at": machine.wall(),
        "host": clean(host, 200),
        "owner": clean(owner, 200),
        "reason": clean(reason, 500),
        **more,
    }
    try:
        history.append(machine, line)
    except (OSError, RecordError) as error:
        machine.log_error(f"recon {kind}: {line['reason']}; not in the history: {clean(str(error))}")
