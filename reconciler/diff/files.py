"""Differences in what lies on a host: unit files, the record of the commit, and what boots.

Must not: say what runs.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from reconciler.diff.common import Place, cause_of, lost_commit, quadlet_of
from reconciler.model.change import Change
from reconciler.model.observed import Known, ManagedFile, Manifest, Tier
from reconciler.model.rendered import FileKind, RenderedFile
from reconciler.model.subject import Subject

_TIER: dict[FileKind, Tier] = {"quadlet": "committed", "native": "native"}


def file_changes(subject: Subject, found: Mapping[Place, ManagedFile]) -> Iterator[Change]:
    """Yield each file that is missing, different, extra, or left over from a trial."""
    if not isinstance(subject.state.files, Known):
        return  # refused as unknown; to call every file removed by hand would be a guess
    committed = subject.committed.files
    extras = dict(found)
    lost = lost_commit(subject)
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
    return {quadlet_of(unit): group.coven for group in committed.groups for unit in group.units}


def setting_changes(subject: Subject, *, touched: set[str | None], changed_files: set[str]) -> Iterator[Change]:
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


def manifest_changes(subject: Subject) -> Iterator[Change]:
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
    cause = cause_of(by_git=committed != file.body_sha256, by_host=by_host)
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


def boot_changes(subject: Subject, *, moving: bool) -> Iterator[Change]:
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
        reason=_boots(found, wanted),
        cause=cause_of(
            by_git=committed != wanted and not lost_commit(subject),
            by_host=lost_commit(subject) or (generation is not None and committed != found),
        ),
        before=", ".join(found),
        after=", ".join(wanted),
    )


def _boots(found: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    """Say what is missing of what should start at boot, and what does and should not; what is right needs no word."""
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    do = "does" if len(missing) == 1 else "do"
    said = [f"{', '.join(missing)} {do} not start at boot"] if missing else []
    start, are = ("starts", "is") if len(extra) == 1 else ("start", "are")
    said += [f"{', '.join(extra)} {start} at boot and {are} not declared to"] if extra else []
    return "; ".join(said)
