"""Where a command takes the token of a lock from: the environment or its input, for a command line shows in `ps`.

Must not: show a token, or keep it.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from reconciler.errors import Problem, RefusedError
from reconciler.model.tokens import of_host

VARIABLE = "RECON_LOCK_TOKEN"
STDIN = "-"
_LIMIT = 4096

LockTokenOption = Annotated[
    list[str] | None,
    typer.Option(
        "--lock-token",
        metavar="TOKEN",
        help=f"The token of a lock that you hold; - reads it from stdin. Else ${VARIABLE}, which ps does not show.",
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option("--token", metavar="TOKEN", help=f"The lock's token; - reads it from stdin. Else ${VARIABLE}."),
]


def tokens(said: list[str] | None) -> tuple[str, ...]:
    """Return every token that was given: by option, or else by the environment, where white space parts several."""
    if said:
        return tuple(_read() if token == STDIN else token for token in said)
    return tuple(os.environ.get(VARIABLE, "").split())


def one_token(said: str | None, host: str) -> str:
    """Return the one token that a deed on a lock of a host needs; REC7306 when there is none, or more than one."""
    found = of_host(tokens([said] if said else None), host)
    if len(found) == 1 and found[0]:
        return found[0]
    detail = f"{len(found)} may be of {host}" if found else f"none of {host} was given; recon lock acquire told it once"
    raise RefusedError(
        Problem("REC7306", "the token of the lock is needed", detail, f"set {VARIABLE}, or give --token - and type it")
    )


def _read() -> str:
    token = sys.stdin.readline(_LIMIT).strip()
    if not token:
        raise RefusedError(
            Problem("REC7306", "the token of the lock is needed", "stdin gave no line", f"set {VARIABLE}")
        )
    return token
