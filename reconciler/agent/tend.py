"""One tick of the spiral on its host: how busy is it, which caps hold now, has the loop arrived, does every guardrail.

    pressure ─▶ back-off ─▶ caps into the control file          convergence ─▶ producers          guardrails ─▶ alert

A timer runs it, and so does the executor after a commit. What is not known changes nothing.

Must not: touch the loop where its flag is off or a person holds the host; write any key that is not recon's.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, List, Optional

from . import alerts, backoff, caps, convergence, deed, places, pressure, share_deeds, spiral_site, systemd
from .backoff import Factor
from .convergence import Arrived
from .journal import boot_id
from .machine import BusyError, Machine
from .record import RecordError
from .spiral_site import Site
from .tend_book import Book, open_book, save_book

Guardrail = Dict[str, Any]
Check = Callable[[Machine, Dict[str, Any]], List[Guardrail]]
"""Judges the committed spiral (`model.intent_spiral.SpiralSpec`) against this host: for each guardrail its `name`, its
`state` (ok, broken or unknown), `text` and `fix`."""

_BY = "spiral"
_FULL = 1.0


def tend(machine: Machine, check: Optional[Check] = None) -> Dict[str, Any]:
    """Do it once; return what it came to in words."""
    try:
        site = spiral_site.site_of(machine)
    except spiral_site.NoSpiralError as error:
        return {"said": str(error)}
    if not site.spec["enabled"]:
        return {"said": "the spiral is not enabled here"}
    held = spiral_site.held_by(machine)
    if held:
        return {"said": f"left alone: {held}"}
    machine.mkdir(places.RUN)
    try:
        with machine.lock(places.TEND_LOCK):
            return {"said": _tend(machine, site, check)}
    except BusyError:
        return {"said": "left alone: it is looked after already"}


def _tend(machine: Machine, site: Site, check: Optional[Check]) -> str:
    spec, boot = site.spec, boot_id(machine) or ""
    declared = spec.get("backoff")
    least = declared["least"] if declared else _FULL
    book = open_book(machine, boot, least)
    seen = pressure.look(machine, site.gpus) if declared else pressure.Pressure(None, None)
    busy = seen.is_over(declared) if declared else None
    factor = backoff.step(book.factor, declared, busy, now=machine.boottime(), wall=machine.wall())
    now = backoff.effective(spec["caps"], factor.value, least)
    written = caps.write(machine, spec, now)
    arrived = convergence.look(machine, spec)
    if arrived.value and not book.converged:
        # Before they are stopped: who dies in between must not leave them down for good.
        producers = {unit["unit"] for unit in spec["units"] if unit["producer"]}
        promised = Book(factor, sorted({*book.stopped, *producers}), book.broken, book.converged)
        none_yet: Dict[str, Any] = {
            "caps": now,
            "gpu": seen.gpu,
            "memory": seen.memory,
            "problems": [],
            "wall": machine.wall(),
        }
        save_book(machine, promised, boot, none_yet)
    stopped, refused = _producers(machine, spec, arrived, book.stopped)
    shared = share_deeds.tend(machine, spec)
    broken = _broken(machine, spec, check, book.broken)
    _tell(machine, site, book, factor, arrived, broken)
    problems = {"REC7384": written.problem, "REC7387": arrived.problem, "REC7388": refused}
    _alert(machine, site, problems, broken, book.broken)
    said = [each for each in problems.values() if each]
    shown = {"caps": now, "gpu": seen.gpu, "memory": seen.memory, "problems": said}
    value = book.converged if arrived.problem else arrived.value
    save_book(machine, Book(factor, stopped, broken, value), boot, {**shown, "wall": machine.wall()})
    words = [f"caps at {factor.value:g}"]
    words += ["converged"] if arrived.value else []
    words += [*said, *([shared] if shared else []), *(f"guardrail {name} is broken" for name in sorted(broken))]
    return "; ".join(words)


def _producers(machine: Machine, spec: Dict[str, Any], arrived: Arrived, stopped: List[str]) -> "tuple[List[str], str]":
    try:
        return convergence.settle(machine, spec, arrived, stopped), ""
    except systemd.SystemdError as error:
        # A stop that was refused, or only said to be, may still take them down: whoever is stopped is started again.
        producers = {unit["unit"] for unit in spec["units"] if unit["producer"]} if arrived.value else set()
        return sorted({*stopped, *producers}), f"its producers: {error}"


def _broken(machine: Machine, spec: Dict[str, Any], check: Optional[Check], before: Dict[str, str]) -> Dict[str, str]:
    """Return the guardrails that are broken, each with why; one that cannot be told is as it was."""
    if check is None:
        return before
    found: Dict[str, str] = {}
    for each in check(machine, spec):
        name = str(each["name"])
        if each["state"] == "broken":
            found[name] = str(each["text"])
        elif each["state"] == "unknown" and name in before:
            found[name] = before[name]
    return found


def _tell(machine: Machine, site: Site, book: Book, factor: Factor, arrived: Arrived, broken: Dict[str, str]) -> None:
    """Write a line for what is other than it was: one per matter, not one per tick."""
    was = book.factor.value
    if factor.value != was:
        way = "down" if factor.value < was else "up"
        reason = f"the rate caps go {way}: {factor.value:g} of what is declared, before {was:g}"
        deed.tell(machine, "backoff", host=site.host, owner=deed.OWNER, reason=reason, factor=factor.value)
    if arrived.value is not None and arrived.value != book.converged and (arrived.value or book.converged is not None):
        reason = "the loop has converged: its producers stop" if arrived.value else "the loop goes on: producers start"
        deed.tell(machine, "converged", host=site.host, owner=deed.OWNER, reason=reason, converged=arrived.value)
    for name in sorted(set(broken) - set(book.broken)):
        reason = f"guardrail {name}: {broken[name]}"
        deed.tell(machine, "guardrail", host=site.host, owner=deed.OWNER, reason=reason, guardrail=name)


def _fix(site: Site, code: str) -> str:
    """Say what a person does about what the tick could not."""
    if code == "REC7384":
        return f"on {site.host}, correct {site.spec['control']['file']}: it must hold a JSON object"
    if code == "REC7387":
        converged = site.spec["convergence"]
        return f"on {site.host}, correct {converged['file']}: {converged['key']} says whether the loop has arrived"
    producer = next((unit["name"] for unit in site.spec["units"] if unit["producer"]), "UNIT")
    return f"recon logs {site.host} {producer}"


def _alert(
    machine: Machine, site: Site, problems: Dict[str, str], broken: Dict[str, str], before: Dict[str, str]
) -> None:
    with contextlib.suppress(BusyError, OSError, RecordError), alerts.alone(machine):
        for code, text in problems.items():
            if text:
                alerts.raise_alert(machine, by=_BY, code=code, about="spiral", text=text, fix=_fix(site, code))
            else:
                alerts.withdraw(machine, code, "spiral")
        for name in sorted({*broken, *before}):
            if name in broken:
                why = f"guardrail {name} is broken: {broken[name]}"
                down = f"recon down spiral --host {site.host} --reason TEXT"
                alerts.raise_alert(machine, by=_BY, code="REC7391", about=name, text=why, fix=down)
            else:
                alerts.withdraw(machine, "REC7391", name)
