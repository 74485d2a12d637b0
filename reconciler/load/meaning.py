"""Checks what the files of a fleet mean together: names that resolve, ports, memory, GPUs, addresses, units.

Everything here can be told without asking a host. What a host has to say about it is the planner's.

Must not: read files, ask hosts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from reconciler.errors import Where
from reconciler.load.codes import shown
from reconciler.load.effective import may_run_of
from reconciler.load.events import check_events
from reconciler.load.explain import name_hint, name_rule, nearest
from reconciler.load.hooks import check_hooks
from reconciler.load.report import Report
from reconciler.load.scope import check_scope, closes_ports
from reconciler.load.services import check_admission, check_drain, check_services, check_texts, repeated
from reconciler.load.shares import check_share_of, role_of
from reconciler.load.spiral import check_spiral_of, gpu_memory
from reconciler.load.values import (
    Finding,
    check_address,
    check_allowed_folder,
    check_env_name,
    check_health_url,
    check_host_key,
    check_probe_url,
)
from reconciler.load.watchdog import check_watchdog
from reconciler.load.windows import check_windows
from reconciler.model.base import NAME_PATTERN, RESERVED_NAMES, format_size
from reconciler.model.desired import CovenFile, Drain, FleetFile, HostFile, Policy, Ssh, Watchdog
from reconciler.model.spiral import SpiralFile

_NAME = re.compile(NAME_PATTERN)
_GPU = re.compile(r"[0-9]{1,2}|(?:GPU|MIG)-[0-9a-fA-F-]{8,64}")


@dataclass(slots=True)
class Known:
    """What the checks of a host need to know about the rest, each fact worked out once for the whole fleet.

    Attributes:
        names: the covens that have a file, read or not: a broken coven is not an unknown one.
        watchdog, drain, ssh: what the fleet says about them.
        closing: the covens that drain behind the firewall.
        spiral: the research loop, where its file has the right shape; `has_spiral`: where there is a file.
        memory: the sum each coven needs.
        ports: who of a coven listens on which port.
        adopts: which service of a coven takes over what of a host.
        containers: which service of a coven gives its container which name.
        addresses: which host has an address.
    """

    policy: Policy
    names: frozenset[str]
    watchdog: Watchdog = field(default_factory=Watchdog)
    drain: Drain = field(default_factory=Drain)
    ssh: Ssh = field(default_factory=Ssh)
    closing: set[str] = field(default_factory=set)
    spiral: SpiralFile | None = None
    has_spiral: bool = False
    memory: dict[str, int] = field(default_factory=dict)
    ports: dict[str, dict[int, str]] = field(default_factory=dict)
    adopts: dict[str, dict[str, str]] = field(default_factory=dict)
    containers: dict[str, dict[str, str]] = field(default_factory=dict)
    addresses: dict[tuple[str, int, str | None], Where] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)


def check_name(name: str, *, is_coven: bool) -> Finding | None:
    """Judge the name a file gives to its host or coven."""
    if not _NAME.fullmatch(name):
        return Finding("REC3001", name_rule(name), f"rename the file: {name_hint(name)}")
    if is_coven and name.split("-", 1)[0] in RESERVED_NAMES:
        detail = f"'{name.split('-', 1)[0]}' begins the names of units that recon makes itself"
        return Finding("REC3001", detail, "rename the file to a name that begins with another word")
    return None


def check_fleet(fleet: FleetFile, report: Report) -> None:
    """Check the fleet's own file."""
    check_texts(report)
    check_drain(fleet.defaults.drain, ("defaults", "drain"), report)
    check_watchdog(fleet.defaults.watchdog, ("defaults", "watchdog"), report)
    check_events(fleet.events, ("events",), report)
    if fleet.defaults.ssh.jump is not None:
        _check_jump(fleet.defaults.ssh.jump, ("defaults", "ssh", "jump"), report)
    for index, folder in enumerate(fleet.policy.allow_mounts):
        report.at_value(("policy", "allow_mounts", index), check_allowed_folder(folder))
    for index, name in enumerate(fleet.policy.allow_env):
        report.at_value(("policy", "allow_env", index), check_env_name(name, (name,)))


def check_coven(name: str, coven: CovenFile, known: Known, report: Report) -> None:
    """Check one coven, and remember what hosts need to know about it."""
    check_texts(report)
    check_drain(coven.drain, ("drain",), report)
    check_services(coven.services, "services", known.policy, report)
    check_hooks(coven.hooks, report)
    for key, service in coven.services.items():
        if service.drain is not None:
            check_admission(service, service.drain, ("services", key, "drain"), report)
        elif coven.drain is not None:
            check_admission(service, coven.drain, ("drain",), report)
    if closes_ports(coven.services, coven.drain or known.drain):
        known.closing.add(name)
    known.memory[name] = sum(service.memory for service in coven.services.values())
    known.ports[name] = {service.port: key for key, service in coven.services.items() if service.port is not None}
    known.adopts[name] = {each: key for key, service in coven.services.items() for each in service.adopts}
    known.containers[name] = {
        service.container_name: key for key, service in coven.services.items() if service.container_name is not None
    }
    for key in coven.services:
        unit = f"recon-{name}-{key}"
        if unit in known.units:
            detail = f"its unit is {unit}.service, and so is that of {known.units[unit]}"
            report.at_key(("services", key), Finding("REC3003", detail, "rename one of the two services"))
        known.units.setdefault(unit, f"service '{key}' of coven '{name}'")


def check_host(name: str, host: HostFile, known: Known, report: Report) -> None:
    """Check one host against itself and the rest of the fleet."""
    check_texts(report)
    _check_reach(host, known, report)
    _check_covens(host, known, report)
    may_run = may_run_of(host)
    login = host.ssh.user if host.ssh and "user" in host.ssh.model_fields_set else known.ssh.user
    check_scope(host, may_run, frozenset(known.closing), login, report, known.spiral)
    check_watchdog(host.watchdog, ("watchdog",), report, known.watchdog)
    check_events(host.events, ("events",), report)
    if host.memory.drop_caches and host.memory.kind == "discrete":
        detail = "there is no page cache in memory that the GPU has to itself"
        report.at_value(("memory", "drop_caches"), Finding("REC2045", detail, "remove it"))
    if host.slots is not None:
        _check_slots(host, known, report)
    if host.residents:
        check_services(host.residents, "residents", known.policy, report)
    if host.shared:
        _check_shared(host, report)
    _check_containers(host, known, report)
    if host.shared:
        _check_adopted(host, known, report)
    if host.residents or host.shared:
        _check_ports(host, known, report)
    if host.memory.capacity is not None:
        _check_budget(name, host, known, report)
    if host.schedule:
        check_windows(host, known.ports, report)
    check_spiral_of(host, known.spiral, report, is_there=known.has_spiral)
    check_share_of(name, host, known.spiral, report)


def _check_reach(host: HostFile, known: Known, report: Report) -> None:
    report.at_value(("address",), check_address(host.address))
    if host.host_key is not None:
        report.at_value(("host_key",), check_host_key(host.host_key))
    port, jump = (host.ssh.port, host.ssh.jump) if host.ssh else (22, None)
    if jump is not None:
        _check_jump(jump, ("ssh", "jump"), report)
    key = (host.address.lower(), port, jump)
    first = known.addresses.get(key)
    if first is None:
        known.addresses[key] = Where(report.document.file)
    else:
        detail = f"{first} has it too: two owners would move the same machine"
        report.at_value(("address",), Finding("REC2030", detail, "correct the address, or delete one of the files"))


def _check_jump(jump: str, path: tuple[str, ...], report: Report) -> None:
    report.at_value(path, check_address(jump.rpartition("@")[2]))


def _check_covens(host: HostFile, known: Known, report: Report) -> None:
    if host.coven is not None and host.slots is not None:
        detail = "'coven' is the short form of one slot, and 'slots' names others"
        report.at_key(("coven",), Finding("REC2009", detail, "keep one of 'coven' and 'slots'"))
    may_run = host.may_run
    if may_run is not None:
        for index, name in enumerate(may_run):
            _check_known(name, ("may_run", index), known.names, report)
        for index, name in repeated(may_run):
            report.at_value(("may_run", index), Finding("REC2031", f"'{name}' is there already", "remove it"))
    for path, name in _named(host):
        if not _check_known(name, path, known.names, report):
            continue
        if may_run is not None and name not in may_run:
            detail = f"'{name}' is not in 'may_run' of this host, so its units are not there"
            report.at_value(path, Finding("REC2033", detail, f"add '{name}' to 'may_run', or name another coven"))


def _named(host: HostFile) -> Iterable[tuple[tuple[str | int, ...], str]]:
    if host.coven is not None:
        yield ("coven",), host.coven
    for name, slot in (host.slots or {}).items():
        if slot.coven is not None:
            yield ("slots", name, "coven"), slot.coven
    for index, window in enumerate(host.schedule):
        yield ("schedule", index, "coven"), window.coven


def _check_known(name: str, path: tuple[str | int, ...], names: frozenset[str], report: Report) -> bool:
    if name in names:
        return True
    meant = nearest(name, names)
    fix = f"did you mean '{meant}'?" if meant else f"add desired/covens/{name}.yaml, or name one of: {_some(names)}"
    report.at_value(path, Finding("REC2005", f"there is no desired/covens/{name}.yaml", fix))
    return False


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:8]) + (", …" if len(ordered) > 8 else "") if ordered else "(there are none yet)"


def _check_slots(host: HostFile, known: Known, report: Report) -> None:
    slots = host.slots or {}
    if not slots:
        report.at_key(
            ("slots",), Finding("REC2029", "it is empty, so no coven could run", "remove it: one slot of all GPUs")
        )
    owners: dict[str, str] = {}
    runs: dict[str, str] = {}
    ports: dict[int, str] = {}
    for name, slot in slots.items():
        for index, gpu in enumerate(slot.gpus):
            path = ("slots", name, "gpus", index)
            if not _GPU.fullmatch(gpu):
                detail = f"{shown(gpu)} is neither an index nor a UUID"
                report.at_value(path, Finding("REC2029", detail, "write \"0\", or GPU-… as 'nvidia-smi -L' prints it"))
            if gpu in owners:
                whose = "this slot" if owners[gpu] == name else f"slot '{owners[gpu]}'"
                detail = f"GPU {shown(gpu)} belongs to {whose} already, and a slot is exclusive"
                report.at_value(path, Finding("REC2029", detail, "give every GPU to one slot, once"))
            owners.setdefault(gpu, name)
        if slot.coven is None:
            continue
        if slot.coven in runs:
            detail = f"slot '{runs[slot.coven]}' runs '{slot.coven}' too, and its units exist once on a host"
            fix = "name another coven, or copy the coven's file under a second name and with other ports"
            report.at_value(("slots", name, "coven"), Finding("REC2009", detail, fix))
            continue
        runs[slot.coven] = name
        _claim_ports(known.ports.get(slot.coven, {}), slot.coven, ports, ("slots", name, "coven"), report)
    _check_gates(host, report)


def _claim_ports(
    wanted: Mapping[int, str], coven: str, taken: dict[int, str], path: tuple[str, ...], report: Report
) -> None:
    for port, service in wanted.items():
        who = f"service '{service}' of coven '{coven}'"
        if port in taken:
            detail = f"{who} and {taken[port]} both want port {port} at the same time"
            report.at_value(path, Finding("REC2004", detail, "give one of them another port"))
        taken.setdefault(port, who)


def _check_gates(host: HostFile, report: Report) -> None:
    gates: dict[str, tuple[str, str]] = {}
    for slot in host.slots or {}:
        for coven in may_run_of(host):
            unit = f"recon-gate-{slot}-{coven}"
            if unit in gates:
                other, its = gates[unit]
                detail = (
                    f"slot '{slot}' with coven '{coven}' and slot '{other}' with coven '{its}' both need {unit}.service"
                )
                report.at_key(("slots", slot), Finding("REC3003", detail, "rename one of the slots"))
            gates.setdefault(unit, (slot, coven))


def _check_shared(host: HostFile, report: Report) -> None:
    for index, shared in enumerate(host.shared):
        if shared.unit.startswith("recon-"):
            detail = "a shared service is never touched, and units of this prefix are managed"
            fix = "declare it under 'residents', or name the foreign unit"
            report.at_value(("shared", index, "unit"), Finding("REC3002", detail, fix))
        if shared.health is not None:
            report.at_value(("shared", index, "health"), check_probe_url(shared.health))
    for index, unit in repeated(shared.unit for shared in host.shared):
        detail = f"{shown(unit)} is there already, and its memory would be counted twice"
        report.at_value(("shared", index, "unit"), Finding("REC2031", detail, "remove one of them"))


def _check_containers(host: HostFile, known: Known, report: Report) -> None:
    """A name of a container is given once on a host: whoever reads it must not have to ask which coven it is."""
    taken = {resident.container_name: f"resident '{name}'" for name, resident in host.residents.items()}
    for coven in dict.fromkeys(may_run_of(host)):
        for container, service in known.containers.get(coven, {}).items():
            who = f"service '{service}' of coven '{coven}'"
            if container in taken:
                detail = f"{who} and {taken[container]} both call their container {shown(container)}"
                path: tuple[str | int, ...] = ("may_run",) if host.may_run is not None else ("coven",)
                report.at_value(path, Finding("REC2125", detail, "give one of them another container_name"))
            taken.setdefault(container, who)


def _check_adopted(host: HostFile, known: Known, report: Report) -> None:
    """A service that others rely on is never touched, whatever a coven says that may run beside it."""
    for index, shared in enumerate(host.shared):
        for coven in may_run_of(host):
            service = known.adopts.get(coven, {}).get(shared.unit)
            if service is not None:
                detail = f"service '{service}' of coven '{coven}' says 'adopts: {shared.unit}', and it is shared here"
                fix = "remove it here if recon may stop it for good, or remove 'adopts' there"
                report.at_value(("shared", index, "unit"), Finding("REC2121", detail, fix))


def _check_ports(host: HostFile, known: Known, report: Report) -> None:
    """Compare what stays up on the host with each coven that may come beside it; all share the host's network."""
    stays: dict[int, tuple[str, tuple[str | int, ...]]] = {}
    for index, shared in enumerate(host.shared):
        if (port := _local_port(shared.health, host.address)) is not None:
            stays[port] = (f"shared {shared.unit}", ("shared", index, "health"))
    for name, resident in host.residents.items():
        if resident.port is None:
            continue
        path: tuple[str | int, ...] = ("residents", name, "port")
        if resident.port in stays and stays[resident.port][1][0] == "shared":
            detail = f"{stays[resident.port][0]} answers on port {resident.port} already"
            report.at_value(path, Finding("REC2004", detail, "give the resident another port"))
        stays[resident.port] = (f"resident '{name}'", path)
    for coven in may_run_of(host):
        for port, service in known.ports.get(coven, {}).items():
            if port in stays:
                who, path = stays[port]
                detail = f"{who} and service '{service}' of coven '{coven}' both want port {port} on this host"
                report.at_value(path, Finding("REC2004", detail, "give one of them another port"))


def _local_port(url: str | None, address: str) -> int | None:
    if url is None or check_health_url(url) is not None:
        return None
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host not in ("localhost", "::1", address) and not host.startswith("127."):
        return None
    return parts.port or (443 if parts.scheme == "https" else 80)


def _check_budget(name: str, host: HostFile, known: Known, report: Report) -> None:
    """Add up what each coven would find: capacity - reserve - shared - residents."""
    capacity = host.memory.capacity or 0
    taken = {
        "reserve": host.reserve or 0,
        "shared": sum(shared.memory for shared in host.shared),
        "residents": sum(resident.memory for resident in host.residents.values()),
        "spiral": gpu_memory(known.spiral, role_of(name, known.spiral)) if host.spiral.enabled else 0,
    }
    left = capacity - sum(taken.values())
    if left < 0:
        detail = f"{_sums(capacity, taken, left)}, before any coven"
        report.at_value(("memory", "capacity"), Finding("REC2007", detail, "lower 'reserve', 'shared' or 'residents'"))
        return
    for coven, path in dict(_named_once(host)).items():
        need = known.memory.get(coven, 0)
        if need > left:
            detail = f"coven '{coven}' needs {format_size(need)}; {_sums(capacity, taken, left)}"
            fix = "name a smaller coven, or lower 'reserve', 'shared' or 'residents'"
            report.at_value(path, Finding("REC2007", detail, fix))


def _sums(capacity: int, taken: Mapping[str, int], left: int) -> str:
    minus = "".join(f" - {format_size(size)} {what}" for what, size in taken.items() if size)
    return f"{format_size(capacity)} capacity{minus} leaves {format_size(left)}"


def _named_once(host: HostFile) -> Iterable[tuple[str, tuple[str | int, ...]]]:
    """Yield every coven the host may get, with its most telling place last: the slot that wants it."""
    for index, name in enumerate(host.may_run or ()):
        yield name, ("may_run", index)
    for path, name in reversed(list(_named(host))):
        yield name, path
