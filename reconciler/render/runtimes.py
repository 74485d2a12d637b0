"""From the table of servers to one service: its arguments, and the addresses the agent talks to.

Must not: know a server by name except `generic`, whose facts stand in the YAML.
"""

from __future__ import annotations

from typing import NamedTuple

from reconciler.model.desired import HttpCall, Service
from reconciler.model.intent import BusyProbe, Call, WarmUp
from reconciler.model.runtimes import RUNTIMES, Runtime, sets_flag

LOOPBACK = "http://127.0.0.1"
LONGEST_WARM_REQUEST_S = 300.0


class Probes(NamedTuple):
    """How the agent talks to a service; everything is absent when the service has no port."""

    health: str | None = None
    in_flight: tuple[BusyProbe, ...] = ()
    pause: Call | None = None
    resume: Call | None = None
    warm: WarmUp | None = None


def launch_argv(service: Service) -> tuple[str, ...]:
    """Return the words after the image: `command` or what the runtime wants, then `args`."""
    if service.command:
        return (*service.command, *service.args)
    runtime = RUNTIMES[service.runtime]
    argv: list[str] = []
    if service.model is not None:
        reference, flag = (
            (service.model.path, runtime.model_flag) if service.model.path else (service.model.hub, runtime.hub_flag)
        )
        if reference and flag:
            argv += [flag, reference]
    if service.port is not None and runtime.port_flag:
        argv += [runtime.port_flag, str(service.port)]
    for words in runtime.defaults:
        if not any(sets_flag(word, words[0]) for word in service.args):
            argv += words
    return (*argv, *service.args)


def probes_of(service: Service) -> Probes:
    """Return the addresses of a service, as they are from the host it runs on."""
    if service.port is None:
        return Probes()
    base = f"{LOOPBACK}:{service.port}"
    if service.http is not None:
        return _generic(service, base)
    runtime = RUNTIMES[service.runtime]
    return Probes(
        health=base + runtime.health if runtime.health else None,
        in_flight=tuple(
            BusyProbe(url=base + probe.path, form=probe.form, names=probe.names, field=probe.field, also=probe.also)
            for probe in runtime.in_flight
        ),
        pause=_call(runtime.pause, base, optional=True),
        resume=_call(runtime.resume, base, optional=True),
        warm=_warm(service, runtime, base),
    )


def _generic(service: Service, base: str) -> Probes:
    http = service.http
    assert http is not None  # noqa: S101 - the caller looked; this tells the type checker
    in_flight: tuple[BusyProbe, ...] = ()
    if http.in_flight != "none":
        # A list of metrics and a JSON field are two ways to ask; the first that answers counts.
        probe = http.in_flight
        if probe.metrics:
            in_flight += (BusyProbe(url=base + probe.path, form="prometheus", names=probe.metrics),)
        if probe.json_field is not None:
            in_flight += (BusyProbe(url=base + probe.path, form="json", field=probe.json_field),)
    warm = _call(http.warm, base) if service.warm.request else None
    return Probes(
        health=base + http.health,
        in_flight=in_flight,
        pause=_call(http.pause, base),
        resume=_call(http.resume, base),
        warm=WarmUp(call=warm, timeout_s=_warm_timeout(service)) if warm else None,
    )


def _warm(service: Service, runtime: Runtime, base: str) -> WarmUp | None:
    if runtime.warm is None or not service.warm.request:
        return None
    call = _call(runtime.warm.call, base)
    assert call is not None  # noqa: S101 - made from a value that is there
    path = runtime.warm.model_path
    return WarmUp(
        call=call,
        model_url=base + path if path else None,
        expect_model=_served_name(service, runtime) if path else None,
        timeout_s=_warm_timeout(service),
    )


def _served_name(service: Service, runtime: Runtime) -> str | None:
    """Return the id the server lists first: the name given in `args`, else the model as it was given.

    None when `command` replaced what recon would have said: then nobody here knows.
    """
    if runtime.name_flag is not None:
        words = (*service.command, *service.args)
        for place, word in enumerate(words):
            if sets_flag(word, runtime.name_flag):
                return word.split("=", 1)[1] if "=" in word else next(iter(words[place + 1 :]), None)
    if service.command or service.model is None:
        return None
    return service.model.path or service.model.hub


def _warm_timeout(service: Service) -> float:
    return min(service.warm.timeout, LONGEST_WARM_REQUEST_S)


def _call(call: HttpCall | None, base: str, *, optional: bool = False) -> Call | None:
    if call is None:
        return None
    return Call(method=call.method, url=base + call.path, body=call.body, optional=optional)
