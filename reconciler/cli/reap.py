"""`recon reap`: what the reaper of a host would let go, and with --go have it done now."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli import common
from reconciler.errors import ExitCode


def reap(
    host: common.HostOption = None,
    go: Annotated[bool, typer.Option("--go", help="Delete what is over the budget; without it nothing is.")] = False,
    output: common.OutputOption = common.Output.text,
) -> None:
    """Show which files are over the budget of the spiral's reaper, oldest first; with --go delete them.

    Only plain files below the committed reaper.paths ever go, and never through a symlink or across a mount. A timer on
    the host does the same by itself.

    Examples: recon reap · recon reap --host gh-1 · recon reap --host gh-1 --go

    Exit codes: 0 shown or done · 3 no reaper is committed · 4 held, or somebody reaps already · 8 no answer ·
    9 some hosts failed.
    """
    from reconciler.cli.apply import owner
    from reconciler.errors import ReconError
    from reconciler.model.reaped import Reaped
    from reconciler.views.reaped import reaped_document, reaped_lines
    from reconciler.workflow.repository import open_repository, select_hosts
    from reconciler.workflow.spiral import hosts_with_reaper, reap_host

    repository = open_repository(common.SETTINGS.root)
    hosts = select_hosts(repository.fleet, host) if host else hosts_with_reaper(repository)
    answers: dict[str, Reaped] = {}
    failed: dict[str, ReconError] = {}
    for each in hosts:
        try:
            answers[each.name] = reap_host(repository, each, go=go, owner=owner())
        except ReconError as error:
            failed[each.name] = error
    if failed and not answers and len(failed) == 1:
        raise next(iter(failed.values()))
    if output is common.Output.json:
        told = {name: str(error) for name, error in failed.items()}
        common.say_document(reaped_document(repository.fleet.name, answers, told))
    else:
        for name, answer in answers.items():
            for line in reaped_lines(name, answer, common.paint()):
                common.say(line)
        for failure in failed.values():
            common.show_error(failure, as_json=False, command="reap")
        if not hosts:
            common.say("No host declares a spiral with a reaper.")
    common.finish(ExitCode.SOME_FAILED if failed else ExitCode.OK)
