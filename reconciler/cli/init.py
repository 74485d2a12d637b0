"""`recon init`: a new state repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli import common


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to make it; new or empty.")],
    sim: Annotated[bool, typer.Option("--sim", help="With simulated hosts, to try everything without a GPU.")] = False,
) -> None:
    """Make a state repository with a small example fleet.

    Examples: recon init studio --sim · recon init studio
    """
    from reconciler.cli.render import rewrite
    from reconciler.load.scaffold import scaffold

    files = scaffold(directory, simulated=sim, before_commit=rewrite)
    for file in files:
        common.tell(f"  {file}")
    kind = "simulated" if sim else "real"
    common.say(f"Made a state repository with {kind} hosts in {directory}.")
    common.say(
        f"Next: cd {directory} && recon plan" if sim else f"Next: edit {directory}/desired/hosts, then recon plan"
    )
