"""Checks what the services of a coven, or the residents of a host, say: each alone, and all of them together.

Must not: know hosts; what depends on a host is in `meaning`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from reconciler.load.codes import shown
from reconciler.load.explain import nearest
from reconciler.load.models import check_source, told_by_model
from reconciler.load.report import Report
from reconciler.load.values import (
    Finding,
    check_env_name,
    check_image,
    check_volume,
)
from reconciler.model.base import format_duration
from reconciler.model.desired import Drain, Policy, Service
from reconciler.model.runtimes import RUNTIMES, blinding_args, clashing_args, shortest_stop_s

Path = tuple[str | int, ...]

MAX_VALUE_BYTES = 8192
MAX_WAIT_S = 24 * 3600.0
MAX_STOP_S = 3600.0

NEEDS_MODEL = frozenset(name for name, runtime in RUNTIMES.items() if runtime.needs_model)
NEEDS_PORT = frozenset(RUNTIMES) - {"none", "bot"}
_OTHER_UNITS = (".timer", ".socket", ".path", ".target", ".slice", ".scope", ".mount", ".automount", ".container")


def check_services(services: Mapping[str, Service], base: str, policy: Policy, report: Report) -> None:
    """Check a group of services that run side by side; `base` is the key they stand under."""
    for name, service in services.items():
        path: Path = (base, name)
        report.at_value((*path, "image"), check_image(service.image, require_digest=policy.require_digest))
        _check_runtime(service, path, report)
        _check_model(service, path, policy, report)
        _check_arguments(service, path, report)
        _check_surroundings(service, path, policy, report)
        _check_times(service, path, report)
        _check_adopts(service, path, report)
        _check_container_name(service, path, report)
    _check_ports(services, base, report)
    _check_adopted_once(services, base, report)
    _check_container_names(services, base, report)
    _check_order(services, base, report)


def check_drain(drain: Drain | None, path: Path, report: Report) -> None:
    """Check that a drain ends on the day it begins."""
    if drain is not None:
        report.at_value((*path, "timeout"), too_long(drain.timeout, MAX_WAIT_S))


def check_admission(service: Service, drain: Drain, path: Path, report: Report) -> None:
    """Check that what keeps new requests out is there."""
    runtime = RUNTIMES[service.runtime]
    pauses = runtime.pause is not None or (service.http is not None and service.http.pause is not None)
    if drain.admission == "pause" and not pauses:
        fix = "write 'admission: firewall', or leave it out"
        detail = f"runtime {service.runtime} has no pause"
        report.at_value((*path, "admission"), Finding("REC2043", detail, fix))
    elif drain.admission == "firewall" and service.port is None:
        detail = "a firewall works on a port, and a service without one is drained by it"
        report.at_value((*path, "admission"), Finding("REC2043", detail, "give it a port, or leave admission out"))


def check_texts(report: Report) -> None:
    """Refuse line breaks and giant values wherever a value is rendered; only looked for where the text is odd."""
    if not report.document.has_odd_text:
        return
    for path, text in _texts(report.document.value, ()):
        name = ".".join(str(step) for step in path)
        if any(ord(character) < 32 or ord(character) == 127 for character in text):
            fix = "write it on one line; for long text use '>-'"
            report.at_value(path, Finding("REC3005", f"{name} is rendered into a line of its own", fix))
        elif len(text.encode()) > MAX_VALUE_BYTES:
            fix = "put it into a file on the host, and mount that"
            report.at_value(path, Finding("REC3007", f"{name} has more than {MAX_VALUE_BYTES} bytes", fix))


def repeated(items: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yield the items that were there before, with their index."""
    seen: set[str] = set()
    for index, item in enumerate(items):
        if item in seen:
            yield index, item
        seen.add(item)


def _texts(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        if path[-1] != "body":  # the body of an HTTP call is sent, not rendered
            yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, (*path, key))
    elif isinstance(value, tuple):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*path, index))


def _check_runtime(service: Service, path: Path, report: Report) -> None:
    runtime = service.runtime
    if service.port is None and runtime in NEEDS_PORT:
        report.at_key(
            path, Finding("REC2002", f"runtime {runtime} is asked over HTTP, so 'port' is needed", "add 'port: 8000'")
        )
    if runtime == "bot":
        _check_bot(service, path, report)
    if runtime == "generic":
        _check_generic(service, path, report)
    elif service.http is not None:
        detail = f"runtime {runtime} " + (
            "is not asked over HTTP" if runtime in ("none", "bot") else "knows its own endpoints"
        )
        report.at_key((*path, "http"), Finding("REC2026", detail, "remove 'http', or write 'runtime: generic'"))


def _check_bot(service: Service, path: Path, report: Report) -> None:
    """A bot calls others and is called by nobody: what would be asked of it must not be written down."""
    fix = "remove it, or write 'runtime: generic' if it is a server"
    if service.port is not None:
        detail = "a bot has no port: its health is its container's"
        report.at_key((*path, "port"), Finding("REC2050", detail, fix))
    if service.warm.request and "request" in service.warm.model_fields_set:
        report.at_value((*path, "warm", "request"), Finding("REC2050", "a bot is sent no request", fix))


def _check_generic(service: Service, path: Path, report: Report) -> None:
    if service.http is None:
        detail = "recon does not know this server, and would take it for healthy as soon as it runs"
        fix = "add 'http: {health: /health, in_flight: none}' with the server's own paths"
        report.at_key(path, Finding("REC2013", detail, fix))
        return
    busy = service.http.in_flight
    if busy == "none":
        return
    if not busy.metrics and busy.json_field is None:
        detail = "nothing says how to read the number of requests from the reply"
        fix = "add 'metrics: [name]' for Prometheus text, or 'json_field: path.to.number'"
        report.at_value((*path, "http", "in_flight"), Finding("REC2002", detail, fix))
    elif busy.metrics and busy.json_field is not None:
        detail = "a reply is either Prometheus text or JSON"
        report.at_key(
            (*path, "http", "in_flight", "json_field"), Finding("REC2034", detail, "keep one of metrics and json_field")
        )


def _check_model(service: Service, path: Path, policy: Policy, report: Report) -> None:
    model = service.model
    if model is None:
        if service.runtime in NEEDS_MODEL:
            detail = f"runtime {service.runtime} serves a model, so 'model' is needed"
            given = RUNTIMES[service.runtime].model_from
            fix = "add 'model: {path: /srv/models/…}'" if "path" in given else "add 'model: {hub: org/name}'"
            report.at_key(path, Finding("REC2002", detail, fix))
        return
    if (model.path is None) == (model.hub is None):
        detail = "both are given" if model.path is not None else "neither is given"
        report.at_key(
            (*path, "model"),
            Finding("REC2025", detail, "write 'model: {path: /srv/models/…}' or 'model: {hub: org/name}'"),
        )
        return
    key: Literal["path", "hub"] = "path" if model.path is not None else "hub"
    runtime = RUNTIMES[service.runtime]
    if key not in runtime.model_from:
        detail = f"runtime {service.runtime} is given {'a name only' if runtime.model_from else 'no model of its own'}"
        fix = "write 'model: {hub: org/name}', and mount its store under 'volumes'" if runtime.model_from else ""
        report.at_key((*path, "model"), Finding("REC2040", detail, fix or "remove 'model', mount them under 'volumes'"))
    else:
        check_source(service, (*path, "model"), policy, report)


def _check_arguments(service: Service, path: Path, report: Report) -> None:
    for index, argument in enumerate(service.args):
        # With a `command` of its own the service says everything itself, and nothing is said twice.
        if not service.command and clashing_args(service.runtime, (argument,)):
            flag = argument.split("=", 1)[0]
            key = "port" if flag == "--port" else "model"
            detail = f"runtime {service.runtime} sets {shown(flag)} from '{key}', and would get it twice"
            report.at_value((*path, "args", index), Finding("REC2027", detail, f"remove it, and say it as '{key}:'"))
        if blinding_args(service.runtime, (argument,)):
            detail = f"with {shown(argument)} the server stops counting its requests: it could never be drained"
            report.at_value((*path, "args", index), Finding("REC2041", detail, "remove it"))
    size = sum(len(part.encode()) + 3 for part in (*service.command, *service.args))
    if size > MAX_VALUE_BYTES and all(len(part.encode()) <= MAX_VALUE_BYTES for part in service.args):
        detail = f"command and args become one line of {size} bytes; at most {MAX_VALUE_BYTES} are rendered"
        report.at_key((*path, "args"), Finding("REC3007", detail, "put the settings into a file on the host"))


def _check_surroundings(service: Service, path: Path, policy: Policy, report: Report) -> None:
    for name in service.env:
        if name in dict(RUNTIMES[service.runtime].env):
            detail = f"runtime {service.runtime} sets {name} from 'port', and would get it twice"
            report.at_key((*path, "env", name), Finding("REC2027", detail, "remove it, and say it as 'port:'"))
        if name in told_by_model(service):
            detail = f"runtime {service.runtime} is told by {name} where its hub model is, and to download nothing"
            report.at_key((*path, "env", name), Finding("REC2027", detail, "remove it, and use 'cache' of the model"))
        report.at_key((*path, "env", name), check_env_name(name, policy.allow_env))
    for index, volume in enumerate(service.volumes):
        report.at_value((*path, "volumes", index), check_volume(volume, policy.allow_mounts))
    targets = [volume.split(":")[1] if ":" in volume else volume for volume in service.volumes]
    for index, target in repeated(targets):
        detail = f"something is mounted at {shown(target)} already"
        report.at_value((*path, "volumes", index), Finding("REC2031", detail, "use another place in the container"))


def _check_adopts(service: Service, path: Path, report: Report) -> None:
    """What is taken over is stopped for a coven's turn and kept off after it: nothing of recon's own is."""
    if service.adopts and path[0] == "residents":
        detail = "a resident is no part of a transition, and only a transition takes over"
        fix = f"remove it, and stop {service.adopts[0]} on the host"
        report.at_key((*path, "adopts"), Finding("REC2120", detail, fix))
    for index, name in enumerate(service.adopts):
        report.at_value((*path, "adopts", index), _no_adoptee(name))


def _no_adoptee(name: str) -> Finding | None:
    """Say why nothing of that name can be taken over: a service of somebody else, or a container, can."""
    if name.startswith("recon-"):
        return Finding("REC2120", f"{shown(name)} is a name of recon's own", "name what ran before recon")
    if name.endswith("@.service"):
        detail = f"{shown(name)} is a template, and only an instance of it runs"
        return Finding("REC2120", detail, f"name the instance: {name.removesuffix('.service')}NAME.service")
    if name.endswith(_OTHER_UNITS):
        detail = f"{shown(name)} holds no GPU by itself"
        return Finding("REC2120", detail, "name the service that it starts, and disable this one on the host")
    return None


def _check_container_name(service: Service, path: Path, report: Report) -> None:
    if service.container_name is not None and service.container_name.startswith("recon-"):
        detail = f"{shown(service.container_name)} begins as the names that recon gives by itself"
        report.at_value((*path, "container_name"), Finding("REC2124", detail, "remove it, or choose another name"))


def _check_container_names(services: Mapping[str, Service], base: str, report: Report) -> None:
    named = [(name, service.container_name) for name, service in services.items() if service.container_name is not None]
    for index, container in repeated(container for _, container in named):
        detail = f"{shown(container)} is there already, and both run at the same time on one host"
        finding = Finding("REC2125", detail, "give one of them another name")
        report.at_value((base, named[index][0], "container_name"), finding)


def _check_adopted_once(services: Mapping[str, Service], base: str, report: Report) -> None:
    named = [(name, service_name) for service_name, service in services.items() for name in service.adopts]
    for index, name in repeated(name for name, _ in named):
        path = (base, named[index][1], "adopts")
        detail = f"{shown(name)} is there already, and only one service takes its place"
        report.at_key(path, Finding("REC2031", detail, "remove one of them"))


def _check_times(service: Service, path: Path, report: Report) -> None:
    check_drain(service.drain, (*path, "drain"), report)
    report.at_value((*path, "warm", "timeout"), too_long(service.warm.timeout, MAX_WAIT_S))
    report.at_value((*path, "stop", "timeout"), too_long(service.stop.timeout, MAX_STOP_S))
    _check_stop(service, path, report)


def _check_stop(service: Service, path: Path, report: Report) -> None:
    """A server that promises to finish what is in flight must not be killed before it has."""
    rule = RUNTIMES[service.runtime].stop
    least = shortest_stop_s(service.runtime, (*service.command, *service.args))
    if rule is None or service.stop.timeout >= least:
        return
    detail = f"{rule.why}; it would be killed after {format_duration(service.stop.timeout)}"
    finding = Finding("REC2042", detail, f"write 'stop: {{timeout: {format_duration(least)}}}' or more")
    if "stop" in service.model_fields_set:
        report.at_value((*path, "stop", "timeout"), finding)
    else:
        report.at_key(path, finding)


def too_long(seconds: float, most: float) -> Finding | None:
    """Judge a time that a transition may have to wait."""
    if seconds <= most:
        return None
    detail = f"{format_duration(seconds)} is more than a transition may wait here, {format_duration(most)}"
    return Finding("REC2012", detail, f"write at most {format_duration(most)}")


def _check_ports(services: Mapping[str, Service], base: str, report: Report) -> None:
    taken: dict[int, str] = {}
    for name, service in services.items():
        if service.port is None:
            continue
        if service.port in taken:
            detail = f"'{taken[service.port]}' has port {service.port} too, and both run at the same time on one host"
            report.at_value((base, name, "port"), Finding("REC2004", detail, "give one of them another port"))
        taken.setdefault(service.port, name)


def _check_order(services: Mapping[str, Service], base: str, report: Report) -> None:
    for name, service in services.items():
        for index, other in enumerate(service.after):
            if other not in services:
                meant = nearest(other, services)
                fix = f"did you mean '{meant}'?" if meant else f"name one of: {', '.join(services)}"
                detail = f"there is no service {shown(other)} beside '{name}'"
                report.at_value((base, name, "after", index), Finding("REC2032", detail, fix))
        for index, other in repeated(service.after):
            report.at_value(
                (base, name, "after", index), Finding("REC2031", f"{shown(other)} is there already", "remove it")
            )
    if cycle := find_cycle({name: service.after for name, service in services.items()}):
        detail = "each waits for the next: " + " → ".join(cycle)
        report.at_value((base, cycle[0], "after"), Finding("REC2018", detail, "remove one of these 'after'"))


def find_cycle(after: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the first cycle as names, its first one again at the end; nothing when there is none."""
    done: set[str] = set()
    for start in after:
        path: list[str] = []
        stack: list[Iterator[str]] = [iter((start,))]
        while stack:  # a loop, not recursion: a chain may be as long as a file allows
            name = next(stack[-1], None)
            if name is None:
                stack.pop()
                if path:
                    done.add(path.pop())
            elif name in path:
                return (*path[path.index(name) :], name)
            elif name in after and name not in done:
                path.append(name)
                stack.append(iter(after[name]))
    return ()
