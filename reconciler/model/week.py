"""What the schedule of a host says now and next, by the one rule that the host itself goes by (`agent.week`).

The only module outside the agent that imports that rule (decision 0026): two copies of it would differ one night.

Pure. Must not: have a rule of its own, or take the controller's clock for the host's.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from reconciler.agent.week import (
    DAYS,
    HORIZON_S,
    Change,
    ZoneError,
    chain,
    changes,
    days_of,
    instant,
    periods,
    settled,
    times,
    zone,
)
from reconciler.errors import DesiredStateError, Problem
from reconciler.model.desired import Host
from reconciler.model.intent_schedule import ScheduleSpec, SlotNow, WindowSpec
from reconciler.model.rendered import RenderedHost

__all__ = [
    "DAYS",
    "HORIZON_S",
    "SlotNow",
    "ZoneError",
    "as_of",
    "changes_of",
    "days_of",
    "first_of",
    "instant",
    "now_of",
    "periods",
    "said",
    "spec_of",
    "times",
    "windows_of",
    "zone",
]


def spec_of(host: Host) -> ScheduleSpec | None:
    """Return the schedule of a host, None when it has no windows."""
    if not host.schedule:
        return None
    windows = tuple(
        WindowSpec(
            slot=window.slot or host.slots[0].name,
            coven=window.coven,
            begins=window.start,
            ends=window.to,
            days=window.days,
            timezone=window.timezone,
            priority=window.priority,
            require=window.require,
            yields_s=window.yields,
        )
        for window in host.schedule
    )
    return ScheduleSpec(
        windows=windows,
        declared={slot.name: slot.coven for slot in host.slots},
        gpus={slot.name: ("all",) if slot.gpus == "all" else slot.gpus for slot in host.slots},
        memory=host.memory.kind,
        reserve=host.reserve,
        release_s=host.memory.release,
        drop_caches=host.memory.drop_caches,
        shared=tuple(sorted(shared.unit for shared in host.shared)),
    )


def windows_of(spec: ScheduleSpec) -> list[dict[str, Any]]:
    """Return the windows as the rule wants them."""
    return [window.model_dump() for window in spec.windows]


def as_of(rendered: RenderedHost, host: Host, live: dict[str, str | None], at: float) -> tuple[RenderedHost, Host]:
    """Return what belongs on a host, and the host, with the covens that are in force at an instant of its own clock.

    Args:
        rendered: what belongs on the host, with the declared covens live.
        host: the host as git has it.
        live: the covens of the committed generation; a window with a condition is in force once the host began it.
        at: Unix seconds.
    """
    spec = rendered.schedule
    if spec is None:
        return rendered, host
    now = {slot.slot: slot.coven for slot in now_of(spec, live, at, briefly=True)}
    covens = {**rendered.live, **now}
    targets = {group.target for group in rendered.groups.values()}
    wanted = [rendered.groups[coven].target for coven in covens.values() if coven in rendered.groups]
    boot = (*wanted, *(name for name in rendered.boot if name not in targets))
    slots = tuple(slot.model_copy(update={"coven": covens.get(slot.name, slot.coven)}) for slot in host.slots)
    return rendered.model_copy(update={"live": covens, "boot": boot}), host.model_copy(update={"slots": slots})


def now_of(spec: ScheduleSpec, live: dict[str, str | None], at: float, *, briefly: bool = False) -> tuple[SlotNow, ...]:
    """Return what the schedule says of every slot at an instant; `briefly` leaves out what comes next."""
    try:
        return tuple(_slot_now(spec, slot, live.get(slot), at, briefly=briefly) for slot in spec.declared)
    except ZoneError as error:
        raise DesiredStateError(Problem("REC2028", "bad schedule", str(error), "install the package tzdata")) from error


def _slot_now(spec: ScheduleSpec, slot: str, live: str | None, at: float, *, briefly: bool) -> SlotNow:
    windows = windows_of(spec)
    choices = chain(windows, spec.declared, slot, at)
    found = settled(choices, live)
    waits = choices[0].coven if choices[0] != found else None
    mine = [window.timezone for window in spec.windows if window.slot == slot]
    change = None if briefly else next(changes(windows, spec.declared, slot, at, at + HORIZON_S), None)
    return SlotNow(
        slot=slot,
        coven=found.coven,
        declared=spec.declared[slot],
        waits=waits,
        until=change.at if change else None,
        then=change.coven if change else None,
        timezone=mine[0] if mine else "UTC",
    )


def changes_of(spec: ScheduleSpec, slot: str, since: float, until: float) -> list[Change]:
    """Return from when on another coven is in force on a slot, between two instants."""
    return list(changes(windows_of(spec), spec.declared, slot, since, until))


def first_of(spec: ScheduleSpec, slot: str, at: float) -> str | None:
    """Return what is in force on a slot at an instant, as if every window with a condition had begun."""
    return chain(windows_of(spec), spec.declared, slot, at)[0].coven


def said(now: SlotNow) -> str:
    """Say it in a sentence: `slot all: embeddings is in force until Tue 04:00 (Europe/Berlin), then reasoning`."""
    what = f"slot {now.slot}: {now.coven or 'nothing'} is {'declared' if now.is_declared else 'in force'}"
    if now.waits is not None:
        what += f" while {now.waits} waits to begin,"
    if now.until is None:
        return f"{what}, and nothing changes within a week"
    return f"{what} until {when(now.until, now.timezone)}, then {now.then or 'nothing'}"


def when(at: float, timezone: str) -> str:
    """Say an instant as people of a zone read it off the wall."""
    return f"{datetime.fromtimestamp(at, zone(timezone)):%a %Y-%m-%d %H:%M} ({timezone})"
