"""One look at the schedule: what should be live now, and if something else is, one ordinary transition.

    held, claimed, in transition? ─▶ left alone, looked at again after a minute; a slot that is locked: that slot
    what is in force by this host's own clock and the windows of the committed generation (`week`)
    live already?   nothing
    a condition (`require`, `yields`) not met: what is sure runs, and the next look asks again
    failed since the last edge: nothing before the next one, or a new commit; a person is called
    else            an order made from what is committed (`schedule_order`), launched as a controller's would be

Nothing is remembered of edges, so a missed one is not replayed, and a host that was off does what is due now. The order
goes through the same executor, lock, lease, drain and way back as any other.

Must not: do a step of a transition, or change a file, a unit or a setting.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
from typing import Any, Dict, List, NamedTuple, Optional

from . import alerts, files, history, idle, launch, locks, places, schedule_book, schedule_order, week
from .journal import boot_id, read_events
from .machine import BusyError, Machine
from .outcome import proceed, read_outcome
from .plain import clean
from .record import RecordError
from .schedule_order import OWNER, NoOrderError
from .systemd import SystemdError
from .watch_boot import end_interrupted
from .watch_dead import follow
from .watch_site import ApartError, Site, stay_away
from .wire import RequestError

FAILED = "REC7341"
NO_ZONE = "REC7342"
_PASSING = ("stale", "locked")
"""Ends that say nothing about the switch: somebody else was there first."""
_CUT = "REC7116"
_ORDERS = 2
"""A switch that a power cut interrupted is ordered once more: a host that it brings down must not do so all night."""
_GAP_S = 180.0
"""Idleness that nobody looked at for so long is none."""


class _Due(NamedTuple):
    """What should be live on each slot that may be moved, which of them begin for idleness, and why others stay.

    `failed` are the slots whose switch failed since the last edge, each with the reason.
    """

    wanted: Dict[str, Optional[str]]
    begun: List[str]
    locked: List[str]
    waits: List[str]
    idle: Dict[str, Any]
    failed: Dict[str, str]


def schedule(machine: Machine, ctx: Dict[str, Any]) -> Dict[str, Any]:
    """Look once, order at most one transition, and return what it came to."""
    seen: Dict[str, Any] = {}
    locks.settle(machine)
    try:
        number, body = _committed(machine)
        said = _look(machine, ctx, number, body, seen)
    except (ApartError, NoOrderError, SystemdError, OSError, RecordError, RequestError) as error:
        said = f"left alone: {clean(str(error), 600)}"
    with contextlib.suppress(OSError, RecordError):
        schedule_book.save_look(machine, said, seen.get("idle", {}))
    return {"said": said}


def _committed(machine: Machine) -> "tuple[int, Dict[str, Any]]":
    try:
        number = files.committed_number(machine)
        if number is None:
            raise ApartError("nothing is committed")
        body = files.manifest(machine, number)
    except (OSError, ValueError) as error:
        raise ApartError(f"what is committed cannot be told: {error}") from error
    if not body.get("schedule"):
        raise ApartError("the committed generation has no schedule")
    return number, body


def _look(machine: Machine, ctx: Dict[str, Any], number: int, body: Dict[str, Any], seen: Dict[str, Any]) -> str:
    spec, live, at = body["schedule"], body["live"], machine.wall()
    unread = week.unread([window["timezone"] for window in spec["windows"]])
    if unread:
        text = f"the schedule cannot be followed: {', '.join(sorted(unread.values()))}"
        _alert(machine, NO_ZONE, str(body["host"]), text, "on the host: apt install tzdata")
        return text
    _withdraw(machine, NO_ZONE, str(body["host"]))
    chains = {slot: week.chain(spec["windows"], spec["declared"], slot, at) for slot in spec["declared"]}
    settled = {slot: week.settled(choices, live.get(slot)).coven for slot, choices in chains.items()}
    if settled == {slot: live.get(slot) for slot in settled} and not _may_begin(chains, live):
        _withdraw(machine, FAILED, str(body["host"]))
        return _all_is_well(settled)
    ended = _end_left(machine, number, body)
    if ended:
        return ended
    stay_away(machine)
    mark = week.mark(spec["windows"], at)
    failed = _failed(machine, number, body, mark)
    due = _due(machine, body, chains, settled, failed)
    seen["idle"] = due.idle
    refused = [f"not tried again before the next edge or a new commit: {_told(failed)}"] if failed else []
    stays = [*due.locked, *due.waits]
    if due.wanted != {slot: live.get(slot) for slot in due.wanted}:
        return "; ".join([_launch(machine, ctx, number, body, due, mark), *refused, *stays])
    if due.locked and not failed:
        raise ApartError("; ".join(stays))
    return "; ".join([*(refused or [_all_is_well(due.wanted)]), *stays])


def _end_left(machine: Machine, number: int, body: Dict[str, Any]) -> str:
    """Do for a transaction that nobody ended what the watchdog does, on a host without one: it would be stuck here."""
    if body.get("watchdog"):
        return ""
    this_boot = boot_id(machine)
    if not this_boot:
        raise ApartError("the kernel does not say which boot this is")
    site = Site(str(body["host"]), number, this_boot, {}, [])
    try:
        with alerts.alone(machine, 0.0):
            return end_interrupted(machine, site) or follow(machine, site)
    except BusyError as error:
        raise ApartError("somebody else writes the alerts") from error


def _may_begin(chains: Dict[str, List[week.Choice]], live: Dict[str, Optional[str]]) -> bool:
    return any(choices[0].coven != live.get(slot) and not choices[0].is_sure for slot, choices in chains.items())


def _all_is_well(covens: Dict[str, Optional[str]]) -> str:
    return "as it should be: " + ", ".join(f"{slot} {coven or 'nothing'}" for slot, coven in sorted(covens.items()))


def _due(
    machine: Machine,
    body: Dict[str, Any],
    chains: Dict[str, List[week.Choice]],
    settled: Dict[str, Optional[str]],
    failed: Dict[str, str],
) -> _Due:
    """Work out what should be live, asking what runs how busy it is where a window waits for that.

    Slots whose switch failed are left as they are: they keep no other from its own.
    """
    live, waits, quiet, begun = body["live"], [], {}, {}
    for slot, choices in sorted(chains.items()):
        coven = live.get(slot)
        better = _better(choices, coven)
        if not better or slot in failed:
            continue
        group = next((group for group in body["groups"] if group["coven"] == coven), None)
        busy = idle.why_busy(machine, list(group["members"]) if group else [])
        since = _idle_since(machine, slot, coven)
        now = machine.boottime()
        if not busy:
            quiet[slot] = {"coven": coven, "since": since if since is not None else now, "seen": now}
        for choice in better:
            window = body["schedule"]["windows"][choice.window]
            wait_s = float(window.get("yields_s") or 0.0)
            left_s = wait_s - (now - quiet[slot]["since"]) if slot in quiet else wait_s
            if not busy and left_s <= 0:
                begun[slot] = choice.coven
                break
            why = busy or f"idle, {left_s:.0f} s to go"
            waits.append(f"{choice.coven} waits on slot {slot}: {coven or 'nothing'} is {why}")
    wanted = {**settled, **begun}
    locked = {lock["slot"]: locks.said(lock) for lock in locks.observed(machine) if lock["slot"] in wanted}
    kept = [text for slot, text in sorted(locked.items()) if wanted[slot] != live.get(slot)]
    free = {slot: coven for slot, coven in wanted.items() if slot not in locked and slot not in failed}
    sure = {slot: coven for slot, coven in free.items() if slot not in begun}
    if any(coven != live.get(slot) for slot, coven in sure.items()):
        # What is sure is not held up by what may give up again; the rest stays as it is until the next look.
        return _Due(sure, [], kept, waits, quiet, failed)
    return _Due(free, sorted(set(begun).intersection(free)), kept, waits, quiet, failed)


def _better(choices: List[week.Choice], live: Optional[str]) -> List[week.Choice]:
    """Return the choices with a condition that come before what runs, or before what is sure."""
    better = []
    for choice in choices:
        if choice.is_sure or choice.coven == live:
            break
        better.append(choice)
    return better


def _idle_since(machine: Machine, slot: str, coven: Optional[str]) -> Optional[float]:
    past = schedule_book.look(machine).get("idle", {}).get(slot)
    if not past or past["coven"] != coven or machine.boottime() - float(past["seen"]) > _GAP_S:
        return None
    return float(past["since"])


def _failed(machine: Machine, number: int, body: Dict[str, Any], mark: List[List[int]]) -> Dict[str, str]:
    """Return the slots whose switch failed since the last edge, each with the reason; a person is called for them."""
    last = schedule_book.tried(machine)
    is_own = bool(last) and last["txid"] == body.get("txid")
    if last.get("mark") != mark or not (is_own or last["generation"] == number):
        _withdraw(machine, FAILED, str(body["host"]))
        return {}
    failed = schedule_book.failed(last, body["live"])
    text = "" if is_own or last["failed"] else _why_failed(machine, last)
    if text:
        slots = _blamed(machine, last) or list(body["live"])
        deed = ", ".join(last.get("moved", {}).get(slot, "") for slot in slots)
        _tell(machine, body, f"gave up until the next edge: {deed or last['deed']}", text, last["txid"])
        failed.update(dict.fromkeys(slots, text))
        schedule_book.note(machine, {**last, "failed": text, "slots": failed})
    if failed:
        _alert(machine, FAILED, str(body["host"]), _told(failed), proceed(str(body["host"])))
    return failed


def _why_failed(machine: Machine, last: Dict[str, Any]) -> str:
    """Say how the last order failed, or nothing when what it was for may be ordered again."""
    outcome = read_outcome(machine, last["txid"])
    state = outcome["state"] if outcome else "unknown"
    if outcome is None or state in _PASSING or (state == "aborted" and last["may_repeat"]):
        # Without an outcome it never began: what began and has no end keeps everybody away.
        return ""
    if outcome.get("code") == _CUT and last["boot_id"] != boot_id(machine) and last["orders"] < _ORDERS:
        return ""
    return clean(f"the schedule's switch ended {state.replace('_', ' ')}: {outcome['reason']}", 600)


def _blamed(machine: Machine, last: Dict[str, Any]) -> List[str]:
    """Return which of the slots that were ordered together failed; all of them where the journal does not tell."""
    moved = list(last.get("moved", {}))
    with contextlib.suppress(OSError):
        events = read_events(machine, places.transaction(last["txid"]) + "/journal.jsonl", 0)
        # A slot whose attempt failed may have come up at its next one: the last before the way back is what ended it.
        forward = itertools.takewhile(lambda each: each["step"] != "rollback", events)
        failed = [each["slot"] for each in forward if each["status"] == "failed" and each["slot"] in moved]
        return failed[-1:] or moved
    return moved


def _told(failed: Dict[str, str]) -> str:
    return "; ".join(sorted(set(failed.values())))


def _launch(
    machine: Machine, ctx: Dict[str, Any], number: int, body: Dict[str, Any], due: _Due, mark: List[List[int]]
) -> str:
    from . import observe  # the looks that change nothing need none of it

    try:
        state = observe.observe(machine, schedule_order.question(body["schedule"]), ctx)
    except observe.IdentityError as error:
        raise ApartError(f"the host does not say which machine it is: {error}") from error
    intent = schedule_order.order(machine, body, number, state, due.wanted)
    _never_cut(intent, due.begun)
    # Known to end at the claim, it is not ordered: a lock of a slot that is no more, or of this very moment.
    kept_out = locks.against(intent, locks.observed(machine), ())
    if kept_out:
        raise ApartError("; ".join(locks.said(lock) for lock in kept_out))
    intent["txid"] = _txid(machine)
    live = body["live"]
    moved = {
        slot: f"{slot} {live.get(slot) or 'nothing'} → {coven or 'nothing'}"
        for slot, coven in due.wanted.items()
        if coven != live.get(slot)
    }
    deed = ", ".join(moved.values())
    before = schedule_book.tried(machine)
    same = (before.get("generation"), before.get("mark")) == (number, mark)
    note = {
        "generation": number,
        "mark": mark,
        "txid": intent["txid"],
        "deed": deed,
        "moved": moved,
        "failed": "",
        "slots": due.failed,
        "may_repeat": bool(due.begun),
        "boot_id": boot_id(machine),
        "orders": 1 + (int(before["orders"]) if same else 0),
    }
    schedule_book.note(machine, note)
    reply = launch.apply(machine, {"intent": intent}, ctx)
    if not reply.get("launched"):
        who = reply.get("lease") or {}
        problem = reply.get("problem") or {}
        raise ApartError(str(problem.get("detail") or f"{who.get('owner', 'somebody')} has the host"))
    _tell(machine, body, deed, "a window began or ended", intent["txid"])
    return f"ordered {deed}, transaction {intent['txid']}"


def _never_cut(intent: Dict[str, Any], slots: List[str]) -> None:
    """Let the drain of a window that begins on idleness give up rather than cut work that came meanwhile."""
    for move in intent["moves"]:
        if move["slot"] in slots and move["old"] is not None:
            members = [{**member, "on_timeout": "abort"} for member in move["old"]["members"]]
            move["old"] = {**move["old"], "members": members}


def _txid(machine: Machine) -> str:
    at = machine.wall()
    now = datetime.datetime.fromtimestamp(at, datetime.timezone.utc)
    return f"{now:%Y%m%dT%H%M%S}.{now.microsecond // 1000:03}Z-{OWNER}"


def _tell(machine: Machine, body: Dict[str, Any], deed: str, why: str, txid: str) -> None:
    """Add a line to the history, under the lock of everybody who writes there; ApartError when somebody has it."""
    line = {"kind": OWNER, "at": machine.wall(), "host": str(body["host"]), "owner": OWNER, "reason": why}
    try:
        with machine.lock(places.LOCK):
            history.append(machine, {**line, "deed": deed, "order": txid})
    except BusyError as error:
        raise ApartError("somebody has the host's lock") from error


def _alert(machine: Machine, code: str, about: str, text: str, fix: str) -> None:
    with contextlib.suppress(BusyError, OSError), alerts.alone(machine):
        alerts.raise_alert(machine, by=OWNER, code=code, about=about, text=text, fix=fix)


def _withdraw(machine: Machine, code: str, about: str) -> None:
    with contextlib.suppress(BusyError, OSError, RecordError):
        if any((each["code"], each["about"]) == (code, about) for each in alerts.standing(machine)):
            with alerts.alone(machine):
                alerts.withdraw(machine, code, about)
