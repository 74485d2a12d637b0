"""Makes the effective values from the files: defaults applied, slots spelled out.

Must not: check anything; only files without problems get here.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.desired import (
    ALL_GPUS,
    Coven,
    CovenFile,
    Defaults,
    Fleet,
    FleetFile,
    Host,
    HostFile,
    Slot,
    Ssh,
    Watchdog,
)
from reconciler.model.events import Events, effective_events
from reconciler.model.share import Client, HostShare
from reconciler.model.spiral import SpiralFile


def covens_named_by(host: HostFile) -> tuple[str, ...]:
    """Return the covens of a host's slots and windows, each once, in the order of the file."""
    named = [host.coven, *(slot.coven for slot in (host.slots or {}).values())]
    named += [window.coven for window in host.schedule]
    return tuple(dict.fromkeys(name for name in named if name is not None))


def may_run_of(host: HostFile) -> tuple[str, ...]:
    """Return the covens that may run on a host: those it lists, else those it names."""
    return covens_named_by(host) if host.may_run is None else host.may_run


def slots_of(host: HostFile) -> tuple[Slot, ...]:
    """Spell out the slots of a host; without any, there is one of all GPUs."""
    if host.slots is None:
        return (Slot(name=ALL_GPUS, gpus="all", coven=host.coven),)
    return tuple(Slot(name=name, gpus=slot.gpus, coven=slot.coven) for name, slot in host.slots.items())


def effective_fleet(
    fleet: FleetFile,
    covens: Mapping[str, CovenFile],
    hosts: Mapping[str, HostFile],
    spiral: SpiralFile | None = None,
) -> Fleet:
    """Put the files of a fleet together."""
    shares = shares_of(spiral, hosts)
    return Fleet(
        name=fleet.name,
        transport=fleet.transport,
        policy=fleet.policy,
        covens={name: _coven(name, coven, fleet.defaults) for name, coven in covens.items()},
        hosts={name: _host(name, host, fleet.defaults, fleet.events, shares.get(name)) for name, host in hosts.items()},
        spiral=spiral,
    )


def shares_of(spiral: SpiralFile | None, hosts: Mapping[str, HostFile]) -> dict[str, HostShare]:
    """Return what each host is in a share, by its name; hosts that are in none are left out."""
    found: dict[str, HostShare] = {}
    for name, share in (spiral.shares if spiral else {}).items():
        addresses = {host: hosts[host].address for host in (share.hub, *share.workers)} | share.addresses
        of_hub = HostShare(
            name=name,
            role="hub",
            hub=share.hub,
            hub_address=addresses[share.hub],
            clients=tuple(Client(worker=worker, address=addresses[worker]) for worker in sorted(share.workers)),
            squash=share.squash,
            options=tuple(sorted(share.options)),
        )
        of_worker = of_hub.model_copy(update={"role": "worker", "clients": ()})
        found |= {share.hub: of_hub, **dict.fromkeys(share.workers, of_worker)}
    return found


def _coven(name: str, coven: CovenFile, defaults: Defaults) -> Coven:
    return Coven(
        name=name,
        description=coven.description,
        services=coven.services,
        drain=coven.drain or defaults.drain,
        hooks=coven.hooks,
    )


def _host(name: str, host: HostFile, defaults: Defaults, events: Events, share: HostShare | None) -> Host:
    watchdog = effective_watchdog(host.watchdog, defaults.watchdog)
    return Host(
        name=name,
        address=host.address,
        host_key=host.host_key,
        ssh=_ssh(host.ssh, defaults.ssh),
        scope=host.scope,
        reserve=host.reserve,
        formerly=host.formerly,
        memory=host.memory,
        platform=host.platform or defaults.platform,
        slots=slots_of(host),
        may_run=may_run_of(host),
        shared=host.shared,
        residents=host.residents,
        spiral=host.spiral,
        schedule=host.schedule,
        watchdog=watchdog if watchdog.enabled else None,
        events=effective_events(host.events, events),
        share=share,
    )


def _ssh(own: Ssh | None, default: Ssh) -> Ssh:
    """Inherit key by key: a host that only changes its port keeps the fleet's user and key."""
    if own is None:
        return default
    return default.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


def effective_watchdog(own: Watchdog | None, default: Watchdog) -> Watchdog:
    """Inherit key by key: a host that only names its reset command keeps the fleet's patience."""
    if own is None:
        return default
    return default.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})
