"""From changes to what a host is told, and to the lines people read about it.

Pure. Must not: leave anything for the host to work out; the order is complete.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model import live
from reconciler.model.change import REPORTED, Change
from reconciler.model.desired import Host
from reconciler.model.intent import SlotMove
from reconciler.model.plan import FileRef, Order, PlannedChange
from reconciler.model.rendered import FileKind, RenderedHost
from reconciler.model.subject import Subject

_ACTIONS: dict[str, tuple[str, ...]] = {
    "coven_switch": ("switch",),
    "coven_stopped": ("start",),
    "config_changed": ("restart",),
    "unit_stopped": ("start",),
    "unit_failed": ("restart",),
    "unit_masked": ("restart",),
    "member_new": ("start",),
    "member_gone": ("stop",),
    "unit_gone": ("stop",),
    "settings_changed": ("write",),
    "boot_differs": ("enable",),
    "foreign_process": ("report",),
    "unit_runs": ("stop",),
}
_FILE_ACTIONS: dict[str, tuple[str, ...]] = {
    "file_missing": ("write",),
    "file_new": ("write",),
    "file_extra": ("delete",),
    "trial_left": ("delete",),
    "manifest_lost": ("write",),
}


def planned_changes(host: Host, changes: tuple[Change, ...]) -> Iterator[PlannedChange]:
    """Yield every change with what is done about it."""
    for change in changes:
        if change.kind in REPORTED:
            actions: tuple[str, ...] = ("report",)
        elif change.kind == "file":
            actions = _FILE_ACTIONS.get(change.word, ("write",))
        elif change.word == "coven_switch" and not change.after:
            actions = ("stop",)
        elif change.word == "coven_switch" and not change.before:
            actions = ("start",)
        else:
            actions = _ACTIONS.get(change.word, ("restart",))
        yield PlannedChange(
            address=f"{host.name}/{change.kind}/{change.name}",
            actions=actions,
            action_reason=change.word,
            reason=change.reason,
            cause=change.cause,
            before=change.before,
            after=change.after,
            diff=change.diff,
        )


def host_order(subject: Subject, changes: tuple[Change, ...], moves: tuple[SlotMove, ...]) -> Order | None:
    """Return what the host is told, None when there is nothing for it to do (reports are not deeds)."""
    deeds = [change for change in changes if change.kind not in REPORTED]
    if not deeds and not moves:
        return None
    rendered, host = subject.rendered, subject.host
    residents = {member.service: member.unit for member in rendered.residents}
    restart = tuple(
        sorted(residents[change.name] for change in changes if change.kind == "resident" and change.name in residents)
    )
    return Order(
        from_generation=live.committed_number(subject.state),
        quadlets=_refs(rendered, "quadlet"),
        natives=_refs(rendered, "native"),
        remove_natives=_natives_to_remove(subject),
        memory=host.memory.kind,
        boot=rendered.boot,
        groups=tuple(rendered.groups[name] for name in sorted(rendered.groups)),
        live=rendered.live,
        moves=moves,
        residents=rendered.residents,
        restart_residents=restart,
        stop_units=tuple(change.name for change in changes if change.kind == "orphan"),
        shared=tuple(sorted(shared.unit for shared in host.shared)),
        watchdog=rendered.watchdog,
        schedule=rendered.schedule,
        spiral=rendered.spiral,
        events=rendered.events,
    )


def _refs(rendered: RenderedHost, kind: FileKind) -> tuple[FileRef, ...]:
    return tuple(
        FileRef(name=file.name, body_sha256=file.body_sha256, config_hash=file.config_hash)
        for file in rendered.files
        if file.kind == kind
    )


def _natives_to_remove(subject: Subject) -> tuple[str, ...]:
    """Return the native units of ours that are no longer declared; files without our header are not ours to remove."""
    declared = {file.name for file in subject.rendered.files if file.kind == "native"}
    found = {file.path.rsplit("/", 1)[-1] for file in subject.files if file.tier == "native" and file.owner is not None}
    return tuple(sorted(found - declared))
