"""Registers and removes the jobs of other programs on a host, as people write their times.

Must not: decide whose a job is; the host knows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic_core import PydanticCustomError

from reconciler.errors import HostError, Problem, RefusedError
from reconciler.hosts.reply import read
from reconciler.hosts.transport import Connect
from reconciler.model.base import Wire, parse_duration
from reconciler.model.desired import Host
from reconciler.model.observed_schedule import Job
from reconciler.model.week import ZoneError, zone
from reconciler.model.window import CLOCK_TIME, WEEKDAYS

DEADLINE_S = 30.0
_REFUSED = {"REC7345", "REC7346", "REC7347"}
_FIX = "recon schedule register --help"


class Registered(Wire):
    """All jobs of the host."""

    jobs: tuple[Job, ...]


def job_of(name: str, owner: str, times: Mapping[str, str | None]) -> dict[str, Any]:
    """Return a job as the host wants it; an interval without a beginning counts from the host's own now.

    Args:
        name: of the job.
        owner: whose it is.
        times: `lasts`, `timezone` and of `at`, `every` and `calendar` what was said.

    Raises:
        RefusedError: REC7347, a time, a duration or a zone is none.
    """
    try:
        zone_name = "UTC" if times["timezone"] is None else times["timezone"]
        where = zone(zone_name)
        job: dict[str, Any] = {"name": name, "owner": owner, "lasts_s": parse_duration(times["lasts"])}
        at = times.get("at")
        begin = None if at is None else _moment(at)
        if begin is not None and begin.tzinfo is None:
            begin = begin.replace(tzinfo=where)
        if times.get("every") is not None:
            return {**job, "every_s": parse_duration(times["every"]), "since": begin.timestamp() if begin else None}
        if times.get("calendar") is not None:
            days, _, clock = (times["calendar"] or "").rpartition(" ")
            if not re.fullmatch(WEEKDAYS, days or "Mon..Sun"):
                raise ValueError(f"'{days}' is no set of days; write Mon..Fri or Mon,Wed")
            if not re.fullmatch(CLOCK_TIME, clock):
                raise ValueError(f"'{clock}' is no time of the day; write 02:30")
            return {**job, "clock": clock, "days": days or "Mon..Sun", "timezone": zone_name}
        return {**job, "at": begin.timestamp() if begin else None}
    except (ValueError, ZoneError, PydanticCustomError) as error:
        raise RefusedError(Problem("REC7347", "the job cannot be registered so", str(error), _FIX)) from error


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"'{text}' is no date and time; write 2026-02-01T02:00") from error


def ask_registry(host: Host, connect: Connect, request: Mapping[str, Any]) -> tuple[Job, ...]:
    """Register or remove a job and return all jobs of the host.

    Raises:
        RefusedError: REC7345, it is somebody else's; REC7346, there is none; REC7347, it is no job.
        HostError: the host could not be asked, or its registry cannot be read.
    """
    transport = connect(host)
    try:
        return read(Registered, host.name, transport.ask("registry", dict(request), deadline_s=DEADLINE_S)).jobs
    except HostError as exc:
        if exc.problems[0].code in _REFUSED:
            raise RefusedError(*exc.problems) from exc
        raise
    finally:
        transport.close()
