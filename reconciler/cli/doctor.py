"""`recon doctor`: is every host fit for recon, and what to type where it is not."""

from __future__ import annotations

from reconciler.cli import common
from reconciler.errors import ExitCode


def doctor(host: common.HostOption = None, output: common.OutputOption = common.Output.text) -> None:
    """Check every host: SSH, Python, systemd, podman, driver, CDI, GPUs, clock, disks, other fleets' files. Read-only.

    The agent travels along and leaves nothing behind, so hosts that were never enrolled can be checked too. A user who
    may not become root is enough to look: what needs root is then said to be unknown.

    Examples: recon doctor · recon doctor --host spark-1 · recon doctor --output json

    Exit codes: 0 nothing failed · 3 something failed · 8 a host did not answer.
    """
    from reconciler.enrolment.checks import check_hosts
    from reconciler.views.checkup import checkup_document, checkup_lines
    from reconciler.workflow.repository import open_for_deeds, select_hosts

    repository = open_for_deeds(common.SETTINGS.root, on_problems=common.tell_invalid)
    hosts = select_hosts(repository.fleet, host or ())
    with common.asking() as on_done:
        checkups = check_hosts(repository, hosts, on_done=on_done)
    answered = [checkup for checkup in checkups if checkup.code is None]
    code = ExitCode.OK if len(answered) == len(checkups) else ExitCode.UNKNOWN_OUTCOME
    if any(checkup.verdict == "failed" for checkup in answered):
        code = ExitCode.REFUSED
    if output is common.Output.json:
        common.say_document(checkup_document(repository.fleet.name, checkups, int(code)))
    else:
        for line in checkup_lines(checkups, common.paint()):
            common.say(line)
    common.finish(code)
