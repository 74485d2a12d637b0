"""By what the host's own programs go about the spiral: what of it stands in the manifest, beside its files.

Must not: lay out files.
"""

from __future__ import annotations

from reconciler.model.desired import Host
from reconciler.model.intent_spiral import (
    BackoffSpec,
    ControlSpec,
    ConvergenceSpec,
    ReaperSpec,
    ShareSpec,
    SpiralJobSpec,
    SpiralMember,
    SpiralSpec,
)
from reconciler.model.rendered import RenderedFile
from reconciler.model.spiral import SpiralFile, SpiralJob, SpiralUnit
from reconciler.render import units

TARGET = "recon-spiral.target"


def unit_name(name: str) -> str:
    """Return the unit of a loop."""
    return f"recon-spiral-{name}.service"


def job_name(name: str) -> str:
    """Return the unit of a job."""
    return f"recon-job-{name}.service"


def container_name(name: str) -> str:
    """Return the container of a loop that is one."""
    return f"recon-spiral-{name}"


def member_of(name: str, unit: SpiralUnit, file: RenderedFile) -> SpiralMember:
    """Return what the host's programs go by for a loop."""
    is_image = unit.image is not None
    margin = units.STOP_MARGIN_S if is_image else 0
    return SpiralMember(
        name=name,
        unit=unit_name(name),
        lane=unit.lane,
        producer=unit.producer,
        guards=unit.guards is not None,
        memory=unit.memory,
        argv=(*unit.command, *unit.args) if is_image else unit.argv,
        image=unit.image,
        container=container_name(name) if is_image else None,
        mounts=tuple(volume.split(":", 1)[0] for volume in unit.volumes),
        config_hash=file.config_hash,
        memory_max=unit.limits.memory,
        tasks_max=unit.limits.tasks,
        stop_timeout_s=max(1, round(unit.stop.timeout)) + margin,
    )


def job_of(name: str, job: SpiralJob, file: RenderedFile) -> SpiralJobSpec:
    """Return what the host's programs go by for a job."""
    return SpiralJobSpec(
        name=name,
        unit=job_name(name),
        lane=job.lane,
        argv=job.argv,
        config_hash=file.config_hash,
        timeout_s=job.timeout,
        stop_timeout_s=max(1, round(job.stop.timeout)),
    )


def spec_of(
    spiral: SpiralFile,
    host: Host,
    slot: str | None,
    members: tuple[SpiralMember, ...],
    jobs: tuple[SpiralJobSpec, ...],
    share: ShareSpec | None = None,
) -> SpiralSpec:
    """Return what goes into the manifest about the spiral of a host."""
    control, converged, backoff, reaper = spiral.control, spiral.convergence, spiral.backoff, spiral.reaper
    return SpiralSpec(
        enabled=host.spiral.enabled,
        root=spiral.root,
        user=spiral.user,
        slot=slot,
        target=TARGET,
        units=members,
        jobs=jobs,
        caps=host.spiral.rate_caps,
        control=ControlSpec(file=control.file, keys=dict(control.keys)) if control else None,
        convergence=ConvergenceSpec(file=converged.file, key=converged.key, equals=converged.equals)
        if converged
        else None,
        backoff=BackoffSpec(
            gpu=backoff.gpu,
            memory=backoff.memory,
            for_s=backoff.period,
            factor=backoff.factor,
            least=backoff.least,
        )
        if backoff
        else None,
        reaper=ReaperSpec(
            every_s=reaper.every,
            paths=reaper.paths,
            keep_bytes=reaper.keep.bytes,
            keep_age_s=reaper.keep.age,
            keep_count=reaper.keep.count,
        )
        if reaper
        else None,
        authorities=spiral.authorities,
        share=share,
    )
