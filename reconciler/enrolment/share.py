"""A new worker of a share: whether its hub is ready for one, and its name in git.

The hub is asked before anything is changed anywhere: a host that claims jobs where claiming is not safe between hosts
takes the same job as another one, and nobody sees it.

Must not: write the marker. A person says that claiming is safe, after trying it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import HostError, Problem, RefusedError, UnreachableError, UsageError
from reconciler.load.explain import nearest
from reconciler.load.fleet import load_templates
from reconciler.load.share_edit import FILE, with_worker
from reconciler.model.desired import Fleet
from reconciler.model.observed import Known, Observation, Unreachable
from reconciler.model.share import MARKER
from reconciler.model.spiral_state import ShareState
from reconciler.planner.budget import why
from reconciler.render import Memo


@dataclass(frozen=True, slots=True)
class NewWorker:
    """What is to be written for it: `text` None where a person writes it, `line` what that says."""

    share: str
    text: str | None
    line: str
    is_there: bool


def new_worker(root: Path, fleet: Fleet, name: str, share: str) -> NewWorker:
    """Return what git will say, before anything is asked of anybody.

    Raises:
        UsageError: REC7485, there is no such share.
        RefusedError: REC7485, the host is something else in a share already.
    """
    shares = fleet.spiral.shares if fleet.spiral else {}
    if share not in shares:
        meant = nearest(share, shares)
        detail = f"shares in {FILE}: {', '.join(sorted(shares)) or 'none'}"
        fix = f"--share {meant}" if meant else f"declare it first: shares: {{{share[:31]}: {{hub: HOST}}}}"
        raise UsageError(Problem("REC7485", f"there is no share {share[:40]!a}", detail, fix))
    for other, each in shares.items():
        if name == each.hub or (name in each.workers and other != share):
            role = "the hub" if name == each.hub else "a worker"
            detail = f"{name} is {role} of share {other}, and a host is in one share, once"
            raise RefusedError(
                Problem("REC7485", "the host cannot be a worker of that share", detail, f"look at {FILE}")
            )
    workers = shares[share].workers
    line = f"shares.{share}.workers: [{', '.join(dict.fromkeys((*workers, name)))}]"
    text = with_worker((root / FILE).read_text(encoding="utf-8"), share, name)
    return NewWorker(share, text, line, is_there=name in workers)


def check_hub(root: Path, fleet: Fleet, share: str) -> str:
    """Look for the marker on the hub; return what was seen.

    Raises:
        RefusedError: REC7483, the marker is not there; REC7484, whether it is cannot be told.
        HostError: the hub could not be asked.
    """
    if fleet.spiral is None:
        raise AssertionError("a fleet with a share has a spiral")
    hub = fleet.spiral.shares[share].hub
    place = f"{fleet.spiral.root.rstrip('/')}/{MARKER}"
    return is_safe(share, hub, place, _share_of(_ask(root, fleet, hub)))


def is_safe(share: str, hub: str, place: str, state: ShareState) -> str:
    """Return what was seen of the marker on the hub; RefusedError as of `check_hub` where it is not there."""
    if state.marker == "there":
        return f"{state.text} on the hub, {hub}"
    if state.marker == "missing":
        detail = (
            f"{state.text} on {hub}. It is a person's word that two hosts never claim the same job: that the loop"
            " claims by a rename or an exclusive create, and that this was tried. Nothing was changed"
        )
        fix = f"when that is so, on {hub}: touch {place}"
        raise RefusedError(Problem("REC7483", f"nobody has said that claiming from share {share} is safe", detail, fix))
    fix = f"recon status --host {hub}"
    raise RefusedError(
        Problem("REC7484", f"whether claiming from share {share} is safe cannot be told", state.text, fix)
    )


def write_worker(root: Path, worker: NewWorker, name: str) -> bool:
    """Write the name into git as the file is by now; say whether it stands there.

    Minutes may have gone by since it was read, with a question to a person in between, and somebody else enrolled.
    """
    path = root / FILE
    before = path.read_text(encoding="utf-8")
    after = with_worker(before, worker.share, name)
    if after is None:
        return False
    if after != before:
        path.write_text(after, encoding="utf-8")
    return True


def _ask(root: Path, fleet: Fleet, name: str) -> Observation:
    from reconciler.hosts.connect import connector
    from reconciler.hosts.observe import observe_fleet

    rendered = {name: Memo(fleet, load_templates(root)).host(fleet.hosts[name])}
    connect = connector(fleet, root)
    try:
        return observe_fleet(fleet, [name], connect, rendered=rendered)[name]
    finally:
        connect.close()


def _share_of(answer: Observation) -> ShareState:
    if isinstance(answer, Unreachable):
        fix = "recon status, and type the same command again when the hub answers"
        raise UnreachableError(Problem(answer.code, "the hub of the share did not answer", answer.reason, fix))
    if not isinstance(answer.spiral, Known) or answer.spiral.value.share is None:
        said = "it does not say" if isinstance(answer.spiral, Known) else why(answer.spiral)
        raise HostError(Problem("REC7484", "what the hub has of the share cannot be told", said, "recon status"))
    return answer.spiral.value.share
