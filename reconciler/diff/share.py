"""Differences in a share: what should be mounted or exported and is not, and what changes under those who work in it.

Must not: take a mount that the host's own tick is about to make again for the fault of git.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model import live
from reconciler.model.change import Change
from reconciler.model.intent_spiral import ShareSpec
from reconciler.model.observed import Known
from reconciler.model.subject import Subject


def share_changes(subject: Subject, *, changed_files: frozenset[str]) -> Iterator[Change]:
    """Yield a change for each unit of a share that is down, up without effect, or about to be another one."""
    share = subject.rendered.spiral.share if subject.rendered.spiral else None
    if share is None or not isinstance(subject.state.units, Known):
        return
    state = subject.state.spiral.value.share if isinstance(subject.state.spiral, Known) else None
    empty = state.unexported if state else ()
    for unit in share.anchors:
        found = subject.units.get(unit)
        is_up = found is not None and found.active in live.UP
        is_new = unit not in subject.committed.files
        deed = _deed(share, unit)
        if not is_up:
            word, reason = "unit_stopped", deed if is_new else f"{deed}, and is not"
        elif unit in empty:
            word, reason = "unit_failed", f"{deed}, and the file server's table lacks it"
        elif _definition(share, unit) in changed_files:
            word, reason = "config_changed", f"{deed} in another way: what works in it is stopped meanwhile"
        else:
            continue
        yield Change(
            kind="share",
            name=unit.removeprefix("recon-share-").rpartition(".")[0],
            word=word,
            reason=reason,
            cause="desired" if is_new or word == "config_changed" else "drift",
        )


def _deed(share: ShareSpec, unit: str) -> str:
    root = share.marker.rpartition("/")[0]
    if share.role == "worker":
        return f"{share.source} is to be mounted at {root}"
    return f"{root} is to be exported to {share.exports[unit]}"


def _definition(share: ShareSpec, unit: str) -> str:
    """Return the file that a change of matters to what is mounted or exported."""
    return share.mount if share.role == "worker" else unit
