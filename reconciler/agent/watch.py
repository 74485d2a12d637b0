"""One look of the watchdog: is what was committed alive, and if not for long enough, one deed.

    left alone? ─▶ look at every member ─▶ count ─▶ bad often enough? ─▶ restart it ─▶ … three times ─▶ reset its coven
    held, in transition: nothing, and counting begins anew                         then an alert, and it holds off
    cut off by a reboot: the transaction is brought to its end; all its executors died: one is started again

It looks without the host's lock and acts with it, after looking once more: so it and an executor exclude each other,
and an apply is never refused because somebody only looked. What is unknown is never a reason to act.

Must not: act on what is held, locked, in transition or interrupted, or on a unit that the committed generation does not
name. Shared services are not even looked at here.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from . import alerts, drift, history, locks, places, systemd, watch_alerts, watch_deeds, watch_judge, watch_memory
from .lease import LeaseError
from .machine import BusyError, Machine
from .plain import clean
from .record import RecordError
from .txn import HaltError, units_of
from .watch_book import Book, open_book, recent_looks, save_looks
from .watch_boot import end_interrupted
from .watch_dead import follow
from .watch_deeds import Charge
from .watch_site import ApartError, Site, locked_slots, site_of, stay_away, without_what_is_down

_ASK_SILENT_EVERY = 20


class _Deed(NamedTuple):
    """What is to be done: to one member, or (None) to all of the charge."""

    charge: Charge
    member: Optional[Dict[str, Any]]
    why: str


def watch(machine: Machine) -> Dict[str, Any]:
    """Look once, do at most one thing, and return what it came to."""
    locks.settle(machine)
    try:
        with alerts.alone(machine, 0.0):
            return _watch(machine)
    except BusyError:
        # Somebody clears what was counted, or looks already: this look would write back what is being forgotten.
        return {"said": "left alone: somebody else writes its records"}


def _watch(machine: Machine) -> Dict[str, Any]:
    try:
        site = site_of(machine)
        ended = end_interrupted(machine, site) or follow(machine, site)
        if ended:
            save_looks(machine, ended, {})
            return {"said": ended}
        stay_away(machine, asks_covens=False)
        locked = locked_slots(machine)
        # As above for a slot: what was counted there is forgotten, and nothing of it is looked at.
        charges = [charge for charge in site.charges if charge.slot not in locked]
        site = site._replace(charges=without_what_is_down(machine, charges))
    except (ApartError, systemd.SystemdError) as error:
        # What was counted before somebody took the host says nothing about it afterwards.
        said = f"left alone: {error}"
        save_looks(machine, said, {})
        return {"said": said}
    book = open_book(machine, site.generation, site.boot_id)
    looks = {**recent_looks(machine, site.generation, site.boot_id)}
    looks.update(generation=site.generation, boot_id=site.boot_id)
    shown = _show(machine, site)
    if shown is None:
        said = "left alone: systemd does not answer"
    else:
        _count(machine, site, shown, looks, book)
        said = _tend(machine, site, shown, looks, book)
    drift.look(machine, site)
    # A unit that is no longer looked after is forgotten with the generation it was of.
    save_looks(machine, said, looks)
    return {"said": said}


def _show(machine: Machine, site: Site) -> Optional[Dict[str, systemd.UnitState]]:
    names = [name for charge in site.charges for name in (charge.gate, *units_of(charge.members)) if name]
    try:
        return systemd.show_units(machine, names) if names else {}
    except systemd.SystemdError:
        return None


def _count(
    machine: Machine, site: Site, shown: Dict[str, systemd.UnitState], looks: Dict[str, Any], book: Book
) -> None:
    now, window = machine.boottime(), site.spec["window_s"]
    before, after = looks["units"], {}
    for charge in site.charges:
        for member in charge.members:
            unit = member["unit"]
            past = watch_judge.entry(shown.get(unit), before.get(unit), now)
            verdict = watch_judge.judge(machine, member, shown.get(unit), past, window)
            watch_judge.remember(past, verdict, now)
            pending = unit in book.pending
            past["stopped"] = past.get("stopped", 0) + 1 if verdict.word == "stopped" and not pending else 0
            past["asleep"] = past.get("asleep", 0) + 1 if verdict.word == "asleep" else 0
            past["within"] = False
            if pending and unit in shown and shown[unit].active in ("active", "activating"):
                book.pending.remove(unit)
                book.save()
            after[unit] = past
            if unit in book.attempts and now - past.get("good_since", now) >= window:
                del book.attempts[unit]
                book.save()
    looks["units"] = after
    _count_memory(machine, site, looks)
    watch_alerts.tell(machine, site, looks, book)


def _count_memory(machine: Machine, site: Site, looks: Dict[str, Any]) -> None:
    """Count who is over its quota. A driver that does not answer is asked seldom: each question may leave a child."""
    silent, looks["enough"] = looks["silent"], False
    if silent and silent % _ASK_SILENT_EVERY:
        looks["silent"] = silent + 1
        return
    seen = watch_memory.look(machine, site.spec["memory"])
    looks["silent"] = silent + 1 if seen.problem else 0
    if seen.problem:
        return
    low = watch_memory.is_low(machine, site.spec, seen)
    looks["low"], looks["enough"] = looks.get("low", 0) + 1 if low else 0, low is False
    for charge in site.charges:
        gpus = watch_memory.gpus_of(seen, charge.gpus)
        for member in charge.members if gpus else ():
            past = looks["units"][member["unit"]]
            over = watch_memory.excess(gpus or [], member)
            past["excess"], past["within"] = over or 0, over == 0
            past["over"] = past.get("over", 0) + 1 if over else 0


def _tend(machine: Machine, site: Site, shown: Dict[str, systemd.UnitState], looks: Dict[str, Any], book: Book) -> str:
    said: List[str] = []
    for deed in _due(site, shown, looks, book):
        try:
            with machine.lock(places.LOCK):
                stay_away(machine, asks_covens=False)
                without_what_is_down(machine, [deed.charge])
                if deed.charge.slot in locked_slots(machine):
                    return f"left alone: slot {deed.charge.slot} is locked"
                said.append(_do(machine, site, looks, book, deed))
                break
        except watch_deeds.NotBegunError as error:
            # What keeps one from being started need not keep the next.
            said.append(str(error))
        except BusyError:
            return "left alone: somebody has the host's lock"
        except (ApartError, LeaseError, systemd.SystemdError) as error:
            return f"left alone: {error}"
    return "; ".join(said) or _summary(looks, book)


def _due(site: Site, shown: Dict[str, systemd.UnitState], looks: Dict[str, Any], book: Book) -> Iterator[_Deed]:
    """Yield what is due, one deed for a charge: first to start what was left stopped, then the first that is bad."""
    for charge in site.charges:
        if charge.gate and (charge.gate not in shown or shown[charge.gate].active != "active"):
            continue
        left = [unit for unit in units_of(charge.members) if unit in book.pending]
        if any(looks["units"][unit]["word"] in ("stopped", "bad") for unit in left):
            yield _Deed(charge, None, "")
            continue
        if book.holds_off(charge.name):
            continue
        for member in charge.members:
            why = _why(site.spec, looks, looks["units"][member["unit"]])
            if why:
                spent = book.attempts.get(member["unit"], 0) >= site.spec["attempts"]
                yield _Deed(charge, None if spent else member, f"{member['unit']} {why}")
                break


def _why(spec: Dict[str, Any], looks: Dict[str, Any], past: Dict[str, Any]) -> str:
    if watch_judge.is_due(past, spec["looks"]):
        return str(past["why"])
    if spec["over_memory"] == "restart" and past.get("over", 0) >= spec["looks"]:
        low = " on a host whose memory runs out" if looks.get("low") else ""
        return f"holds {past['excess'] >> 20} MiB more GPU memory than it may{low}"
    return ""


def _do(machine: Machine, site: Site, looks: Dict[str, Any], book: Book, deed: _Deed) -> str:
    """Do what is due, with the lock, if it still is; NotBegunError when it cannot be done now."""
    charge, member = deed.charge, deed.member
    shown = _show(machine, site) or {}
    if charge.gate and (charge.gate not in shown or shown[charge.gate].active != "active"):
        return f"left alone: {charge.gate} is not up"
    run = watch_deeds.open_run(machine, site.host, site.boot_id, _doing(deed, book))
    line = {"kind": "watchdog", "at": machine.wall(), "host": site.host, "generation": site.generation}
    try:
        if not deed.why:
            left = [each for each in charge.members if each["unit"] in book.pending]
            what = f"started {', '.join(units_of(left))}, which an earlier look had stopped"
            watch_deeds.resume(run, book, charge, left, site.spec)
        elif member is not None:
            number = book.attempts.get(member["unit"], 0) + 1
            what = f"restarted {member['unit']} (attempt {number} of {site.spec['attempts']})"
            watch_deeds.restart(run, book, charge, member, site.spec, deed.why)
        else:
            what = f"reset {charge.name} after {site.spec['attempts']} restarts"
            watch_deeds.reset(run, book, charge, site.spec, deed.why)
    except watch_deeds.NotBegunError:
        raise
    except (HaltError, LeaseError, OSError, systemd.SystemdError) as error:
        what = f"tried and failed: {clean(str(error), 600)}"
        if not deed.why:
            return what
        fix = f"recon status --host {site.host}"
        alerts.raise_alert(machine, by="watchdog", code="REC7172", about=charge.name, text=what, fix=fix)
    finally:
        watch_deeds.close_run(run)
        for each in charge.members if member is None else [member]:
            looks["units"][each["unit"]]["bad"] = 0
            looks["units"][each["unit"]]["over"] = 0
    _tell(machine, {**line, "about": charge.name, "deed": what, "why": deed.why})
    if deed.why and member is None:
        watch_alerts.tell(machine, site, looks, book)
    return what + (f": {deed.why}" if deed.why else "")


def _doing(deed: _Deed, book: Book) -> str:
    """Say what is about to be done, for whoever wants the host meanwhile."""
    if not deed.why:
        left = [unit for unit in units_of(deed.charge.members) if unit in book.pending]
        return f"starting {', '.join(left)}, which an earlier look had stopped"
    what = f"resetting {deed.charge.name}" if deed.member is None else f"restarting {deed.member['unit']}"
    return f"{what}, because {deed.why}"


def _tell(machine: Machine, line: Dict[str, Any]) -> None:
    why = f": {line['why']}" if line["why"] else ""
    machine.log_error(f"recon watchdog {line['deed']}{why}")
    with contextlib.suppress(OSError, RecordError):
        history.append(machine, line)


def _summary(looks: Dict[str, Any], book: Book) -> str:
    words = [
        f"{unit} is {past['word']}" + (f" ({past['why']})" if past["why"] else "")
        for unit, past in sorted(looks["units"].items())
        if past["word"] != "good"
    ]
    words += [f"holds off from {name}" for name in sorted(book.held_off)]
    return "; ".join(words) or "all is well"
