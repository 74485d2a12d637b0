"""`recon history`: what happened on the hosts, who did it, from which commit, and how long it took."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli import common
from reconciler.errors import ExitCode


def history(
    host: Annotated[list[str] | None, typer.Argument(help="The hosts; * and ? match. All when absent.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=2000, help="How many of the last lines.")] = 20,
    output: common.OutputOption = common.Output.text,
) -> None:
    """Show the history that hosts keep of themselves, oldest first: transitions, and everything else that was done.

    Every line is sealed to the one before; one that was changed or is missing is told.

    Examples: recon history spark-1 · recon history spark-1 --limit 100 --output json

    Exit codes: 0 shown · 1 a history is damaged · 8 a host did not answer.
    """
    from reconciler.views.history import history_document, history_lines
    from reconciler.workflow.deeds import read_history
    from reconciler.workflow.repository import open_for_deeds, select_hosts

    repository = open_for_deeds(common.SETTINGS.root, on_problems=common.tell_invalid)
    found, lost = read_history(repository, select_hosts(repository.fleet, host or ()), limit)
    told = {name: (each.lines, each.problems) for name, each in found.items()}
    if output is common.Output.json:
        common.say_document(history_document(repository.fleet.name, told, lost))
    else:
        for line in history_lines(told, lost, common.paint()):
            common.say(line)
    damaged = any(each.problems for each in found.values())
    common.finish(ExitCode.UNKNOWN_OUTCOME if lost else ExitCode.ERROR if damaged else ExitCode.OK)
