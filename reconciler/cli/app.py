"""The `recon` command: its sub-commands, and the one place where errors become exit codes.

Must not: import anything heavy at the top; `recon --help` answers at once.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer._click import exceptions as click_exceptions

from reconciler import __version__
from reconciler.cli import (
    adopt,
    alerts,
    apply,
    common,
    doctor,
    down,
    enroll,
    events,
    history,
    hold,
    init,
    lab,
    lock,
    logs,
    plan,
    reap,
    render,
    restart,
    rollback,
    schedule,
    schema,
    sim,
    status,
    validate,
)
from reconciler.cli.help_text import lay_out
from reconciler.cli.usage import usage_error
from reconciler.errors import ExitCode, Problem, ReconError, UsageError

app = typer.Typer(
    name="recon",
    help=(
        "Declare what each GPU host runs, review the difference, move hosts one exclusive transition at a time.\n\n"
        "Start here: recon init studio --sim && cd studio && recon plan && recon apply"
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help"]},
)


def _show_version(*, value: bool) -> None:
    if value:
        common.say(f"recon {__version__}")
        raise typer.Exit


@app.callback()
def root(
    chdir: Annotated[
        Path, typer.Option("--chdir", "-C", metavar="DIR", help="The state repository, when not here.")
    ] = Path(),
    color: Annotated[
        str, typer.Option(metavar="auto|always|never", help="Colours; NO_COLOR and FORCE_COLOR are obeyed too.")
    ] = "auto",
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Set what all commands share."""
    del version
    if color not in {"auto", "always", "never"}:
        raise UsageError(
            Problem(code="REC7018", summary=f"--color {color} is not known", fix="--color auto, always or never")
        )
    common.SETTINGS.root = chdir
    common.SETTINGS.color = color  # type: ignore[assignment] # checked one line above


app.command("init")(init.init)
app.command("validate")(validate.validate)
app.command("render")(render.render)
app.command("plan")(plan.plan)
app.command("apply")(apply.apply)
app.command("rollback")(rollback.rollback)
app.command("restart")(restart.restart)
app.command("status")(status.status)
app.command("alerts")(alerts.alerts)
app.command("hold")(hold.hold)
app.command("release")(hold.release)
app.command("down")(down.down)
app.command("up")(down.up)
app.command("logs")(logs.logs)
app.command("run")(logs.run)
app.command("reap")(reap.reap)
app.command("history")(history.history)
app.command("enroll")(enroll.enroll)
app.command("doctor")(doctor.doctor)
app.command("adopt")(adopt.adopt)
app.command("schema")(schema.schema)
app.add_typer(schedule.app, name="schedule")
app.add_typer(lock.app, name="lock")
app.add_typer(events.app, name="events")
app.add_typer(lab.app, name="lab")
app.add_typer(sim.app, name="sim")
lay_out(app)


def main() -> None:
    """Run a command line and exit; the entry point of the package."""
    # A stream that the caller closed is nobody to write to, not an error.
    sys.stdout = sys.stdout or io.StringIO()
    sys.stderr = sys.stderr or io.StringIO()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a locale without our characters must not end a plan in a traceback
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(_written_out(run(sys.argv[1:])))


def run(argv: list[str]) -> int:
    """Run a command line and return its exit code; no traceback ever reaches a user for what we foresaw."""
    as_json = _asks_for_json(argv)
    command = next((word for word in argv if word in _commands()), "recon")
    try:
        result = app(args=argv, standalone_mode=False)
    except ReconError as error:
        common.show_error(error, as_json=as_json, command=command)
        return int(error.exit_code)
    except click_exceptions.NoArgsIsHelpError as error:
        common.tell(error.format_message())
        return int(ExitCode.USAGE)
    except click_exceptions.ClickException as error:
        known = command if command in _commands() else None
        common.show_error(usage_error(error, known), as_json=as_json, command=command)
        return int(ExitCode.USAGE)
    except (KeyboardInterrupt, typer.Abort):
        common.tell("interrupted")
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        common.silence(sys.stdout)
        return int(ExitCode.ERROR)
    except OSError as error:
        common.show_error(ReconError(_of_file(error)), as_json=as_json, command=command)
        return int(ExitCode.ERROR)
    return int(result or 0)


def _written_out(code: int) -> int:
    """Write what is held back yet and return the exit code; a result that cannot be written is an error.

    Whoever reads the head of a result alone has what was wanted. What tells of an outcome was written before.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        common.silence(sys.stdout)
    except OSError as error:
        common.silence(sys.stdout)
        common.show_error(ReconError(_of_file(error)), as_json=False, command="recon")
        code = code or int(ExitCode.ERROR)
    try:
        sys.stderr.flush()
    except OSError:
        common.silence(sys.stderr)
    return code


def _of_file(error: OSError) -> Problem:
    place = f"{error.filename}: " if error.filename else ""
    detail = f"{place}{error.strerror or error}"
    return Problem("REC7024", "a file cannot be read or written", detail, "correct the path or its permissions")


def _asks_for_json(argv: list[str]) -> bool:
    """Say whether output is to be JSON, read before the line is parsed: usage errors are told in JSON too."""
    pairs = zip(argv, [*argv[1:], ""], strict=True)
    spelled = any(word in {"-o", "--output"} and value == "json" for word, value in pairs)
    return spelled or bool({"-ojson", "--output=json"} & set(argv))


def _commands() -> frozenset[str]:
    groups = {str(group.name) for group in app.registered_groups}
    return frozenset({str(info.name) for info in app.registered_commands} | groups)
