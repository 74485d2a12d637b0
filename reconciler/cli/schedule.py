"""`recon schedule`: the week of every host as a chart, and the jobs that other programs registered there."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli import common
from reconciler.errors import ExitCode, Problem, UsageError

app = typer.Typer(invoke_without_command=True)

HostArgument = Annotated[str, typer.Argument(help="The host the job runs on.")]
NameOption = Annotated[str, typer.Option("--name", metavar="NAME", help="What the job is called on that host.")]
OwnerOption = Annotated[
    str | None, typer.Option("--owner", metavar="WHO", help="Whose it is; you, when not said. Nobody else changes it.")
]


@app.callback()
def schedule(
    context: typer.Context,
    host: common.HostOption = None,
    output: common.OutputOption = common.Output.text,
) -> None:
    """What runs when, and what others run there.

    Draws the week of every host that has windows: what is in force when, by the host's own clock, and what is next.

    Examples: recon schedule · recon schedule --host spark-1 · recon schedule list

    Exit codes: 0 shown · 8 a host did not answer; its week is drawn by this computer's clock.
    """
    if context.invoked_subcommand is not None:
        return
    import time

    from reconciler.views.schedule import schedule_document, schedule_lines, weeks_of
    from reconciler.workflow.planning import observe_hosts, render_hosts
    from reconciler.workflow.repository import open_repository, select_hosts

    repository = open_repository(common.SETTINGS.root)
    hosts = select_hosts(repository.fleet, host or ())
    rendered = render_hosts(repository, hosts)
    with common.asking() as on_done:
        answers = observe_hosts(repository, hosts, rendered, on_done=on_done)
    weeks = weeks_of(rendered, answers, now=time.time())
    if output is common.Output.json:
        common.say_document(schedule_document(repository.fleet.name, weeks))
    else:
        for line in schedule_lines(weeks, common.paint()):
            common.say(line)
    common.finish_asked(answers)


@app.command("list")
def list_jobs(host: common.HostOption = None, output: common.OutputOption = common.Output.text) -> None:
    """List the jobs that other programs registered: whose they are, and when they run.

    Exit codes: 0 shown · 8 a host did not answer.

    Examples: recon schedule list --host spark-1
    """
    from reconciler.views.schedule import job_lines, jobs_document
    from reconciler.workflow.planning import observe_hosts, render_hosts
    from reconciler.workflow.repository import open_for_deeds, select_hosts

    repository = open_for_deeds(common.SETTINGS.root, on_problems=common.tell_invalid)
    hosts = select_hosts(repository.fleet, host or ())
    with common.asking() as on_done:
        answers = observe_hosts(repository, hosts, render_hosts(repository, hosts), on_done=on_done)
    if output is common.Output.json:
        common.say_document(jobs_document(repository.fleet.name, answers))
    else:
        for line in job_lines(answers, common.paint()):
            common.say(line)
    common.finish_asked(answers)


@app.command()
def register(
    host: HostArgument,
    name: NameOption,
    lasts: Annotated[str, typer.Option("--lasts", metavar="DURATION", help="How long a run takes, such as 30m.")],
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Once: 2026-02-01T02:00, in --timezone.")
    ] = None,
    every: Annotated[
        str | None, typer.Option("--every", metavar="DURATION", help="Again and again, from --at or from now on.")
    ] = None,
    calendar: Annotated[
        str | None, typer.Option("--calendar", metavar="DAYS HH:MM", help="'Mon..Fri 02:00', in --timezone.")
    ] = None,
    timezone: Annotated[str, typer.Option("--timezone", metavar="ZONE", help="Whose clock.")] = "UTC",
    owner: OwnerOption = None,
    output: common.OutputOption = common.Output.text,
) -> None:
    """Register a job that another program runs on a host, or change one of yours; plans warn before meeting it.

    Nothing is started or kept from starting by it. A job of a name that somebody else registered is theirs.

    Exit codes: 0 registered · 3 refused: somebody else's, or no such time · 8 the host did not answer.

    Examples: recon schedule register spark-1 --name nightly-index --calendar 'Mon..Fri 02:00' --lasts 45m
    """
    from reconciler.workflow.deeds import register_job

    if sum(each is not None for each in (at if every is None else None, every, calendar)) != 1:
        detail = "a job is once (--at), again and again (--every) or by the calendar (--calendar)"
        raise UsageError(Problem("REC7018", "say once when it runs", detail, "recon schedule register --help"))
    repository, chosen = common.open_one(host, what="a job", command="recon schedule list")
    times = {"at": at, "every": every, "calendar": calendar, "timezone": timezone, "lasts": lasts}
    register_job(repository, chosen, name=name, owner=_me() if owner is None else owner, times=times)
    _done("schedule register", chosen.name, name, f"{name} is registered on {chosen.name}", output)


@app.command()
def remove(
    host: HostArgument,
    name: NameOption,
    owner: OwnerOption = None,
    output: common.OutputOption = common.Output.text,
) -> None:
    """Forget a job that you registered.

    Exit codes: 0 removed · 3 refused: no such job, or somebody else's · 8 the host did not answer.

    Examples: recon schedule remove spark-1 --name nightly-index
    """
    from reconciler.workflow.deeds import remove_job

    repository, chosen = common.open_one(host, what="a job", command="recon schedule list")
    remove_job(repository, chosen, name=name, owner=_me() if owner is None else owner)
    _done("schedule remove", chosen.name, name, f"{name} is no longer registered on {chosen.name}", output)


def _me() -> str:
    from reconciler.cli.apply import owner

    return owner()


def _done(command: str, host: str, name: str, text: str, output: common.Output) -> None:
    if output is common.Output.json:
        document = {"format_version": "1.0", "command": command, "status": "ok", "host": host, "name": name}
        common.say_document(document)
    else:
        common.say(text)
    common.finish(ExitCode.OK)
