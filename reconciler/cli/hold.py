"""`recon hold` and `recon release`: a person's "do not touch" on one host, and its end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from reconciler.cli import common
from reconciler.errors import ExitCode, Problem, RefusedError

HostArgument = Annotated[str, typer.Argument(metavar="HOST", help="The host.")]


def hold(
    host: HostArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; whoever is refused reads it.")],
    until: Annotated[
        str | None,
        typer.Option(
            "--until", metavar="TIME", help="When it ends by itself: 4h from now, or a time with its zone. Else never."
        ),
    ] = None,
    output: common.OutputOption = common.Output.text,
) -> None:
    """Keep everybody's hands off a host: no transition begins there, and the watchdog leaves it alone.

    It is put on at once, without a plan. A transition that runs goes on to its end, and is told. A hold that you put
    there before is replaced; one of somebody else is not.

    Exit codes: 0 done · 3 refused · 4 somebody else holds it · 8 the host did not answer.

    Examples: recon hold spark-1 --reason 'new disk' · recon hold spark-1 --reason demo --until 2026-12-24T18:00Z
    """
    from reconciler.apply.locks import hold as put
    from reconciler.cli.apply import owner
    from reconciler.model import live
    from reconciler.model.observed import Hold
    from reconciler.views.escape import one_line
    from reconciler.workflow.repository import on_host

    ends = {} if until is None else _end(until)
    repository, chosen = common.open_one(host, what="a hold", command="name one of them")
    args = {"owner": owner(), "reason": reason, **ends}
    done = on_host(repository, chosen, lambda host, connect: put(host, connect, args))
    if output is common.Output.json:
        held = {"hold": done.hold.model_dump(mode="json"), "running": done.running}
        common.say_document(_document("hold", chosen.name, held))
    else:
        said = live.until(Hold.model_validate(done.hold.model_dump()))
        common.say(f"{chosen.name} is held{said}; lift it with: recon release {chosen.name} --reason TEXT")
        if done.running:
            common.say(f"transaction {one_line(done.running)} runs there and goes on to its end; none begins after it")
    common.finish(ExitCode.OK)


def release(
    host: HostArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept in the host's history.")],
    output: common.OutputOption = common.Output.text,
) -> None:
    """Take the hold off a host, whoever put it there; who did this and why is kept on the host.

    Exit codes: 0 done · 3 refused · 5 the host is not held · 8 the host did not answer.

    Examples: recon release spark-1 --reason 'the disk is in'
    """
    from reconciler.apply.locks import lift
    from reconciler.cli.apply import owner
    from reconciler.views.escape import one_line
    from reconciler.workflow.repository import on_host

    repository, chosen = common.open_one(host, what="a hold", command="name one of them")
    args = {"owner": owner(), "reason": reason}
    done = on_host(repository, chosen, lambda host, connect: lift(host, connect, args))
    if output is common.Output.json:
        common.say_document(_document("release", chosen.name, done.model_dump(mode="json")))
    else:
        whose = f"the hold of {one_line(done.holder)}" if done.holder else "a hold that had ended"
        if done.aside:
            whose = f"a hold that could not be read, now {one_line(done.aside)},"
        common.say(f"{chosen.name} is free: {whose} is gone")
    common.finish(ExitCode.OK)


def _end(text: str) -> dict[str, float]:
    """Return when a hold ends: seconds from now, which the host counts, or a time of the world."""
    from pydantic_core import PydanticCustomError

    from reconciler.model.base import parse_duration

    try:
        return {"for_s": parse_duration(text)}
    except PydanticCustomError as exc:
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            raise _no_end(exc.message()) from exc
    if found.tzinfo is None:
        raise _no_end(f"{text!a} does not say its time zone; end it with Z or +01:00")
    return {"until": found.astimezone(UTC).timestamp()}


def _no_end(detail: str) -> RefusedError:
    fix = "--until 4h, or --until 2026-12-24T18:00Z"
    return RefusedError(Problem("REC7311", "that is no time for a hold to end", detail, fix))


def _document(command: str, host: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"format_version": "1.0", "command": command, "status": "ok", "host": host, **body}
