"""The locks of hosts: what status says of them, and a table of their own.

Must not: call a host free whose locks are unknown, or know a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.model.base import format_duration
from reconciler.model.observed import HostState, Known, Lock, Observation, Unknown, Unreachable
from reconciler.views.envelope import host_facts
from reconciler.views.escape import one_line
from reconciler.views.paint import Paint
from reconciler.views.table import table

_HEAD = ("HOST", "SLOT", "OWNER", "FREE IN", "LOCK", "REASON")


def lock_notes(name: str, state: HostState, paint: Paint) -> Iterator[str]:
    """Yield a line for each lock that stands on a host, or that nobody can tell."""
    bold = paint(name, "bold")
    if isinstance(state.locks, Unknown):
        yield f"{bold}: {paint('unknown', 'red')} whether it is locked: {one_line(state.locks.unknown)}"
        fix = f"recon lock force-release {name} --lock unreadable --reason TEXT"
        yield f"  it counts as locked; put the book aside with: {paint(fix, 'cyan')}"
    for lock in state.locks.value if isinstance(state.locks, Known) else ():
        slot = f"slot {one_line(lock.slot)} " if lock.slot else ""
        who = f"{one_line(lock.owner)} for another {_left(lock)} (lock {one_line(lock.id)})"
        yield f"{bold}: {slot}{paint('locked', 'yellow')} by {who}: {one_line(lock.reason)}"


def lock_lines(answers: Mapping[str, Observation], paint: Paint) -> Iterator[str]:
    """Yield a table of all locks, then the hosts that could not tell, then what is not locked."""
    rows, free = [], []
    for name, answer in sorted(answers.items()):
        found = answer.locks.value if isinstance(answer, HostState) and isinstance(answer.locks, Known) else ()
        rows += [
            (
                name,
                one_line(lock.slot or "(the host)"),
                one_line(lock.owner),
                _left(lock),
                one_line(lock.id),
                one_line(lock.reason),
            )
            for lock in found
        ]
        if isinstance(answer, HostState) and isinstance(answer.locks, Known) and not found:
            free.append(name)
    if rows:
        yield from table(_HEAD, rows, paint)
    for name, answer in sorted(answers.items()):
        if isinstance(answer, Unreachable):
            yield f"{paint(name, 'bold')}: {paint('unreachable', 'red')} [{answer.code}] {one_line(answer.reason)}"
        elif isinstance(answer.locks, Unknown):
            yield from lock_notes(name, answer, paint)
        elif not isinstance(answer.locks, Known):
            why = "its agent does not know locks; recon apply updates it"
            yield f"{paint(name, 'bold')}: {paint('unknown', 'red')} {why}"
    if free:
        yield f"{paint('Not locked', 'green')}: {', '.join(free)}"


def locks_document(fleet: str, answers: Mapping[str, Observation]) -> dict[str, Any]:
    """Return the locks of hosts in the usual envelope."""
    return host_facts("lock list", fleet, answers, lambda state: state.locks)


def what(host: str, slot: str | None) -> str:
    """Say what a lock is on."""
    return f"slot {one_line(slot)} of {host}" if slot else host


def _left(lock: Lock) -> str:
    return format_duration(round(lock.left_s))
