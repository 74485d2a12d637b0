"""`recon down` and `recon up`: stop the spiral, the covens or both at once, when a commit would be too slow."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import common
from reconciler.errors import ExitCode, Problem, UsageError

if TYPE_CHECKING:
    from reconciler.model.base import Wire

_REFUSED = frozenset({"REC7361", "REC7362"})


class What(StrEnum):
    """What is taken down."""

    spiral = "spiral"
    coven = "coven"
    all = "all"


Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept on the host and shown.")]


def down(
    reason: Reason,
    what: Annotated[What, typer.Argument(help="What is stopped.")] = What.spiral,
    host: common.HostOption = None,
    output: common.OutputOption = common.Output.text,
) -> None:
    """Stop the spiral, the covens, or both, at once, and keep them down until `recon up`, also after a reboot.

    Always allowed: no claim or lock is waited for. Without --host on every host.

    Examples: recon down --reason 'runaway queue' · recon down all --host gh-1 --reason 'cooling fails'

    Exit codes: 0 down everywhere · 8 no host answered · 9 some did not.
    """
    from reconciler.apply.down import Wish
    from reconciler.cli.apply import owner
    from reconciler.workflow.deeds import take_down
    from reconciler.workflow.repository import open_for_deeds, select_hosts

    repository = open_for_deeds(common.SETTINGS.root, on_problems=common.tell_invalid)
    hosts = select_hosts(repository.fleet, host or ())
    wish = Wish(scope=what.value, owner=owner(), reason=reason)
    _finish("down", take_down(repository, hosts, wish), output)


def up(
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept on the host.")] = "",
    what: Annotated[What, typer.Argument(help="What may run again.")] = What.spiral,
    host: common.HostOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Start the spiral although its flag is off or a guardrail does not hold.")
    ] = False,
    clear: Annotated[
        bool, typer.Option("--clear", help="Forget that the spiral was forced; nothing is started.")
    ] = False,
    output: common.OutputOption = common.Output.text,
) -> None:
    """Lift what `recon down` did. The spiral starts when it is enabled and every guardrail holds.

    With --force it starts all the same; that is recorded on the host, and shown in plan and status until --clear.
    A coven comes back by the next `recon apply`, which measures memory first.

    Examples: recon up --host gh-1 · recon up --force --host gh-1 --reason 'tested by hand'

    Exit codes: 0 lifted everywhere · 3 refused · 8 no host answered · 9 some hosts failed.
    """
    from reconciler.apply.down import Wish
    from reconciler.cli.apply import owner
    from reconciler.workflow.deeds import lift_down
    from reconciler.workflow.repository import open_for_deeds, select_hosts

    if force and not reason.strip():
        raise UsageError(
            Problem("REC7018", "--force needs a reason", "it is recorded on the host", "add --reason TEXT")
        )
    repository = open_for_deeds(common.SETTINGS.root, on_problems=common.tell_invalid)
    hosts = select_hosts(repository.fleet, host or ())
    wish = Wish(scope=what.value, owner=owner(), reason=reason or "lifted", force=force, clear=clear)
    _finish("up", lift_down(repository, hosts, wish), output)


def _finish(command: str, done: Mapping[str, Wire | Problem], output: common.Output) -> None:
    from reconciler.views.down import down_document, down_lines

    if output is common.Output.json:
        common.say_document(down_document(command, done))
    else:
        for line in down_lines(command, done, common.paint()):
            common.say(line)
    common.finish(_exit_code(done))


def _exit_code(done: Mapping[str, Wire | Problem]) -> ExitCode:
    problems = [each for each in done.values() if isinstance(each, Problem)]
    if not problems:
        return ExitCode.OK
    if all(problem.code in _REFUSED for problem in problems):
        return ExitCode.REFUSED
    return ExitCode.UNKNOWN_OUTCOME if len(problems) == len(done) else ExitCode.SOME_FAILED
