"""The envelope of a JSON answer that says one fact of every host.

Must not: leave out a host that did not answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reconciler.model.base import Wire
from reconciler.model.observed import HostState, Observation, Unreachable


def host_facts(
    command: str, fleet: str, answers: Mapping[str, Observation], fact: Callable[[HostState], Wire], **more: object
) -> dict[str, Any]:
    """Return what each host says of a fact; who did not answer is unknown, with why, and makes it incomplete."""
    lost = any(isinstance(answer, Unreachable) for answer in answers.values())
    return {
        "format_version": "1.0",
        "command": command,
        "status": "incomplete" if lost else "ok",
        "fleet": fleet,
        **more,
        "hosts": {
            name: fact(answer).model_dump(mode="json")
            if isinstance(answer, HostState)
            else {"unknown": f"[{answer.code}] {answer.reason}"}
            for name, answer in sorted(answers.items())
        },
    }
