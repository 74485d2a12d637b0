"""A reply as its model, or why the host's words are none.

Must not: ask a host, or say whether a deed was done: who asked for one knows what silence means there.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from reconciler.errors import HostError, Problem
from reconciler.model.base import Wire

Form = TypeVar("Form", bound=Wire)


def read(form: type[Form], host: str, reply: Any) -> Form:
    """Return the reply as that model; HostError REC5005 says of which host it is none, and where."""
    try:
        return form.model_validate(reply)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:80]
        detail = f"{host}: {where!a}: {first['msg']}"
        raise HostError(Problem("REC5005", "the host's reply is not valid", detail, "recon apply")) from exc
