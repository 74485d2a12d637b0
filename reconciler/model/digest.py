"""The digest of a plan: what was reviewed, in one value that a second look must reproduce.

It covers what will be done and the bytes that will be written: per host the transitions, the changes and the whole
order, and every blob. Times, ids, fingerprints, warnings, estimates and the memory figures of a host stay out, so the
same intent planned twice has the same digest.

Must not: read a clock or a file, or know how a plan is made.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from reconciler.model.plan import HostPlan, Plan, Transition

_NOT_INTENT = {"estimated_s", "cuts_off", "budget"}


def canonical(value: Any) -> bytes:
    """Return the one way to write a JSON value down: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def plan_digest(plan: Plan) -> str:
    """Return `sha256:<hex>` over everything `apply` would do; `plan.plan_digest` itself is not looked at."""
    hosts = {host.host: _host(host) for host in plan.hosts}
    blobs = {name: sha256_hex(body.encode()) for name, body in plan.blobs.items()}
    return "sha256:" + sha256_hex(canonical({"fleet": plan.fleet, "hosts": hosts, "blobs": blobs}))


def _host(host: HostPlan) -> dict[str, Any]:
    return {
        "transitions": [_transition(transition) for transition in host.transitions],
        "changes": [{"address": change.address, "actions": change.actions} for change in host.changes],
        "order": host.order.model_dump(mode="json") if host.order else None,
    }


def _transition(transition: Transition) -> dict[str, Any]:
    return transition.model_dump(mode="json", exclude=_NOT_INTENT)
