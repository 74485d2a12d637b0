"""Checks what is said about the spiral: its units and jobs, the files it reads and writes, and what a host makes of it.

What a guardrail asks for is not asked here: a spiral that is off may be half declared.

Must not: look at a host, or judge guardrails; the host does.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator

from reconciler.load.codes import shown
from reconciler.load.explain import nearest
from reconciler.load.report import Report
from reconciler.load.services import MAX_STOP_S, MAX_WAIT_S, check_texts, repeated, too_long
from reconciler.load.values import (
    Finding,
    check_env_name,
    check_host_folder,
    check_image,
    check_path,
    check_volume,
)
from reconciler.model.desired import ALL_GPUS, HostFile, Policy
from reconciler.model.share import Role
from reconciler.model.spiral import Keep, SpiralFile, SpiralJob, SpiralUnit

Path = tuple[str | int, ...]

_IMAGE_ONLY = ("command", "args", "volumes", "shm")
_OURS = (
    "recon-spiral.target",
    "recon-spiral.timer",
    "recon-boot.target",
    "recon-coven-x.target",
    "recon-job-x.service",
    "recon-share-x.target",
)


def check_spiral(spiral: SpiralFile, policy: Policy, report: Report) -> None:
    """Check the file of the spiral against itself and the policy of the fleet."""
    check_texts(report)
    report.at_value(("root",), check_host_folder(spiral.root, policy.allow_mounts))
    for name, unit in spiral.units.items():
        _check_unit(unit, ("units", name), policy, report)
    for name, job in spiral.jobs.items():
        path: Path = ("jobs", name)
        _check_program(job, path, policy, report)
        report.at_value((*path, "timeout"), too_long(job.timeout, MAX_WAIT_S))
    _check_files(spiral, report)
    _check_keys(spiral, report)
    if spiral.backoff and spiral.backoff.gpu is None and spiral.backoff.memory is None:
        detail = "neither 'gpu' nor 'memory' has a threshold, so it would never be done"
        report.at_key(("backoff",), Finding("REC2089", detail, "write 'gpu: 95%', or remove 'backoff'"))
    _check_reaper(spiral, policy, report)
    for index, glob in enumerate(spiral.authorities):
        ours = [f"recon-spiral-{name}.service" for name in spiral.units]
        taken = next((unit for unit in (*ours, *_OURS) if fnmatch.fnmatchcase(unit, glob)), None)
        if taken is not None or glob.startswith("recon-"):
            detail = f"{shown(glob)} means units of recon itself, such as {taken or glob}"
            report.at_value(("authorities", index), Finding("REC2088", detail, "name units of somebody else"))
    for index, glob in repeated(spiral.authorities):
        report.at_value(("authorities", index), Finding("REC2031", f"{shown(glob)} is there already", "remove it"))


def check_spiral_of(host: HostFile, spiral: SpiralFile | None, report: Report, *, is_there: bool) -> None:
    """Check what a host says about the spiral; `is_there`: whether it has a file, which may be broken."""
    own = host.spiral
    if own.enabled and not is_there:
        detail = "there is no desired/workloads/spiral.yaml that says what it is"
        fix = "add desired/workloads/spiral.yaml, or write 'enabled: false'"
        report.at_value(("spiral", "enabled"), Finding("REC2086", detail, fix))
    slots = host.slots or {}
    if own.slot is not None and own.slot not in (tuple(slots) or (ALL_GPUS,)):
        meant = nearest(own.slot, slots)
        fix = f"did you mean '{meant}'?" if meant else f"name one of: {', '.join(slots) or 'all'}"
        report.at_value(("spiral", "slot"), Finding("REC2087", f"this host has no slot {shown(own.slot)}", fix))
    if spiral is None:
        return
    if own.slot is None and len(slots) > 1 and own.enabled and spiral.has_gpu_lane:
        detail = "its GPU lane yields to the transitions of one slot, and this host has several"
        report.at_key(("spiral",), Finding("REC2087", detail, f"add 'slot: {next(iter(slots))}' to it"))
    keys = spiral.control.keys if spiral.control else {}
    for name in own.rate_caps:
        if name not in keys:
            meant = nearest(name, keys)
            fix = (
                f"did you mean '{meant}'?"
                if meant
                else f"add '{name}' to control.keys in desired/workloads/spiral.yaml"
            )
            detail = f"{shown(name)} has no key in the control file, so it would limit nothing"
            report.at_key(("spiral", "rate_caps", name), Finding("REC2084", detail, fix))


def gpu_memory(spiral: SpiralFile | None, role: Role | None) -> int:
    """Return the GPU memory that the loops hold together on a host of that role in a share."""
    return sum(unit.memory for unit in spiral.on(role).units.values()) if spiral else 0


def _check_unit(unit: SpiralUnit, path: Path, policy: Policy, report: Report) -> None:
    if bool(unit.argv) == (unit.image is not None):
        detail = "both are given" if unit.argv else "neither is given"
        fix = "write 'argv: [/usr/bin/python3, -m, program]' or 'image: registry/name@sha256:…'"
        report.at_key(path, Finding("REC2080", detail, fix))
    if unit.image is not None:
        report.at_value((*path, "image"), check_image(unit.image, require_digest=policy.require_digest))
    else:
        for key in _IMAGE_ONLY:
            if getattr(unit, key):
                detail = f"'{key}' is for a container, and this is a program of the host"
                report.at_key((*path, key), Finding("REC2082", detail, "remove it, and say all words in 'argv'"))
    if unit.guards and (unit.producer or unit.lane == "gpu"):
        detail = "a guardian looks after others: it feeds no queue and holds no GPU"
        report.at_key((*path, "guards"), Finding("REC2082", detail, "write 'lane: cpu', without 'producer'"))
    for index, volume in enumerate(unit.volumes):
        report.at_value((*path, "volumes", index), check_volume(volume, policy.allow_mounts))
    _check_program(unit, path, policy, report)


def _check_program(program: SpiralUnit | SpiralJob, path: Path, policy: Policy, report: Report) -> None:
    if program.argv and not program.argv[0].startswith("/"):
        detail = f"{shown(program.argv[0])} is looked up nowhere: there is no shell and no search path"
        fix = f"write the whole path, such as /usr/bin/{program.argv[0][:60]}"
        report.at_value((*path, "argv", 0), Finding("REC2081", detail, fix))
    elif program.argv:
        report.at_value((*path, "argv", 0), check_path(program.argv[0]))
    if program.lane == "cpu" and program.memory:
        detail = "lane cpu holds no GPU memory"
        report.at_value((*path, "memory"), Finding("REC2082", detail, "write 'lane: gpu', or remove it"))
    if program.lane == "gpu" and program.nice is not None:
        detail = "lane gpu is not made nicer: it yields by being stopped"
        report.at_key((*path, "nice"), Finding("REC2082", detail, "write 'lane: cpu', or remove it"))
    for name in program.env:
        report.at_key((*path, "env", name), check_env_name(name, policy.allow_env))
    report.at_value((*path, "stop", "timeout"), too_long(program.stop.timeout, MAX_STOP_S))


def _check_files(spiral: SpiralFile, report: Report) -> None:
    for key in ("control", "convergence"):
        part = getattr(spiral, key)
        if part is None:
            continue
        found = check_path(part.file)
        if found is None and not part.file.startswith(spiral.root.rstrip("/") + "/"):
            detail = f"{shown(part.file)} is not below root, {shown(spiral.root)}"
            found = Finding("REC2083", detail, f"write {spiral.root.rstrip('/')}/{part.file.rsplit('/', 1)[-1] or key}")
        report.at_value((key, "file"), found)


def _check_keys(spiral: SpiralFile, report: Report) -> None:
    """Refuse two caps that would write over each other: the same key, or one inside the other."""
    seen: dict[str, str] = {}
    for cap, key in (spiral.control.keys if spiral.control else {}).items():
        for other, its in seen.items():
            if key == its or key.startswith(its + ".") or its.startswith(key + "."):
                detail = f"{shown(key)} and {shown(its)} of '{other}' are written over each other"
                report.at_value(("control", "keys", cap), Finding("REC2084", detail, "give each cap a key of its own"))
                break
        seen.setdefault(cap, key)


def _check_reaper(spiral: SpiralFile, policy: Policy, report: Report) -> None:
    reaper = spiral.reaper
    if reaper is None:
        return
    if reaper.keep == Keep():
        detail = "no budget is given, so nothing would ever go"
        report.at_value(("reaper", "keep"), Finding("REC2085", detail, "write for example 'keep: {bytes: 200GiB}'"))
    for index, path in enumerate(reaper.paths):
        where: Path = ("reaper", "paths", index)
        found = check_host_folder(path, policy.allow_mounts)
        if found is None and (held := next(_held_in(path, spiral), None)) is not None:
            detail = f"{shown(held)} lies in {shown(path)}, and would be deleted when it is old"
            found = Finding("REC2085", detail, "name the directory of what may go, such as …/renders")
        report.at_value(where, found)
    for index, path in enumerate(reaper.paths):
        inside = [other for other in reaper.paths[:index] if _is_in(path, other) or _is_in(other, path)]
        if inside:
            detail = f"{shown(path)} and {shown(inside[0])} are the same or one lies in the other"
            report.at_value(("reaper", "paths", index), Finding("REC2031", detail, "remove one of them"))


def _held_in(path: str, spiral: SpiralFile) -> Iterator[str]:
    """Yield what the loop cannot do without and lies in a directory of the reaper."""
    files = [part.file for part in (spiral.control, spiral.convergence) if part]
    programs = [word for unit in spiral.units.values() for word in unit.argv[:1]]
    programs += [word for job in spiral.jobs.values() for word in job.argv[:1]]
    yield from (held for held in (spiral.root, *files, *programs) if _is_in(held, path))


def _is_in(path: str, folder: str) -> bool:
    return (path.rstrip("/") + "/").startswith(folder.rstrip("/") + "/")
