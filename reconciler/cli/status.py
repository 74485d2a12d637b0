"""`recon status`: what every host runs now."""

from __future__ import annotations

from reconciler.cli import common


def status(host: common.HostOption = None, output: common.OutputOption = common.Output.text) -> None:
    """Show what every host runs, how much memory is in use, and what recon last did there. Read-only.

    Examples: recon status · recon status --host spark-1 · recon status --output json
    """
    from reconciler.history.records import last_outcome
    from reconciler.history.records import line as say_outcome
    from reconciler.model.hidden import hidden_units
    from reconciler.model.observed import HostState
    from reconciler.model.outcome import Outcome
    from reconciler.views.escape import one_line
    from reconciler.views.status import status_document, status_lines
    from reconciler.workflow.planning import observe_hosts, render_hosts
    from reconciler.workflow.repository import open_for_deeds, select_hosts

    repository = open_for_deeds(common.SETTINGS.root, on_problems=common.tell_invalid)
    hosts = select_hosts(repository.fleet, host or ())
    rendered = render_hosts(repository, hosts)
    with common.asking() as on_done:
        answers = observe_hosts(repository, hosts, rendered, on_done=on_done)
    if output is common.Output.json:
        common.say_document(status_document(repository.fleet, answers))
    else:
        hidden = hidden_units(repository.fleet, hosts, rendered)
        for line in status_lines(hosts, answers, common.paint(), details=bool(host), hidden=hidden):
            common.say(line)
        for answer in answers.values() if host else ():
            last = last_outcome(answer) if isinstance(answer, HostState) else None
            if isinstance(last, Outcome):
                common.say(one_line(f"last transaction: {say_outcome(last)}"))
    common.finish_asked(answers)
