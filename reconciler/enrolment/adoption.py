"""What runs on a host without recon, written as a coven that takes it over.

Must not: change the host; the next apply does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.errors import Problem, RefusedError, UsageError
from reconciler.load import host_file
from reconciler.load.fleet import load_fleet
from reconciler.model.desired import Fleet, Host
from reconciler.model.observed import Known
from reconciler.planner.budget import why

if TYPE_CHECKING:
    from reconciler.load.adopted import Adopted
    from reconciler.model.strangers import Stranger

_UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9@:_.\\-]{0,199}")


@dataclass(frozen=True, slots=True)
class TakeOver:
    """A coven made of what runs: its file, and how the units that run it now are put aside."""

    file: str
    coven: Adopted
    strangers: tuple[Stranger, ...]


def adopt(root: Path, host_name: str, names: tuple[str, ...], *, coven: str | None, write: bool) -> TakeOver:
    """Write a coven from what runs on a host without recon: all of `recon adopt`.

    Raises:
        UsageError: the names cannot be.
        RefusedError: nothing to adopt is there, or the file is.
        HostError: the host could not be asked.
    """
    from reconciler.hosts.connect import connector
    from reconciler.hosts.strangers import ask_strangers
    from reconciler.load import adopted
    from reconciler.load.meaning import check_name
    from reconciler.workflow.repository import select_hosts

    fleet = load_fleet(root)
    for given in names:
        if not _UNIT.fullmatch(given):
            raise UsageError(Problem("REC7430", "that is no unit or container", ascii(given[:60]), "recon status"))
    if coven is not None and (finding := check_name(coven, is_coven=True)):
        raise UsageError(Problem(finding.code, "the coven cannot be named like that", finding.detail, finding.fix))
    (host,) = select_hosts(fleet, [host_name]) if host_name in fleet.hosts else _no_host(fleet, host_name)
    connect = connector(fleet, root)
    try:
        reply = ask_strangers(host.name, connect(host), names)
    finally:
        connect.close()
    if reply.missing or not reply.strangers:
        detail = f"no unit or podman container but recon's holds a GPU of {host.name}; others are not adopted"
        if reply.missing:
            detail = f"{host.name} runs no {', '.join(reply.missing)}"
        elif not isinstance(reply.gpus, Known):
            detail = f"who holds the GPUs of {host.name} is not known: {why(reply.gpus)}"
        raise RefusedError(Problem("REC7431", "nothing to adopt is there", detail, f"recon status --host {host.name}"))
    name = coven or _coven_name(reply.strangers)
    file = f"desired/covens/{name}.yaml"
    if (root / file).exists():
        raise host_file.exists(file)
    made = adopted.adopt(name, reply.strangers, fleet.policy, host_file.schema_of(root, "coven"))
    if write:
        host_file.write_new_file(root, file, made.text)
    return TakeOver(file, made, reply.strangers)


def _no_host(fleet: Fleet, name: str) -> tuple[Host, ...]:
    detail = f"hosts of {fleet.name}: {', '.join(sorted(fleet.hosts))}"
    raise UsageError(Problem("REC7020", f"no host matches '{name[:60]}'", detail, "recon status"))


def _coven_name(strangers: tuple[Stranger, ...]) -> str:
    from reconciler.load.meaning import check_name

    first = strangers[0]
    bare = re.sub(r"[^a-z0-9]+", "-", (first.unit or first.name).removesuffix(".service").lower()).strip("-")[:24]
    return "adopted" if check_name(bare, is_coven=True) else bare
