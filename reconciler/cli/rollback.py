"""`recon rollback`: go back to a generation that a host has, as a plan like any other."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from reconciler.cli import common
from reconciler.cli.apply import need_an_answer, show_and_carry_out
from reconciler.cli.tokens import LockTokenOption, tokens


def rollback(
    host: Annotated[str, typer.Argument(metavar="HOST", help="The host to take back.")],
    to: Annotated[
        int | None,
        typer.Option("--to", metavar="GENERATION", min=1, help="Which one; else the one that was committed before."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and end.")] = False,
    output: common.OutputOption = common.Output.text,
    lock_token: LockTokenOption = None,
) -> None:
    """Plan a host's way back to a generation it has, show the plan, ask, and carry it out.

    The bytes come from the host, as they were committed there; the steps, the guards and the checks are those of every
    apply, and so is the way back when it does not come up. Git is not changed: revert it there too.

    Exit codes: as those of `recon apply`.

    Examples: recon rollback spark-1 --dry-run · recon rollback spark-1 · recon rollback spark-1 --to 7 --yes
    """
    from reconciler.workflow.earlier import make_way_back
    from reconciler.workflow.repository import open_for_deeds

    as_json = output is common.Output.json
    if not dry_run:
        need_an_answer(f"recon rollback {host} --yes", yes=yes, as_json=as_json)
    told = tokens(lock_token)
    repository = open_for_deeds(common.SETTINGS.root, on_problems=common.tell_invalid)
    with common.asking() as on_done:
        made = make_way_back(repository, host, to, now=time.time(), on_done=on_done, tokens=told)
    if dry_run:
        from reconciler.cli.plan import show

        common.finish(show(made, as_json=as_json))
    show_and_carry_out(repository, made, yes=yes, as_json=as_json, tokens=told)
