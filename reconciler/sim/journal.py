"""The journal of a simulated host as `journalctl --output=json` prints it.

Must not: keep lines; the state does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

_RESULTS = (("Finished ", "done"), ("Failed with result", "failed"), ("start operation timed out", "timeout"))


def entries(unit: str, lines: Sequence[str], times: Sequence[float], epoch: float, *, after: str, count: int) -> bytes:
    """Return the last lines of a unit, or those after a cursor; what systemd says of a start has its result."""
    made: list[tuple[str, dict[str, str]]] = []
    before = (float("-inf"), 0)
    for line, at in zip(lines, times, strict=True):
        before = (at, before[1] + 1) if at == before[0] else (at, 0)
        entry = {
            "__CURSOR": cursor(*before),
            "__REALTIME_TIMESTAMP": str(int((epoch + max(at, 0.0)) * 1e6)),
            "MESSAGE": line,
        }
        result = next((word for text, word in _RESULTS if text in line), None)
        if result is not None and unit.endswith(".service"):
            entry |= {"JOB_TYPE": "start", "JOB_RESULT": result}
        made.append((entry["__CURSOR"], entry))
    kept = [entry for name, entry in made if name > after]
    return "".join(
        json.dumps(entry) + "\n" for entry in (kept if after else kept[len(kept) - min(count, len(kept)) :])
    ).encode()


def cursor(at: float, number: int) -> str:
    """Return the name of a line, which sorts as the lines do."""
    return f"{max(at, 0.0):020.3f}-{number:06}"
