"""Which labs exist on this computer: one JSON file each in /run/recon-lab, so that no dead run is forgotten.

Must not: start, stop or mount anything.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from reconciler.errors import Problem
from reconciler.lab.base import Base
from reconciler.lab.gpus import GpuKind
from reconciler.lab.tools import LabError, cache_dir, run_tool

REGISTRY = Path("/run/recon-lab")
_LOCK = REGISTRY / "lock"
COPY = ".recon/lab.json"
MAX_HOSTS = 60
_NETWORK = "10.211"


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, told apart from a later one with the same id by its start time."""

    pid: int
    start: int

    @classmethod
    def me(cls) -> Owner:
        return cls(os.getpid(), _start_time(os.getpid()) or 0)

    @property
    def is_alive(self) -> bool:
        return _start_time(self.pid) == self.start


@dataclass(frozen=True, slots=True)
class HostRecord:
    """Where one lab host is: its name in the fleet, its address, and what of this computer it occupies."""

    name: str
    index: int
    address: str
    gateway: str
    veth: str
    cgroup: str
    disk: str


@dataclass(frozen=True, slots=True)
class LabRecord:
    """One lab. With an owner it lives as long as that process; without, as long as its directory."""

    id: str
    directory: str
    owner: Owner | None
    machine_boot: str
    block: int
    gpu: GpuKind
    gpus_per_host: int
    base: Base
    hosts: tuple[HostRecord, ...]

    @property
    def is_abandoned(self) -> bool:
        """Say whether nobody can want this lab any more."""
        if self.machine_boot != boot_id():
            return True
        if self.owner is not None:
            return not self.owner.is_alive
        return not (Path(self.directory) / COPY).is_file()


def boot_id() -> str:
    """Return which boot of this computer it is."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def claim(directory: Path, *, gpu: GpuKind, gpus_per_host: int, base: Base, cgroups: Path, hosts: int) -> LabRecord:
    """Write down a new lab before anything of it exists, with a block of addresses nobody uses."""
    if not 1 <= hosts <= MAX_HOSTS:
        raise LabError(
            Problem("REC0903", "that many hosts do not fit", f"{hosts} hosts asked for", f"1 to {MAX_HOSTS}")
        )
    with _locked():
        records = everything()
        taken = {record.block for record in records} | _blocks_in_use()
        block = next((number for number in range(1, 255) if number not in taken), None)
        if block is None:
            raise LabError(Problem("REC0904", "no lab network is free", "254 labs are running", "recon lab gc"))
        names = {record.id for record in records}
        identity = next(name for name in iter(lambda: secrets.token_hex(2), "") if name not in names)
        record = LabRecord(
            id=identity,
            directory=str(directory),
            owner=Owner.me(),
            machine_boot=boot_id(),
            block=block,
            gpu=gpu,
            gpus_per_host=gpus_per_host,
            base=base,
            hosts=tuple(_host(identity, block, number, cgroups) for number in range(1, hosts + 1)),
        )
        save(record)
    return record


def _host(identity: str, block: int, number: int, cgroups: Path) -> HostRecord:
    first = 4 * (number - 1)
    return HostRecord(
        name=f"lab-{number}",
        index=number,
        address=f"{_NETWORK}.{block}.{first + 2}",
        gateway=f"{_NETWORK}.{block}.{first + 1}",
        veth=f"rl{identity}-{number}",
        cgroup=str(cgroups / f"recon-lab-{identity}-{number}"),
        disk=str(cache_dir() / "run" / identity / f"lab-{number}"),
    )


def save(record: LabRecord) -> None:
    """Write a lab's record, whole or not at all: for this computer, and a copy in its directory for its owner."""
    _make_registry()
    for final in (Path(record.directory) / COPY, REGISTRY / f"{record.id}.json"):
        _write(record, final)


def _write(record: LabRecord, final: Path) -> None:
    staging = final.with_suffix(".new")
    staging.write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
    staging.rename(final)


def release(record: LabRecord) -> LabRecord:
    """Let a lab outlive this process: from now on it belongs to its directory."""
    kept = replace(record, owner=None)
    save(kept)
    return kept


def take_over() -> list[LabRecord]:
    """Return the labs nobody can want any more; they belong to this process now, so that no other removes them too."""
    with _locked():
        mine = [replace(one, owner=Owner.me(), machine_boot=boot_id()) for one in everything() if one.is_abandoned]
        for record in mine:
            _write(record, REGISTRY / f"{record.id}.json")
    return mine


def forget(record: LabRecord) -> None:
    """Drop a lab's record; the last one takes the registry with it."""
    with _locked():
        (REGISTRY / f"{record.id}.json").unlink(missing_ok=True)
    (Path(record.directory) / COPY).unlink(missing_ok=True)


def everything() -> list[LabRecord]:
    """Return the record of every lab on this computer, oldest id first."""
    records = (_read(path) for path in sorted(REGISTRY.glob("*.json")))
    return [record for record in records if record is not None]


def of_directory(directory: Path) -> LabRecord | None:
    """Return the lab that belongs to a state repository, if there is one."""
    wanted = str(directory.resolve())
    return next((record for record in everything() if record.directory == wanted), None)


def _read(path: Path) -> LabRecord | None:
    """Return a record; None when its lab was removed since the directory was listed."""
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as problem:
        detail = f"{path}: {problem!r}; another version of recon may have written it"
        fix = f"take that lab down with the recon that made it, or: rm {path}"
        raise LabError(Problem("REC0909", "the record of a lab cannot be read", detail, fix)) from problem


def _parse(data: dict[str, Any]) -> LabRecord:
    owner = Owner(**data.pop("owner")) if data["owner"] else data.pop("owner")
    hosts = tuple(HostRecord(**host) for host in data.pop("hosts"))
    base = data.pop("base")
    base = Base(**base | {"layers": tuple(base["layers"])})
    return LabRecord(owner=owner, base=base, hosts=hosts, **data)


@contextmanager
def _locked() -> Iterator[None]:
    """Be the only one who writes the registry; the last record that goes takes the lock and the directory with it."""
    with _take_lock():
        yield
        if not any(REGISTRY.glob("*.json")):
            _LOCK.unlink()
            # From here on the next one may be at work with a lock of its own, and has the directory or removed it.
            with suppress(OSError):
                REGISTRY.rmdir()


def _make_registry() -> None:
    # Not exist_ok: that looks again, and raises when another run removed the directory in between.
    with suppress(FileExistsError):
        REGISTRY.mkdir(mode=0o755)


def _take_lock() -> TextIO:
    """Return the lock's file, locked: the one that lies there now, for whoever had it before may have removed it."""
    while True:
        _make_registry()
        with suppress(FileNotFoundError):
            stream = _LOCK.open("w")
            fcntl.flock(stream, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(stream.fileno()), _LOCK.stat()):
                    return stream
            stream.close()


def _blocks_in_use() -> set[int]:
    """Return the third numbers of all 10.211.x addresses and routes this computer has, whoever made them."""
    lines = run_tool(["ip", "-4", "-oneline", "route", "show", "table", "all"]).decode().split()
    networks = [word.split("/")[0].split(".") for word in lines if word.startswith(_NETWORK + ".")]
    return {int(parts[2]) for parts in networks if len(parts) == 4}


def _start_time(pid: int) -> int | None:
    """Return when a process started, in the kernel's ticks since boot; None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])
