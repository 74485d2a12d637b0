"""Guards about a host where nothing runs as root: the user's manager must outlive every login, and have a bus.

Pure. Must not: judge what only root could do; validate refuses that.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model.observed import Known, NotApplicable
from reconciler.model.plan import Refusal
from reconciler.planner.budget import why
from reconciler.planner.case import Case
from reconciler.planner.checkup import BUS_FIX, NO_BUS


def user_lingers(case: Case) -> Iterator[Refusal]:
    """Without lingering systemd ends the user's manager, and every coven with it, at the end of the last login."""
    if case.host.scope != "user" or (isinstance(case.state.lingers, Known) and case.state.lingers.value):
        return
    user, fact = case.host.ssh.user, case.state.lingers
    detail = "its units end with its last login, and nothing starts at boot" if isinstance(fact, Known) else why(fact)
    yield Refusal(
        code="REC7440",
        summary=f"user {user} does not linger on {case.host.name}",
        detail=detail,
        fix=f"once, as root on the host: loginctl enable-linger {user}",
    )


def user_has_bus(case: Case) -> Iterator[Refusal]:
    """Without a bus podman's pause process belongs to one of the units that a switch ends; see `checkup`."""
    bus = case.state.bus
    if case.host.scope != "user" or isinstance(bus, NotApplicable) or (isinstance(bus, Known) and bus.value):
        return
    user = case.host.ssh.user
    yield Refusal(
        code="REC7441",
        summary=f"the manager of {user} has no message bus on {case.host.name}",
        detail=NO_BUS.format(user=user) if isinstance(bus, Known) else why(bus),
        fix=f"once, {BUS_FIX.format(user=user)}",
    )
