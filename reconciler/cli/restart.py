"""`recon restart`: drain one service, stop it and start it again, as a plan like any other."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from reconciler.cli import common
from reconciler.cli.apply import need_an_answer, show_and_carry_out
from reconciler.cli.tokens import LockTokenOption, tokens


def restart(
    host: Annotated[str, typer.Argument(metavar="HOST", help="The host it runs on.")],
    service: Annotated[
        str, typer.Argument(metavar="SERVICE", help="Its name; COVEN/NAME or resident/NAME where two have it.")
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and end.")] = False,
    lock_token: LockTokenOption = None,
    output: common.OutputOption = common.Output.text,
) -> None:
    """Plan the restart of one service that runs, show the plan, ask, and carry it out.

    What was committed on the host is started again: work in flight is finished first, its memory is measured as free,
    and it is judged like every start. Others of its coven go on. Shared services and the spiral's loops are refused.

    Exit codes: as those of `recon apply`.

    Examples: recon restart spark-1 vllm · recon restart spark-1 resident/parser --dry-run
    """
    from reconciler.workflow.earlier import make_restart
    from reconciler.workflow.repository import open_for_deeds

    as_json = output is common.Output.json
    if not dry_run:
        need_an_answer(f"recon restart {host} {service} --yes", yes=yes, as_json=as_json)
    told = tokens(lock_token)
    repository = open_for_deeds(common.SETTINGS.root, on_problems=common.tell_invalid)
    with common.asking() as on_done:
        made = make_restart(repository, host, service, now=time.time(), tokens=told, on_done=on_done)
    if dry_run:
        from reconciler.cli.plan import show

        common.finish(show(made, as_json=as_json))
    show_and_carry_out(repository, made, yes=yes, as_json=as_json, tokens=told)
