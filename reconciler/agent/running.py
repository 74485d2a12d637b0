"""What a unit's running process was started with, and what it said last.

Must not: believe a file: the file may be newer than the process.
"""

from __future__ import annotations

import re
from typing import List

from . import fact
from .machine import Machine
from .plain import clean, clean_lines

LOG_LINES = 30
_READ_LINES = 200
# What podman itself logs about a container's life: its events, and the id that `podman run -d` prints.
_NOISE = re.compile(r"^\d{4}-\d\d-\d\d \S+ \S+ \S+ m=\+\S+ (container|image) |^[0-9a-f]{64}$|^conmon [0-9a-f]+ <n")
_HASH = b"RECON_CONFIG_HASH="
_LOG_TIMEOUT_S = 10.0


def config_hash(machine: Machine, pid: int) -> fact.Fact:
    """Return the config hash in the environment of a unit's main process."""
    if pid <= 0:
        return fact.not_applicable("no process of its own")
    try:
        environment = machine.read(f"/proc/{pid}/environ")
    except OSError:
        environment = b""
    for entry in environment.split(b"\0"):
        if entry.startswith(_HASH):
            return fact.value(clean(entry[len(_HASH) :], 64))
    return fact.unknown("its process does not tell its configuration")


def last_lines(machine: Machine, unit: str, since: float) -> List[str]:
    """Return the last lines a unit logged since a time on the wall clock, harmless to show."""
    argv = ["journalctl", "-u", unit, f"--since=@{int(since)}", "-n", str(_READ_LINES), "-o", "cat", "--no-pager"]
    done = machine.run(argv, _LOG_TIMEOUT_S)
    if done.rc != 0:
        return [f"(no log: journalctl ended with {done.rc})"]
    lines = clean_lines(done.out, _READ_LINES)
    return [line for line in lines if not _NOISE.match(line)][-LOG_LINES:] or lines[-LOG_LINES:]
