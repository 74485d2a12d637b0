"""The jobs that other programs run on this host, as those programs registered them: when, how long, and whose.

Nothing here keeps anybody from anything; a plan reads it, and says when a transition would fall on a job. Whoever
registered a job may replace or remove it, nobody else. One for a single time that is over leaves the book with the next
registration.

Must not: start, stop or judge a job.
"""

from __future__ import annotations

import re
import time
from typing import Any, Dict, List

from . import deed, patience, places
from .machine import BusyError, Machine
from .plain import clean
from .record import RecordError, make_way, read_record, write_record
from .wire import RequestError

LIMIT = 200
_PATIENCE_S = 5.0
_NAME = re.compile(r"\A[a-z][a-z0-9-]{0,62}\Z")
_CLOCK = re.compile(r"\A([01]\d|2[0-3]):[0-5]\d\Z")
_OWNER_LIMIT = 120
_DAY_S = 86400.0
_BAD = ("REC7347", "the job cannot be registered so")
_FIX = "recon schedule register --help"


def handle(machine: Machine, args: Dict[str, Any]) -> Dict[str, Any]:
    """Do what is asked (`register` with a `job`, `remove` with `name` and `owner`) and return all jobs."""
    machine.mkdir(places.RUN)
    try:
        with patience.locked(machine, places.REGISTRY_LOCK, _PATIENCE_S):
            if args.get("do") == "register":
                found = _register(machine, args.get("job"))
                return _told(machine, args, found, "registered", args["job"]["name"], args["job"]["owner"])
            if args.get("do") == "remove":
                name, owner = str(args.get("name")), str(args.get("owner"))
                return _told(machine, args, _remove(machine, name, owner), "removed", name, owner)
    except BusyError as error:
        detail = "somebody else writes it for longer than a moment"
        raise RequestError("REC7348", "the registry of the host is being written", detail, "try again") from error
    except RecordError as error:
        detail = f"{error}; it is kept as it is"
        fix = f"on the host, look at it and move it away: mv {places.REGISTRY} /root/"
        raise RequestError("REC7348", "the registry of the host cannot be read", detail, fix) from error
    raise RequestError("REC5016", "the agent does not know this request", "registry without a deed", "update recon")


def _told(
    machine: Machine, args: Dict[str, Any], found: List[Dict[str, Any]], what: str, name: str, owner: str
) -> Dict[str, Any]:
    """Return the answer, with a line in the history of who did it."""
    deed.tell(machine, "job", host=str(args.get("host", "")), owner=owner, reason=f"{what} job {name}")
    return {"jobs": found}


def jobs(machine: Machine) -> List[Dict[str, Any]]:
    """Return all jobs in the order of their names; RecordError when the record does not verify."""
    try:
        return list(read_record(machine, places.REGISTRY)["jobs"])
    except FileNotFoundError:
        return []
    except (KeyError, TypeError) as error:
        raise RecordError(f"{places.REGISTRY}: it has no jobs") from error


def _register(machine: Machine, job: Any) -> List[Dict[str, Any]]:
    checked = _checked(job, machine.wall())
    _is_to_come(machine, checked)
    # Who registers one job a day for one time never comes to remove it.
    known = [each for each in jobs(machine) if not _is_over(machine, each)]
    earlier = next((each for each in known if each["name"] == checked["name"]), None)
    if earlier is not None and earlier["owner"] != checked["owner"]:
        raise _not_yours(earlier)
    left = [each for each in known if each["name"] != checked["name"]]
    if len(left) >= LIMIT:
        raise RequestError(*_BAD, f"the host has {LIMIT} jobs already", "recon schedule list")
    return _write(machine, [*left, {**checked, "registered": machine.wall()}])


def _is_over(machine: Machine, job: Dict[str, Any]) -> bool:
    """Say whether a job for one time has ended by this host's own clock."""
    return "at" in job and bool(job["at"] + job["lasts_s"] <= machine.wall())


def _is_to_come(machine: Machine, job: Dict[str, Any]) -> None:
    """Refuse a job that is over by this host's own clock, and one that would run into its next run."""
    if _is_over(machine, job):
        now = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(machine.wall()))
        detail = f"it is over: the host's clock says {now}"
        raise RequestError(*_BAD, detail, "name a time to come, or --every or --calendar")
    if "every_s" in job and job["lasts_s"] > job["every_s"]:
        detail = f"it lasts {job['lasts_s']:g} s and begins again every {job['every_s']:g} s"
        raise RequestError(*_BAD, detail, "make --lasts at most --every")


def _remove(machine: Machine, name: str, owner: str) -> List[Dict[str, Any]]:
    known = jobs(machine)
    found = next((each for each in known if each["name"] == name), None)
    if found is None:
        named = ", ".join(each["name"] for each in known) or "none"
        raise RequestError("REC7346", "no job of that name is registered", f"there are: {named}", "recon schedule list")
    if found["owner"] != owner:
        raise _not_yours(found)
    return _write(machine, [each for each in known if each["name"] != name])


def _write(machine: Machine, found: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    machine.mkdir(places.STATE)
    make_way(machine, places.REGISTRY)
    ordered = sorted(found, key=lambda each: str(each["name"]))
    write_record(machine, places.REGISTRY, {"jobs": ordered})
    return ordered


def _not_yours(job: Dict[str, Any]) -> RequestError:
    owner = clean(str(job["owner"]), _OWNER_LIMIT)
    detail = f"{clean(str(job['name']), 80)} is registered by {owner}, who alone may change or remove it"
    return RequestError("REC7345", "the job is somebody else's", detail, f"name another, or ask {owner}")


def _checked(job: Any, now: float) -> Dict[str, Any]:
    """Return a job that is one: a name, an owner, how long it runs, and exactly one of `at`, `every_s` and `clock`."""
    if not isinstance(job, dict) or not _NAME.match(str(job.get("name"))):
        raise RequestError(*_BAD, "its name is not of 1 to 63 lower-case letters, digits and dashes", _FIX)
    owner = clean(str(job.get("owner") or ""), _OWNER_LIMIT)
    if not owner:
        raise RequestError(*_BAD, "it has no owner", _FIX)
    lasts = _number(job, "lasts_s", 1.0, 7 * _DAY_S)
    kept: Dict[str, Any] = {"name": job["name"], "owner": owner, "lasts_s": lasts}
    forms = [key for key in ("at", "every_s", "clock") if job.get(key) is not None]
    if forms == ["at"]:
        return {**kept, "at": _number(job, "at", 0.0, 1e11)}
    if forms == ["every_s"]:
        every = _number(job, "every_s", 60.0, 366 * _DAY_S)
        since = now if job.get("since") is None else _number(job, "since", 0.0, 1e11)
        return {**kept, "every_s": every, "since": since}
    from . import week  # whoever only reads the jobs needs no rule

    if forms == ["clock"] and _CLOCK.match(str(job["clock"])):
        try:
            week.days_of(str(job.get("days")))
            week.zone(str(job.get("timezone")))
        except ValueError as error:
            raise RequestError(*_BAD, f"its days or its time zone: {clean(str(error), 200)}", _FIX) from error
        return {**kept, "clock": job["clock"], "days": job["days"], "timezone": job["timezone"]}
    raise RequestError(*_BAD, "it needs exactly one of a time, an interval and a time of the day", _FIX)


def _number(job: Dict[str, Any], key: str, least: float, most: float) -> float:
    value = job.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise RequestError(*_BAD, f"{key} is not a number of seconds between {least:g} and {most:g}", _FIX)
    return float(value)
