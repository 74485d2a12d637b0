"""What the watchdog calls a person for, and when it takes that back by itself.

An alert is raised when something was so often enough in a row, and taken back when the contrary was seen: a member that
is well, memory that was read and is within what is declared. That nothing is counted is no such sight, for the counts
go with every hold, lock, transition and boot, and the alert stays.

Must not: take back what is left to a person (REC7171), or what nobody could look at.
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, Iterator, List, NamedTuple, Tuple

from . import alerts, transactions
from .machine import Machine
from .record import RecordError
from .txn import units_of
from .watch_book import Book
from .watch_site import Site


class _Matter(NamedTuple):
    """Something that is worth an alert when it was seen often enough; `settled`: the contrary was seen just now."""

    code: str
    about: str
    times: int
    settled: bool
    text: str
    fix: str


def tell(machine: Machine, site: Site, looks: Dict[str, Any], book: Book) -> None:
    """Raise what is to be raised after a look, and take back what is settled."""
    standing, often = _own(machine), site.spec["looks"]
    for unit, past in sorted(looks["units"].items()):
        for matter in _of_unit(site, unit, past):
            _alert(machine, matter, often, past, standing)
    text, fix = "the host has less memory left than its reserve", f"recon status --host {site.host}"
    low = _Matter("REC7175", site.host, looks.get("low", 0), bool(looks.get("enough")), text, fix)
    _alert(machine, low, often, looks, standing)
    for charge in site.charges:
        if charge.name in book.held_off:
            text = f"was reset, and is left to a person from now on: {book.held_off[charge.name]}"
            fix = f"recon alerts --clear --host {site.host}"
            alerts.raise_alert(machine, by="watchdog", code="REC7171", about=charge.name, text=text, fix=fix)
        if ("REC7172", charge.name) in standing and _are_well(machine, site, looks, units_of(charge.members)):
            alerts.withdraw(machine, "REC7172", charge.name)
    for code, txid in standing:
        if code == "REC7177" and transactions.has(machine, txid, "outcome.json"):
            alerts.withdraw(machine, code, txid)


def _own(machine: Machine) -> FrozenSet[Tuple[str, str]]:
    try:
        found = alerts.standing(machine)
    except (OSError, RecordError):
        return frozenset()
    return frozenset((each["code"], each["about"]) for each in found if each["by"] == "watchdog")


def _of_unit(site: Site, unit: str, past: Dict[str, Any]) -> Iterator[_Matter]:
    word = past["word"]
    clear, within = f"recon alerts --clear --host {site.host}", bool(past.get("within"))
    over = f"holds {past.get('excess', 0) >> 20} MiB more GPU memory than it declares and may"
    yield _Matter("REC7174", unit, past.get("over", 0), within, over, clear)
    stopped = "was stopped in order and is committed; the watchdog starts only what fails"
    apply = f"recon apply --host {site.host}"
    yield _Matter("REC7176", unit, past["stopped"], word in ("good", "asleep"), stopped, apply)
    sleeps = f"is {past['why']} and is committed: it serves nobody until whoever put it to sleep wakes it"
    wake = f"wake it; or on the host: systemctl restart {unit}"
    yield _Matter("REC7241", unit, past.get("asleep", 0), word in ("good", "stopped"), sleeps, wake)


def _alert(
    machine: Machine, matter: _Matter, often: int, past: Dict[str, Any], standing: FrozenSet[Tuple[str, str]]
) -> None:
    raised: List[str] = past.setdefault("alerted", [])
    if matter.times >= often and matter.code not in raised:
        raised.append(matter.code)
        alerts.raise_alert(
            machine, by="watchdog", code=matter.code, about=matter.about, text=matter.text, fix=matter.fix
        )
    elif matter.settled:
        if matter.code in raised:
            raised.remove(matter.code)
        if (matter.code, matter.about) in standing:
            alerts.withdraw(machine, matter.code, matter.about)


def _are_well(machine: Machine, site: Site, looks: Dict[str, Any], units: List[str]) -> bool:
    """Say whether all have been well for the whole window: one that starts and fails again is not well in between."""
    now = machine.boottime()
    return all(now - looks["units"][unit].get("good_since", now) >= site.spec["window_s"] for unit in units)
