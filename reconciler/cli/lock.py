"""`recon lock`: take a host away from a claim that nobody else will give back."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from reconciler.cli import common
from reconciler.errors import ExitCode, Problem, UsageError

app = typer.Typer(help="The claim that a transition has on its host.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Keep the group a group while it has one command."""


@app.command("force-release")
def force_release(
    host: Annotated[str, typer.Argument(help="The host whose claim is taken away.")],
    epoch: Annotated[
        int, typer.Option("--epoch", metavar="N", help="The epoch of the claim, as `recon status` shows it.")
    ],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept in the host's history.")],
    output: common.OutputOption = common.Output.text,
) -> None:
    """Take a claim away: end the executor that has it, wait until the host is whole, grant the next epoch.

    An executor that runs is stopped, and the host goes back to what ran before, or on when that was committed already.
    Whoever held the claim can change nothing any more. Who did this and why is kept on the host.

    Exit codes: 0 done · 4 somebody executes by hand · 5 the host is not at that epoch · 8 the host did not answer.

    Examples: recon lock force-release spark-1 --epoch 7 --reason 'executor hangs in a pull'
    """
    from reconciler.cli.apply import owner
    from reconciler.views.escape import one_line
    from reconciler.workflow import open_repository, release_claim, select_hosts

    repository = open_repository(common.SETTINGS.root)
    found = select_hosts(repository.fleet, [host])
    if len(found) != 1:
        names = ", ".join(each.name for each in found)
        raise UsageError(
            Problem("REC7018", "a claim is taken away on one host", f"{host} means {names}", "name one of them")
        )
    chosen = found[0]
    told: set[tuple[str | None, str | None]] = set()

    def on_wait(txid: str | None, step: str | None) -> None:
        if (txid, step) not in told:
            told.add((txid, step))
            common.tell(
                f"{chosen.name} ends transaction {one_line(txid or '?')} first: {one_line(step or 'beginning')}"
            )

    done = release_claim(repository, chosen, epoch=epoch, reason=reason, owner=owner(), on_wait=on_wait)
    if output is common.Output.json:
        document = {
            "format_version": "1.0",
            "command": "lock force-release",
            "status": "ok",
            "host": chosen.name,
            "epoch": done.epoch,
            "stopped": done.stopped,
        }
        common.say(json.dumps(document, indent=1))
    else:
        stopped = f", transaction {one_line(done.stopped)} was ended" if done.stopped else ""
        common.say(f"{chosen.name} is free: the claim of epoch {epoch} is void, the host is at {done.epoch}{stopped}")
        common.say(f"look at it with: recon status --host {chosen.name}")
    common.finish(ExitCode.OK)
