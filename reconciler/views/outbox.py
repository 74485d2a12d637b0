"""What waits in the outbox of a host, as lines of the status.

Must not: call a webhook well whose record cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model.base import count, format_duration
from reconciler.model.observed import HostState, Known, Unknown
from reconciler.views.escape import one_line
from reconciler.views.paint import Paint


def outbox_lines(name: str, state: HostState, paint: Paint, *, details: bool) -> Iterator[str]:
    """Yield a line for each webhook that has something to say, for all of them when details are asked for."""
    if isinstance(state.outbox, Unknown):
        yield f"{name}: {paint('outbox unknown', 'red')}: {one_line(state.outbox.unknown)}"
    if not isinstance(state.outbox, Known):
        return
    for webhook, seen in sorted(state.outbox.value.webhooks.items()):
        about = f"{name}: webhook {one_line(webhook)}"
        waiting = ""
        if seen.pending:
            age = format_duration(max(0, round(state.identity.wall_time - (seen.oldest_at or 0.0))))
            waiting = f", {count(seen.pending, 'event')} waiting, the oldest for {age}"
        if seen.note:
            yield f"{about}: {paint('note', 'yellow')}: {one_line(seen.note)}"
        if seen.off:
            yield f"{about}: {paint('off', 'red')}: {one_line(seen.error)}{waiting}"
        elif seen.error:
            later = f"; next try in {format_duration(round(seen.next_s))}" if seen.next_s else ""
            tries = count(seen.failures, "failure")
            yield f"{about}: {paint('failing', 'red')} ({tries}): {one_line(seen.error)}{waiting}{later}"
        elif details or seen.pending:
            yield f"{about}: ok{waiting}"
