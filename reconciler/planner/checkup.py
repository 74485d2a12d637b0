"""Judges what a host says about itself: is everything there that recon needs, and what to type when it is not.

One function per check, in the order in which a person would repair things. What could not be read is a warning with
its reason, never fine; what recon cannot work without is `failed`.

Pure. Must not: ask a host, or take an unknown for a yes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from reconciler.model.base import count, format_duration, format_size
from reconciler.model.desired import Platform
from reconciler.model.observed import Known, NotApplicable, Unknown
from reconciler.model.survey import Check, Survey, Verdict

GIB = 2**30
OLDEST_PYTHON = (3, 9)
NEWEST_KEYS = (5, 3)
"""Podman from here on reads `/run/containers/systemd`: a trial there is gone after a reboot."""
CLOCK_WARNS_S = 2.0
CLOCK_FAILS_S = 60.0
ROOM = {"/": (GIB, 5 * GIB)}
"""By place: below the first it fails, below the second it warns."""
SUBORDINATE_IDS = 65536
"""What podman-run(1) asks for: ids of 16 bits, as images are built with."""
IMAGE_ROOM = (5 * GIB, 40 * GIB)
NO_BUS = "the manager of {user} has no message bus, so the end of one container can leave podman unusable"
BUS_FIX = "as root on the host: apt install dbus-user-session; then as {user}: systemctl --user start dbus.socket"
_NUMBERS = re.compile(r"(\d+)\.(\d+)")


def judge(
    survey: Survey,
    *,
    offset_s: float | None,
    owners: tuple[str, ...],
    platform: Platform,
    scope: Literal["system", "user"] = "system",
    mounts: bool = False,
) -> tuple[Check, ...]:
    """Return every check of a host that answered.

    Args:
        survey: what it said.
        offset_s: how far its clock is from this computer's, None when they cannot be compared.
        owners: the `fleet/host` whose files may be there; the first is its name now.
        platform: the oldest versions the fleet's files are written for.
        scope: whether its units are the host's or those of the login, which then must linger.
        mounts: whether it is a worker of a share, which needs NFS.
    """
    return (
        _python(survey),
        *((_lingering(survey), *_rootless(survey)) if scope == "user" else (_privilege(survey),)),
        _systemd(survey, platform),
        _podman(survey, platform),
        _cgroups(survey),
        _driver(survey),
        _gpus(survey),
        _cdi(survey),
        _clock(survey, offset_s),
        *_disks(survey),
        _fleets(survey, owners),
        *((_nfs(survey),) if mounts else ()),
    )


def _nfs(survey: Survey) -> Check:
    """A worker of a share mounts over NFS; systemd calls the program of the package."""
    if not isinstance(survey.nfs, Known):
        return _unknown("nfs", survey.nfs, "update the agent: recon apply")
    if not survey.nfs.value:
        return Check(name="nfs", verdict="ok", text="mount.nfs4 is there")
    text, _, fix = survey.nfs.value.partition(": ")
    return Check(name="nfs", verdict="failed", text=text, fix=f"on the host: {fix}")


def _unknown(name: str, fact: object, fix: str = "") -> Check:
    reason = fact.unknown if isinstance(fact, Unknown) else fact.na if isinstance(fact, NotApplicable) else "not told"
    return Check(name=name, verdict="warning", text=f"not known: {reason}", fix=fix)


def _python(survey: Survey) -> Check:
    if _numbers(survey.python) >= OLDEST_PYTHON:
        return Check(name="python", verdict="ok", text=survey.python)
    text = f"{survey.python}; the agent needs 3.9 or newer as /usr/bin/python3"
    return Check(name="python", verdict="failed", text=text, fix="install a newer python3 on the host")


def _privilege(survey: Survey) -> Check:
    """Root is needed to change anything; without it the host can be looked at."""
    if not isinstance(survey.uid, Known):
        return _unknown("privilege", survey.uid)
    if survey.uid.value == 0:
        return Check(name="privilege", verdict="ok", text="the agent runs as root")
    user = survey.user.value if isinstance(survey.user, Known) else str(survey.uid.value)
    lingers = isinstance(survey.lingers, Known) and survey.lingers.value
    units = "its own units start with the host" if lingers else "its own units end with its last login"
    text = f"{user} may not become root: recon can look, and change nothing outside of the user's own units; {units}"
    fix = "recon enroll ADDRESS --name NAME --user recon --ssh-user root"
    return Check(name="privilege", verdict="warning", text=text, fix=fix)


def _lingering(survey: Survey) -> Check:
    """Units of a login start with the host, and outlive its last session, only when it lingers."""
    if not isinstance(survey.lingers, Known):
        return _unknown("lingering", survey.lingers)
    user = survey.user.value if isinstance(survey.user, Known) else "the login"
    if survey.lingers.value:
        return Check(name="lingering", verdict="ok", text=f"units of {user} start with the host")
    text = f"units of {user} end with its last login and do not start with the host"
    return Check(name="lingering", verdict="failed", text=text, fix=f"on the host: loginctl enable-linger {user}")


def _rootless(survey: Survey) -> Iterator[Check]:
    """What containers without root need and only root can give: once, by an administrator."""
    if not isinstance(survey.rootless, Known):
        yield _unknown("rootless", survey.rootless)
        return
    found = survey.rootless.value
    user = survey.user.value if isinstance(survey.user, Known) else "USER"
    if found.manager:
        yield Check(name="manager", verdict="ok", text=f"the manager of {user} runs")
    else:
        text = f"the manager of {user} does not run, so nothing can be started in it"
        fix = f"as root on the host: apt install dbus-user-session && loginctl enable-linger {user}"
        yield Check(name="manager", verdict="failed", text=text, fix=fix)
    if found.bus:
        yield Check(name="bus", verdict="ok", text=f"podman can ask the manager of {user} for a scope")
    elif found.manager:
        # podman(1), --cgroup-manager: without a bus it is `cgroupfs`, and its pause process stays in the unit that ran
        # podman first. The end of that unit kills it, and when a container is thought to run, every podman of the user
        # then fails until `podman system migrate`.
        yield Check(name="bus", verdict="failed", text=NO_BUS.format(user=user), fix=BUS_FIX.format(user=user))
    if found.missing:
        text = f"{', '.join(found.missing)} not installed: podman cannot map the users of a container"
        yield Check(name="uidmap", verdict="failed", text=text, fix="as root on the host: apt install uidmap")
    else:
        yield Check(name="uidmap", verdict="ok", text="newuidmap and newgidmap are there")
    least = min(found.subuids, found.subgids)
    if least >= SUBORDINATE_IDS:
        yield Check(name="subids", verdict="ok", text=f"{least} ids for the users inside of containers")
        return
    text = (
        f"/etc/subuid gives {user} {found.subuids} ids and /etc/subgid {found.subgids}; images need {SUBORDINATE_IDS}"
    )
    fix = f"as root on the host: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
    yield Check(name="subids", verdict="failed", text=f"{text}; choose ids that nobody else has", fix=fix)


def _systemd(survey: Survey, platform: Platform) -> Check:
    if not isinstance(survey.systemd, Known):
        return _unknown("systemd", survey.systemd, "systemctl --version")
    found = survey.systemd.value
    if found >= platform.systemd:
        return Check(name="systemd", verdict="ok", text=str(found))
    text = f"{found}; the files in git are written for {platform.systemd} or newer"
    return Check(name="systemd", verdict="failed", text=text, fix="upgrade the distribution of the host")


def _podman(survey: Survey, platform: Platform) -> Check:
    if isinstance(survey.podman, Unknown) and "not installed" in survey.podman.unknown:
        return Check(name="podman", verdict="failed", text="not installed", fix="apt install podman crun")
    if not isinstance(survey.podman, Known):
        return _unknown("podman", survey.podman, "podman --version")
    found = survey.podman.value
    wanted = max(_numbers(platform.podman), NEWEST_KEYS)
    if _numbers(found) >= wanted:
        return Check(name="podman", verdict="ok", text=f"{found}; units can be tried in /run")
    text = f"{found}; recon needs {wanted[0]}.{wanted[1]} or newer: an older one has no /run tier for a trial"
    return Check(name="podman", verdict="failed", text=text, fix="upgrade podman on the host")


def _cgroups(survey: Survey) -> Check:
    if not isinstance(survey.cgroup2, Known):
        return _unknown("cgroups", survey.cgroup2)
    if survey.cgroup2.value:
        return Check(name="cgroups", verdict="ok", text="version 2")
    text = "version 1: recon cannot tell whose process holds a GPU, nor when a service has ended"
    fix = "boot without systemd.unified_cgroup_hierarchy=0 on the kernel's command line"
    return Check(name="cgroups", verdict="failed", text=text, fix=fix)


def _driver(survey: Survey) -> Check:
    if isinstance(survey.driver, Known):
        return Check(name="driver", verdict="ok", text=survey.driver.value)
    reason = survey.driver.unknown if isinstance(survey.driver, Unknown) else "not told"
    return Check(name="driver", verdict="failed", text=reason, fix="nvidia-smi; install the NVIDIA driver, or reboot")


def _gpus(survey: Survey) -> Check:
    if not isinstance(survey.gpus, Known):
        reason = survey.gpus.unknown if isinstance(survey.gpus, Unknown) else "not told"
        return Check(name="gpus", verdict="failed", text=reason, fix="nvidia-smi --query-gpu=name --format=csv")
    gpus = survey.gpus.value
    if not gpus:
        return Check(name="gpus", verdict="failed", text="the host has no GPU", fix="lspci | grep -i nvidia")
    names = sorted({gpu.name for gpu in gpus})
    if not isinstance(survey.memory_class, Known):
        unknown = survey.memory_class
        reason = unknown.unknown if isinstance(unknown, Unknown) else "not told"
        text = f"{count(len(gpus), 'GPU')} ({', '.join(names)}), of a kind of memory that is not known: {reason}"
        fix = "declare it in the host's file: memory: {kind: unified}"
        return Check(name="gpus", verdict="warning", text=text, fix=fix)
    capacity = capacity_of(survey)
    size = format_size(capacity) if capacity is not None else "memory not known"
    text = f"{count(len(gpus), 'GPU')} ({', '.join(names)}), {survey.memory_class.value} memory, {size}"
    return Check(name="gpus", verdict="ok" if capacity is not None else "warning", text=text)


def capacity_of(survey: Survey) -> int | None:
    """Return the bytes all GPUs have together, None when that is not known."""
    if isinstance(survey.memory_class, Known) and survey.memory_class.value == "unified":
        return survey.meminfo.value.total if isinstance(survey.meminfo, Known) else None
    if not isinstance(survey.gpus, Known) or not survey.gpus.value:
        return None
    total = 0
    for gpu in survey.gpus.value:
        if not isinstance(gpu.memory, Known):
            return None
        total += gpu.memory.value.total - gpu.memory.value.reserved
    return total


def _cdi(survey: Survey) -> Check:
    generate = "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
    if not isinstance(survey.cdi, Known):
        return _unknown("cdi", survey.cdi, generate)
    devices = [name for name in survey.cdi.value.devices if name.startswith("nvidia.com/gpu=")]
    if not devices:
        text = "no specification offers a GPU to containers (/etc/cdi, /var/run/cdi)"
        return Check(name="cdi", verdict="failed", text=text, fix=generate)
    offered = {name.partition("=")[2] for name in devices}
    gpus = survey.gpus.value if isinstance(survey.gpus, Known) else ()
    missing = [gpu for gpu in gpus if not {str(gpu.index), gpu.uuid} & offered]
    if missing:
        text = f"does not offer {', '.join(f'GPU {gpu.index}' for gpu in missing)}: it was made before the last change"
        return Check(name="cdi", verdict="failed", text=text, fix=generate)
    return Check(
        name="cdi", verdict="ok", text=f"{count(len(devices), 'device')} in {', '.join(survey.cdi.value.files)}"
    )


def _clock(survey: Survey, offset_s: float | None) -> Check:
    kept = survey.synchronized.value if isinstance(survey.synchronized, Known) else None
    fix = "on the host: timedatectl set-ntp true"
    if offset_s is None:
        return Check(name="clock", verdict="ok", text="simulated; not compared with this computer's")
    away = abs(offset_s)
    which = "ahead of" if offset_s > 0 else "behind"
    if away > CLOCK_WARNS_S:
        verdict: Verdict = "failed" if away > CLOCK_FAILS_S else "warning"
        text = f"{format_duration(away)} {which} this computer's clock; schedules go by the host's"
        return Check(name="clock", verdict=verdict, text=text, fix=fix)
    if kept:
        return Check(name="clock", verdict="ok", text="synchronised, and agrees with this computer's")
    if kept is None:
        return _unknown("clock", survey.synchronized, "timedatectl")
    text = "agrees with this computer's, and nothing keeps it right"
    return Check(name="clock", verdict="warning", text=text, fix=fix)


def _disks(survey: Survey) -> Iterator[Check]:
    for disk in survey.disks:
        name = "disk"
        if not isinstance(disk.free, Known):
            yield _unknown(name, disk.free)
            continue
        fails, warns = ROOM.get(disk.path, IMAGE_ROOM)
        free = disk.free.value
        text = f"{disk.path}: {format_size(free)} free"
        if free >= warns:
            yield Check(name=name, verdict="ok", text=text)
            continue
        what = "an image of a model server needs tens of GiB" if disk.path != "/" else "recon's own state needs room"
        fix = "podman image prune --all" if disk.path != "/" else "make room: du -xh --max-depth=1 / | sort -h"
        yield Check(name=name, verdict="failed" if free < fails else "warning", text=f"{text}; {what}", fix=fix)


def _fleets(survey: Survey, owners: tuple[str, ...]) -> Check:
    if not isinstance(survey.owners, Known):
        return _unknown("fleets", survey.owners)
    others = {name: number for name, number in survey.owners.value.items() if name not in owners}
    if others:
        listed = ", ".join(f"{count(number, 'file')} of {name}" for name, number in others.items())
        text = f"files of another fleet or name are there: {listed}"
        fix = "when it is the same machine under a new name: formerly: FLEET/HOST in its file; else ask its owner"
        return Check(name="fleets", verdict="failed", text=text, fix=fix)
    ours = sum(survey.owners.value.values())
    text = f"{count(ours, 'file')} of {owners[0]}" if ours else "nothing of recon's is there"
    return Check(name="fleets", verdict="ok", text=text)


def _numbers(version: str) -> tuple[int, int]:
    match = _NUMBERS.search(version)
    return (int(match[1]), int(match[2])) if match else (0, 0)
