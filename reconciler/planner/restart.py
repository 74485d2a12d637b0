"""The restart of one service that a person asks for: which one is meant, and the change that a plan is made from.

The host stays what was committed there; so where it is not, an apply comes first. Services of others and the loops of
the spiral are refused here, with what can be typed instead.

Pure. Must not: plan any other change than the one that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from reconciler.errors import Problem, RefusedError
from reconciler.model.change import REPORTED, Change
from reconciler.model.desired import Host
from reconciler.model.intent import Member
from reconciler.model.rendered import RenderedHost
from reconciler.model.subject import Subject

RESIDENT = "resident"
SPIRAL = "recon-spiral-"


class Target(NamedTuple):
    """The service that is meant; `slot` and `coven` are None for a resident."""

    member: Member
    slot: str | None = None
    coven: str | None = None

    @property
    def name(self) -> str:
        """Return its name among all services of the host."""
        return f"{self.coven or RESIDENT}/{self.member.service}"


def find_target(asked: str, host: Host, rendered: RenderedHost) -> Target:
    """Return the one service of what is live, or stays up, that has this name; RefusedError when there is none."""
    _refuse_shared(asked, host)
    targets = list(_targets(rendered))
    found = [target for target in targets if asked in _names(target)]
    if len(found) == 1:
        return found[0]
    _refuse_spiral(asked, host, rendered)
    if found:
        detail = f"'{asked}' is {' and '.join(target.name for target in found)}"
        raise RefusedError(
            Problem("REC7401", "more than one service has that name", detail, _command(host, found[0].name))
        )
    elsewhere = sorted(
        coven for coven, group in rendered.groups.items() if any(asked == member.service for member in group.members)
    )
    known = ", ".join(target.name for target in targets) or "none"
    detail = (
        f"it is of {', '.join(elsewhere)}, which {host.name} does not run" if elsewhere else f"{host.name} runs {known}"
    )
    raise RefusedError(
        Problem("REC7401", f"no service '{asked}' runs on {host.name}", detail, f"recon status --host {host.name}")
    )


def asked_changes(target: Target, subject: Subject, changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """Return the changes of a plan that restarts a service and does nothing else; RefusedError when there is more."""
    mine = [change for change in changes if _is_of(change, target)]
    others = [change for change in changes if change.kind not in REPORTED and change not in mine]
    host = subject.host.name
    if others:
        detail = "; ".join(change.reason for change in others[:3])
        summary = f"{host} is not as it was committed, so more than one service would change"
        raise RefusedError(Problem("REC7403", summary, detail, f"recon apply --host {host}"))
    said = f"a restart of {target.name} is asked for"
    if mine:
        return tuple(change.model_copy(update={"reason": f"{change.reason}, and {said}"}) for change in mine)
    return (
        Change(
            kind="member" if target.coven else "resident",
            name=target.name if target.coven else target.member.service,
            word="restart_asked",
            reason=said,
            cause="desired",
            slot=target.slot,
            coven=target.coven,
            service=target.member.service,
            before=target.member.config_hash,
            after=target.member.config_hash,
        ),
    )


def _is_of(change: Change, target: Target) -> bool:
    same = change.service == target.member.service and change.coven == target.coven
    return same and change.kind == ("member" if target.coven else "resident")


def _targets(rendered: RenderedHost) -> Iterator[Target]:
    for slot, coven in sorted(rendered.live.items()):
        if coven in rendered.groups:
            yield from (Target(member, slot, coven) for member in rendered.groups[coven].members)
    yield from (Target(member) for member in rendered.residents)


def _names(target: Target) -> frozenset[str]:
    member = target.member
    return frozenset({member.service, target.name, member.unit, member.container})


def _refuse_shared(asked: str, host: Host) -> None:
    for shared in host.shared:
        if asked in (shared.unit, shared.unit.rpartition(".")[0]):
            detail = "others rely on it: it is observed, probed and budgeted, and recon never acts on it"
            fix = f"on the host, if it is yours: systemctl restart {shared.unit}"
            raise RefusedError(Problem("REC7400", f"{shared.unit} is a shared service of {host.name}", detail, fix))


def _refuse_spiral(asked: str, host: Host, rendered: RenderedHost) -> None:
    loops = {unit.name for unit in rendered.spiral.units} if rendered.spiral else set()
    if asked == "spiral" or asked in loops or asked.startswith(("spiral/", SPIRAL)):
        detail = "its loops are stopped and started all together, with their guardrails checked"
        fix = f"recon down spiral --host {host.name} --reason TEXT, then recon up spiral --host {host.name}"
        raise RefusedError(Problem("REC7402", f"'{asked}' is of the spiral", detail, fix))


def _command(host: Host, name: str) -> str:
    return f"recon restart {host.name} {name}"
