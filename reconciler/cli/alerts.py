"""`recon alerts`: what stands on the hosts for a person to look at, and to clear when the cause is gone."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli import common


def alerts(
    host: common.HostOption = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Forget them, and let the watchdog look after everything again.")
    ] = False,
    output: common.OutputOption = common.Output.text,
) -> None:
    """Show the alerts of every host. With --clear forget them: a watchdog that holds off begins anew.

    The next applied transition clears them too.

    Examples: recon alerts · recon alerts --host spark-1 · recon alerts --clear --host spark-1

    Exit codes: 0 shown or cleared · 4 the watchdog acts just now, nothing was cleared · 8 a host did not answer.
    """
    from reconciler.model.observed import HostState
    from reconciler.views.alerts import alert_lines, alerts_document
    from reconciler.workflow.deeds import clear_alerts
    from reconciler.workflow.planning import observe_hosts, render_hosts
    from reconciler.workflow.repository import open_for_deeds, select_hosts

    repository = open_for_deeds(common.SETTINGS.root, on_problems=common.tell_invalid)
    hosts = select_hosts(repository.fleet, host or ())
    with common.asking() as on_done:
        answers = observe_hosts(repository, hosts, render_hosts(repository, hosts), on_done=on_done)
    reached = tuple(each for each in hosts if isinstance(answers[each.name], HostState))
    cleared = clear_alerts(repository, reached) if clear else {}
    if output is common.Output.json:
        common.say_document(alerts_document(repository.fleet.name, answers, cleared))
    else:
        for line in alert_lines(answers, cleared, common.paint()):
            common.say(line)
    common.finish_asked(answers)
