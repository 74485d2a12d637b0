"""`recon plan`: what would be done, and why. Changes nothing anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import common
from reconciler.errors import ExitCode

if TYPE_CHECKING:
    from reconciler.model.plan import HostPlan, Plan


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
    from reconciler.workflow.planning import make_plan

    with common.asking() as on_done:
        _, made = make_plan(common.SETTINGS.root, host or (), now=time.time(), on_done=on_done)
    if out:
        out.write_text(made.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if output is common.PlanOutput.json:
        common.say(made.model_dump_json(indent=1), whole=True)
    elif output is common.PlanOutput.markdown:
        common.say(plan_markdown(made).rstrip("\n"), whole=True)
    else:
        for line in plan_lines(made, common.paint(), diffs=diff):
            common.say(line)
        if out:
            common.tell(f"saved to {out}")
    code = exit_code(made.hosts)
    changed = detailed_exitcode and made.has_changes
    common.finish(ExitCode.CHANGES if changed and code is ExitCode.OK else code)


def show(made: Plan, *, as_json: bool) -> ExitCode:
    """Show a plan and return the exit code that it makes."""
    from reconciler.views.plan_text import plan_lines

    for line in [made.model_dump_json(indent=1)] if as_json else plan_lines(made, common.paint()):
        common.say(line)
    return exit_code(made.hosts)


def exit_code(hosts: Iterable[HostPlan]) -> ExitCode:
    """Return what the plans of hosts make the exit code: refused before unreachable or unknown before held."""
    plans = tuple(hosts)
    statuses = {planned.status for planned in plans}
    if "refused" in statuses:
        return ExitCode.REFUSED
    if "unreachable" in statuses or any(planned.unknowns for planned in plans):
        return ExitCode.UNKNOWN_OUTCOME
    return ExitCode.LOCKED if "locked" in statuses else ExitCode.OK
