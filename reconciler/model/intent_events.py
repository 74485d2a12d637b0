"""The webhooks of a host as they go to the host and stand in the manifest of each generation.

Must not: hold a key; `secret_file` says where the host has them.
"""

from __future__ import annotations

from reconciler.model.base import Wire


class WebhookSpec(Wire):
    """One receiver: `events` are the types it wants, none of them means all."""

    url: str
    secret_file: str
    events: tuple[str, ...]
    timeout_s: float


class EventsSpec(Wire):
    """All receivers, by name."""

    webhooks: dict[str, WebhookSpec]
