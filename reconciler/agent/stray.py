"""Looks for unit files and Quadlets of our name wherever they take effect: the first one found wins.

Must not: judge them, or look at names that are not ours.
"""

from typing import Iterator, List, Set

from . import places
from .machine import Machine

PREFIX = "recon-"
DIRECTORIES = (".d", ".wants", ".requires", ".upholds")
QUADLETS = (".container", ".volume", ".network", ".image", ".pod", ".build", ".kube")
_QUADLET_DIRS = ("/run/containers/systemd", "/etc/containers/systemd", "/usr/share/containers/systemd")

# In systemd's own order. The generator's directories are left out: what is there was made from a Quadlet found here.
_UNIT_DIRS = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
)
_WANTS_DIRS = (*_UNIT_DIRS, "/run/systemd/generator", "/run/systemd/generator.early", "/run/systemd/generator.late")
_DEEPEST = 4


def find(machine: Machine) -> List[str]:
    """Return the paths of files with our names in every place systemd or Quadlet reads, ours included, sorted."""
    found: Set[str] = set()
    for directory in _QUADLET_DIRS:
        found.update(_quadlets(machine, directory, _DEEPEST))
    for directory in _UNIT_DIRS:
        for name in _names(machine, directory):
            if not name.startswith(PREFIX) or name == places.EXECUTOR:
                continue
            path = f"{directory}/{name}"
            if name.endswith(".d"):
                found.update(_drop_ins(machine, path))
            elif not name.endswith(DIRECTORIES) and directory != places.NATIVE:
                found.add(path)
    return sorted(found)


def named(machine: Machine, name: str) -> List[str]:
    """Return where files of a unit of any name stand, first the one that wins; those of generators excepted."""
    paths = [f"{directory}/{name}" for directory in _UNIT_DIRS]
    return [path for path in paths if machine.stat(path) is not None]


def _quadlets(machine: Machine, directory: str, depth: int) -> Iterator[str]:
    """Yield Quadlets of ours below a directory, as the generator would find them: subdirectories and links too."""
    for name in _names(machine, directory):
        path = f"{directory}/{name}"
        if name.startswith(PREFIX) and name.endswith(QUADLETS):
            yield path
        elif name.startswith(PREFIX) and name.endswith(".d"):
            yield from _drop_ins(machine, path)
        # `users` is for the services of users; the directories of a generation hold no Quadlets.
        elif depth and name not in ("users", "units", "boot.wants") and not name.endswith((*QUADLETS, ".d")):
            yield from _quadlets(machine, path, depth - 1)


def _drop_ins(machine: Machine, directory: str) -> List[str]:
    return [f"{directory}/{name}" for name in _names(machine, directory) if name.endswith(".conf")]


def _names(machine: Machine, directory: str) -> List[str]:
    try:
        return machine.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def wanted(machine: Machine) -> List[str]:
    """Return every unit, of whatever name, that a link wants: it starts with something else, as a boot."""
    found: Set[str] = set()
    for directory in _WANTS_DIRS:
        for name in _names(machine, directory):
            if name.endswith(DIRECTORIES[1:]):
                found.update(_names(machine, f"{directory}/{name}"))
    return sorted(found)


def boot_targets(machine: Machine) -> List[str]:
    """Return the units of ours that something outside of recon pulls in at boot, sorted.

    `recon-boot.target` stands for what it wants: the links in its own directory, which are part of the commit. What a
    coven's target wants starts with that coven and is not listed; neither are residents, whose files say it.
    """
    wanted: Set[str] = set()
    of_boot: Set[str] = set()
    for directory in _WANTS_DIRS:
        for name in _names(machine, directory):
            who, dot, kind = name.rpartition(".")
            if dot + kind not in DIRECTORIES[1:]:
                continue
            units = [unit for unit in _names(machine, f"{directory}/{name}") if unit.startswith(PREFIX)]
            if who == places.BOOT_TARGET:
                of_boot.update(unit for unit in units if not unit.startswith("recon-resident-"))
            elif not who.startswith(PREFIX):
                wanted.update(units)
    boot_is_enabled = places.BOOT_TARGET in wanted
    wanted.discard(places.BOOT_TARGET)
    return sorted(wanted | of_boot if boot_is_enabled else wanted)
