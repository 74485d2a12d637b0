"""A difference between desired and observed: a fact with its cause, not yet a deed.

Must not: say what is done about it; that is the planner's.
"""

from __future__ import annotations

from typing import Literal

from reconciler.model.base import Wire
from reconciler.model.plan import Cause

ChangeKind = Literal[
    "coven",
    "member",
    "setting",
    "file",
    "boot",
    "resident",
    "gpu",
    "orphan",
    "watchdog",
    "timer",
    "schedule",
    "spiral",
    "control",
    "share",
]
REPORTED = frozenset({"gpu", "control"})
"""Kinds that a plan tells and an order has nothing to do about: strangers, and what the host's own timer puts right."""

ChangeWord = Literal[
    "coven_switch",
    "coven_stopped",
    "config_changed",
    "edited_by_hand",
    "file_missing",
    "file_new",
    "file_extra",
    "unit_stopped",
    "unit_failed",
    "unit_masked",
    "reload_needed",
    "member_new",
    "member_gone",
    "settings_changed",
    "boot_differs",
    "foreign_process",
    "unit_gone",
    "trial_left",
    "manifest_lost",
    "restart_asked",
    "unit_runs",
]


class Change(Wire):
    """One difference.

    `name` is unique within its kind on a host. `slot`, `coven` and `service` say what it belongs to, if anything.
    """

    kind: ChangeKind
    name: str
    word: ChangeWord
    reason: str
    cause: Cause
    slot: str | None = None
    coven: str | None = None
    service: str | None = None
    before: str | None = None
    after: str | None = None
    diff: tuple[str, ...] = ()
