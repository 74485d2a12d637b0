"""Checks what is said about webhooks: an address that can be posted to, where the keys are, and events that exist.

Must not: know whether somebody listens there, or whether the host has the keys.
"""

from __future__ import annotations

import difflib
import re
from urllib.parse import urlsplit

from reconciler.load.codes import shown
from reconciler.load.report import Report
from reconciler.load.values import Finding
from reconciler.model.base import format_duration
from reconciler.model.events import Events, Webhook

Path = tuple[str | int, ...]

LONGEST_S = 30.0
SECRETS = "/etc/recon/secrets/"
TYPES = (
    "transition.started",
    "transition.completed",
    "transition.failed",
    "transition.rolled_back",
    "transition.held",
    "drift.found",
    "guardrail.broken",
    "lock.forced",
)
"""The types with a name of their own; every other kind of line in a host's history is `host.` and its kind."""

_AREAS = ("transition.*", "drift.*", "guardrail.*", "lock.*", "host.*")
_HOST = re.compile(r"host\.[a-z][a-z0-9_-]{0,40}")
_SECRET = re.compile(r"/etc/recon/secrets/[A-Za-z0-9][A-Za-z0-9._-]{0,60}")
_URL = re.compile(r"https?://[!-~]{1,1000}")


def check_events(events: Events | None, path: Path, report: Report) -> None:
    """Check the webhooks of a fleet or of one host."""
    for name, webhook in (events.webhooks if events else {}).items():
        _check(webhook, (*path, "webhooks", name), report)


def _check(webhook: Webhook, path: Path, report: Report) -> None:
    wrong = _wrong_url(webhook.url)
    if wrong:
        fix = "write https://, a host and a path, such as https://hooks.example.net/recon"
        report.at_value((*path, "url"), Finding("REC7320", wrong, fix))
    if not _SECRET.fullmatch(webhook.secret_file):
        detail = f"{shown(webhook.secret_file)} is not a file in {SECRETS}, which is root's alone on every host"
        report.at_value((*path, "secret_file"), Finding("REC7321", detail, f"write {SECRETS}NAME"))
    if webhook.timeout > LONGEST_S:
        detail = f"one delivery would keep the others waiting for {format_duration(webhook.timeout)}"
        fix = f"write at most {format_duration(LONGEST_S)}"
        report.at_value((*path, "timeout"), Finding("REC2012", detail, fix))
    if isinstance(webhook.events, str):
        return
    if not webhook.events:
        detail = "a webhook that wants no event is never called"
        report.at_key((*path, "events"), Finding("REC7322", detail, "write 'all', or remove the webhook"))
    for index, kind in enumerate(webhook.events):
        if kind not in TYPES and kind not in _AREAS and not _HOST.fullmatch(kind):
            near = difflib.get_close_matches(kind, (*TYPES, *_AREAS), n=1)
            fix = (
                f"did you mean {near[0]}?"
                if near
                else f"one of {', '.join(TYPES)}, host.KIND, or an area such as host.*"
            )
            report.at_value((*path, "events", index), Finding("REC7322", f"no event is called {shown(kind)}", fix))


def _wrong_url(url: str) -> str:
    if not _URL.fullmatch(url):
        return f"{shown(url)} is no http or https address in plain ASCII"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"{shown(url)} cannot be taken apart"
    if not parts.hostname or port == 0:
        return f"{shown(url)} names no host"
    if "@" in parts.netloc:
        return "a user or password in an address would stand in git; a receiver knows the sender by the signature"
    if parts.fragment or "#" in url:
        return "what follows a # is never sent"
    return ""
