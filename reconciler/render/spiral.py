"""The spiral's units, and by what the host's own programs go about it.

    recon-spiral-<unit>.service     a loop that is a program of the host (native), or
    recon-spiral-<unit>.container   a loop that is a container
    recon-spiral.target             groups them; boots where the spiral is enabled
    recon-job-<job>.service         a oneshot, started by hand alone

None of them starts while somebody has the spiral down: a mark that outlives reboots is asked by every unit itself. The
settings stand in the target's file too, in a section that systemd leaves alone: so they are reviewed in git, and a
change of one is a change of a file like any other.

Must not: know a host's name; hosts of one kind share these files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from reconciler.model.desired import Fleet, Host, Platform
from reconciler.model.intent_spiral import SpiralJobSpec, SpiralMember, SpiralSpec
from reconciler.model.limits import Limits
from reconciler.model.rendered import RenderedFile
from reconciler.model.share import TAG
from reconciler.model.spiral import SpiralFile, SpiralJob, SpiralUnit
from reconciler.render import encode, gating, template, units
from reconciler.render.defaults import SPIRAL_CONTAINER, SPIRAL_JOB, SPIRAL_SERVICE, SPIRAL_TARGET
from reconciler.render.share import service_keys as claim_keys
from reconciler.render.share import share_files, share_spec
from reconciler.render.share import unit_keys as share_keys
from reconciler.render.spiral_spec import TARGET, container_name, job_name, job_of, member_of, spec_of, unit_name
from reconciler.render.spiral_timers import timer_files

DOWN = "%E/recon/down/spiral.json"
COVEN = "spiral"
NICE = 10

Keys = tuple[tuple[str, str], ...]


class Spiral(NamedTuple):
    """The spiral of a host: its files, and what goes into the manifest."""

    files: tuple[RenderedFile, ...]
    spec: SpiralSpec


def key_of(fleet: Fleet, host: Host) -> object:
    """Return what two hosts must have in common to have the same spiral; nothing where there is none."""
    if fleet.spiral is None or not host.has_spiral:
        return None
    # A loop in a share is told the name of its host, and so no other host has its files.
    own = (host.name, host.share.model_dump_json()) if host.share else ()
    return (host.spiral.model_dump_json(), *own)


def render_spiral(fleet: Fleet, host: Host, templates: Mapping[str, str]) -> Spiral | None:
    """Render the spiral of a host, None where git says nothing about one."""
    if fleet.spiral is None or not host.has_spiral:
        return None
    share = host.share
    spiral = fleet.spiral.on(share.role if share else None)
    files: list[RenderedFile] = []
    members: list[SpiralMember] = []
    slot = _slot_of(host, spiral)
    gpus = units.gpu_devices(host.slot(slot).gpus) if slot else ()
    for name, unit in sorted(spiral.units.items()):
        if unit.image is not None:
            file = _container(name, unit, spiral, gpus, host, templates)
        else:
            file = _program(name, unit, spiral, host, templates)
        files.append(file)
        members.append(member_of(name, unit, file))
    jobs: list[SpiralJobSpec] = []
    for name, job in sorted(spiral.jobs.items()):
        file = _job(name, job, spiral, host, templates)
        files.append(file)
        jobs.append(job_of(name, job, file))
    if share:
        loops = tuple(member.unit for member in members) if host.spiral.enabled else ()
        files += share_files(share, spiral, loops, templates)
    spec = spec_of(spiral, host, slot, tuple(members), tuple(jobs), share_spec(fleet, host))
    files += (_target(spec, templates), *timer_files(spec, templates))
    return Spiral(tuple(files), spec)


def _slot_of(host: Host, spiral: SpiralFile) -> str | None:
    if not spiral.has_gpu_lane:
        return None
    return host.spiral.slot or host.slots[0].name


def _target(spec: SpiralSpec, templates: Mapping[str, str]) -> RenderedFile:
    names = tuple(member.unit for member in spec.units)
    settings = _settings(spec)
    values = {"description": "recon: the spiral", "units": names, "down": DOWN, "settings": settings}
    kept = {f"Wants={name}" for name in names} | {f"{key}={value}" for key, value in settings}
    return units.native_file(TARGET, SPIRAL_TARGET, values, kept | {_condition()}, templates)


def _condition() -> str:
    return f"ConditionPathExists=!{DOWN}"


def _settings(spec: SpiralSpec) -> Keys:
    """Say by what the host's programs go, a line for each thing that can change without any unit changing."""
    body = spec.model_dump(mode="json", exclude={"units", "jobs", "target", "root", "user"})
    caps = body.pop("caps")
    lines = [(f"Cap-{name}", str(value)) for name, value in sorted(caps.items())]
    lines += [(key.capitalize(), _plain(value)) for key, value in sorted(body.items()) if value not in (None, [])]
    lines += [("Producer", member.name) for member in spec.units if member.producer]
    lines += [("Guardian", member.name) for member in spec.units if member.guards]
    return tuple(lines)


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=True)
    return encode.unit_value(text, field="workloads/spiral")


def _program(name: str, unit: SpiralUnit, spiral: SpiralFile, host: Host, templates: Mapping[str, str]) -> RenderedFile:
    stop = max(1, round(unit.stop.timeout))
    values: dict[str, Any] = {
        **_common(name, f"recon: {name} of the spiral", unit, spiral, host),
        "gpu": unit.lane == "gpu",
        **_keys(unit, spiral, host),
        "stop_timeout": stop,
        **_start_limit(stop),
    }
    lines = [_condition(), f"PartOf={TARGET}", "Restart=on-failure", f"ExecStart={values['exec']}"]
    lines += [f"Environment={variable}" for variable in values["environment"]]
    return _hashed(unit_name(name), SPIRAL_SERVICE, values, [*lines, *_kept_limits(values)], templates, service=name)


def _job(name: str, job: SpiralJob, spiral: SpiralFile, host: Host, templates: Mapping[str, str]) -> RenderedFile:
    values = {
        **_common(name, f"recon: job {name} of the spiral", job, spiral, host),
        "service_keys": (*_caps(job.limits), *_niceness(job)),
        "start_timeout": encode.systemd_seconds(job.timeout),
        "stop_timeout": max(1, round(job.stop.timeout)),
    }
    lines = [f"AssertPathExists=!{DOWN}", f"PartOf={TARGET}", "Type=oneshot", f"ExecStart={values['exec']}"]
    lines += [f"{key}={value}" for key, value in values["service_keys"]]
    return _hashed(job_name(name), SPIRAL_JOB, values, lines, templates, service=name)


def _common(
    name: str, description: str, program: SpiralUnit | SpiralJob, spiral: SpiralFile, host: Host
) -> dict[str, Any]:
    field, env = f"workloads/spiral.{name}", _env(program, host)
    return {
        "description": encode.unit_value(description, field=field),
        "target": TARGET,
        "down": DOWN,
        "root": encode.unit_value(spiral.root, field="workloads/spiral.root"),
        "user": spiral.user or "",
        "environment": tuple(encode.environment(key, env[key], field=f"{field}.env.{key}") for key in sorted(env)),
        "exec": encode.words(program.argv, field=f"{field}.argv"),
    }


def _env(program: SpiralUnit | SpiralJob, host: Host) -> dict[str, str]:
    """Return the variables of a program; in a share it is told the tag that it claims by."""
    return {**program.env, **({TAG: host.name} if host.share else {})}


def _keys(unit: SpiralUnit, spiral: SpiralFile, host: Host) -> dict[str, Keys]:
    return {
        "unit_keys": share_keys(host.share),
        "service_keys": (
            *claim_keys(host.share, spiral.root),
            *_backoff(host.platform),
            *_caps(unit.limits),
            *_niceness(unit),
        ),
    }


def _container(
    name: str,
    unit: SpiralUnit,
    spiral: SpiralFile,
    gpus: tuple[str, ...],
    host: Host,
    templates: Mapping[str, str],
) -> RenderedFile:
    field, env = f"workloads/spiral.{name}", _env(unit, host)
    stop = max(1, round(unit.stop.timeout))
    inside: Keys = ()
    if unit.limits.memory is not None:
        inside += gating.container_memory(host.platform, encode.podman_size(unit.limits.memory))
    if unit.limits.tasks is not None:
        inside += (("PidsLimit", "0"),)
    values: dict[str, Any] = {
        "description": encode.unit_value(f"recon: {name} of the spiral", field=field),
        "target": TARGET,
        "down": DOWN,
        "gpu": unit.lane == "gpu",
        "container": container_name(name),
        "image": encode.raw(unit.image or "", field=f"{field}.image"),
        "devices": tuple(encode.word(gpu, field=f"{field}.gpu") for gpu in gpus) if unit.lane == "gpu" else (),
        "shm_size": encode.podman_size(unit.shm) if unit.shm else "",
        "volumes": tuple(encode.volume(volume, field=f"{field}.volumes") for volume in unit.volumes),
        "environment": tuple(encode.assignment(key, env[key], field=f"{field}.env.{key}") for key in sorted(env)),
        "exec": encode.words((*unit.command, *unit.args), field=f"{field}.args"),
        "container_keys": inside,
        **_keys(unit, spiral, host),
        "start_timeout": units.START_TIMEOUT_S,
        "container_stop_timeout": stop,
        # Podman kills after its own timeout, and systemd must not be faster.
        "stop_timeout": stop + units.STOP_MARGIN_S,
        **_start_limit(stop),
    }
    lines = [_condition(), f"PartOf={TARGET}", "Restart=on-failure", "Pull=never"]
    lines += [f"ContainerName={values['container']}", f"Image={values['image']}", *_kept_limits(values)]
    lines += [f"AddDevice={device}" for device in values["devices"]]
    lines += [f"Environment={variable}" for variable in values["environment"]]
    file_name = f"{container_name(name)}.container"
    return _hashed(file_name, SPIRAL_CONTAINER, values, lines, templates, service=name, is_quadlet=True)


def _hashed(
    name: str,
    template_name: str,
    values: Mapping[str, Any],
    kept: list[str],
    templates: Mapping[str, str],
    *,
    service: str,
    is_quadlet: bool = False,
) -> RenderedFile:
    """Render a unit that carries its own hash: over the body without it, then written into it."""
    source = templates[template_name]
    config_hash = units.digest(template.render(template_name, source, _stamped(values, service, "")))[:16]
    body = template.render(template_name, source, _stamped(values, service, config_hash))
    units.check_kept(template_name, body, {*kept, f"Environment=RECON_CONFIG_HASH={config_hash}"})
    return RenderedFile(
        name=name,
        kind="quadlet" if is_quadlet else "native",
        body=body,
        body_sha256=units.digest(body),
        config_hash=config_hash,
        service=service,
    )


def _stamped(values: Mapping[str, Any], service: str, config_hash: str) -> dict[str, Any]:
    labels = {
        "io.recon.managed": "true",
        "io.recon.coven": COVEN,
        "io.recon.service": service,
        "io.recon.config-hash": config_hash,
    }
    encoded = tuple(encode.assignment(key, label, field="labels") for key, label in labels.items())
    return {**values, "config_hash": config_hash, "labels": encoded}


def _backoff(platform: Platform) -> Keys:
    return gating.backoff(
        platform, first_s=units.RESTART_FIRST_S, longest_s=units.RESTART_LONGEST_S, steps=units.RESTART_STEPS
    )


def _caps(limits: Limits) -> Keys:
    keys: Keys = ()
    if limits.memory is not None:
        keys += (("MemoryMax", encode.systemd_size(limits.memory)), ("MemorySwapMax", "0"))
    if limits.tasks is not None:
        keys += (("TasksMax", str(limits.tasks)),)
    if limits.cpus is not None:
        keys += (("CPUQuota", encode.cpu_quota(limits.cpus)),)
    return keys


def _niceness(program: SpiralUnit | SpiralJob) -> Keys:
    if program.lane == "gpu":
        return ()
    return (("Nice", str(NICE if program.nice is None else program.nice)),)


def _start_limit(stop_s: int) -> dict[str, int]:
    """Return a limit wide enough to hold that many whole attempts, or a loop that dies late would run for days."""
    attempt = stop_s + units.STOP_MARGIN_S + units.START_TIMEOUT_S + units.RESTART_LONGEST_S
    return {"start_limit_interval": units.START_LIMIT_BURST * attempt, "start_limit_burst": units.START_LIMIT_BURST}


def _kept_limits(values: Mapping[str, Any]) -> list[str]:
    """Return the lines that the guardrails rest on."""
    lines = [f"{key}={value}" for key, value in (*values["unit_keys"], *values["service_keys"])]
    interval, burst = values["start_limit_interval"], values["start_limit_burst"]
    return [*lines, f"StartLimitIntervalSec={interval}", f"StartLimitBurst={burst}"]
