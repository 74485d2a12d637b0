"""What was found out about hosts, one line per check: for people, and as data.

Must not: call something fine that is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from reconciler.model.survey import Check, Checkup, Verdict
from reconciler.views.escape import one_line
from reconciler.views.paint import Paint

_STYLES: dict[Verdict, str] = {"ok": "green", "warning": "yellow", "failed": "red"}


def check_lines(checks: Iterable[Check], paint: Paint) -> Iterator[str]:
    """Yield a line per check, and below it what to type when it is not as it should be."""
    for check in checks:
        word = paint(f"{check.verdict:<8}", _STYLES[check.verdict])
        yield f"  {word}{check.name:<12} {one_line(check.text)}"
        if check.fix and check.verdict != "ok":
            yield f"  {'':<8}{'':<12} {paint(one_line(check.fix), 'cyan')}"


def checkup_lines(checkups: Iterable[Checkup], paint: Paint) -> Iterator[str]:
    """Yield every host with its checks."""
    for checkup in checkups:
        yield f"{paint(checkup.host, 'bold')}: {paint(checkup.verdict, _STYLES[checkup.verdict])}"
        yield from check_lines(checkup.checks, paint)


def checkup_document(fleet: str, checkups: Iterable[Checkup], exit_code: int) -> dict[str, Any]:
    """Return all checks of all hosts, in the usual envelope."""
    found = tuple(checkups)
    status = "incomplete" if any(checkup.code for checkup in found) else "ok"
    return {
        "format_version": "1.0",
        "command": "doctor",
        "status": "failed" if exit_code == 3 else status,
        "exit_code": exit_code,
        "fleet": fleet,
        "hosts": {
            checkup.host: {
                "verdict": checkup.verdict,
                "code": checkup.code,
                "checks": [check.model_dump(mode="json") for check in checkup.checks],
            }
            for checkup in found
        },
    }
