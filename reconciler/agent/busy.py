"""How busy a server is: the runtime's own figures, read from what the intent names.

A figure that is missing, not a number or in another form is no figure at all. None means "cannot tell", and whoever
asks treats that as busy: work is only cut when the plan said so. Why it cannot be told is told.

Must not: know a runtime by name, wait, or decide what a figure means.
"""

from __future__ import annotations

import json
import math
from typing import Any, Dict, List, NamedTuple, Optional

from .machine import Machine
from .plain import clean
from .samples import samples
from .warm import no_whole

_TIMEOUT_S = 2.0
_MOST = 10**9
"""More requests than any server holds: such a number counts something else, or nothing."""


class Busy(NamedTuple):
    """Requests in flight and waiting; None with the reason when nobody can tell. `sleeps`: how, if it is asleep."""

    figure: Optional[int]
    reason: str = ""
    sleeps: str = ""

    def __str__(self) -> str:
        if self.figure is None:
            return f"? ({self.reason})"
        return f"{self.figure} ({self.sleeps})" if self.sleeps else str(self.figure)


def busy_of(machine: Machine, probes: List[Dict[str, Any]], sleeps: str = "") -> Busy:
    """Return what the first probe that answers in its form says, or more where one marked `also` says more.

    Args:
        machine: the host.
        probes: `model.intent.BusyProbe`s.
        sleeps: how the server sleeps, empty when it is awake: the gauges of an engine that makes no steps stand still,
            so only what counts exactly is a figure then.
    """
    if sleeps:
        return _exact(machine, probes, sleeps)
    figure, reasons = None, []
    for probe in probes:
        if _also(probe) or figure is not None:
            continue
        asked = _ask(machine, probe)
        figure = asked.figure
        reasons.append(asked.reason)
    if figure is None:
        return Busy(None, "; ".join(reasons))
    more = [_ask(machine, probe).figure for probe in probes if _also(probe)]
    return Busy(max([figure, *(each for each in more if each is not None)]))


def _exact(machine: Machine, probes: List[Dict[str, Any]], sleeps: str) -> Busy:
    """Return what waits in a server that sleeps: it was let in and is not answered before somebody wakes it."""
    asked = [_ask(machine, probe) for probe in probes if probe.get("exact")]
    figures = [each.figure for each in asked if each.figure is not None]
    if figures:
        return Busy(max(figures), "", sleeps)
    nobody = "; ".join(each.reason for each in asked) or "nothing else counts exactly"
    return Busy(None, f"it is {sleeps}, so its gauges stand still; {nobody}", sleeps)


def _also(probe: Dict[str, Any]) -> bool:
    # What a host has on record from before there was such a mark does not have it.
    return bool(probe.get("also"))


def _ask(machine: Machine, probe: Dict[str, Any]) -> Busy:
    answer = machine.http("GET", probe["url"], _TIMEOUT_S)
    # Without the host, which is always this one.
    path = "/" + clean(probe["url"].split("/", 3)[-1], 80)
    problem = no_whole(answer)
    if problem:
        return Busy(None, f"{path} {problem}")
    figure = figure_in(probe, answer.body)
    wanted = ", ".join(probe["names"]) or probe["field"] or "a number"
    return Busy(figure, f"{path} does not say {clean(wanted, 120)}" if figure is None else "")


def figure_in(probe: Dict[str, Any], body: bytes) -> Optional[int]:
    """Return the figure a reply holds, or None when the reply is not in the probe's form."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if probe["form"] == "prometheus":
        return _prometheus(text, list(probe["names"]))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if probe["form"] == "json":
        return _count(_at(document, probe["field"]))
    if probe["form"] == "json_sum":
        return _sum(_at(document, probe["field"]), list(probe["names"]))
    if probe["form"] == "json_true":
        return _count_true(document, probe["field"])
    return None


def _prometheus(text: str, names: List[str]) -> Optional[int]:
    """Sum every sample of every name. One name without a sample makes the whole figure unknown."""
    sums: Dict[str, float] = {}
    for sample in samples(text, names):
        if sample.value is None:
            return None
        sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    if not names or any(name not in sums for name in names):
        return None
    return _whole(sum(sums.values()))


def _at(document: Any, path: str) -> Any:
    """Follow a dotted path; None when it leads nowhere. An empty path is the document itself."""
    here = document
    for part in path.split(".") if path else []:
        if isinstance(here, dict):
            here = here.get(part)
        elif isinstance(here, list) and part.isdigit() and int(part) < len(here):
            here = here[int(part)]
        else:
            return None
    return here


def _sum(value: Any, names: List[str]) -> Optional[int]:
    """Sum the named figures of an object, or of every object in a list; one that is missing makes all unknown."""
    items = value if isinstance(value, list) else [value]
    figures = [_count(item.get(name)) if isinstance(item, dict) else None for item in items for name in names]
    known = [figure for figure in figures if figure is not None]
    # An empty list says nothing: a server has at least one rank.
    return sum(known) if figures and len(known) == len(figures) else None


def _count(value: Any) -> Optional[int]:
    if isinstance(value, list):
        return len(value)
    # A bool is an int in Python and no figure of work.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return _whole(value)


def _whole(value: float) -> Optional[int]:
    """Return a number of requests, a part of one being one; None for NaN, infinity, and what is no such number."""
    # Compared before anything else: an int of any length can be, where a float of it would be an OverflowError.
    return math.ceil(value) if 0 <= value <= _MOST else None


def _count_true(document: Any, field: str) -> Optional[int]:
    if not isinstance(document, list):
        return None
    flags = [item.get(field) if isinstance(item, dict) else None for item in document]
    if any(not isinstance(flag, bool) for flag in flags):
        return None
    return sum(1 for flag in flags if flag)
