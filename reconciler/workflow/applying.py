"""A plan handed to its hosts, and followed.

Must not: plan again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from reconciler.model.desired import Host
from reconciler.model.plan import Plan
from reconciler.workflow.repository import Repository, reached

if TYPE_CHECKING:
    from reconciler.apply.events import HostEvent
    from reconciler.model.outcome import Outcome


def run_plan(
    repository: Repository,
    plan: Plan,
    *,
    owner: str,
    on_event: Callable[[HostEvent], None],
    stop: threading.Event,
    detach: threading.Event,
    tokens: tuple[str, ...] = (),
) -> tuple[Outcome, ...]:
    """Hand every host its order and follow it to its end: all of `recon apply` after the question."""
    from reconciler.apply.run import Options, apply_plan

    with reached(repository) as connect:
        return apply_plan(
            plan,
            repository.fleet,
            connect,
            owner=owner,
            on_event=on_event,
            stop=stop,
            detach=detach,
            options=Options(tokens=tokens),
        )


def follow_host(
    repository: Repository, host: Host, txid: str, *, on_event: Callable[[HostEvent], None], detach: threading.Event
) -> Outcome:
    """Follow a transaction on one host from its first line to its end."""
    from reconciler.apply.follow import attach

    with reached(repository) as connect:
        return attach(host, txid, connect, on_event=on_event, detach=detach)
