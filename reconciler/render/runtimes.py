"""From the table of servers to one service: its arguments, and the addresses the agent talks to.

Must not: know a server by name except `generic`, whose facts stand in the YAML.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from reconciler.model.desired import HttpCall, Service
from reconciler.model.intent import BusyProbe, Call, PauseProbe, SleepProbe, WarmUp
from reconciler.model.runtimes import RUNTIMES, InFlightProbe, Runtime, flag_value, sets_flag
from reconciler.render.weights import hub_env, revision_words

LOOPBACK = "http://127.0.0.1"
LONGEST_WARM_REQUEST_S = 300.0


class Probes(NamedTuple):
    """How the agent talks to a service; everything is absent when the service has no port."""

    health: str | None = None
    in_flight: tuple[BusyProbe, ...] = ()
    pause: Call | None = None
    resume: Call | None = None
    warm: WarmUp | None = None
    paused: PauseProbe | None = None
    asleep: SleepProbe | None = None


def launch_argv(service: Service) -> tuple[str, ...]:
    """Return the words after the image: `command` or what the runtime wants, then `args`."""
    if service.command:
        return (*service.command, *service.args)
    runtime = RUNTIMES[service.runtime]
    argv: list[str] = list(runtime.program)
    if service.model is not None:
        reference, flag = (
            (service.model.path, runtime.model_flag) if service.model.path else (service.model.hub, runtime.hub_flag)
        )
        if reference and flag:
            argv += [flag, reference, *revision_words(service)]
    if service.port is not None and runtime.port_flag:
        argv += [runtime.port_flag, str(service.port)]
    for words in runtime.defaults:
        if not any(sets_flag(word, words[0]) for word in service.args):
            argv += words
    return (*argv, *service.args)


def launch_env(service: Service) -> dict[str, str]:
    """Return the variables of the container: by which the runtime learns its port and its cache, and its own."""
    told = hub_env(service)
    if service.port is not None:
        told |= {name: text.replace("{port}", str(service.port)) for name, text in RUNTIMES[service.runtime].env}
    return {**told, **service.env}


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
        in_flight=tuple(_busy(probe, base, launch_argv(service)) for probe in runtime.in_flight),
        pause=_call(runtime.pause, base, optional=True),
        resume=_call(runtime.resume, base, optional=True),
        warm=_warm(service, runtime, base),
        paused=PauseProbe(url=base + runtime.paused.path, field=runtime.paused.field) if runtime.paused else None,
        asleep=_asleep(runtime, base),
    )


def _busy(probe: InFlightProbe, base: str, words: tuple[str, ...]) -> BusyProbe:
    def said(flag: str) -> bool:
        return any(sets_flag(word, flag) for word in words)

    counts = probe.exact_with is not None and said(probe.exact_with)
    return BusyProbe(
        url=base + probe.path,
        form=probe.form,
        names=probe.names,
        field=probe.field,
        also=probe.also,
        exact=counts and not any(said(flag) for flag in probe.exact_unless),
    )


def _asleep(runtime: Runtime, base: str) -> SleepProbe | None:
    metric = runtime.asleep
    if metric is None:
        return None
    return SleepProbe(url=base + metric.path, metric=metric.metric, label=metric.label, awake=metric.awake)


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
    call = _call(_named(runtime.warm.call, service), base)
    assert call is not None  # noqa: S101 - made from a value that is there
    path = runtime.warm.model_path
    return WarmUp(
        call=call,
        model_url=base + path if path else None,
        expect_model=_served_name(service, runtime) if path else None,
        timeout_s=_warm_timeout(service),
    )


def _named(call: HttpCall, service: Service) -> HttpCall:
    """Put the model's name into a body that asks for it, as JSON would write it inside a string."""
    if call.body is None or service.model is None or service.model.hub is None:
        return call
    return call.model_copy(update={"body": call.body.replace("{name}", json.dumps(service.model.hub)[1:-1])})


def _served_name(service: Service, runtime: Runtime) -> str | None:
    """Return the id the server lists first: the name given in `args`, else the model as it was given.

    None when `command` replaced what recon would have said: then nobody here knows.
    """
    words = (*service.command, *service.args)
    if runtime.name_flag is not None and any(sets_flag(word, runtime.name_flag) for word in words):
        return flag_value(runtime.name_flag, words)
    if service.command or service.model is None:
        return None
    return service.model.path or service.model.hub


def _warm_timeout(service: Service) -> float:
    return min(service.warm.timeout, LONGEST_WARM_REQUEST_S)


def _call(call: HttpCall | None, base: str, *, optional: bool = False) -> Call | None:
    if call is None:
        return None
    return Call(method=call.method, url=base + call.path, body=call.body, optional=optional)
