"""Differences in the spiral: its loops, and the keys of its control file that are recon's.

Must not: take what a person has down for a difference.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.diff.common import cause_of, quadlet_of
from reconciler.model import live
from reconciler.model.change import Change, ChangeWord
from reconciler.model.observed import Known
from reconciler.model.observed_loop import LoopState
from reconciler.model.subject import Subject

SPIRAL = "recon-spiral.target"


def spiral_changes(subject: Subject) -> Iterator[Change]:
    """Yield each loop of the spiral that does not run and should, runs and should not, or runs an older definition.

    What a person has down is no difference: it is held, and the plan says so in a line of its own.
    """
    spiral = subject.rendered.spiral
    if spiral is None or not isinstance(subject.state.units, Known):
        return
    down = subject.state.down.value if isinstance(subject.state.down, Known) else None
    is_down = down is not None and down.spiral is not None
    is_wanted = not is_down and (spiral.enabled or (down is not None and down.forced is not None))
    loop = subject.state.loop.value if isinstance(subject.state.loop, Known) else None
    yield from _owned_keys(loop)
    resting = loop.stopped if loop else ()
    for member in spiral.units:
        unit = subject.units.get(member.unit)
        is_new = member.unit not in subject.committed_units and not _is_committed(subject, member.unit)
        fault: tuple[ChangeWord, str] | None = None
        if unit is None or unit.active not in live.UP:
            if is_wanted and member.unit not in resting:
                word: ChangeWord = "unit_failed" if unit is not None and unit.active == "failed" else "unit_stopped"
                fault = (word, f"{member.name} of the spiral does not run")
        elif not is_wanted and not is_down:
            fault = ("unit_runs", f"{member.name} of the spiral runs, and git says 'enabled: false'")
        elif isinstance(unit.config_hash, Known) and unit.config_hash.value != member.config_hash:
            fault = ("config_changed", f"{member.name} of the spiral runs an older definition")
        if fault is not None:
            cause = "desired" if is_new or fault[0] in {"config_changed", "unit_runs"} else "drift"
            yield Change(
                kind="spiral",
                name=member.name,
                word=fault[0],
                reason=fault[1],
                cause=cause_of(by_git=cause == "desired" or not _was_enabled(subject), by_host=cause == "drift"),
                service=member.name,
                after=member.config_hash,
            )


def _owned_keys(loop: LoopState | None) -> Iterator[Change]:
    """Yield each key of the control file that is recon's and is not what holds; the host's own timer writes it back."""
    if loop is None or loop.control is None:
        return
    for name, value in sorted(loop.caps.items()):
        found = loop.control.get(name)
        if found != value:
            yield Change(
                kind="control",
                name=name,
                word="edited_by_hand",
                reason=f"{name} in the control file is {found}, {value} holds: the host writes it back within a minute",
                cause="drift",
                before=str(found),
                after=str(value),
            )


def _is_committed(subject: Subject, unit: str) -> bool:
    """Say whether the committed generation has the file of a unit."""
    return unit in subject.committed.files or quadlet_of(unit) in subject.committed.files


def _was_enabled(subject: Subject) -> bool:
    """Say whether the committed generation boots the spiral."""
    generation = subject.state.generation
    return isinstance(generation, Known) and generation.value is not None and SPIRAL in generation.value.boot
