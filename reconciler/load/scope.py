"""Checks what a host of one user may declare: nothing that only root can do.

Must not: ask hosts; whether the user lingers is the planner's.
"""

from __future__ import annotations

from reconciler.load.report import Report
from reconciler.load.values import Finding
from reconciler.model.desired import Drain, HostFile, Service
from reconciler.model.spiral import SpiralFile

_CODE = "REC2110"


def closes_ports(services: dict[str, Service], drain: Drain) -> bool:
    """Say whether a service drains behind the firewall; `drain` is for those without a word of their own."""
    return any((service.drain or drain).admission == "firewall" for service in services.values())


def check_scope(
    host: HostFile,
    covens: tuple[str, ...],
    closing: frozenset[str],
    login: str,
    report: Report,
    spiral: SpiralFile | None = None,
) -> None:
    """Check a host with `scope: user`.

    Args:
        host: the host.
        covens: those it may run.
        closing: the covens of the fleet that drain behind the firewall.
        login: the user it is reached as.
        report: where findings go.
        spiral: the research loop, where there is one.
    """
    if host.scope != "user":
        return
    if login == "root":
        detail = "the units of the login would be those of root's own manager"
        report.at_value(("scope",), Finding(_CODE, detail, "log in as another user: ssh: {user: NAME}"))
    if spiral is not None and spiral.user is not None and host.spiral.enabled:
        detail = f"its spiral runs as '{spiral.user}', and only root can start a program as somebody else"
        report.at_value(
            ("spiral", "enabled"), Finding(_CODE, detail, "remove 'user' from desired/workloads/spiral.yaml")
        )
    if host.memory.drop_caches:
        detail = "only root can drop the page cache"
        report.at_value(("memory", "drop_caches"), Finding(_CODE, detail, "remove it"))
    for name in covens:
        if name in closing:
            detail = f"coven '{name}' drains behind the firewall, and only root can change that"
            fix = f"write 'admission: auto' in desired/covens/{name}.yaml, or do not run it here"
            report.at_value(("scope",), Finding(_CODE, detail, fix))
    if closes_ports(host.residents, Drain()):
        detail = "a resident drains behind the firewall, and only root can change that"
        report.at_value(("scope",), Finding(_CODE, detail, "write 'admission: auto' in its drain"))
