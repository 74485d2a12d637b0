"""`recon apply`: move every host to what is declared, after showing it and asking."""

from __future__ import annotations

import getpass
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from reconciler.cli import common
from reconciler.cli.tokens import LockTokenOption, tokens
from reconciler.errors import ExitCode, Problem, RefusedError

if TYPE_CHECKING:
    from reconciler.model.plan import HostPlan, Plan
    from reconciler.workflow.repository import Repository


def apply(
    host: common.HostOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: common.OutputOption = common.Output.text,
    attach: Annotated[
        str | None, typer.Option("--attach", metavar="TXID", help="Follow a transaction that runs on one host.")
    ] = None,
    renew_manifest: Annotated[
        bool,
        typer.Option(
            "--renew-manifest",
            help="Go on where the committed manifest does not verify, if git describes all that runs.",
        ),
    ] = False,
    lock_token: LockTokenOption = None,
) -> None:
    """Plan, show the plan, ask, and carry it out: one exclusive transition at a time, rolled back when it fails.

    The hosts finish by themselves when this command is cut off; `recon status` tells.

    Exit codes: 0 done or nothing to do · 3 refused or given up · 4 held or locked · 5 stale · 6 rolled back ·
    7 needs a person · 8 outcome unknown or host unreachable · 9 some hosts failed.

    Examples: recon apply · recon apply --yes --host spark-1 · recon apply --yes -o json
    """
    if attach is not None:
        from reconciler.cli.follow import attach_to

        common.finish(attach_to(attach, host or [], as_json=output is common.Output.json))
    from reconciler.workflow.planning import make_plan

    as_json = output is common.Output.json
    named = "".join(f" --host {name}" for name in host or ())
    need_an_answer(f"recon apply{named} --yes", yes=yes, as_json=as_json)
    told = tokens(lock_token)
    with common.asking() as on_done:
        repository, made = make_plan(
            common.SETTINGS.root,
            host or (),
            now=time.time(),
            on_done=on_done,
            renews_manifest=renew_manifest,
            tokens=told,
        )
    show_and_carry_out(repository, made, yes=yes, as_json=as_json, tokens=told)


def need_an_answer(flag: str, *, yes: bool, as_json: bool) -> None:
    """Refuse to go on where nobody can be asked; `flag` is the command that needs no answer."""
    if not yes and (as_json or not sys.stdin.isatty()):
        raise RefusedError(
            Problem(
                code="REC7022",
                summary="there is no terminal to ask on",
                detail="an apply is never started without an answer",
                fix=flag,
            )
        )


def show_and_carry_out(
    repository: Repository, made: Plan, *, yes: bool, as_json: bool, tokens: tuple[str, ...] = ()
) -> NoReturn:
    """Show a plan, ask, carry it out, and end the command with how that went."""
    from reconciler.cli.follow import carry_out
    from reconciler.cli.plan import exit_code
    from reconciler.views.plan_text import plan_lines

    if not as_json:
        for line in plan_lines(made, common.paint()):
            common.say(line)
    if made.applyable and not yes:
        ask(made)
    # A host that is given its order counts by how that ends, not by what its plan could not see.
    planned = exit_code(plan for plan in made.hosts if not plan.order and not plan.joins)
    common.finish(carry_out(repository, made, planned, owner=owner(), as_json=as_json, tokens=tokens))


def ask(made: Plan) -> None:
    """Ask for a typed answer: the host's name when one host is disrupted, the fleet's when several are, else yes."""
    disrupted = [plan.host for plan in made.hosts if plan.order and (_cuts(plan) or _touches(plan))]
    word = "yes" if not disrupted else disrupted[0] if len(disrupted) == 1 else made.fleet
    common.tell("")
    for plan in made.hosts:
        for text in _cuts(plan) if plan.order else ():
            common.tell(f"On {plan.host}, {text}.")
        for text in _touches(plan) if plan.order else ():
            common.tell(f"This {text} on {plan.host}.")
    sys.stderr.write(f"Type {word} to apply: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != word:
        common.tell("Nothing was done.")
        raise typer.Exit(int(ExitCode.REFUSED))


def _cuts(plan: HostPlan) -> list[str]:
    return [move.cuts_off for move in plan.transitions if move.from_coven]


def _touches(plan: HostPlan) -> list[str]:
    """Say what is done to residents and left-over services, which have no slot and so no transition."""
    touched = [change for change in plan.changes if change.is_beside_slots and "start" not in change.actions]
    return [f"{change.actions[0]}s {change.name}" for change in touched]


def owner() -> str:
    """Return who asks: user and machine, as the host's history shows it."""
    user = os.environ.get("GITHUB_ACTOR") or os.environ.get("CI_USER") or getpass.getuser()
    return f"{user}@{socket.gethostname()}"
