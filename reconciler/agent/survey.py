"""What a host has and lacks before it is recon's: facts for `recon enroll` and `recon doctor`, from one look.

It works on a host that was never enrolled and for a user without any privilege: what needs root is unknown, with the
reason. Nothing is written, and no fact takes another one with it.

Must not: judge whether a fact is good enough (the controller does), or change anything.
"""

import sys
from typing import Any, Callable, Dict, List, Optional

from . import cdi, claims, fact, files, gpu, images, memory, privilege, share, subordinate, systemd, versions
from .machine import Machine
from .plain import clean

PROTOCOL = 1
_GPU_TIMEOUT_S = 10.0
_CLOCK_TIMEOUT_S = 10.0
_CGROUPS = "/sys/fs/cgroup/cgroup.controllers"
_SYNCHRONIZED = ["timedatectl", "show", "--property=NTPSynchronized", "--value"]
_ID_TOOLS = ("newuidmap", "newgidmap")
_PROGRAMS = ("/usr/bin", "/usr/sbin", "/bin", "/usr/local/bin")
_ROOT, _CONTAINERS = "/", "/var/lib/containers"


def survey(machine: Machine, ctx: Dict[str, Any]) -> Dict[str, Any]:
    """Return `model.survey.Survey`: what this host is and has."""
    answer = machine.begin_gpu_facts(_GPU_TIMEOUT_S)
    wall_time = machine.wall()
    names = list(_probes(machine))
    found = dict(zip(names, machine.parallel([_safely(probe) for probe in _probes(machine).values()])))
    seen = _gpus(machine, answer)
    return {
        "protocol": PROTOCOL,
        "mode": ctx["mode"],
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "wall_time": wall_time,
        "gpus": seen.gpus,
        "driver": seen.driver,
        "memory_class": seen.memory_class,
        "notes": seen.notes,
        "disks": [{"path": path, "free": found.pop(f"disk {path}")} for path in _disks(machine)],
        **{name: each for name, each in found.items() if not name.startswith("disk ")},
    }


def _probes(machine: Machine) -> Dict[str, Callable[[], fact.Fact]]:
    probes: Dict[str, Callable[[], fact.Fact]] = {
        "uid": lambda: fact.value(privilege.effective_uid(machine)),
        "user": lambda: fact.value(login_of(machine, privilege.effective_uid(machine))),
        "hostname": lambda: fact.value(_line(machine, "/proc/sys/kernel/hostname")),
        "machine_id": lambda: fact.value(_line(machine, "/etc/machine-id")),
        "kernel": lambda: fact.value(_line(machine, "/proc/sys/kernel/osrelease")),
        "systemd": lambda: fact.value(systemd.version(machine)),
        "podman": lambda: versions.podman(machine),
        "cdi": lambda: fact.value(cdi.read(machine)),
        "meminfo": lambda: fact.value(memory.meminfo(machine)),
        "synchronized": lambda: _synchronized(machine),
        "cgroup2": lambda: fact.value(machine.stat(_CGROUPS) is not None),
        "lingers": lambda: _lingers(machine),
        "rootless": lambda: _rootless(machine),
        "owners": lambda: fact.value(_owners(machine)),
        "nfs": lambda: _nfs(machine),
        "enrolled": lambda: fact.value(claims.is_enrolled(machine)),
    }
    for path in _disks(machine):
        probes[f"disk {path}"] = _free_probe(machine, path)
    return probes


def _safely(probe: Callable[[], fact.Fact]) -> Callable[[], fact.Fact]:
    def run() -> fact.Fact:
        try:
            return probe()
        except Exception as error:  # one fact that cannot be had must not take the others with it
            return fact.unknown(fact.why(error))

    return run


def _gpus(machine: Machine, answer: Callable[[], Dict[str, Any]]) -> gpu.Gpus:
    try:
        return gpu.describe(machine, answer(), "auto", _GPU_TIMEOUT_S)
    except Exception as error:  # whatever a driver makes happen, the rest of the answer counts
        unknown = fact.unknown(f"{type(error).__name__}: {fact.why(error)}")
        return gpu.Gpus(unknown, unknown, unknown, [])


def _line(machine: Machine, path: str) -> str:
    text = clean(machine.read(path, 4096))
    if not text:
        raise ValueError(f"{path} is empty")
    return text


def login_of(machine: Machine, uid: int) -> str:
    """Return the login name of a user; ValueError when /etc/passwd has none (a directory service may)."""
    if uid == 0:
        return "root"
    for line in machine.read("/etc/passwd").decode("utf-8", "backslashreplace").split("\n"):
        fields = line.split(":")
        if len(fields) >= 7 and fields[2] == str(uid):
            return clean(fields[0], 64)
    raise ValueError(f"/etc/passwd has no user {uid}")


def _lingers(machine: Machine) -> fact.Fact:
    """Say whether units of the user start with the host: only who is not root needs it."""
    uid = privilege.effective_uid(machine)
    if uid == 0:
        return fact.not_applicable("units of root start with the host anyway")
    return fact.value(machine.stat(f"/var/lib/systemd/linger/{login_of(machine, uid)}") is not None)


def _rootless(machine: Machine) -> fact.Fact:
    """Say what the user has of what containers without root need; only a host of one user needs it."""
    if not machine.own_manager:
        return fact.not_applicable("not a user's")
    missing = [name for name in _ID_TOOLS if all(machine.stat(f"{place}/{name}") is None for place in _PROGRAMS)]
    return fact.value(
        {
            "missing": missing,
            "subuids": _ids_of(machine, subordinate.USERS),
            "subgids": _ids_of(machine, subordinate.GROUPS),
            "manager": machine.stat(f"/run/user/{machine.own_uid}/systemd/private") is not None,
            "bus": systemd.has_bus(machine),
        }
    )


def _ids_of(machine: Machine, path: str) -> int:
    """Return how many ids a file gives the login; 0 without the file."""
    try:
        return sum(each.size for each in subordinate.ranges(machine, path))
    except FileNotFoundError:
        return 0


def _synchronized(machine: Machine) -> fact.Fact:
    done = machine.run(_SYNCHRONIZED, _CLOCK_TIMEOUT_S)
    said = clean(done.out)
    if done.rc != 0 or said not in ("yes", "no"):
        return fact.unknown(f"timedatectl: {clean(done.err) or said or f'exit status {done.rc}'}")
    return fact.value(said == "yes")


def _nfs(machine: Machine) -> fact.Fact:
    """Say why nothing can be mounted over NFS here, empty when it can."""
    return fact.value(share.lacks(machine, "worker"))


def _disks(machine: Machine) -> List[str]:
    """Return the places whose room matters, by their own names; the image store is where storage.conf says."""
    try:
        store: Optional[str] = images.stores(machine)[0]
    except (OSError, ValueError):
        store = None
    # A user's containers take nothing of the system's.
    places = [_ROOT] if machine.own_manager else [_ROOT, _CONTAINERS]
    return list(dict.fromkeys([*places, *([clean(machine.here(store))] if store else [])]))


def _free_probe(machine: Machine, path: str) -> Callable[[], fact.Fact]:
    def free() -> fact.Fact:
        place = path
        while place != "/" and machine.stat(place) is None:
            place = place.rpartition("/")[0] or "/"  # made later, on the file system of what is there
        return fact.value(machine.free_bytes(place))

    return free


def _owners(machine: Machine) -> Dict[str, int]:
    """Return how many managed files belong to which `fleet/host`; what carries no owner counts as `nobody`."""
    owners: Dict[str, int] = {}
    for file in files.managed_files(machine):
        owner = clean(file["owner"]) if file["owner"] else "nobody"
        owners[owner] = owners.get(owner, 0) + 1
    return dict(sorted(owners.items()))
