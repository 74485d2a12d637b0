"""What a guard looks at: one host's plan while it is being judged.

Pure. Must not: judge anything itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from reconciler.model.change import REPORTED, Change
from reconciler.model.desired import Host
from reconciler.model.intent import SlotMove
from reconciler.model.observed import HostState
from reconciler.model.plan import Budget, Refusal
from reconciler.model.subject import Subject


@dataclass(frozen=True, slots=True)
class Case:
    """Everything a guard may look at for one host."""

    owner: str
    """`fleet/host`, as headers carry it."""
    subject: Subject
    changes: tuple[Change, ...]
    moves: tuple[SlotMove, ...]
    budgets: dict[str, Budget]
    is_way_back: bool = False
    """Whether a person named the generation to go to: the way on from a committed one that is lost or damaged."""

    @property
    def host(self) -> Host:
        """Return the host as it is declared."""
        return self.subject.host

    @property
    def has_deeds(self) -> bool:
        """Say whether anything would be done; what is only reported needs nobody's leave."""
        return bool(self.moves) or any(change.kind not in REPORTED for change in self.changes)

    @property
    def state(self) -> HostState:
        """Return what the host said."""
        return self.subject.state


Guard = Callable[[Case], Iterator[Refusal]]
