"""Versions of the programs a plan depends on.

Starting podman costs more than most of an observation, so its answer is kept in /run by whoever changes the host,
and believed while the program file is the same.

Must not: write while only looking (`remember` is for the executor), or believe a note about another file.
"""

from typing import Any, Dict, Optional

from . import fact, places
from .machine import Machine
from .plain import clean
from .record import RecordError, make_way, read_record, write_record

_PODMAN = ("/usr/local/bin/podman", "/usr/bin/podman", "/bin/podman")
_TIMEOUT_S = 10.0


def podman(machine: Machine) -> fact.Fact:
    """Return the version of podman."""
    program = _program(machine)
    if program is not None and _noted(machine).get("podman", {}).get("program") == program:
        return fact.value(str(_noted(machine)["podman"]["version"]))
    return _asked(machine)


def remember(machine: Machine) -> None:
    """Ask podman and note the answer for the next observations, unless this very program was asked before."""
    program = _program(machine)
    if program is None or _noted(machine).get("podman", {}).get("program") == program:
        return
    answer = _asked(machine)
    if "value" in answer:
        machine.mkdir(places.RUN)
        make_way(machine, places.FACTS)
        write_record(machine, places.FACTS, {"podman": {"program": program, "version": answer["value"]}})


def _asked(machine: Machine) -> fact.Fact:
    done = machine.run(["podman", "--version"], _TIMEOUT_S)
    words = done.out.decode("utf-8", "backslashreplace").split()
    if done.rc == 127:
        return fact.unknown("podman is not installed")
    if done.rc != 0 or words[:2] != ["podman", "version"] or len(words) != 3:
        return fact.unknown(f"podman --version: {clean(done.err or done.out) or f'exit status {done.rc}'}")
    return fact.value(clean(words[2]))


def _program(machine: Machine) -> Optional[Dict[str, Any]]:
    """Identify the program file that PATH finds; a link is followed by nobody here, so it is not believed."""
    for path in _PODMAN:
        found = machine.stat(path)
        if found is not None:
            if found.kind != "file" or not found.mtime_ns:
                return None
            return {"path": path, "size": found.size, "mtime_ns": found.mtime_ns}
    return None


def _noted(machine: Machine) -> Dict[str, Any]:
    try:
        return read_record(machine, places.FACTS)
    except (OSError, RecordError):
        return {}
