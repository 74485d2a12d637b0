"""Differences between what is declared and what a host runs, each with its cause.

Pure: no I/O, no clock. Volatile facts (pids, bytes, temperatures, health at one moment) never become changes: observing
right after an apply gives none. Must not: decide what is done about a difference.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Literal

from reconciler.model import live
from reconciler.model.base import count
from reconciler.model.change import Change, ChangeWord
from reconciler.model.desired import Host
from reconciler.model.intent import Group, Member
from reconciler.model.observed import GpuProcess, HostState, Known, ManagedFile, Unit
from reconciler.model.plan import Cause
from reconciler.model.rendered import RenderedFile, RenderedHost

TIMER = "recon-watchdog.timer"


def diff_host(rendered: RenderedHost, host: Host, state: HostState) -> tuple[Change, ...]:
    """Return every difference on one host: slots first, then residents, files, what boots, and strangers."""
    edited = _edited_units(rendered, state)
    slots = tuple(_slots(rendered, host, state, edited))
    files = tuple(_files(rendered, state))
    moving = any(change.kind == "coven" for change in slots)
    return (
        *slots,
        *_residents(rendered, state, edited),
        *_orphans(rendered, state, moving={change.coven or change.before for change in slots}),
        *files,
        *_settings(
            rendered,
            state,
            touched={change.coven for change in (*slots, *files)},
            changed_files={file.name for file in files},
        ),
        *_boot(rendered, state, moving=moving),
        *_watchdog(rendered, state),
        *_strangers(rendered, host, state),
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


def _slots(rendered: RenderedHost, host: Host, state: HostState, edited: frozenset[str]) -> Iterator[Change]:
    running = live.live_covens(host, state)
    committed = live.committed_live(state)
    for slot in host.slots:
        wanted, found = rendered.live[slot.name], running[slot.name]
        if found == ((wanted,) if wanted else ()):
            if wanted:
                yield from _members(slot.name, rendered.groups[wanted], state, edited)
            continue
        before = found[0] if found else None
        was_committed = slot.name in committed or _lost_commit(state)
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


def _members(slot: str, group: Group, state: HostState, edited: frozenset[str]) -> Iterator[Change]:
    units = live.units_by_name(state)
    before = live.committed_groups(state).get(group.coven)
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
        unit = units.get(gone.unit)
        if gone.unit not in kept and unit and unit.active in live.UP:
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
    if unit.sub == "auto-restart":
        return "unit_failed", f"{member.unit} crashes again and again ({count(unit.restarts, 'restart')})", True
    if unit.active not in live.UP:
        return "unit_failed", f"{member.unit} is {unit.active} ({unit.result or unit.sub})", True
    if isinstance(unit.config_hash, Known) and unit.config_hash.value != member.config_hash:
        return "config_changed", f"{member.unit} runs with another configuration than git's", False
    if hand_edited:
        return "edited_by_hand", f"the file of {member.unit} was edited by hand, so what runs may not be this", True
    if unit.need_reload:
        return "reload_needed", f"systemd runs {member.unit} by another definition than its file now says", True
    return None


def _edited_units(rendered: RenderedHost, state: HostState) -> frozenset[str]:
    """Return the units whose file is neither what git says nor what was committed."""
    committed = live.committed_files(state)
    wanted = {file.name: file.body_sha256 for file in rendered.files}
    edited = []
    for file in _managed(state):
        name = _base(file)
        if (
            file.tier == "committed"
            and file.body_sha256 != committed.get(name)
            and file.body_sha256 != wanted.get(name)
        ):
            edited.append(name.removesuffix(".container") + ".service")
    return frozenset(edited)


def _residents(rendered: RenderedHost, state: HostState, edited: frozenset[str]) -> Iterator[Change]:
    units = live.units_by_name(state)
    committed = live.committed_files(state)
    for member in rendered.residents:
        fault = _fault(member, units.get(member.unit), hand_edited=member.unit in edited)
        if not fault:
            continue
        word, reason, by_host = fault
        new = member.unit.removesuffix(".service") + ".container" not in committed
        yield Change(
            kind="resident",
            name=member.service,
            word="member_new" if new else word,
            reason=f"resident {member.service} is new" if new else reason,
            cause="desired" if new else _cause(by_git=word == "config_changed", by_host=by_host),
            service=member.service,
            after=member.config_hash,
        )


def _orphans(rendered: RenderedHost, state: HostState, *, moving: set[str | None]) -> Iterator[Change]:
    """Yield running services of ours that are declared no more; those of a coven that moves stop with it."""
    declared = live.coven_units(rendered.groups) | {member.unit for member in rendered.residents}
    groups = live.committed_groups(state)
    stopping = live.coven_units({coven: group for coven, group in groups.items() if coven in moving})
    committed = live.coven_units(groups)
    for name, unit in sorted(live.units_by_name(state).items()):
        known = name in committed or name.startswith("recon-resident-")
        if known and unit.active in live.UP and name.endswith(".service") and name not in declared | stopping:
            yield Change(
                kind="orphan",
                name=name,
                word="unit_gone",
                reason=f"{name} runs and is no longer declared",
                cause="desired",
                before=name,
            )


def _managed(state: HostState) -> tuple[ManagedFile, ...]:
    return state.files.value if isinstance(state.files, Known) else ()


def _base(file: ManagedFile) -> str:
    return file.path.rsplit("/", 1)[1]


_TIER: dict[str, Literal["committed", "native"]] = {"quadlet": "committed", "native": "native"}


def _files(rendered: RenderedHost, state: HostState) -> Iterator[Change]:
    committed = live.committed_files(state)
    found = {(file.tier, _base(file)): file for file in _managed(state)}
    lost = _lost_commit(state)
    for file in rendered.files:
        there = found.pop((_TIER[file.kind], file.name), None)
        if there is None:
            yield _missing_file(file, was_committed=lost or file.name in committed)
        elif there.body_sha256 != file.body_sha256:
            yield _different_file(file, there, committed.get(file.name))
    was_part_of = {
        f"{member.container}.container": coven
        for coven, group in live.committed_groups(state).items()
        for member in group.members
    }
    for (tier, name), extra in sorted(found.items()):
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
        elif tier == "trial" and not state.executor.active:
            yield Change(
                kind="file",
                name=f"trial/{name}",
                word="trial_left",
                reason=f"{name} is left over from a trial that ended without finishing",
                cause="drift",
            )


def _settings(
    rendered: RenderedHost, state: HostState, *, touched: set[str | None], changed_files: set[str]
) -> Iterator[Change]:
    """Yield covens whose drain, warm-up or probes changed: no unit says them, but the host goes by its own record."""
    committed = live.committed_groups(state)
    for coven, group in sorted(rendered.groups.items()):
        if coven in committed and coven not in touched and committed[coven].digest != group.digest:
            yield _changed_settings(coven)
    residents = live.committed_residents(state)
    if residents and not any(name.startswith("recon-resident-") for name in changed_files):
        for member in rendered.residents:
            if member.unit in residents and residents[member.unit] != member:
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


def _lost_commit(state: HostState) -> bool:
    """Say whether something was committed here once and the one link that says so is gone."""
    nothing = isinstance(state.generation, Known) and state.generation.value is None
    return nothing and any(file.tier == "native" and file.owner for file in _managed(state))


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


def _boot(rendered: RenderedHost, state: HostState, *, moving: bool) -> Iterator[Change]:
    """Yield a change when something else would boot; a coven that moves takes what boots with it."""
    if not isinstance(state.boot_targets, Known):
        return
    found = tuple(sorted(state.boot_targets.value))
    wanted = tuple(sorted(rendered.boot))
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
            by_git=committed != wanted and not _lost_commit(state),
            by_host=_lost_commit(state) or (generation is not None and committed != found),
        ),
        before=", ".join(found),
        after=", ".join(wanted),
    )


def _watchdog(rendered: RenderedHost, state: HostState) -> Iterator[Change]:
    """Yield a change when the watchdog was committed and nobody looks: its timer does not run."""
    if rendered.watchdog is None or not isinstance(state.units, Known) or TIMER not in live.committed_files(state):
        return
    unit = live.units_by_name(state).get(TIMER)
    if unit is None or unit.active not in live.UP:
        yield Change(
            kind="watchdog",
            name=TIMER,
            word="unit_stopped",
            reason=f"{TIMER} is not running: nobody looks after what is committed",
            cause="drift",
        )


def _strangers(rendered: RenderedHost, host: Host, state: HostState) -> Iterator[Change]:
    if not isinstance(state.gpus, Known):
        return
    ours = live.known_units(rendered, host, state)
    for gpu in sorted(state.gpus.value, key=lambda gpu: gpu.uuid):
        processes = gpu.processes.value if isinstance(gpu.processes, Known) else ()
        strangers: dict[str, list[GpuProcess]] = {}
        for process in live.foreign_processes(processes, ours):
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
