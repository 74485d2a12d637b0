"""Checks the shares of the spiral: who exports its root, who mounts it, and whether the loop can work that way.

Must not: look at a host; whether the marker is there, a host says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from reconciler.load.codes import shown
from reconciler.load.explain import nearest
from reconciler.load.report import Report
from reconciler.load.services import repeated
from reconciler.load.values import Finding, check_address
from reconciler.model.desired import HostFile
from reconciler.model.share import Role, Share
from reconciler.model.spiral import SpiralFile

Path = tuple[str | int, ...]

_VERSION = "nfsvers="
_CONNECTIONS = "nconnect="


def check_shares(spiral: SpiralFile, names: Collection[str], hosts: Mapping[str, HostFile], report: Report) -> None:
    """Check the shares against the hosts of the fleet.

    Args:
        spiral: the file that declares them.
        names: every host that has a file, read or not: one with a broken file is not unknown.
        hosts: those whose file has the right shape.
        report: where findings go.
    """
    taken: dict[str, str] = {}
    for name, share in spiral.shares.items():
        for path, host in _hosts_of(name, share):
            _check_host(host, path, names, hosts, report)
            if host in taken:
                detail = f"{shown(host)} is {taken[host]} already, and there is one root"
                report.at_value(path, Finding("REC2112", detail, "name it once, as the hub or as a worker"))
            taken.setdefault(host, _said(name, share, host))
        _check_addresses(name, share, report)
        _check_options(name, share, report)
    if spiral.shares:
        _check_loop(spiral, report)


def check_share_of(name: str, host: HostFile, spiral: SpiralFile | None, report: Report) -> None:
    """Check what the file of a host says that a worker of a share cannot have."""
    if role_of(name, spiral) == "worker" and host.spiral.rate_caps:
        detail = "this host is a worker, and the control file is the hub's: they would limit nothing"
        report.at_key(("spiral", "rate_caps"), Finding("REC2117", detail, "remove it; set the caps on the hub"))


def role_of(name: str, spiral: SpiralFile | None) -> Role | None:
    """Return what a host is in a share, None when it is in none."""
    for share in spiral.shares.values() if spiral else ():
        if name == share.hub:
            return "hub"
        if name in share.workers:
            return "worker"
    return None


def _hosts_of(name: str, share: Share) -> Iterator[tuple[Path, str]]:
    yield ("shares", name, "hub"), share.hub
    for index, worker in enumerate(share.workers):
        yield ("shares", name, "workers", index), worker


def _said(name: str, share: Share, host: str) -> str:
    return f"the hub of share '{name}'" if host == share.hub else f"a worker of share '{name}'"


def _check_host(host: str, path: Path, names: Collection[str], hosts: Mapping[str, HostFile], report: Report) -> None:
    if host not in names:
        meant = nearest(host, names)
        fix = f"did you mean '{meant}'?" if meant else f"add desired/hosts/{host}.yaml, or name another host"
        report.at_value(path, Finding("REC2111", f"there is no desired/hosts/{host}.yaml", fix))
    elif host in hosts and hosts[host].scope == "user":
        detail = f"{shown(host)} has 'scope: user', and only root can export or mount"
        report.at_value(path, Finding("REC2113", detail, "name another host, or remove 'scope: user' from its file"))


def _check_addresses(name: str, share: Share, report: Report) -> None:
    for host, address in share.addresses.items():
        path: Path = ("shares", name, "addresses", host)
        if host != share.hub and host not in share.workers:
            meant = nearest(host, (share.hub, *share.workers))
            fix = f"did you mean '{meant}'?" if meant else "remove it, or add the host to 'workers'"
            report.at_key(path, Finding("REC2111", f"{shown(host)} is neither hub nor worker of this share", fix))
        report.at_value(path, check_address(address))


def _check_options(name: str, share: Share, report: Report) -> None:
    for index, option in repeated(share.options):
        found = Finding("REC2031", f"{shown(option)} is there already", "remove it")
        report.at_value(("shares", name, "options", index), found)
    for prefix in (_VERSION, _CONNECTIONS):
        several = [index for index, option in enumerate(share.options) if option.startswith(prefix)]
        if len({share.options[index] for index in several}) > 1:
            detail = f"there are several of {prefix}, and the last would win"
            report.at_value(("shares", name, "options", several[-1]), Finding("REC2116", detail, "keep one of them"))


def _check_loop(spiral: SpiralFile, report: Report) -> None:
    """Check that the units can be told apart: one producer, on the hub, and something for the workers to do."""
    for name, unit in spiral.units.items():
        if unit.producer and unit.where != "hub":
            detail = "a worker would feed the queue too, and over all hosts of a share exactly one unit does"
            fix = "write 'where: hub', or remove 'where'"
            report.at_value(("units", name, "where"), Finding("REC2114", detail, fix))
    if not spiral.on("worker").units:
        detail = "no unit runs on workers, so they would mount the root for nothing"
        report.at_key(("shares",), Finding("REC2115", detail, "write 'where: workers' or 'where: both' in a unit"))
    if spiral.user is not None:
        return
    for name, share in spiral.shares.items():
        if share.squash != "none":
            detail = "the loop runs as root, whom the hub takes for nobody: workers could write nothing"
            fix = "add 'user: NAME' to desired/workloads/spiral.yaml, or write 'squash: none' in the share"
            report.at_key(("shares", name), Finding("REC2118", detail, fix))
