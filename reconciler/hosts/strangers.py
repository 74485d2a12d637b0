"""Ask a host what runs on its GPUs that is not recon's.

Must not: change a host, or judge what it says.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from reconciler.errors import HostError, Problem
from reconciler.hosts.transport import Transport
from reconciler.model.strangers import Strangers

DEADLINE_S = 60.0


def ask_strangers(host: str, transport: Transport, names: Iterable[str]) -> Strangers:
    """Return what the host says; HostError when it cannot be asked."""
    try:
        return Strangers.model_validate(transport.ask("strangers", {"names": list(names)}, deadline_s=DEADLINE_S))
    except ValidationError as exc:
        detail = f"{host} sent strangers recon does not understand: {str(exc)[:200]!a}"
        raise HostError(Problem("REC5005", "the host's reply is not valid", detail, "update recon")) from exc
    finally:
        transport.close()
