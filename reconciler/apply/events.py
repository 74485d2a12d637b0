"""What `apply` tells while it works, one value per thing that happens. They come one at a time, from any thread.

Must not: know who listens.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.outcome import JournalEvent, Outcome


@dataclass(frozen=True, slots=True)
class HostStarted:
    """A host is about to get its order; from here on it may change."""

    host: str
    txid: str
    transitions: int


@dataclass(frozen=True, slots=True)
class HostJoined:
    """A transaction that somebody else began there does what was wanted; it is followed instead. `who` runs it."""

    host: str
    txid: str
    who: str


@dataclass(frozen=True, slots=True)
class HostProgress:
    """The host wrote a line into its journal."""

    host: str
    event: JournalEvent


@dataclass(frozen=True, slots=True)
class HostLost:
    """The connection is gone; the host goes on by itself, and it is tried again."""

    host: str
    reason: str


@dataclass(frozen=True, slots=True)
class HostFinished:
    """The host is done with, one way or another."""

    host: str
    outcome: Outcome


HostEvent = HostStarted | HostJoined | HostProgress | HostLost | HostFinished
