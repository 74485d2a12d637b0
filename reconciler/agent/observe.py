"""Everything about a host in one answer, as `model.observed.HostState` lays it down.

All probes run at the same time, each with its own deadline, and each answers a value, unknown or not applicable; one
that fails takes no other with it. Nothing is written. The GPU is asked first: a real machine forks for it, and that is
safe only while no thread runs.

Must not: compare with what is desired, or leave out what could not be read.
"""

from typing import Any, Callable, Dict, List, Optional

from . import (
    bounded,
    cdi,
    claims,
    covens,
    damage,
    down_mark,
    durations,
    fact,
    files,
    fingerprint,
    gpu,
    health,
    images,
    lease,
    locks,
    loop_fact,
    memory,
    model_files,
    outbox_fact,
    places,
    privilege,
    running,
    schedule_fact,
    spiral_fact,
    stray,
    systemd,
    versions,
    watch_fact,
)
from .machine import Machine
from .plain import clean
from .systemd import SystemdError, UnitState

PROTOCOL = 1
_GPU_SHARE = 0.5
_LINGER = "/var/lib/systemd/linger"
_GPU_TIMEOUT_S = 10.0
_GUEST = (
    "looked at without root: what only root can read is unknown, damaged files among it, and nothing can be changed"
)
_FILES_S = 3.0
_COMING_AND_GOING = (
    places.EXECUTOR,
    places.WATCHDOG_SERVICE,
    places.SCHEDULE_SERVICE,
    places.TICK_SERVICE,
    places.REAPER_SERVICE,
    places.EVENTS_SERVICE,
)

Probe = Callable[[], Any]


class IdentityError(Exception):
    """The machine does not say which one it is, so nothing else it says can be used."""

    code = "REC5015"
    summary = "the host does not say which machine it is"
    fix = "give it a machine-id: systemd-machine-id-setup"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def observe(machine: Machine, args: Dict[str, Any], ctx: Dict[str, Any]) -> Dict[str, Any]:
    """Return the state of this host.

    Args:
        machine: the host.
        args: `shared` [{unit, health}], `memory` kind or auto, `images` to look for, `expect` {file name: body digest},
            `zones` whose data is needed, `models` [{unit, check}] to look at, `spiral` as it is declared, where it is,
            `adopts` names to be taken over, `containers` names that git gives, `tokens` of locks, `deadline_s` for the
            whole answer.
        ctx: `digest` and `mode` of the agent that answers.
    """
    began = machine.monotonic()
    deadline_s = float(args.get("deadline_s", 20))
    gpu_timeout_s = min(_GPU_TIMEOUT_S, deadline_s * _GPU_SHARE)
    gpu_answer = machine.begin_gpu_facts(gpu_timeout_s)
    identity = _identity(machine)
    local = _local(machine, args.get("expect") or {}, args.get("tokens"))
    timings: Dict[str, float] = {"local": _ms(machine, began)}
    found = _together(machine, _probes(machine, args, local, gpu_answer, gpu_timeout_s), timings)
    seen: gpu.Gpus = found["gpu"]
    shown: Optional[Dict[str, UnitState]] = found["units"].get("value")
    executor_unit = (
        None if shown is None else (shown[places.EXECUTOR].active if places.EXECUTOR in shown else "inactive")
    )
    units = _units(machine, found["units"])
    identity.update(systemd=found["systemd"], podman=found["podman"], driver=seen.driver, cdi=found["cdi"])
    guest = privilege.is_guest(machine)
    state: Dict[str, Any] = {
        "protocol": PROTOCOL,
        "agent": {},
        "enrolled": claims.is_enrolled(machine),
        "identity": identity,
        "memory_class": seen.memory_class,
        "meminfo": found["meminfo"],
        "gpus": seen.gpus,
        "units": units,
        "health": _health(found, local["generation"], shown),
        "shared": [_shared(service, found, shown) for service in args.get("shared") or []],
        "files": local["files"],
        "generation": covens.in_short(local["generation"], units),
        "boot_targets": local["boot_targets"],
        "images": found["images"],
        "lease": local["lease"],
        "hold": local["hold"],
        "locks": local["locks"],
        "executor": claims.executor(machine, executor_unit, local["lease"]),
        "timings": durations.recall(machine),
        "watchdog": watch_fact.watchdog(machine, local["generation"]),
        "schedule": schedule_fact.schedule(machine, local["generation"], args.get("zones") or []),
        "registry": schedule_fact.registry(machine),
        "models": found["models"],
        "down": local["down"],
        "spiral": found["spiral"],
        "outbox": outbox_fact.outbox_fact(machine, local["generation"]),
        "notes": [*seen.notes, *([_GUEST] if guest else [])],
        "epoch": local["epoch"],
        "damaged": [] if guest else damage.survey(machine),
    }
    state.update({key: found[key] for key in ("adoptees", "names") if key in found})
    if machine.own_manager:
        state["lingers"] = fact.attempt(lambda: machine.stat(f"{_LINGER}/{machine.own_login}") is not None)
        state["bus"] = fact.attempt(lambda: systemd.has_bus(machine))
    committed_loop = loop_fact.loop(machine, local["generation"])
    if committed_loop is not None:
        state["loop"] = committed_loop
    state["fingerprint_parts"] = fingerprint.parts(state)
    state["fingerprint"] = fingerprint.total(state["fingerprint_parts"])
    state["agent"] = {"digest": ctx.get("digest", ""), "mode": ctx["mode"], "probes_ms": timings}
    state["agent"]["elapsed_ms"] = _ms(machine, began)
    return state


def _identity(machine: Machine) -> Dict[str, Any]:
    def line(path: str) -> str:
        try:
            text = clean(machine.read(path, 4096))
        except OSError as error:
            raise IdentityError(fact.why(error)) from error
        if not text:
            raise IdentityError(f"{path} is empty")
        return text

    return {
        "machine_id": line("/etc/machine-id"),
        "boot_id": line("/proc/sys/kernel/random/boot_id"),
        "hostname": line("/proc/sys/kernel/hostname"),
        "kernel": line("/proc/sys/kernel/osrelease"),
        "wall_time": machine.wall(),
        "boottime_s": machine.boottime(),
    }


def _local(machine: Machine, expect: Dict[str, str], tokens: Any) -> Dict[str, fact.Fact]:
    """Read recon's own files: small, local, and needed before the rest can be asked."""
    return {
        "files": fact.attempt(lambda: files.managed_files(machine, expect)),
        "generation": fact.attempt(lambda: files.generation(machine)),
        "boot_targets": fact.attempt(lambda: stray.boot_targets(machine)),
        "lease": fact.attempt(lambda: claims.lease(machine)),
        "hold": fact.attempt(lambda: claims.hold(machine)),
        "locks": fact.attempt(lambda: locks.observed(machine, tokens)),
        "epoch": fact.attempt(lambda: lease.current(machine)),
        "down": fact.attempt(lambda: down_mark.told(machine)),
    }


def _probes(
    machine: Machine,
    args: Dict[str, Any],
    local: Dict[str, fact.Fact],
    gpu_answer: Callable[[], Dict[str, Any]],
    gpu_timeout_s: float,
) -> Dict[str, Probe]:
    """Return everything that is asked at the same time, by name."""
    configured = str(args.get("memory") or "auto")
    shared = list(args.get("shared") or [])
    refs = list(args.get("images") or [])
    names = ["recon-*", *files.units_of([file["path"] for file in local["files"].get("value", [])])]
    names += sorted({service["unit"] for service in shared} - set(names))
    probes: Dict[str, Probe] = {
        "gpu": lambda: _gpu(machine, gpu_answer, configured, gpu_timeout_s),
        "units": lambda: fact.value(systemd.show_units(machine, names)),
        "systemd": lambda: fact.value(systemd.version(machine)),
        "podman": lambda: versions.podman(machine),
        "cdi": lambda: fact.value(cdi.read(machine)),
        "meminfo": lambda: fact.value(memory.meminfo(machine)),
        "models": lambda: _models(machine, list(args.get("models") or [])),
        "spiral": lambda: spiral_fact.spiral(machine, args.get("spiral")),
        "images": lambda: fact.value(images.present(machine, refs)) if refs else fact.not_applicable("not asked"),
    }
    adopts, names_given = list(args.get("adopts") or []), list(args.get("containers") or [])
    if adopts:
        probes["adoptees"] = lambda: _adoptees(machine, adopts)
    if names_given:
        probes["names"] = lambda: _names(machine, names_given)
    for key, asked in _asked(shared, local["generation"]).items():
        probes[key] = _health_probe(machine, asked)
    return probes


def _asked(shared: List[Dict[str, Any]], generation: fact.Fact) -> Dict[str, Dict[str, Any]]:
    """Return whose health to ask: shared services, and members that should run by the committed generation."""
    wanted = {f"shared {service['unit']}": {"health": service.get("health")} for service in shared}
    committed = generation.get("value")
    body = committed["manifest"].get("value") if committed else None
    for member in files.live_members(body) if body else []:
        if not member.get("steady_s"):
            wanted[f"health {member['unit']}"] = member
    return wanted


def _health(
    found: Dict[str, Any], generation: fact.Fact, shown: Optional[Dict[str, UnitState]]
) -> Dict[str, fact.Fact]:
    """Return the health of every member that should run, by unit: of bots as systemd has them."""
    said = {key[len("health ") :]: found[key] for key in found if key.startswith("health ")}
    committed = generation.get("value")
    body = committed["manifest"].get("value") if committed else None
    for member in files.live_members(body) if body else []:
        if member.get("steady_s"):
            said[member["unit"]] = health.of_unit((shown or {}).get(member["unit"]))
    return said


def _models(machine: Machine, asked: List[Dict[str, Any]]) -> fact.Fact:
    """Look at the files of models, no longer than they are worth: a file server that hangs must not hang the answer."""
    if not asked:
        return fact.not_applicable("not asked")
    return fact.value(bounded.within(lambda: model_files.faults(machine, asked), _FILES_S))


def _names(machine: Machine, names: List[str]) -> fact.Fact:
    from . import container_names  # hardly any host has containers with names of their own

    return fact.value(container_names.holders(machine, names))


def _adoptees(machine: Machine, names: List[str]) -> fact.Fact:
    from . import adoptee  # hardly any host has something to be taken over

    try:
        return fact.value([each.told() for each in adoptee.look(machine, names)])
    except adoptee.AdopteeError as error:
        return fact.unknown(fact.why(error))


def _health_probe(machine: Machine, asked: Dict[str, Any]) -> Probe:
    return lambda: health.probe(machine, asked.get("health"), asked)


def _gpu(machine: Machine, answer: Callable[[], Dict[str, Any]], configured: str, timeout_s: float) -> gpu.Gpus:
    try:
        return gpu.describe(machine, answer(), configured, timeout_s)
    except Exception as error:  # whatever a driver makes happen, the rest of the answer counts
        reason = f"{type(error).__name__}: {fact.why(error)}"
        return gpu.Gpus(fact.unknown(reason), fact.unknown(reason), fact.unknown(reason), [])


def _together(machine: Machine, probes: Dict[str, Probe], timings: Dict[str, float]) -> Dict[str, Any]:
    def timed(name: str) -> Probe:
        def run() -> Any:
            began = machine.monotonic()
            try:
                return probes[name]()
            except (OSError, ValueError, SystemdError) as error:
                return fact.unknown(fact.why(error))
            except Exception as error:  # a fault of ours in one probe must not hide what the others know
                return fact.unknown(f"the probe failed: {type(error).__name__}: {fact.why(error)}")
            finally:
                timings[name] = _ms(machine, began)

        return run

    return dict(zip(probes, machine.parallel([timed(name) for name in probes])))


def _units(machine: Machine, shown: fact.Fact) -> fact.Fact:
    """Return our units without those that come and go by themselves, as the services of recon's timers do."""
    if "value" not in shown:
        return shown
    ours = [unit for name, unit in sorted(shown["value"].items()) if name.startswith("recon-")]
    return fact.value([_unit(machine, unit) for unit in ours if unit.name not in _COMING_AND_GOING])


def _unit(machine: Machine, unit: UnitState) -> Dict[str, Any]:
    config_hash = running.config_hash(machine, unit.main_pid)
    return {**unit._asdict(), "cgroup": clean(unit.cgroup), "config_hash": config_hash}


def _shared(service: Dict[str, Any], found: Dict[str, Any], shown: Optional[Dict[str, UnitState]]) -> Dict[str, Any]:
    unit = (shown or {}).get(service["unit"])
    return {
        "unit": service["unit"],
        "load": unit.load if unit else "unknown",
        "active": unit.active if unit else "unknown",
        "health": found[f"shared {service['unit']}"],
    }


def _ms(machine: Machine, since: float) -> float:
    return round((machine.monotonic() - since) * 1000, 2)
