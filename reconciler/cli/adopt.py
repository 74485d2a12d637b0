"""`recon adopt`: declare what runs on a host already."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli import common
from reconciler.errors import ExitCode


def adopt(
    host: Annotated[str, typer.Argument(help="The host.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[UNIT|CONTAINER]...", help="Which of them; all that hold a GPU when none is named."),
    ] = None,
    coven: Annotated[
        str | None, typer.Option("--coven", metavar="NAME", help="The name of the coven; else after the first unit.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only show what would be written.")] = False,
) -> None:
    """Write desired/covens/NAME.yaml from units and containers that hold a GPU, to be taken over by the next apply.

    Image by digest, arguments, port, mounts, variables and the memory held now are carried over. What has no place in
    a coven is told, values that look like secrets never leave the host, and the host is only read: adopts: names what
    the transition stops.

    Examples: recon adopt spark-1 · recon adopt spark-1 llama.service --coven reasoning · recon adopt spark-1 --check

    Exit codes: 0 written, and valid · 3 written, and to be corrected; or nothing to adopt is there; or the file is ·
    8 the host did not answer.
    """
    from reconciler.enrolment.adoption import adopt as take_over
    from reconciler.views.adopt import left_out_lines, stranger_lines, way_lines

    found = take_over(common.SETTINGS.root, host, tuple(names or ()), coven=coven, write=not check)
    for line in stranger_lines(found.strangers, common.paint()):
        common.say(line)
    for line in left_out_lines(found.coven.left_out, common.paint()):
        common.say(line)
    common.say(f"would write {found.file}:\n\n{found.coven.text}" if check else f"wrote {found.file}")
    for problem in found.coven.problems:
        common.say(str(problem))
    for line in way_lines(host, found.coven.name, found.strangers):
        common.say(line)
    common.finish(ExitCode.REFUSED if found.coven.problems else ExitCode.OK)
