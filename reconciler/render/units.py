"""The bodies of unit files, one function per kind: settle every value, encode it, let the template lay it out.

Names, and what holds them together:

    recon-gate-<slot>-<coven>.service      one per coven; gates of a slot conflict with each other
    recon-<coven>-<service>.container      Requisite, PartOf and After its gate: a stray start fails, it evicts nobody
    recon-coven-<coven>.target             what is started; it holds no member list, the members' [Install] does
    recon-resident-<name>.container        no gate, part of the boot target
    recon-boot.target                      what starts with the host
    recon-watchdog.timer, .service         see `watchdog`
    recon-schedule.timer, .service         see `schedule`

Places are written as specifiers (%t, %S: systemd.unit(5)), so that a unit is the same for the system's manager and for
a user's. A template may lay out as it likes, but the lines exclusivity rests on must be there: REC4009 otherwise.

Must not: know a host's name (bodies are shared by all hosts of one kind), or write a value that was not encoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from reconciler.errors import DesiredStateError, Problem, Where
from reconciler.model.desired import ALL_GPUS, Platform, Service
from reconciler.model.rendered import FileKind, RenderedFile
from reconciler.render import encode, gating, template
from reconciler.render.defaults import BOOT, GATE, SERVICE, TARGET
from reconciler.render.runtimes import launch_argv, launch_env
from reconciler.render.weights import weights_mounts

BOOT_TARGET = "recon-boot.target"
DOWN = "%E/recon/down/coven.json"
"""Where `recon down coven` leaves its mark: no gate opens while it is there, also after a reboot."""

START_TIMEOUT_S = 300
"""For `podman run -d` alone: Quadlet's units are ready when the container runs, and the agent judges the loading."""

STOP_MARGIN_S = 30
RESTART_FIRST_S = 3
RESTART_LONGEST_S = 600
RESTART_STEPS = 5
START_LIMIT_BURST = 5


class Place(NamedTuple):
    """Where a service belongs: a coven on a slot, or the residents when `gate` is None. `gpus` are CDI names."""

    coven: str
    service: str
    unit: str
    container: str
    gate: str | None
    target: str
    after: tuple[str, ...]
    gpus: tuple[str, ...]
    platform: Platform


def gate_name(slot: str, coven: str) -> str:
    """Return the gate's unit name."""
    return f"recon-gate-{slot}-{coven}.service"


def target_name(coven: str) -> str:
    """Return the name of the target that is started for a coven."""
    return f"recon-coven-{coven}.target"


def container_name(coven: str, service: str) -> str:
    """Return the name of a member's unit without `.service`, and of its container where git gives it none."""
    return f"recon-{coven}-{service}"


def resident_name(resident: str) -> str:
    """Return the name of a resident's unit without `.service`, and of its container where git gives it none."""
    return f"recon-resident-{resident}"


def gpu_devices(gpus: Sequence[str] | str) -> tuple[str, ...]:
    """Return the CDI names of a slot's GPUs."""
    return ("nvidia.com/gpu=all",) if gpus == ALL_GPUS else tuple(f"nvidia.com/gpu={gpu}" for gpu in gpus)


def mounts_of(service: Service) -> tuple[str, ...]:
    """Return the `Volume=` values of a service: its weights, read-only under the same path, and its own."""
    return (*weights_mounts(service), *service.volumes)


def service_file(place: Place, service: Service, templates: Mapping[str, str]) -> RenderedFile:
    """Render a member or a resident; its hash is over the body without the hash, then written into it."""
    name = f"{place.unit.removesuffix('.service')}.container"
    values = _service_values(place, service)
    config_hash = digest(template.render(SERVICE, templates[SERVICE], _with_hash(values, place, service, "")))[:16]
    final = _with_hash(values, place, service, config_hash)
    body = template.render(SERVICE, templates[SERVICE], final)
    check_kept(SERVICE, body, _service_lines(place, final))
    return RenderedFile(
        name=name,
        kind="quadlet",
        body=body,
        body_sha256=digest(body),
        config_hash=config_hash,
        coven=place.coven if place.gate else None,
        service=place.service,
    )


def gate_file(slot: str, coven: str, others: Sequence[str], templates: Mapping[str, str]) -> RenderedFile:
    """Render the gate of a coven: it conflicts with the gates of all other covens that may run on the slot.

    A conflict alone lets the new start while the old still stops; an ordering between the two makes systemd stop first.
    One direction is enough and both would be a cycle, so a gate comes after those whose name sorts earlier.
    A conflict is a job, and a later job can take its place: whoever starts a member of the old coven again while it
    stops needs its gate up, and systemd drops the stop that the new gate waits for. So an open gate also has a
    directory, and no gate opens while there is one of another: that is asked when its own turn has come. Nor does one
    open while a person has the covens of the host down.
    """
    name = gate_name(slot, coven)
    conflicts = tuple(gate_name(slot, other) for other in sorted(others))
    values = {
        "description": encode.unit_value(f"recon: {coven} may run on slot {slot}", field=name),
        "conflicts": conflicts,
        "after": tuple(other for other in conflicts if other < name),
        "open_gates": tuple(f"%t/{_stem(other)}" for other in conflicts),
        "directory": _stem(name),
        "down": DOWN,
    }
    kept = {f"Conflicts={other}" for other in conflicts} | {f"After={other}" for other in values["after"]}
    kept |= {f"AssertPathExists=!{path}" for path in values["open_gates"]}
    kept |= {
        f"AssertPathExists=!{DOWN}",
        "RefuseManualStart=yes",
        "RemainAfterExit=yes",
        f"RuntimeDirectory={_stem(name)}",
    }
    return _native(name, GATE, values, kept, templates, coven=coven)


def _stem(unit: str) -> str:
    return unit[: -len(".service")]


def target_file(slot: str, coven: str, description: str | None, templates: Mapping[str, str]) -> RenderedFile:
    """Render the target of a coven."""
    gate = gate_name(slot, coven)
    text = f"recon: coven {coven}" + (f", {description}" if description else "")
    values = {"description": encode.unit_value(text, field=f"covens.{coven}.description"), "gate": gate}
    return _native(target_name(coven), TARGET, values, {f"BindsTo={gate}", f"After={gate}"}, templates, coven=coven)


def boot_file(templates: Mapping[str, str]) -> RenderedFile:
    """Render what starts with the host; its wants lie in the committed generation, not in this file."""
    return _native(BOOT_TARGET, BOOT, {"description": "recon: what starts with this host"}, set(), templates)


def native_file(
    name: str, template_name: str, values: Mapping[str, Any], kept: set[str], templates: Mapping[str, str]
) -> RenderedFile:
    """Render a native unit of the host; the lines in `kept` must be in it whatever the template says."""
    return _native(name, template_name, values, kept, templates)


def digest(text: str) -> str:
    """Return the SHA-256 of a text in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def _service_values(place: Place, service: Service) -> dict[str, Any]:
    field = f"covens.{place.coven}.services.{place.service}" if place.gate else f"residents.{place.service}"
    env = launch_env(service)
    return {
        "description": encode.unit_value(
            f"recon: {place.service} of {place.coven}" if place.gate else f"recon: resident {place.service}",
            field=field,
        ),
        "gate": place.gate,
        "target": place.target,
        "after": place.after,
        "container": place.container,
        "image": encode.raw(service.image, field=f"{field}.image"),
        "devices": tuple(encode.word(gpu, field=f"{field}.gpu") for gpu in place.gpus) if service.gpu else (),
        "shm_size": encode.podman_size(service.shm) if service.shm else "",
        "volumes": tuple(encode.volume(mount, field=f"{field}.volumes") for mount in mounts_of(service)),
        "environment": tuple(encode.assignment(key, env[key], field=f"{field}.env.{key}") for key in sorted(env)),
        "exec": encode.words(launch_argv(service), field=f"{field}.args"),
        **_limits(place, service),
        **_times(service),
    }


def _limits(place: Place, service: Service) -> dict[str, gating.Keys]:
    """Caps stand on the service, whose cgroup the container shares; the container sees them too where podman can."""
    limits = service.limits
    inside: gating.Keys = ()
    outside = gating.backoff(place.platform, first_s=RESTART_FIRST_S, longest_s=RESTART_LONGEST_S, steps=RESTART_STEPS)
    if limits.memory is not None:
        inside += gating.container_memory(place.platform, encode.podman_size(limits.memory))
        outside += (("MemoryMax", encode.systemd_size(limits.memory)), ("MemorySwapMax", "0"))
    if limits.tasks is not None:
        # Podman's own default of 2048 would undercut it; 0 leaves the counting to the service.
        inside += (("PidsLimit", "0"),)
        outside += (("TasksMax", str(limits.tasks)),)
    if limits.cpus is not None:
        outside += (("CPUQuota", encode.cpu_quota(limits.cpus)),)
    return {"container_keys": inside, "service_keys": outside}


def _times(service: Service) -> dict[str, str | int]:
    stop = max(1, round(service.stop.timeout))
    # A server may die late, when its model is loaded: a limit must be wide enough to hold that many whole attempts,
    # or it never trips and the loop runs for days.
    attempt = service.warm.timeout + START_TIMEOUT_S + stop + STOP_MARGIN_S + RESTART_LONGEST_S
    return {
        "stop_timeout": stop,
        # Podman kills after its own timeout, and systemd must not be faster.
        "unit_stop_timeout": stop + STOP_MARGIN_S,
        "start_timeout": START_TIMEOUT_S,
        "start_limit_interval": round(START_LIMIT_BURST * attempt),
        "start_limit_burst": START_LIMIT_BURST,
    }


def _with_hash(values: Mapping[str, Any], place: Place, service: Service, config_hash: str) -> dict[str, Any]:
    labels = {
        "io.recon.managed": "true",
        "io.recon.coven": place.coven,
        "io.recon.service": place.service,
        "io.recon.memory": str(service.memory),
        "io.recon.config-hash": config_hash,
    }
    return {
        **values,
        "config_hash": config_hash,
        "labels": tuple(encode.assignment(key, label, field="labels") for key, label in labels.items()),
    }


def _service_lines(place: Place, values: Mapping[str, Any]) -> set[str]:
    """Return the lines that exclusivity, the reading of running hashes and the comparison of arguments rest on."""
    lines = {
        f"ContainerName={place.container}",
        f"Image={values['image']}",
        "Pull=never",
        f"Environment=RECON_CONFIG_HASH={values['config_hash']}",
        f"WantedBy={place.target}",
        *(f"Label={label}" for label in values["labels"]),
        *(f"Volume={volume}" for volume in values["volumes"]),
        *(f"Environment={variable}" for variable in values["environment"]),
        *(f"AddDevice={device}" for device in values["devices"]),
        *(f"After={unit}" for unit in place.after),
    }
    if values["exec"]:
        lines.add(f"Exec={values['exec']}")
    if place.gate:
        lines |= {f"{key}={place.gate}" for key in ("Requisite", "PartOf", "After")} | {f"Before={place.target}"}
    return lines


def _native(
    name: str,
    template_name: str,
    values: Mapping[str, Any],
    kept: set[str],
    templates: Mapping[str, str],
    *,
    coven: str | None = None,
) -> RenderedFile:
    body = template.render(template_name, templates[template_name], values)
    check_kept(template_name, body, kept)
    sha256 = digest(body)
    kind: FileKind = "native"
    return RenderedFile(name=name, kind=kind, body=body, body_sha256=sha256, config_hash=sha256[:16], coven=coven)


def check_kept(template_name: str, body: str, kept: set[str]) -> None:
    """Raise REC4009 when a line that must be there is not in what a template made."""
    missing = sorted(kept - set(body.splitlines()))
    if missing:
        raise DesiredStateError(
            Problem(
                "REC4009",
                "a template leaves out a line the unit cannot do without",
                f"the output lacks {', '.join(missing[:3])}: without it two covens could run at once, or nobody could"
                " tell what runs",
                "keep the lines of the template that comes with the program, and add to them",
                Where(f"templates/{template_name}"),
            )
        )
