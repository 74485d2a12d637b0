"""What the schedule saw last and which zones this host cannot read, and which jobs others have registered here.

Must not: look in the schedule's place, or take a record that does not verify for nothing.
"""

from typing import Any, Dict, List

from . import fact, schedule_book
from . import registry as registered
from .machine import Machine
from .plain import clean
from .record import RecordError


def schedule(machine: Machine, generation: fact.Fact, zones: List[str]) -> fact.Fact:
    """Return `model.observed_schedule.ScheduleState`; not applicable on a host that has no windows and gets none."""
    committed = generation.get("value")
    body = committed["manifest"].get("value") if committed else None
    spec: Dict[str, Any] = (body or {}).get("schedule") or {}
    if not zones and not spec:
        return fact.not_applicable("no schedule is declared")
    from . import week  # most hosts have no windows

    look = schedule_book.look(machine)
    return fact.value(
        {
            "looked_s": round(max(0.0, machine.boottime() - look["at"]), 1) if look else None,
            "said": clean(str(look.get("said", "")), 2000),
            "unread": dict(sorted(week.unread(zones).items())),
        }
    )


def registry(machine: Machine) -> fact.Fact:
    """Return the jobs as `model.observed_schedule.Job`s."""
    try:
        found = registered.jobs(machine)
    except (OSError, RecordError, ValueError) as error:
        return fact.unknown(fact.why(error))
    return fact.value(found) if found else fact.not_applicable("nobody has registered a job")
