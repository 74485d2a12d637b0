"""Who is told of what happens on hosts: the `events:` of fleet.yaml, and of one host.

Must not: know how an event is sent, or hold a key: keys are on the hosts alone.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reconciler.model.base import Duration, Frozen, Name


class Webhook(Frozen):
    """One receiver of signed webhooks (Standard Webhooks 1.0)."""

    url: str = Field(description="Where the events are posted to: `https://…` or `http://…`.")
    secret_file: str = Field(
        description="File on the host below /etc/recon/secrets, root's alone, with a `whsec_…` key in each line."
    )
    events: Literal["all"] | tuple[str, ...] = Field(
        default="all", description="`all`, or types such as `transition.failed`, `transition.*` or `host.*`."
    )
    timeout: Duration = Field(default=10.0, description="How long one delivery may take; at most 30s.")


class Events(Frozen):
    """Webhooks by name. A host's own are added to the fleet's; one of the same name takes its place."""

    enabled: bool = Field(default=True, description="`false`: nobody is told anything.")
    webhooks: dict[Name, Webhook] = Field(default_factory=dict)


def effective_events(own: Events | None, default: Events) -> Events | None:
    """Return who is told about one host, None when nobody is."""
    webhooks = {**default.webhooks, **(own.webhooks if own else {})}
    # The host's word counts where it says one; else the fleet's.
    said = own if own is not None and "enabled" in own.model_fields_set else default
    return Events(webhooks=webhooks) if said.enabled and webhooks else None
