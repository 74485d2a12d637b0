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

from reconciler.model.plan import HostPlan, Plan
from reconciler.model.rendered import RenderedHost

_NOT_INTENT = {"estimated_s", "cuts_off", "budget"}


def canonical(value: Any) -> bytes:
    """Return the one way to write a JSON value down: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def plan_digest(plan: Plan) -> str:
    """Return `sha256:<hex>` over everything `apply` would do; `plan.plan_digest` itself is not looked at.

    Orders are taken as pydantic writes them: fields in the order of their class, which a plan that was saved and read
    again keeps.
    """
    total = hashlib.sha256(canonical(plan.fleet))
    for host in sorted(plan.hosts, key=lambda host: host.host):
        total.update(canonical([host.host, *_changes(host)]))
        for transition in host.transitions:
            total.update(transition.model_dump_json(exclude=_NOT_INTENT).encode())
        total.update(host.order.model_dump_json().encode() if host.order else b"-")
    for name in sorted(plan.blobs):
        total.update(canonical([name, sha256_hex(plan.blobs[name].encode())]))
    return "sha256:" + total.hexdigest()


def target_digest(rendered: RenderedHost) -> str:
    """Return what a host is to become, in one value: the agent makes the same one from the order it carries out.

    So a transition that already does what is wanted can be told from one that does something else.
    """
    described: dict[str, Any] = {
        "live": rendered.live,
        "groups": [rendered.groups[name].model_dump(mode="json") for name in sorted(rendered.groups)],
        "residents": [member.model_dump(mode="json") for member in rendered.residents],
        "boot": sorted(rendered.boot),
        "watchdog": rendered.watchdog.model_dump(mode="json") if rendered.watchdog else None,
        "files": {file.name: file.body_sha256 for file in rendered.files},
        **({"events": rendered.events.model_dump(mode="json")} if rendered.events else {}),
    }
    if rendered.schedule is not None:
        described["schedule"] = rendered.schedule.model_dump(mode="json")
    if rendered.spiral is not None:
        described["spiral"] = rendered.spiral.model_dump(mode="json")
    return sha256_hex(canonical(described))


def _changes(host: HostPlan) -> list[list[str]]:
    # Who else is on a GPU is a fact of the host, not an intent.
    return [[change.address, *change.actions] for change in host.changes if change.actions != ("report",)]
