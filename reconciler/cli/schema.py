"""`recon schema`: the JSON Schema of the files in desired/."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from reconciler.cli import common


class Kind(StrEnum):
    """Which file."""

    fleet = "fleet"
    host = "host"
    coven = "coven"
    workload = "workload"


def schema(kind: Annotated[Kind, typer.Argument(help="Which file the schema is for.")] = Kind.host) -> None:
    """Print the JSON Schema of one kind of file in desired/, for editors and checks.

    Examples: recon schema host > host.schema.json
    """
    import json

    from reconciler.load.schema import json_schema

    common.say(json.dumps(json_schema(kind.value), indent=2, ensure_ascii=False), whole=True)
