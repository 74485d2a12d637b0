"""What the host does about its spiral by itself: the tick, once a minute, and the reaper, as often as git says.

    recon-spiral.timer, .service    rate caps, back-off, convergence, guardrails (`agent tend`)
    recon-reaper.timer, .service    retention (`agent reap`)

Only where the spiral is enabled: one that is switched off has nobody who acts for it.

Must not: know a host's name; hosts of one kind share these files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from reconciler.model.intent_spiral import SpiralSpec
from reconciler.model.rendered import RenderedFile
from reconciler.render import encode
from reconciler.render.defaults import SPIRAL_TIMED_SERVICE, SPIRAL_TIMED_TIMER
from reconciler.render.units import native_file

TICK_SERVICE, TICK_TIMER = "recon-spiral.service", "recon-spiral.timer"
REAPER_SERVICE, REAPER_TIMER = "recon-reaper.service", "recon-reaper.timer"
TICK_S = 60.0


def timers_of(spec: SpiralSpec) -> tuple[str, ...]:
    """Return the timers that boot with a spiral."""
    if not spec.enabled:
        return ()
    return (TICK_TIMER, *((REAPER_TIMER,) if spec.reaper else ()))


def timer_files(spec: SpiralSpec, templates: Mapping[str, str]) -> tuple[RenderedFile, ...]:
    """Render the timers of a spiral and their services; none where it is not enabled."""
    if not spec.enabled:
        return ()
    files = _pair(_TICK, TICK_S, templates)
    return files if spec.reaper is None else files + _pair(_REAPER, spec.reaper.every_s, templates)


class _Timed(NamedTuple):
    """What is done by timer."""

    verb: str
    service: str
    timer: str
    description: str
    longest_s: float
    keys: tuple[tuple[str, str], ...] = ()


_TICK = _Timed("tend", TICK_SERVICE, TICK_TIMER, "recon: tend the spiral", 300.0)
_REAPER = _Timed(
    "reap",
    REAPER_SERVICE,
    REAPER_TIMER,
    "recon: delete what is over the budget of the spiral",
    3600.0,
    (("MemoryMax", "512M"), ("Nice", "10")),
)


def _pair(what: _Timed, every_s: float, templates: Mapping[str, str]) -> tuple[RenderedFile, ...]:
    verb, service, timer, description, longest_s, keys = what
    longest, every = encode.systemd_seconds(longest_s), encode.systemd_seconds(every_s)
    of_service = {"description": description, "verb": verb, "longest": longest, "service_keys": keys}
    kept = {
        f"ExecStart=/usr/bin/python3 -I -S %S/recon/agent/current {verb}",
        "Type=oneshot",
        f"TimeoutStartSec={longest}",
        *(f"{key}={value}" for key, value in keys),
    }
    of_timer = {"description": f"{description}, when", "every": every, "service": service}
    return (
        native_file(service, SPIRAL_TIMED_SERVICE, of_service, kept, templates),
        native_file(timer, SPIRAL_TIMED_TIMER, of_timer, {f"OnUnitInactiveSec={every}", f"Unit={service}"}, templates),
    )
