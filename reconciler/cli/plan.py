"""`recon plan`: what would be done, and why. Changes nothing anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import common
from reconciler.errors import ExitCode

if TYPE_CHECKING:
    from reconciler.model.plan import Plan


def plan(
    host: common.HostOption = None,
    output: Annotated[common.PlanOutput, typer.Option("--output", "-o", help="How to show the plan.")] = (
        common.PlanOutput.text
    ),
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Save the plan document too.")] = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 2 when there are changes, 0 only when there are none.")
    ] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show the lines of unit files that change.")] = False,
) -> None:
    """Compare what is declared with what every host really runs. Read-only; one round trip per host.

    Exit codes: 0 done · 2 changes (with --detailed-exitcode) · 3 refused · 4 held · 8 a host did not answer.

    Examples: recon plan · recon plan --host 'spark-*' --diff · recon plan -o markdown > comment.md
    """
    import time

    from reconciler.views.plan_markdown import plan_markdown
    from reconciler.views.plan_text import plan_lines
    from reconciler.workflow import make_plan

    _, made = make_plan(common.SETTINGS.root, host or (), now=time.time())
    if out:
        out.write_text(made.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if output is common.PlanOutput.json:
        common.say(made.model_dump_json(indent=1))
    elif output is common.PlanOutput.markdown:
        common.say(plan_markdown(made).rstrip("\n"))
    else:
        for line in plan_lines(made, common.paint(), diffs=diff):
            common.say(line)
        if out:
            common.tell(f"saved to {out}")
    common.finish(exit_code(made, detailed=detailed_exitcode))


def exit_code(made: Plan, *, detailed: bool) -> ExitCode:
    """Return the exit code of a plan: refused before unreachable before held before changes."""
    statuses = {planned.status for planned in made.hosts}
    if "refused" in statuses:
        return ExitCode.REFUSED
    if not made.complete:
        return ExitCode.UNKNOWN_OUTCOME
    if "locked" in statuses:
        return ExitCode.LOCKED
    return ExitCode.CHANGES if detailed and made.has_changes else ExitCode.OK
