"""Tells of drift: what lies or runs here that is not what was committed, one line of history for each new one.

The watchdog looks, while the host is nobody's. A plan would find the same; this is for whoever is told of it meanwhile.

    every look: files and open gates against the manifest ─▶ new? ─▶ with the host's lock: look again ─▶ history

Must not: repair, or tell while somebody has the host or what is committed cannot be read.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List

from . import announce, files, gates, history, places, systemd
from .machine import BusyError, Machine
from .plain import clean
from .record import RecordError, read_record, write_record
from .watch_site import ApartError, Site, stay_away

KIND = "drift"


def look(machine: Machine, site: Site) -> None:
    """Look once, and write down what is new; what cannot be read tells nothing."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, ApartError, BusyError, systemd.SystemdError):
        found = list(_found(machine, site.generation))
        told = _told(machine, site.generation)
        new = [each for each in found if each not in told]
        if new:
            with machine.lock(places.LOCK):
                new = _tell(machine, site, new)
            announce.kick(machine)
        kept = [each for each in found if each in told or each in new]
        if kept != told:
            write_record(machine, places.DRIFT, {"generation": site.generation, "told": kept})


def _tell(machine: Machine, site: Site, new: List[str]) -> List[str]:
    """Write the line for what is there still, and return it; ApartError when the host is somebody's by now."""
    stay_away(machine)
    if files.committed_number(machine) != site.generation:
        raise ApartError("another generation is committed")
    gates.sweep(machine)  # a directory that a gate left behind is no coven that is live
    there = list(_found(machine, site.generation))
    new = [each for each in new if each in there]
    if new:
        line: Dict[str, Any] = {"kind": KIND, "host": site.host, "generation": site.generation}
        history.append(machine, {**line, "found": new, "at": machine.wall()})
    return new


def _told(machine: Machine, generation: int) -> List[str]:
    try:
        body = read_record(machine, places.DRIFT)
    except (FileNotFoundError, RecordError):
        return []
    return [str(each) for each in body["told"]] if body.get("generation") == generation else []


def _found(machine: Machine, generation: int) -> Iterator[str]:
    body = files.manifest(machine, generation)
    for name, digest in sorted(body["files"].items()):
        path = f"{places.COMMITTED if name.endswith('.container') else places.NATIVE}/{name}"
        here = machine.stat(path)
        if here is None:
            yield clean(f"{path} is gone")
        elif here.kind != "file":
            yield clean(f"{path} is no file")
        elif files.read_header(machine.read(path, files.FILE_LIMIT)).body_sha256 != digest:
            yield clean(f"{path} was changed")
    live = {coven for coven in body["live"].values() if coven}
    for group in body["groups"]:
        is_open = machine.stat(f"{places.GATES}/{group['gate'].rpartition('.')[0]}") is not None
        if is_open and group["coven"] not in live:
            yield clean(f"coven {group['coven']} is live and not committed to be")
        elif not is_open and group["coven"] in live:
            yield clean(f"coven {group['coven']} is committed to be live and is not")
