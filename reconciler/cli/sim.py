"""`recon sim`: do to simulated hosts what people, clients and bad luck do to real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from reconciler.cli import common
from reconciler.errors import Problem, RefusedError, UsageError

if TYPE_CHECKING:
    from reconciler.sim import SimFleet

app = typer.Typer(help="Simulated hosts: put requests on them, break them, touch them by hand.", no_args_is_help=True)


@app.command("deeds")
def deeds() -> None:
    """List what can be done to a simulated host.

    Examples: recon sim deeds
    """
    from reconciler.sim.deeds import DEEDS
    from reconciler.sim.faults import KINDS

    for name, deed in DEEDS.items():
        common.say(f"{name + ' ' + deed.words:<62} {deed.help}")
    common.say(f"\nkinds of faults: {', '.join(KINDS)}")


@app.command("do", context_settings={"ignore_unknown_options": True})
def do(
    host: Annotated[str, typer.Argument(help="A host of the fleet.")],
    deed: Annotated[str, typer.Argument(help="What to do; `recon sim deeds` lists them.")],
    words: Annotated[list[str] | None, typer.Argument(help="The words the deed takes.")] = None,
) -> None:
    """Do something to a simulated host behind recon's back.

    Examples: recon sim do spark-1 requests reasoning 20 · recon sim do spark-1 fault never-healthy vision ·
    recon sim do gh-1 down
    """
    from reconciler.sim.deeds import DeedError, perform

    try:
        common.say(perform(_fleet(host), host, deed, words or []))
    except DeedError as error:
        raise UsageError(Problem(code="REC7018", summary=f"cannot {deed}: {error}", fix="recon sim deeds")) from error


def _fleet(host: str) -> SimFleet:
    from reconciler.hosts.connect import SIM_DIRECTORY
    from reconciler.sim import SimFleet
    from reconciler.workflow.repository import open_repository, select_hosts

    fleet = open_repository(common.SETTINGS.root).fleet
    if fleet.transport != "sim":
        raise RefusedError(
            Problem(
                code="REC7018",
                summary=f"the hosts of {fleet.name} are real",
                detail="`recon sim` works on fleets with `transport: sim` only",
                fix="recon init DIR --sim",
            )
        )
    select_hosts(fleet, [host])
    return SimFleet(common.SETTINGS.root / SIM_DIRECTORY)
