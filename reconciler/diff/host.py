"""All differences on one host, in order, and the count of those that are left out on purpose.

Must not: compare anything itself.
"""

from __future__ import annotations

from reconciler.diff.files import boot_changes, file_changes, manifest_changes, setting_changes
from reconciler.diff.programs import schedule_changes, timer_changes
from reconciler.diff.running import edited_units, orphan_changes, resident_changes, slot_changes, stranger_changes
from reconciler.diff.share import share_changes
from reconciler.diff.spiral import spiral_changes
from reconciler.model import live
from reconciler.model.change import Change
from reconciler.model.observed import HostState, Known
from reconciler.model.subject import Subject


def diff_host(subject: Subject) -> tuple[Change, ...]:
    """Return every difference on one host: slots first, then residents, files, what boots, and strangers."""
    found = {(file.tier, file.path.rpartition("/")[2]): file for file in subject.files}
    edited = edited_units(subject, found)
    slots = tuple(slot_changes(subject, edited))
    files = tuple(file_changes(subject, found))
    moving = any(change.kind == "coven" for change in slots)
    return (
        *slots,
        *resident_changes(subject, edited),
        *orphan_changes(subject, moving={change.coven or change.before for change in slots}),
        *files,
        *setting_changes(
            subject,
            touched={change.coven for change in (*slots, *files)},
            changed_files={file.name for file in files},
        ),
        *manifest_changes(subject),
        *boot_changes(subject, moving=moving),
        *timer_changes(subject),
        *schedule_changes(subject, changed_files={file.name for file in files}),
        *share_changes(subject, changed_files=frozenset(file.name for file in files)),
        *spiral_changes(subject),
        *stranger_changes(subject),
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
