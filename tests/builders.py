"""Small valid values for tests: keyword-only, the smallest that makes sense, everything can be replaced."""

from __future__ import annotations

import hashlib
from typing import Any

from reconciler.model.desired import ALL_GPUS, Host, MemorySpec, Platform, Shared, Slot, Spiral, Ssh
from reconciler.model.intent import BusyProbe, Group, Member
from reconciler.model.observed import (
    AgentInfo,
    Cdi,
    Executor,
    Generation,
    Gpu,
    GpuMemory,
    GpuProcess,
    HostState,
    Identity,
    Known,
    ManagedFile,
    Meminfo,
    NotApplicable,
    Unit,
    Unknown,
)
from reconciler.model.rendered import RenderedFile, RenderedHost

GIB = 2**30
GPU = "GPU-00000000-0000-0000-0000-000000000001"


def a_member(
    coven: str, service: str, *, config_hash: str = "aaaa000000000001", memory: int = 60 * GIB, **over: Any
) -> Member:
    values: dict[str, Any] = {
        "service": service,
        "unit": f"recon-{coven}-{service}.service",
        "container": f"recon-{coven}-{service}",
        "config_hash": config_hash,
        "memory": memory,
        "port": 8000,
        "health": "http://127.0.0.1:8000/health",
        "in_flight": (BusyProbe(url="http://127.0.0.1:8000/metrics", form="prometheus", names=("n",)),),
        "pause": None,
        "resume": None,
        "warm": None,
        "warm_timeout_s": 1800.0,
        "stop_timeout_s": 60.0,
        "drain_timeout_s": 300.0,
        "on_timeout": "abort",
        "image": "registry.example.net/a@sha256:" + "a" * 64,
        "mounts": (),
        "argv": (),
    }
    return Member.model_validate(values | over)


def a_group(coven: str, *members: Member, slot: str = ALL_GPUS) -> Group:
    return Group.of(
        coven,
        f"recon-gate-{slot}-{coven}.service",
        f"recon-coven-{coven}.target",
        members or (a_member(coven, "vllm"),),
    )


def a_file(name: str, *, body: str = "[Unit]\n", kind: str = "quadlet", coven: str | None = None) -> RenderedFile:
    return RenderedFile.model_validate(
        {
            "name": name,
            "kind": kind,
            "body": body,
            "body_sha256": hashlib.sha256(body.encode()).hexdigest(),
            "config_hash": "aaaa000000000001",
            "coven": coven,
        }
    )


def files_of(groups: dict[str, Group]) -> tuple[RenderedFile, ...]:
    files = []
    for group in groups.values():
        files += [
            a_file(
                member.container + ".container", body=f"# {member.config_hash}\n[Container]\nx={member.config_hash}\n"
            )
            for member in group.members
        ]
        files += [a_file(group.gate, kind="native"), a_file(group.target, kind="native")]
    return tuple(files)


def a_rendered(*groups: Group, live: dict[str, str | None], **over: Any) -> RenderedHost:
    by_name = {group.coven: group for group in groups}
    boot = tuple(sorted(by_name[coven].target for coven in live.values() if coven and coven in by_name))
    values: dict[str, Any] = {
        "host": "spark-1",
        "files": files_of(by_name),
        "groups": by_name,
        "residents": (),
        "boot": boot,
        "live": live,
    }
    return RenderedHost.model_validate(values | over)


def a_host(*, coven: str | None = "reasoning", may_run: tuple[str, ...] = ("reasoning", "vision"), **over: Any) -> Host:
    values: dict[str, Any] = {
        "name": "spark-1",
        "address": "192.0.2.11",
        "host_key": None,
        "ssh": Ssh(),
        "reserve": 14 * GIB,
        "memory": MemorySpec(),
        "platform": Platform(),
        "slots": (Slot(name=ALL_GPUS, gpus="all", coven=coven),),
        "may_run": may_run,
        "shared": (),
        "residents": {},
        "spiral": Spiral(),
        "schedule": (),
    }
    return Host.model_construct(**(values | over))


def a_gpu(*, processes: tuple[GpuProcess, ...] = (), total: int = 141 * GIB, **over: Any) -> Gpu:
    values: dict[str, Any] = {
        "index": 0,
        "uuid": GPU,
        "name": "NVIDIA H200",
        "bus": "00000000:18:00.0",
        "memory": Known(value=GpuMemory(total=total, reserved=0, used=0, free=total)),
        "processes": Known(value=processes),
        "recovery_action": Known(value=0),
    }
    return Gpu.model_construct(**(values | over))


def a_process(*, unit: str | None = None, comm: str = "python3", pid: int = 4242, kind: str = "C") -> GpuProcess:
    return GpuProcess(
        pid=pid, started=1, bytes=Known(value=GIB), kind=kind, unit=unit, container=None, comm=comm, uid=0, state="S"
    )


def a_unit(name: str, *, active: str = "active", config_hash: str | None = None, **over: Any) -> Unit:
    values: dict[str, Any] = {
        "name": name,
        "load": "loaded",
        "active": active,
        "sub": "running" if active == "active" else "dead",
        "result": "success",
        "restarts": 0,
        "job": "",
        "need_reload": False,
        "fragment": "",
        "source": "",
        "invocation": "",
        "main_pid": 1 if active == "active" else 0,
        "cgroup": "",
        "config_hash": Known(value=config_hash) if config_hash else NotApplicable(na="not a service of a coven"),
    }
    return Unit.model_construct(**(values | over))


def a_state(**over: Any) -> HostState:
    """A host with one big GPU on which recon never did anything."""
    values: dict[str, Any] = {
        "protocol": 1,
        "agent": AgentInfo(digest="d" * 64, mode="streamed", elapsed_ms=1.0),
        "enrolled": False,
        "identity": Identity(
            machine_id="m" * 32,
            boot_id="b" * 32,
            hostname="spark-1",
            wall_time=1_700_000_000.0,
            boottime_s=100.0,
            kernel="6.12",
            systemd=Known(value=257),
            podman=Known(value="5.4.2"),
            driver=Known(value="580.142"),
            cdi=Known(value=Cdi(devices=("nvidia.com/gpu=all",), files=("/etc/cdi/nvidia.yaml",))),
        ),
        "memory_class": Known(value="discrete"),
        "meminfo": Known(
            value=Meminfo(total=256 * GIB, free=200 * GIB, available=220 * GIB, cached=10 * GIB, swap_free=0)
        ),
        "gpus": Known(value=(a_gpu(),)),
        "units": Known(value=()),
        "health": {},
        "shared": (),
        "files": Known(value=()),
        "generation": Known(value=None),
        "boot_targets": Known(value=()),
        "lease": Known(value=None),
        "hold": Known(value=None),
        "executor": Executor(active=False, txid=None, last=NotApplicable(na="never ran")),
        "fingerprint": "sha256:" + "0" * 64,
    }
    return HostState.model_construct(**(values | over))


def in_short(group: Group) -> dict[str, Any]:
    """A coven as an answer tells it when it does not run."""
    names = {"coven": group.coven, "gate": group.gate, "target": group.target, "digest": group.digest}
    return {**names, "units": [member.unit for member in group.members]}


def a_state_running(rendered: RenderedHost, **over: Any) -> HostState:
    """A host that runs exactly what was rendered, as after an apply."""
    groups = [rendered.groups[coven] for coven in rendered.live.values() if coven]
    units = []
    for group in groups:
        units += [a_unit(group.gate), a_unit(group.target)]
        units += [a_unit(member.unit, config_hash=member.config_hash) for member in group.members]
    manifest = {
        "number": 1,
        "live": rendered.live,
        "groups": [in_short(group) for group in rendered.groups.values()],
        "running": [group.model_dump(mode="json") for group in groups],
        "residents": [member.model_dump(mode="json") for member in rendered.residents],
        "files": {file.name: file.body_sha256 for file in rendered.files},
    }
    files = tuple(
        ManagedFile(
            path=f"/etc/recon/generations/1/{file.name}"
            if file.kind == "quadlet"
            else f"/etc/systemd/system/{file.name}",
            owner="studio/spark-1",
            config_hash=file.config_hash,
            source_commit="c" * 40,
            body_sha256=file.body_sha256,
            tier="committed" if file.kind == "quadlet" else "native",
        )
        for file in rendered.files
    )
    values: dict[str, Any] = {
        "enrolled": True,
        "units": Known(value=tuple(units)),
        "files": Known(value=files),
        "generation": Known(value=Generation(number=1, manifest=Known(value=manifest), boot=rendered.boot)),
        "boot_targets": Known(value=rendered.boot),
    }
    return a_state(**(values | over))


def unknown(reason: str = "it was not told") -> Unknown:
    return Unknown(unknown=reason)


def a_shared(unit: str = "qdrant.service", *, memory: int = 4 * GIB) -> Shared:
    return Shared.model_construct(unit=unit, memory=memory, health=None)
