"""From the hooks of a coven to the calls a host is told to make.

Pure. Must not: know where in a transition a hook has its place; the agent does.
"""

from __future__ import annotations

from typing import get_args

from reconciler.model.desired import Hook, HookName, Hooks
from reconciler.model.intent import Call, HookCall


def hook_calls(hooks: Hooks) -> tuple[HookCall, ...]:
    """Return the hooks that are there, in the order in which a transition comes to them."""
    found: list[tuple[HookName, Hook | None]] = [(name, getattr(hooks, name)) for name in get_args(HookName)]
    return tuple(
        HookCall(
            event=name,
            argv=hook.argv,
            call=Call(method=hook.http.method, url=hook.http.url, body=hook.http.body) if hook.http else None,
            timeout_s=hook.timeout,
            on_timeout=hook.on_timeout,
        )
        for name, hook in found
        if hook is not None
    )
