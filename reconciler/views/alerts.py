"""The alerts of hosts, as text and as data.

Must not: call a host quiet whose alerts are unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.model.observed import Known, Observation, Unknown, Unreachable
from reconciler.views.envelope import host_facts
from reconciler.views.escape import one_line
from reconciler.views.paint import Paint


def alerts_document(fleet: str, answers: Mapping[str, Observation], cleared: Mapping[str, int]) -> dict[str, Any]:
    """Return what the hosts say about alerts and their watchdog, in the usual envelope."""
    return host_facts("alerts", fleet, answers, lambda state: state.watchdog, cleared=dict(cleared))


def alert_lines(answers: Mapping[str, Observation], cleared: Mapping[str, int], paint: Paint) -> Iterator[str]:
    """Yield every alert with what to type, then the hosts that have none."""
    quiet: list[str] = []
    for name, answer in sorted(answers.items()):
        if isinstance(answer, Unreachable):
            yield f"{paint(name, 'bold')}: {paint('unreachable', 'red')} [{answer.code}] {one_line(answer.reason)}"
        elif isinstance(answer.watchdog, Unknown):
            yield f"{paint(name, 'bold')}: {paint('unknown', 'red')} {one_line(answer.watchdog.unknown)}"
        elif isinstance(answer.watchdog, Known) and answer.watchdog.value.alerts:
            for alert in answer.watchdog.value.alerts:
                about = f"[{one_line(alert.code)}] {one_line(alert.about)}: {one_line(alert.text)}"
                yield f"{paint(name, 'bold')}: {paint('alert', 'red', 'bold')} {about}"
                yield f"  {paint(one_line(alert.fix), 'cyan')}"
        else:
            quiet.append(name)
        if name in cleared:
            yield f"{paint(name, 'bold')}: {paint('cleared', 'green')}"
    if quiet:
        yield f"{paint('No alerts', 'green')}: {one_line(', '.join(quiet))}"
