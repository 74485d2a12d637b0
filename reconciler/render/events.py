"""The two units that send events, and what they go by.

A timer runs the installed agent for one delivery. The webhooks stand in the service's own file too, in a section that
systemd leaves alone: so they are reviewed in git, and a change of one is a change of a file like any other.

Must not: know a host's name, or a key.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.desired import Host
from reconciler.model.intent_events import EventsSpec, WebhookSpec
from reconciler.model.rendered import RenderedFile
from reconciler.render import encode
from reconciler.render.defaults import EVENTS_SERVICE, EVENTS_TIMER
from reconciler.render.units import native_file

SERVICE = "recon-events.service"
TIMER = "recon-events.timer"

EVERY_S = 30.0
LONGEST_S = 600


def spec_of(host: Host) -> EventsSpec | None:
    """Return who is told about a host, None when nobody is."""
    if host.events is None:
        return None
    return EventsSpec(
        webhooks={
            name: WebhookSpec(
                url=webhook.url,
                secret_file=webhook.secret_file,
                events=() if isinstance(webhook.events, str) else webhook.events,
                timeout_s=webhook.timeout,
            )
            for name, webhook in sorted(host.events.webhooks.items())
        }
    )


def events_files(spec: EventsSpec, templates: Mapping[str, str]) -> tuple[RenderedFile, ...]:
    """Render service and timer."""
    service = {
        "description": "recon: tell of what happened",
        "longest": encode.systemd_seconds(LONGEST_S),
        "settings": _settings(spec),
    }
    timer = {
        "description": "recon: when to tell of what happened",
        "every": encode.systemd_seconds(EVERY_S),
        "service": SERVICE,
    }
    start = "ExecStart=/usr/bin/python3 -I -S %S/recon/agent/current deliver"
    kept = {start, "Type=oneshot", *(f"{key}={value}" for key, value in service["settings"])}
    return (
        native_file(SERVICE, EVENTS_SERVICE, service, kept, templates),
        native_file(TIMER, EVENTS_TIMER, timer, {f"OnUnitInactiveSec={timer['every']}", f"Unit={SERVICE}"}, templates),
    )


def _settings(spec: EventsSpec) -> tuple[tuple[str, str], ...]:
    lines: list[tuple[str, str]] = []
    for name, webhook in sorted(spec.webhooks.items()):
        field = f"events.webhooks.{name}"
        lines += [
            (f"Url-{name}", encode.unit_value(webhook.url, field=f"{field}.url")),
            (f"SecretFile-{name}", encode.unit_value(webhook.secret_file, field=f"{field}.secret_file")),
            (f"Events-{name}", encode.unit_value(" ".join(webhook.events) or "all", field=f"{field}.events")),
            (f"Timeout-{name}", encode.systemd_seconds(webhook.timeout_s)),
        ]
    return tuple(lines)
