"""Differences between what is declared and what a host runs, each with its cause.

Pure: no I/O, no clock. Volatile facts (pids, bytes, temperatures, health at one moment) never become changes: observing
right after an apply gives none. Must not: decide what is done about a difference.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from reconciler.model import live
from reconciler.model.base import count
from reconciler.model.change import Change, ChangeWord
from reconciler.model.intent import Group, Member
from reconciler.model.observed import GpuProcess, HostState, Known, ManagedFile, Manifest, Tier, Unit
from reconciler.model.plan import Cause
from reconciler.model.rendered import FileKind, RenderedFile
from reconciler.model.subject import Subject

Place = tuple[Tier, str]
"""Where a file is on a host: its tier and its name."""

TIMER = "recon-watchdog.timer"


def diff_host(subject: Subject) -> tuple[Change, ...]:
    """Return every difference on one host: slots first, then residents, files, what boots, and strangers."""
    found = {(file.tier, file.path.rpartition("/")[2]): file for file in subject.files}
    edited = _edited_units(subject, found)
    slots = tuple(_slots(subject, edited))
    files = tuple(_files(subject, found))
    moving = any(change.kind == "coven" for change in slots)
    return (
        *slots,
        *_residents(subject, edited),
        *_orphans(subject, moving={change.coven or change.before for change in slots}),
        *files,
        *_settings(
            subject,
            touched={change.coven for change in (*slots, *files)},
            changed_files={file.name for file in files},
        ),
        *_manifest(subject),
        *_boot(subject, moving=moving),
        *_watchdog(subject),
        *_strangers(subject),
    )


def ignored_facts(state: HostState) -> int:
    """Count the differences that are left out on purpose, so that a report can always say how many there are."""
    count = 0
    if isinstance(state.gpus, Known):
        for gpu in state.gpus.value:
            if isinstance(gpu.processes, Known):
                count += sum(process.kind == live.GRAPHICS_ONLY for process in gpu.processes.value)
    if isinstance(state.units, Known):
        count += sum(unit.restarts > 0 for unit in state.units.value)
    return count


def _cause(*, by_git: bool, by_host: bool) -> Cause:
    if by_git and by_host:
        return "both"
    return "desired" if by_git else "drift"


def _slots(subject: Subject, edited: frozenset[str]) -> Iterator[Change]:
    rendered, committed = subject.rendered, subject.committed.live
    for slot in subject.host.slots:
        wanted, found = rendered.live[slot.name], subject.running[slot.name]
        if found == ((wanted,) if wanted else ()):
            if wanted:
                yield from _members(slot.name, rendered.groups[wanted], subject, edited)
            continue
        before = found[0] if found else None
        was_committed = slot.name in committed or _lost_commit(subject)
        cause = _cause(
            by_git=not was_committed or committed.get(slot.name, wanted) != wanted,
            by_host=was_committed and committed.get(slot.name, wanted) != before,
        )
        stopped = before is None and cause == "drift"
        yield Change(
            kind="coven",
            name=slot.name,
            word="coven_stopped" if stopped else "coven_switch",
            reason=_switch_reason(slot.name, before, wanted, cause),
            cause=cause,
            slot=slot.name,
            before=before,
            after=wanted,
        )


def _switch_reason(slot: str, before: str | None, wanted: str | None, cause: Cause) -> str:
    who = {"desired": "git", "drift": "the host", "both": "git and the host"}[cause]
    now = f"runs {before}" if before else "runs nothing"
    return f"slot {slot} {now}, declared is {wanted or 'nothing'}: {who} moved"


def _members(slot: str, group: Group, subject: Subject, edited: frozenset[str]) -> Iterator[Change]:
    units = subject.units
    before = subject.committed.running_group(group.coven)
    old_hashes = {member.service: member.config_hash for member in before.members} if before else {}
    for member in group.members:
        fault = _fault(member, units.get(member.unit), hand_edited=member.unit in edited)
        if not fault:
            continue
        word, reason, by_host = fault
        by_git = old_hashes.get(member.service) != member.config_hash
        new = word == "unit_stopped" and member.service not in old_hashes
        yield Change(
            kind="member",
            name=f"{group.coven}/{member.service}",
            word="member_new" if new else word,
            reason=f"{member.service} is new in {group.coven}" if new else reason,
            cause=_cause(by_git=by_git, by_host=by_host and not new),
            slot=slot,
            coven=group.coven,
            service=member.service,
            before=old_hashes.get(member.service),
            after=member.config_hash,
        )
    kept = {member.unit for member in group.members}
    for gone in before.members if before else ():
        if gone.unit not in kept and subject.is_up(gone.unit):
            yield Change(
                kind="member",
                name=f"{group.coven}/{gone.service}",
                word="member_gone",
                reason=f"{gone.service} is no longer part of {group.coven}",
                cause="desired",
                slot=slot,
                coven=group.coven,
                service=gone.service,
                before=gone.config_hash,
            )


def _fault(member: Member, unit: Unit | None, *, hand_edited: bool) -> tuple[ChangeWord, str, bool] | None:
    """Say what is wrong with what runs as a member, and whether it was the host that moved; None when all is well."""
    if unit and unit.load == "masked":
        return "unit_masked", f"{member.unit} is masked on the host", True
    if unit is None or unit.active == "inactive":
        return "unit_stopped", f"{member.unit} is not running", True
    if unit.sub.startswith("auto-restart"):
        return "unit_failed", f"{member.unit} {live.crashes(unit)}", True
    if unit.active not in live.UP:
        return "unit_failed", f"{member.unit} is {unit.active} ({unit.result or unit.sub})", True
    if isinstance(unit.config_hash, Known) and unit.config_hash.value != member.config_hash:
        return "config_changed", f"{member.unit} runs with another configuration than git's", False
    if hand_edited:
        return "edited_by_hand", f"the file of {member.unit} was edited by hand, so what runs may not be this", True
    if unit.need_reload:
        return "reload_needed", f"systemd runs {member.unit} by another definition than its file now says", True
    return None


def _edited_units(subject: Subject, found: Mapping[Place, ManagedFile]) -> frozenset[str]:
    """Return the units whose file is neither what git says nor what was committed."""
    committed = subject.committed.files
    suspects = {
        name: file.body_sha256
        for (tier, name), file in found.items()
        if tier == "committed" and file.body_sha256 != committed.get(name)
    }
    if not suspects:
        return frozenset()
    wanted = {file.name: file.body_sha256 for file in subject.rendered.files}
    edited = (name for name, digest in suspects.items() if digest != wanted.get(name))
    return frozenset(name.removesuffix(".container") + ".service" for name in edited)


def _residents(subject: Subject, edited: frozenset[str]) -> Iterator[Change]:
    units, committed = subject.units, subject.committed.files
    for member in subject.rendered.residents:
        fault = _fault(member, units.get(member.unit), hand_edited=member.unit in edited)
        if not fault:
            continue
        word, reason, by_host = fault
        new = _quadlet_of(member.unit) not in committed
        yield Change(
            kind="resident",
            name=member.service,
            word="member_new" if new else word,
            reason=f"resident {member.service} is new" if new else reason,
            cause="desired" if new else _cause(by_git=word == "config_changed", by_host=by_host),
            service=member.service,
            after=member.config_hash,
        )


def _orphans(subject: Subject, *, moving: set[str | None]) -> Iterator[Change]:
    """Yield running services of ours that are declared no more; those of a coven that moves stop with it."""
    stopping = {unit for group in subject.committed.groups if group.coven in moving for unit in group.units}
    for name in sorted(subject.units.keys() - subject.declared_units - stopping):
        known = name in subject.committed_units or name.startswith("recon-resident-")
        if known and name.endswith(".service") and subject.is_up(name):
            yield Change(
                kind="orphan",
                name=name,
                word="unit_gone",
                reason=f"{name} runs and is no longer declared",
                cause="desired",
                before=name,
            )


_TIER: dict[FileKind, Tier] = {"quadlet": "committed", "native": "native"}


def _files(subject: Subject, found: Mapping[Place, ManagedFile]) -> Iterator[Change]:
    committed = subject.committed.files
    extras = dict(found)
    lost = _lost_commit(subject)
    for file in subject.rendered.files:
        there = extras.pop((_TIER[file.kind], file.name), None)
        if there is None:
            yield _missing_file(file, was_committed=lost or file.name in committed)
        elif there.body_sha256 != file.body_sha256:
            yield _different_file(file, there, committed.get(file.name))
    was_part_of = _covens_by_file(subject.committed) if extras else {}
    for (tier, name), extra in sorted(extras.items()):
        # In our own directory every file is ours to drop; beside the host's units only what carries our header.
        if tier == "committed" or (tier == "native" and extra.owner is not None):
            gone = name in committed
            yield Change(
                kind="file",
                name=name,
                word="file_extra",
                reason=f"{name} is no longer declared" if gone else f"{name} was put there by hand",
                cause="desired" if gone else "drift",
                coven=was_part_of.get(name),
                before=extra.config_hash,
            )
        elif tier == "trial" and not subject.state.executor.active:
            yield Change(
                kind="file",
                name=f"trial/{name}",
                word="trial_left",
                reason=f"{name} is left over from a trial that ended without finishing",
                cause="drift",
            )


def _covens_by_file(committed: Manifest) -> dict[str, str]:
    return {_quadlet_of(unit): group.coven for group in committed.groups for unit in group.units}


def _quadlet_of(unit: str) -> str:
    return unit.removesuffix(".service") + ".container"


def _settings(subject: Subject, *, touched: set[str | None], changed_files: set[str]) -> Iterator[Change]:
    """Yield covens whose drain, warm-up or probes changed: no unit says them, but the host goes by its own record."""
    declared = {coven: group.digest for coven, group in subject.rendered.groups.items()}
    committed = {group.coven: group.digest for group in subject.committed.groups}
    if committed != declared:
        for coven, digest in sorted(declared.items()):
            if coven not in touched and committed.get(coven, digest) != digest:
                yield _changed_settings(coven)
    residents = {member.unit: member for member in subject.committed.residents}
    if residents and not any(name.startswith("recon-resident-") for name in changed_files):
        for member in subject.rendered.residents:
            known = residents.get(member.unit)
            if known is not None and known.settings() != member.settings():
                yield _changed_settings(f"resident-{member.service}")


def _changed_settings(name: str) -> Change:
    return Change(
        kind="setting",
        name=name,
        word="settings_changed",
        reason=f"how {name} is drained, judged or warmed up changed in git",
        cause="desired",
        coven=name,
    )


def _lost_commit(subject: Subject) -> bool:
    """Say whether something was committed here once and the one link that says so is gone."""
    generation = subject.state.generation
    nothing = isinstance(generation, Known) and generation.value is None
    return nothing and any(file.tier == "native" and file.owner for file in subject.files)


def _manifest(subject: Subject) -> Iterator[Change]:
    """Yield a committed manifest that does not verify or is of another machine: a new generation takes its place."""
    generation = subject.state.generation
    if not isinstance(generation, Known) or generation.value is None:
        return
    number, is_known = generation.value.number, isinstance(generation.value.manifest, Known)
    if not is_known or subject.is_another_machine:
        why = "is of another machine" if is_known else "cannot be trusted"
        yield Change(
            kind="file",
            name=f"{number}/manifest.json",
            word="manifest_lost",
            reason=f"the manifest of generation {number} {why}; a new generation takes its place",
            cause="drift",
        )


def _missing_file(file: RenderedFile, *, was_committed: bool) -> Change:
    return Change(
        kind="file",
        name=file.name,
        word="file_missing" if was_committed else "file_new",
        reason=f"{file.name} was removed by hand" if was_committed else f"{file.name} is new",
        cause="drift" if was_committed else "desired",
        coven=file.coven,
        service=file.service,
        after=file.config_hash,
        diff=() if was_committed else _unified(file.name, "", file.body),
    )


def _different_file(file: RenderedFile, there: ManagedFile, committed: str | None) -> Change:
    by_host = committed is not None and there.body_sha256 != committed
    cause = _cause(by_git=committed != file.body_sha256, by_host=by_host)
    return Change(
        kind="file",
        name=file.name,
        word="edited_by_hand" if by_host else "config_changed",
        reason=f"{file.name} was edited by hand" if by_host else f"{file.name} changed in git",
        cause=cause,
        coven=file.coven,
        service=file.service,
        before=there.config_hash,
        after=file.config_hash,
        diff=_unified(file.name, there.body, file.body) if there.body is not None else (),
    )


def _unified(name: str, before: str, after: str) -> tuple[str, ...]:
    lines = difflib.unified_diff(
        before.splitlines(),
        after.splitlines(),
        f"host/{name}" if before else "/dev/null",
        f"git/{name}",
        lineterm="",
        n=2,
    )
    return tuple(lines)


def _boot(subject: Subject, *, moving: bool) -> Iterator[Change]:
    """Yield a change when something else would boot; a coven that moves takes what boots with it."""
    state = subject.state
    if not isinstance(state.boot_targets, Known):
        return
    found = tuple(sorted(state.boot_targets.value))
    wanted = tuple(sorted(subject.rendered.boot))
    if found == wanted:
        return
    generation = state.generation.value if isinstance(state.generation, Known) else None
    committed = tuple(sorted(generation.boot)) if generation else ()
    if moving and found == committed:
        return
    yield Change(
        kind="boot",
        name="boot",
        word="boot_differs",
        reason=f"{', '.join(found) or 'nothing'} starts at boot, declared is {', '.join(wanted) or 'nothing'}",
        cause=_cause(
            by_git=committed != wanted and not _lost_commit(subject),
            by_host=_lost_commit(subject) or (generation is not None and committed != found),
        ),
        before=", ".join(found),
        after=", ".join(wanted),
    )


def _watchdog(subject: Subject) -> Iterator[Change]:
    """Yield a change when the watchdog was committed and nobody looks: its timer does not run."""
    if subject.rendered.watchdog is None or not isinstance(subject.state.units, Known):
        return
    unit = subject.units.get(TIMER)
    if TIMER in live.committed_manifest(subject.state).files and (unit is None or unit.active not in live.UP):
        yield Change(
            kind="watchdog",
            name=TIMER,
            word="unit_stopped",
            reason=f"{TIMER} is not running: nobody looks after what is committed",
            cause="drift",
        )


def _strangers(subject: Subject) -> Iterator[Change]:
    gpus = subject.state.gpus.value if isinstance(subject.state.gpus, Known) else ()
    for gpu in sorted(gpus, key=lambda gpu: gpu.uuid):
        processes = gpu.processes.value if isinstance(gpu.processes, Known) else ()
        strangers: dict[str, list[GpuProcess]] = {}
        for process in live.foreign_processes(processes, subject.our_units):
            strangers.setdefault(process.unit or process.comm, []).append(process)
        for name, group in sorted(strangers.items()):
            more = f" and {count(len(group) - 1, 'process')} more" if len(group) > 1 else ""
            yield Change(
                kind="gpu",
                name=f"{gpu.uuid}/{name}",
                word="foreign_process",
                reason=f"{live.describe(group[0])}{more} holds memory of {gpu.name} {gpu.index} and is not recon's",
                cause="drift",
                before=name,
            )
