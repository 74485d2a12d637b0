"""What a host says about its outbox: which webhooks wait for what, and why.

Must not: judge it.
"""

from __future__ import annotations

from reconciler.model.base import Wire


class WebhookState(Wire):
    """One webhook: how many events wait, since when (Unix seconds), what went wrong last, and when the next try is.

    `off`: it said that it is gone, and nothing is sent until its declaration changes. `note`: what else is to be known
    about its record.
    """

    pending: int
    oldest_at: float | None
    failures: int
    error: str
    next_s: float
    off: bool
    note: str


class OutboxState(Wire):
    """All webhooks of a host, by name; all of it moves by itself."""

    webhooks: dict[str, WebhookState]
