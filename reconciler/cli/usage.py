"""What a command line that was not understood is answered with: what is wrong, and what to type.

Must not: guess at what a command would have done.
"""

from __future__ import annotations

import re

from typer._click import exceptions as click_exceptions

from reconciler.errors import Problem, UsageError

_EXTRA = re.compile(r"unexpected extra arguments? \(([^()]*)\)|unexpected extra argument\(s\) \(([^()]*)\)")


def usage_error(error: click_exceptions.ClickException, command: str | None) -> UsageError:
    """Return a mistake on the command line as an error with a hint.

    Commands about one host take it as an argument, those about many by `--host`; whoever mixes them up is told.

    Args:
        error: what the parser said.
        command: the command as far as it was recognised, None when it was not.
    """
    context = getattr(error, "ctx", None)
    names = {param.name: param.param_type_name for param in context.command.params} if context else {}
    path = f"recon {command}" if command else "recon"
    if context is not None and " " in context.command_path:
        path = f"recon {context.command_path.partition(' ')[2]}"
    extra = _EXTRA.search(error.format_message())
    if extra and names.get("host") == "option":
        hosts = (extra[1] or extra[2] or "").split()
        fix = " ".join([path, *(f"--host {host}" for host in hosts)])
    elif getattr(error, "option_name", None) in {"--host", "-h"} and names.get("host") == "argument":
        fix = f"{path} HOST, see {path} --help"
    else:
        fix = f"{path} --help"
    return UsageError(Problem(code="REC7018", summary=error.format_message(), fix=fix))
