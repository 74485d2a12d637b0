"""What a host is to become by an intent, in one value: two orders with the same one want the same.

Who gives the order, when, from which commit and from where the host comes is not in it. The controller makes the same
value from what is declared (`model.digest.target_digest`), and so knows a transition that already does what it wants.

Must not: look at a machine. Pure.
"""

from __future__ import annotations

import hashlib
from typing import Any, Dict

from .record import canonical

LATER = ("schedule", "spiral", "events")
"""What an order may say since a later recon, and the manifest takes over as it stands."""


def described(intent: Dict[str, Any]) -> Dict[str, Any]:
    """Return what the manifest of the generation says about its content."""
    # Left out where nothing is said: so records and sums of before stay what they are.
    later = {key: intent[key] for key in LATER if intent.get(key)}
    return {
        "live": intent["manifest_live"],
        "groups": intent["groups"],
        "residents": intent["residents"],
        "boot": sorted(intent["boot"]),
        "watchdog": intent.get("watchdog"),
        "files": {file["name"]: file["body_sha256"] for file in [*intent["quadlets"], *intent["natives"]]},
        **later,
    }


def target_of(intent: Dict[str, Any]) -> str:
    """Return the one value."""
    return hashlib.sha256(canonical(described(intent))).hexdigest()
