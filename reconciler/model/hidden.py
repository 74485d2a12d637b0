"""Which units of a host a person does not want to see in every status: declared `hidden: true`.

Pure. Must not: hide what is not well; the view decides that from what the host said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from reconciler.model.desired import Fleet, Host
from reconciler.model.rendered import RenderedHost


def hidden_units(fleet: Fleet, hosts: Iterable[Host], rendered: Mapping[str, RenderedHost]) -> frozenset[str]:
    """Return the units of hidden services and residents; of a host that could not be rendered, none is hidden."""
    known = [(host, rendered[host.name]) for host in hosts if host.name in rendered]
    return frozenset(unit for host, files in known for unit in _of_host(fleet, host, files))


def _of_host(fleet: Fleet, host: Host, rendered: RenderedHost) -> Iterator[str]:
    for coven, group in rendered.groups.items():
        services = fleet.covens[coven].services
        yield from (member.unit for member in group.members if services[member.service].hidden)
    yield from (member.unit for member in rendered.residents if host.residents[member.service].hidden)
