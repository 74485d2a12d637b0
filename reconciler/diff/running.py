"""Differences in what runs: the coven of each slot, its members, residents, what is declared no more, strangers.

Must not: look at files beyond asking whether a unit's was edited.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.diff.common import Place, cause_of, lost_commit, quadlet_of
from reconciler.model import live
from reconciler.model.base import count
from reconciler.model.change import Change, ChangeWord
from reconciler.model.intent import Group, Member
from reconciler.model.observed import GpuProcess, Known, ManagedFile, Unit
from reconciler.model.plan import Cause
from reconciler.model.subject import Subject


def slot_changes(subject: Subject, edited: frozenset[str]) -> Iterator[Change]:
    """Yield a change for each slot that runs another coven than the declared one, else those of its members."""
    rendered, committed = subject.rendered, subject.committed.live
    for slot in subject.host.slots:
        wanted, found = rendered.live[slot.name], subject.running[slot.name]
        if found == ((wanted,) if wanted else ()):
            if wanted:
                yield from _members(slot.name, rendered.groups[wanted], subject, edited)
            continue
        before = found[0] if found else None
        was_committed = slot.name in committed or lost_commit(subject)
        cause = cause_of(
            by_git=not was_committed or committed.get(slot.name, wanted) != wanted,
            by_host=was_committed and committed.get(slot.name, wanted) != before,
        )
        stopped = before is None and cause == "drift"
        yield Change(
            kind="coven",
            name=slot.name,
            word="coven_stopped" if stopped else "coven_switch",
            reason=_switch_reason(slot.name, before, wanted, cause, subject),
            cause=cause,
            slot=slot.name,
            before=before,
            after=wanted,
        )


def _switch_reason(slot: str, before: str | None, wanted: str | None, cause: Cause, subject: Subject) -> str:
    schedule = subject.rendered.schedule
    if schedule is not None and schedule.declared.get(slot) != wanted:
        return f"slot {slot} runs {before or 'nothing'}, in force is {wanted or 'nothing'} by the schedule"
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
            cause=cause_of(by_git=by_git, by_host=by_host and not new),
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


def edited_units(subject: Subject, found: Mapping[Place, ManagedFile]) -> frozenset[str]:
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


def resident_changes(subject: Subject, edited: frozenset[str]) -> Iterator[Change]:
    """Yield what is wrong with what runs as a resident."""
    units, committed = subject.units, subject.committed.files
    for member in subject.rendered.residents:
        fault = _fault(member, units.get(member.unit), hand_edited=member.unit in edited)
        if not fault:
            continue
        word, reason, by_host = fault
        new = quadlet_of(member.unit) not in committed
        yield Change(
            kind="resident",
            name=member.service,
            word="member_new" if new else word,
            reason=f"resident {member.service} is new" if new else reason,
            cause="desired" if new else cause_of(by_git=word == "config_changed", by_host=by_host),
            service=member.service,
            after=member.config_hash,
        )


_BESIDE = ("recon-resident-", "recon-spiral-", "recon-job-", "recon-share-")


def orphan_changes(subject: Subject, *, moving: set[str | None]) -> Iterator[Change]:
    """Yield running services of ours that are declared no more; those of a coven that moves stop with it."""
    stopping = {unit for group in subject.committed.groups if group.coven in moving for unit in group.units}
    for name in sorted(subject.units.keys() - subject.declared_units - stopping):
        known = name in subject.committed_units or name.startswith(_BESIDE)
        is_share = name.startswith("recon-share-")
        if known and (name.endswith(".service") or is_share) and subject.is_up(name):
            yield Change(
                kind="orphan",
                name=name,
                word="unit_gone",
                reason=f"{name} runs and is no longer declared",
                cause="desired",
                before=name,
            )


def stranger_changes(subject: Subject) -> Iterator[Change]:
    """Yield who holds memory of a GPU and is not recon's."""
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
