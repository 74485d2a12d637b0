"""What must be certain before a plan may go without the committed manifest, which does not verify.

The manifest says how to drain and stop what runs. Without it git may say so, but only of what surely is what git
describes: every gate that is up is that of a coven in git, and every process behind it carries the configuration hash
of git. Whatever else of ours is up must be stopped by hand first.

Pure. Must not: guess from a file what a process is.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model.observed import Known
from reconciler.model.plan import Refusal
from reconciler.model.subject import Subject

_SHARE = "recon-share-"  # it holds no process
_PREFIX, _GATE = "recon-", "recon-gate-"
_OWN = frozenset(f"recon-{what}.service" for what in ("executor", "watchdog", "schedule", "spiral", "reaper", "events"))


def untold(subject: Subject) -> Iterator[Refusal]:
    """Yield a refusal for everything of ours that is up and is not surely what git describes."""
    groups = {group.gate: group for group in subject.rendered.groups.values()}
    members = {member.unit: (group.gate, member) for group in groups.values() for member in group.members}
    residents = {member.unit: member for member in subject.rendered.residents}
    for name in sorted(subject.units):
        is_told = name in _OWN or name.startswith(_SHARE)
        if not name.endswith(".service") or not name.startswith(_PREFIX) or is_told or not subject.is_up(name):
            continue
        if name.startswith(_GATE):
            if name not in groups:
                yield _refusal(subject, f"{name} is up, and git does not describe its coven", name)
        elif name in members or name in residents:
            gate, member = members.get(name) or (name, residents[name])
            running = subject.units[name].config_hash
            if not isinstance(running, Known) or running.value != member.config_hash:
                yield _refusal(subject, f"what runs as {name} is not what git describes, or does not say so", gate)
        else:
            yield _refusal(subject, f"{name} is up, and git does not know it", name)


def _refusal(subject: Subject, detail: str, unit: str) -> Refusal:
    return Refusal(
        code="REC7233",
        summary=f"nobody can tell how to drain and stop what runs on {subject.host.name}",
        detail=detail,
        fix=f"on the host, when it may stop: systemctl stop {unit}",
    )
