"""Which unit keys a host's programs know: one table from key to the oldest version that has it.

Podman drops a whole unit for one unknown key in `[Container]`; systemd ignores an unknown key with a line in the
journal. So no gated key is written for a host that may be older than the key.

Must not: ask a host; `platform` in `desired/` says the oldest versions it may have.
"""

from __future__ import annotations

from reconciler.model.desired import Platform

Keys = tuple[tuple[str, str], ...]

PODMAN_SINCE: dict[str, tuple[int, int]] = {
    "Memory": (5, 5),
}
SYSTEMD_SINCE: dict[str, int] = {
    "RestartSteps": 254,
    "RestartMaxDelaySec": 254,
}
"""Keys that every platform the schema allows has (podman 5.3, systemd 254) need no line here, but these two say why
the schema's lower bound is where it is: without them a crash loop has one delay, and `backoff` falls back to that."""


def podman_has(platform: Platform, key: str) -> bool:
    """Say whether the oldest podman a host may have knows a `[Container]` key."""
    major, minor = (int(part) for part in platform.podman.split("."))
    return (major, minor) >= PODMAN_SINCE[key]


def systemd_has(platform: Platform, key: str) -> bool:
    """Say whether the oldest systemd a host may have knows a `[Service]` key."""
    return platform.systemd >= SYSTEMD_SINCE[key]


def backoff(platform: Platform, *, first_s: int, longest_s: int, steps: int) -> Keys:
    """Return the keys that make restarts slower each time, or one middling delay where systemd cannot do that."""
    if not (systemd_has(platform, "RestartSteps") and systemd_has(platform, "RestartMaxDelaySec")):
        return (("RestartSec", "60"),)
    return (
        ("RestartSec", str(first_s)),
        ("RestartSteps", str(steps)),
        ("RestartMaxDelaySec", str(longest_s)),
    )


def container_memory(platform: Platform, size: str) -> Keys:
    """Return the key that shows a memory cap to the container itself; older podman has only the service's cap."""
    return (("Memory", size),) if podman_has(platform, "Memory") else ()
