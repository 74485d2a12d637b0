"""Everything that belongs on one host: its files, and the groups of services that run from them.

Hosts of one kind share their bodies, so a `Memo` makes a fleet of thousands cost what its distinct units cost.

Must not: look at a host, or decide what runs where: `desired/` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from reconciler.errors import DesiredStateError, Problem
from reconciler.model.desired import ALL_GPUS, Coven, Drain, Fleet, Host, Platform, Service, Slot
from reconciler.model.intent import Group, Member
from reconciler.model.rendered import RenderedFile, RenderedHost
from reconciler.model.runtimes import RUNTIMES
from reconciler.render import events, schedule, units
from reconciler.render.defaults import with_builtin
from reconciler.render.hooks import hook_calls
from reconciler.render.runtimes import launch_argv, probes_of
from reconciler.render.share import boots_of
from reconciler.render.spiral import key_of, render_spiral
from reconciler.render.spiral_spec import TARGET as SPIRAL_TARGET
from reconciler.render.spiral_timers import timers_of
from reconciler.render.watchdog import TIMER, spec_of, watchdog_files
from reconciler.render.weights import model_check

RESIDENTS = "resident"


class Piece(NamedTuple):
    """A coven on a slot, or one resident: its files and its members."""

    files: tuple[RenderedFile, ...]
    members: tuple[Member, ...]


class Memo:
    """What was rendered before, for one fleet and one set of templates; make one per run and pass it along.

    Two levels: a coven on a slot, and all that belongs on hosts of one kind. Hosts of one kind share the same tuples.
    """

    def __init__(self, fleet: Fleet, own_templates: Mapping[str, str]) -> None:
        self.fleet = fleet
        self.templates = with_builtin(own_templates)
        self._pieces: dict[tuple[object, ...], Piece] = {}
        self._kinds: dict[tuple[object, ...], RenderedHost] = {}

    def host(self, host: Host) -> RenderedHost:
        """Return what belongs on a host. What it should run now is its own, the rest is its kind's."""
        slots = tuple((slot.name, slot.gpus) for slot in host.slots)
        named = tuple(slot.coven for slot in host.slots) if len(slots) > 1 else ()
        residents = tuple((name, service.model_dump_json()) for name, service in host.residents.items())
        spec = spec_of(host)
        watchdog = (host.watchdog.every, spec.model_dump_json()) if host.watchdog and spec else ()
        planned = schedule.spec_of(host)
        windows = planned.model_dump_json(include={"windows"}) if planned else ""
        key: tuple[object, ...] = (slots, named, host.may_run, residents, host.platform.podman, host.platform.systemd)
        told = events.spec_of(host)
        key += (watchdog, windows, key_of(self.fleet, host), told.model_dump_json() if told else "")
        if key not in self._kinds:
            self._kinds[key] = _kind(host, self)
        kind = self._kinds[key]
        return kind.model_copy(
            update={
                "host": host.name,
                "boot": (
                    *(units.target_name(slot.coven) for slot in host.slots if slot.coven),
                    *((TIMER,) if host.watchdog else ()),
                    *((schedule.TIMER,) if planned else ()),
                    *((SPIRAL_TARGET,) if kind.spiral and kind.spiral.enabled else ()),
                    *(timers_of(kind.spiral) if kind.spiral else ()),
                    *boots_of(host.share),
                    *((events.TIMER,) if host.events else ()),
                ),
                "live": {slot.name: slot.coven for slot in host.slots},
                "schedule": planned,
            }
        )

    def coven(self, coven: Coven, slot: Slot, platform: Platform) -> Piece:
        """Return a coven as it is on a slot; hosts that may run other covens beside it share it."""
        key = (coven.name, slot.name, slot.gpus, platform.podman, platform.systemd)
        if key not in self._pieces:
            self._pieces[key] = _coven(coven, slot, platform, self.templates)
        return self._pieces[key]


def render_host(fleet: Fleet, host: Host, templates: Mapping[str, str], memo: Memo | None = None) -> RenderedHost:
    """Render one host; `templates` are the repository's own, by file name. Many hosts: pass one `Memo` along."""
    return (memo or Memo(fleet, templates)).host(host)


def render_hosts(fleet: Fleet, hosts: Iterable[Host], templates: Mapping[str, str]) -> dict[str, RenderedHost]:
    """Render some hosts of a fleet, by name; what they have in common is rendered once."""
    memo = Memo(fleet, templates)
    return {host.name: memo.host(host) for host in hosts}


def render_fleet(fleet: Fleet, templates: Mapping[str, str]) -> dict[str, RenderedHost]:
    """Render every host of a fleet, by name."""
    return render_hosts(fleet, (fleet.hosts[name] for name in sorted(fleet.hosts)), templates)


def _kind(host: Host, memo: Memo) -> RenderedHost:
    files: list[RenderedFile] = [units.boot_file(memo.templates)]
    groups: dict[str, Group] = {}
    for slot, name in _placed(host):
        piece = memo.coven(memo.fleet.covens[name], slot, host.platform)
        others = tuple(other for other in sorted(host.may_run) if other != name)
        files += [units.gate_file(slot.name, name, others, memo.templates), *piece.files]
        calls = hook_calls(memo.fleet.covens[name].hooks)
        groups[name] = Group.of(name, units.gate_name(slot.name, name), units.target_name(name), piece.members, calls)
    residents = [
        _resident(name, service, host.platform, memo.templates) for name, service in sorted(host.residents.items())
    ]
    files += [file for piece in residents for file in piece.files]
    spec = spec_of(host)
    if host.watchdog and spec:
        files += watchdog_files(host.watchdog, spec, memo.templates)
    planned = schedule.spec_of(host)
    if planned:
        files += schedule.schedule_files(planned, memo.templates)
    spiral = render_spiral(memo.fleet, host, memo.templates)
    files += spiral.files if spiral else ()
    told = events.spec_of(host)
    if told:
        files += events.events_files(told, memo.templates)
    _check_names(host, files)
    return RenderedHost(
        host=host.name,
        files=tuple(sorted(files, key=lambda file: file.name)),
        groups=groups,
        residents=tuple(member for piece in residents for member in piece.members),
        boot=(),
        live={},
        watchdog=spec,
        spiral=spiral.spec if spiral else None,
        events=told,
    )


def _placed(host: Host) -> list[tuple[Slot, str]]:
    """Say which covens lie on the host, each with its slot.

    One slot: all the host may run, so that another can be switched to. Several: only what the slots and their windows
    name, for a coven's units can have the devices of one slot alone.
    """
    if len(host.slots) == 1:
        return [(host.slots[0], name) for name in sorted(host.may_run)]
    placed = {(slot.name, slot.coven): slot for slot in host.slots if slot.coven}
    placed |= {(window.slot or "", window.coven): host.slot(window.slot or "") for window in host.schedule}
    return sorted(((slot, coven) for (_, coven), slot in placed.items()), key=lambda each: each[1])


def _coven(coven: Coven, slot: Slot, platform: Platform, templates: Mapping[str, str]) -> Piece:
    files = [units.target_file(slot.name, coven.name, coven.description, templates)]
    members = []
    for name in _start_order(coven):
        service = coven.services[name]
        stem = units.container_name(coven.name, name)
        place = units.Place(
            coven=coven.name,
            service=name,
            unit=f"{stem}.service",
            container=service.container_name or stem,
            gate=units.gate_name(slot.name, coven.name),
            target=units.target_name(coven.name),
            after=tuple(f"{units.container_name(coven.name, other)}.service" for other in service.after),
            gpus=units.gpu_devices(slot.gpus),
            platform=platform,
        )
        file = units.service_file(place, service, templates)
        files.append(file)
        members.append(_member(place, service, coven.drain_of(name), file))
    return Piece(tuple(files), tuple(members))


def _resident(name: str, service: Service, platform: Platform, templates: Mapping[str, str]) -> Piece:
    stem = units.resident_name(name)
    place = units.Place(
        coven=RESIDENTS,
        service=name,
        unit=f"{stem}.service",
        container=service.container_name or stem,
        gate=None,
        target=units.BOOT_TARGET,
        after=(),
        gpus=units.gpu_devices(ALL_GPUS),
        platform=platform,
    )
    file = units.service_file(place, service, templates)
    return Piece((file,), (_member(place, service, service.drain or Drain(), file),))


def _member(place: units.Place, service: Service, drain: Drain, file: RenderedFile) -> Member:
    probes = probes_of(service)
    seals = drain.admission != "none"
    return Member(
        service=place.service,
        unit=place.unit,
        container=place.container,
        config_hash=file.config_hash,
        memory=service.memory,
        port=service.port,
        health=probes.health,
        in_flight=probes.in_flight,
        pause=probes.pause if seals else None,
        resume=probes.resume if seals else None,
        warm=probes.warm,
        warm_timeout_s=service.warm.timeout,
        attempts=service.warm.attempts,
        stop_timeout_s=service.stop.timeout,
        drain_timeout_s=drain.timeout,
        on_timeout=drain.on_timeout,
        firewall=drain.admission == "firewall" and service.port is not None,
        must_pause=drain.admission == "pause" and probes.pause is not None,
        paused=probes.paused if seals else None,
        asleep=probes.asleep,
        model=model_check(service),
        steady_s=min(RUNTIMES[service.runtime].steady_s, service.warm.timeout / 2),
        image=service.image,
        mounts=tuple(mount.split(":", 1)[0] for mount in units.mounts_of(service)),
        argv=launch_argv(service),
        adopts=service.adopts,
    )


def _start_order(coven: Coven) -> list[str]:
    """Order services so that each comes after those it names, else as they stand in the file."""
    order: list[str] = []
    waiting = list(coven.services)
    while waiting:
        ready = [name for name in waiting if set(coven.services[name].after) <= set(order)]
        if not ready:
            raise DesiredStateError(
                Problem(
                    "REC2018",
                    "services wait for each other",
                    f"in coven {coven.name}: {', '.join(waiting)} each start after another of them, or after a service"
                    " that does not exist",
                    "remove one `after:`",
                )
            )
        order.append(ready[0])
        waiting.remove(ready[0])
    return order


def _check_names(host: Host, files: list[RenderedFile]) -> None:
    """Refuse two units of one name: coven `a-b` with service `c` reads like coven `a` with service `b-c`."""
    names = [file.name.replace(".container", ".service") for file in files]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DesiredStateError(
            Problem(
                "REC3003",
                "two units of a host would have one name",
                f"on {host.name}: {', '.join(twice)}; a coven can be on one slot only, and a coven's name followed by"
                " its service's must not read like another pair",
                "rename the coven or the service",
            )
        )
