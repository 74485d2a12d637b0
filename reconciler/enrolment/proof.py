"""Whether a machine is fit to be a host, and whether the new way in is one.

Must not: change anything on the host, or leave untold what is left there when something fails.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reconciler.enrolment.asked import Ears, Wish
from reconciler.errors import HostError, Problem, RefusedError, UnreachableError
from reconciler.model.desired import Defaults, Fleet, Ssh
from reconciler.model.observed import Known
from reconciler.model.survey import Check, Survey
from reconciler.planner.checkup import judge

if TYPE_CHECKING:
    from reconciler.hosts.known_hosts import HostKey
    from reconciler.hosts.ssh import SshRun, Target
    from reconciler.hosts.transport import Transport

_UNREACHED = frozenset(f"REC600{number}" for number in range(1, 9))


@dataclass(frozen=True, slots=True)
class Way:
    """How the host is reached now, and how git will say it; `key` is the one that is pinned."""

    run: SshRun
    target: Target
    ssh: Ssh
    key: HostKey

    @property
    def new(self) -> Target:
        """Return the way in that will stand in git."""
        return replace(self.target, place=replace(self.target.place, user=self.ssh.user))


def fit(fleet: Fleet, defaults: Defaults, wish: Wish, ears: Ears, transport: Transport, *, way: str) -> Survey:
    """Ask the host, tell every check, and refuse one that recon could not work with."""
    from reconciler.hosts.survey import ask_survey

    answer = ask_survey(wish.name, transport)
    if answer.survey is None:
        raise _of(answer.problem or Problem("REC5005", "the host's reply is not valid"))
    ears.on_check(Check(name="ssh", verdict="ok", text=way))
    offset_s = None if fleet.transport == "sim" else answer.offset_s
    checks = judge(
        answer.survey,
        offset_s=offset_s,
        owners=(f"{fleet.name}/{wish.name}",),
        platform=defaults.platform,
        scope=wish.scope,
        mounts=wish.share is not None,
    )
    for check in checks:
        ears.on_check(check)
    failed = [check.name for check in checks if check.verdict == "failed"]
    if failed:
        fix = "do what the lines above say, then type the same command again"
        detail = f"{', '.join(failed)} failed; nothing was changed on the host or here"
        raise RefusedError(Problem("REC7427", "the host is not fit yet", detail, fix))
    return answer.survey


def prove(wish: Wish, way: Way, before: Survey, done: tuple[str, ...]) -> None:
    """Log in the way git will say, and see that it is the same machine and the agent is root there."""
    from reconciler.hosts.survey import ask_survey

    transport = way.run.transport(way.new)
    try:
        answer = ask_survey(wish.name, transport)
    finally:
        transport.close()
    summary, fix = "the new way in does not work", "correct that on the host, then type the same command again"
    if answer.survey is None:
        problem = answer.problem or Problem("REC5005", "the host's reply is not valid")
        raise HostError(
            Problem("REC7428", summary, and_left(f"[{problem.code}] {problem.detail}", done), problem.fix or fix)
        )
    if answer.survey.machine_id != before.machine_id:
        raise HostError(Problem("REC7428", summary, and_left("another machine answered", done), fix))
    if wish.scope == "user":
        _prove_users(way, answer.survey, done)
        return
    if not isinstance(answer.survey.uid, Known) or answer.survey.uid.value != 0:
        detail = f"{way.ssh.user} logs in and may not become root"
        raise HostError(Problem("REC7428", summary, and_left(detail, done), "add --user recon, or a sudoers rule"))


def _prove_users(way: Way, survey: Survey, done: tuple[str, ...]) -> None:
    """See that the installed agent is the login's own, with no right of root's."""
    if isinstance(survey.uid, Known) and survey.uid.value != 0 and survey.mode == "installed":
        return
    detail = f"{way.ssh.user} logs in, and the agent is {survey.mode} there and runs as {survey.uid}"
    raise HostError(Problem("REC7428", "the new way in does not work", and_left(detail, done), "recon doctor"))


def _of(problem: Problem) -> HostError:
    """Return the error of a problem on the way to a host; the connection's have an exit code of their own."""
    return UnreachableError(problem) if problem.code in _UNREACHED else HostError(problem)


def and_left(detail: str, done: tuple[str, ...]) -> str:
    """Add to a message what is left on the host of an enrolment that ended early."""
    left = f"left on the host: {'; '.join(done)}" if done else "nothing was changed on the host"
    return f"{detail}; {left}; nothing was written here" if detail else f"{left}; nothing was written here"
