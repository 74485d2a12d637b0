"""Ask a host what runs on its GPUs that is not recon's.

Must not: change a host, or judge what it says.
"""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.hosts.reply import read
from reconciler.hosts.transport import Transport
from reconciler.model.strangers import Strangers

DEADLINE_S = 60.0


def ask_strangers(host: str, transport: Transport, names: Iterable[str]) -> Strangers:
    """Return what the host says; HostError when it cannot be asked."""
    try:
        return read(Strangers, host, transport.ask("strangers", {"names": list(names)}, deadline_s=DEADLINE_S))
    finally:
        transport.close()
